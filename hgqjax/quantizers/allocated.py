"""Allocated: fixed point whose widths an allocation decides together with those of all other tensors; in floats until then."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import lax

from hgqjax import fixed_point
from hgqjax import ranges as ranges_
from hgqjax.quantizers._base import FixedPoint, Format, as_float32, check_bits, sample_exponent
from hgqjax.quantizers.allocation import AbstractAllocation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allocated(FixedPoint):
    r"""Step :math:`2^{-f}` with the f that `allocation` gives each width; float in training until it has, and `widest` bits elsewhere.

    With WRAP integer bits follow the observed range; where they are more than the allocated `i`, f is less by as many, so that no value
    has more bits than it was given. With SAT and SAT_SYM they are `i`, and larger values are clipped.
    `format` and `quantize` are those of one fixed-point grid at any time: before the allocation the one of `widest` magnitude bits that
    holds the range, so that a look at validation rows sees a network that hardware can have.

    Args:
      bits: fewest and most magnitude bits that the allocation may give; 0: a value may be pruned.
      signed: a sign bit whatever the range, for SAT and SAT_SYM.
      i0: integer bits without a sample.

    Parameters: `i`, `f`, and `allocated`, 0 before and 1 after; `memory`, (*shape, n), where the allocation keeps n numbers of each width
    (`AbstractAllocation.memory`). None has a gradient. dq/dx = 1, beyond a SAT range 0.
    Raises: ValueError for bits that do not rise within 0..24.
    Source: ours; the allocations state theirs (`hgqjax.methods`).

    >>> q = Allocated(i0=0.0)
    >>> float(q.quantize(jnp.array([[0.8]]), q.init((1, 1)) | {"f": jnp.full((1, 1), 2.0), "allocated": jnp.ones((1, 1))})[0, 0])
    0.75
    """

    samples: ClassVar[bool] = True
    untrained: ClassVar[frozenset[str]] = frozenset({"f", "i", "allocated", "memory"})
    overflow: fixed_point.Overflow = "WRAP"
    allocation: AbstractAllocation | None = None
    bits: tuple[int, int] = (0, 12)
    widest: int = 12
    signed: bool = False
    i0: float = 2.0
    i_limits: tuple[float, float] = (-24.0, 24.0)
    f_limits: tuple[float, float] = (-25.0, 36.0)

    def __post_init__(self):
        super().__post_init__()
        if len(self.bits) != 2 or not 0 <= self.bits[0] <= self.bits[1] <= 24 or not 1 <= self.widest <= 24:
            raise ValueError(f"bits is {self.bits}, widest {self.widest}; fewest and most magnitude bits within 0..24 are needed")
        check_bits("i0", self.i0)

    def limits(self):
        memory = {"memory": (-60.0, 60.0)} if self._memory else {}
        return {"i": self.i_limits, "f": self.f_limits, "allocated": (0.0, 1.0)} | memory

    @property
    def _memory(self) -> int:
        return 0 if self.allocation is None else self.allocation.memory

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32) if sample is None else sample_exponent(sample, shape)
        memory = {"memory": jnp.zeros((*shape, self._memory), jnp.float32)} if self._memory else {}
        return self.clip({"f": self.widest - i, "i": as_float32(i), "allocated": jnp.zeros(shape, jnp.float32)} | memory)

    def format(self, params, ranges=None):
        i, f = (jnp.round(lax.stop_gradient(params[name])) for name in ("i", "f"))
        done = lax.stop_gradient(params["allocated"]) >= 0.5
        if ranges is None:
            return Format(self._sign(i), i, jnp.where(done, f, self.widest - i))
        bits, (low, high) = i + f, as_float32(ranges)
        largest = jnp.maximum(-low, high) if self.keep_negative else high
        f = jnp.where(done, f, self.widest - fixed_point.exponent(largest))
        seen = ranges_.Range(low if self.keep_negative else jnp.zeros_like(low), high)
        k, fitting = ranges_.integer_bits(seen, f, self.rounding)
        if self.overflow == "WRAP":
            for _ in range(2):  # a coarser step may round the largest value up, once
                f = jnp.where(done, jnp.minimum(f, bits - fitting), f)
                k, fitting = ranges_.integer_bits(seen, f, self.rounding)
            return Format(k, fitting, f)
        signs = self._sign(i) if self.signed else k
        return Format(jnp.where(done, signs, k), jnp.where(done, i, fitting), f)

    def sample(self, x, params, *, key, temperature, ranges=None):
        done = lax.stop_gradient(params["allocated"]) >= 0.5
        return jnp.where(done, self.quantize_unwrapped(x, params, ranges=ranges), x)

    def narrowest(self, params):
        least = float(self.bits[0] or -1)  # half a step is rounded up: only -1 is 0 for sure
        return params | {"f": jnp.maximum(least - params["i"], self.f_limits[0]), "allocated": jnp.ones_like(params["allocated"])}

    def given(self, params, f, i=None):
        """`params` with the allocated fractional bits `f`, within the quantizer's bits of `i` integer bits, by default those it has."""
        i = params["i"] if i is None else jnp.broadcast_to(i, params["i"].shape)
        f = jnp.clip(jnp.broadcast_to(f, i.shape), float(self.bits[0] or -1) - i, self.bits[1] - i)
        return self.clip(params | {"f": f, "i": i, "allocated": jnp.ones_like(params["allocated"])})
