"""Clipping: the power-of-two step of least squared error for normally distributed values, and widths of given bits by it (DAQ)."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hgqjax import fixed_point
from hgqjax.quantizers import AbstractAllocation, Moment, Slot
from hgqjax.quantizers.allocation import is_after

GRID = np.linspace(0.0, 8.0, 16001)
"""Magnitudes, in deviations, at which errors of a normal distribution are summed."""


def normal_error(step: float, bits: int) -> float:
    """Mean squared error of a value of a normal distribution of deviation 1 on the levels ``-n step .. n step``, ``n = 2**bits - 1``.

    >>> round(normal_error(1.224, 1), 3)
    0.19
    """
    level = np.minimum(np.floor(GRID / step + 0.5), 2.0**bits - 1) * step
    weight = np.exp(-(GRID**2) / 2)
    return float(np.sum(weight * (GRID - level) ** 2) / np.sum(weight))


def optimal_step(bits: int) -> float:
    """The step of least `normal_error` for so many magnitude bits.

    >>> [round(optimal_step(bits), 2) for bits in (1, 2, 3)]
    [1.22, 0.65, 0.35]
    """
    low, high = -13.0, 1.0  # log2
    for _ in range(4):
        steps = 2.0 ** np.linspace(low, high, 57)
        best = int(np.argmin([normal_error(step, bits) for step in steps]))
        low, high = math.log2(steps[max(best - 1, 0)]), math.log2(steps[min(best + 1, 56)])
    return 2.0 ** ((low + high) / 2)


@functools.cache
def least_step(bits: int) -> float:
    """The step t whose error is that of 2 t: of all powers of two, the one in (t, 2 t] has the least error.

    >>> 0.6 < least_step(1) / 1.224 < 0.8
    True
    """
    best = optimal_step(bits)
    low, high = math.log2(best) - 1.0, math.log2(best)  # the error falls to `best`, and then rises
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if normal_error(2.0**middle, bits) > normal_error(2.0 ** (middle + 1), bits) else (low, middle)
    return 2.0**high


def deviation(slot: Slot) -> Float[Array, "..."]:
    """Root of the mean square of the values of each group that are not 0; a quarter of the largest one seen, where there is none."""
    values = slot.values()
    count = slot.of_groups((values != 0).astype(jnp.float32))
    squares = slot.of_groups(values.astype(jnp.float32) ** 2)
    return jnp.where(count > 0, jnp.sqrt(squares / jnp.maximum(count, 1.0)), slot.largest() / 4.0)


def signs(slot: Slot) -> Float[Array, "..."]:
    """1 where a group has a sign bit: weights always, activations where their range has negative values, to a 2**12th of its size."""
    if slot.role != "activation":
        return jnp.ones_like(slot.range.low)
    return (slot.range.low < -slot.largest() / 2.0**12).astype(jnp.float32)


def of_bits(slot: Slot, bits: int) -> dict[str, Float[Array, "..."]]:
    """As `of_magnitude_bits`, of `bits` that include a sign where there is one."""
    without, with_sign = of_magnitude_bits(slot, bits), of_magnitude_bits(slot, max(bits - 1, 1))
    return slot.params | {name: jnp.where(signs(slot) > 0, with_sign[name], without[name]) for name in ("f", "i", "allocated")}


def of_magnitude_bits(slot: Slot, bits: int) -> dict[str, Float[Array, "..."]]:
    """Parameters of a quantizer with SAT_SYM: `bits`, and a sign where there is one, on the power-of-two step of least error.

    A group of zeros gets no bits. The step is that of a normal distribution of the group's `deviation`: it is clipped where that has less
    error than rounding more coarsely.
    """
    sigma = deviation(slot)
    f = -fixed_point.exponent(jnp.float32(least_step(bits)) * sigma)
    dead = sigma == 0
    found = {"f": jnp.where(dead, -1.0, f), "i": jnp.where(dead, 0.0, bits - f), "allocated": jnp.ones_like(f)}
    return slot.quantizer.clip(slot.params | {name: jnp.broadcast_to(v, slot.params[name].shape) for name, v in found.items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clipping(AbstractAllocation):
    r"""The bits that are given, and for each group of values the step that fits its deviation, whatever its largest value.

    Of the power-of-two steps the one of least squared error for a normal distribution (of magnitudes, after a relu) of the group's
    deviation, on a grid that has a 0; values beyond are clipped. One value far out moves no step by more than a factor of two.

    Args:
      bits: of activations, a sign included where there is one. weight_bits: of kernels. bias_bits: of biases that have this allocation.
      after: share of the run before it; 1: after the last step.

    Raises: ValueError for bits outside 1..12 (weights: 2..12), or a share outside 0..1.
    Source: the distribution-aware steps of DAQ, arXiv:2012.11230, of calibration rows instead of each image, as powers of two, without its
    mean and half-step offsets, which would need an adder each.
    """

    bits: int = 4
    weight_bits: int = 4
    bias_bits: int = 8
    after: float = 1.0

    def __post_init__(self):
        least = {"bits": 1, "weight_bits": 2, "bias_bits": 2}
        for name, low in least.items():
            if not low <= getattr(self, name) <= 12:
                raise ValueError(f"{name} is {getattr(self, name)}; {low} .. 12 are legal")
        if not 0 < self.after <= 1:
            raise ValueError(f"after is {self.after}; a share of the run within 0..1 is needed")

    def allocates(self, epoch, epochs):
        return is_after(self.after, epoch, epochs)

    def allocate(self, slots: Sequence[Slot], moment: Moment):
        of_role = {"activation": self.bits, "kernel": self.weight_bits, "bias": self.bias_bits}
        return [of_bits(slot, of_role[slot.role]) for slot in slots]
