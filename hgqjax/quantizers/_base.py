"""The contract of a quantizer, written once."""

import abc
import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from hgqjax import fixed_point
from hgqjax import ranges as ranges_

Widths = dict[str, Float[Array, "..."]]


class Format(NamedTuple):
    """Fixed-point formats: sign bit, integer bits without the sign, fractional bits; whole numbers that broadcast to the data."""

    k: Float[Array, "..."]
    i: Float[Array, "..."]
    f: Float[Array, "..."]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractQuantizer(abc.ABC):
    """Static choices of a quantizer; its trained numbers are the `params` that `init` makes. Hashable, printable, JSON by its fields.

    With overflow WRAP and given `ranges`, integer and sign bits are the fewest that hold the observed range; else the trained ones.
    """

    keep_negative: bool = True
    """False: the data is never negative, k = 0."""
    rounding: str = "RND"
    overflow: str = "WRAP"

    def __post_init__(self):
        fixed_point.check_modes(self.rounding, self.overflow)
        for name, bounds in self.limits().items():
            if not (len(bounds) == 2 and -60 <= bounds[0] <= bounds[1] <= 60):
                raise ValueError(f"{name}_limits is {bounds}; a pair (least, greatest) within -60..60 is needed")

    @abc.abstractmethod
    def limits(self) -> dict[str, tuple[float, float]]:
        """Least and greatest value of each parameter."""

    @abc.abstractmethod
    def init(self, shape: tuple[int, ...], key: Array | None = None, sample: Float[Array, "..."] | None = None) -> Widths:
        """Trainable widths of `shape`: rank of the data, 1 on shared axes. With `sample` the widths start from its magnitude."""

    @abc.abstractmethod
    def format(self, params: Widths, ranges: ranges_.Range | None = None) -> Format:
        """Whole-numbered format in force; gradients pass straight through the rounding."""

    def clip(self, params: Widths) -> Widths:
        """Parameters brought into their `limits`; the training step calls it after each update."""
        return {name: jnp.clip(params[name], *bounds) for name, bounds in self.limits().items()}

    def quantize(self, x, params: Widths, *, ranges: ranges_.Range | None = None, key: Array | None = None):
        """Bit-exact value, differentiable in `x` and `params`; see `hgqjax.fixed_point.quantize`."""
        return fixed_point.quantize(x, *self.format(params, ranges), self.rounding, self.overflow, key=key)

    def quantize_unwrapped(self, x, params: Widths, *, ranges: ranges_.Range | None = None, key: Array | None = None):
        """As `quantize`, with WRAP left out: what a layer trains with; see `hgqjax.fixed_point.quantize_unwrapped`."""
        return fixed_point.quantize_unwrapped(x, *self.format(params, ranges), self.rounding, self.overflow, key=key)

    def _sign_and_integer_bits(self, i, f, ranges):
        """(k, i) with WRAP's observed range where there is one."""
        k = jnp.full_like(i, float(self.keep_negative))
        if self.overflow != "WRAP" or ranges is None:
            return k, i
        if not self.keep_negative:
            ranges = ranges._replace(low=jnp.zeros_like(ranges.low))
        return ranges_.integer_bits(ranges, f, self.rounding)


def sample_exponent(sample: Float[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Integer bits of the largest magnitude in each group; a group of zeros gets those of the largest of all."""
    seen = ranges_.observe(sample, shape)
    largest = jnp.maximum(-seen.low, seen.high)
    return fixed_point.exponent(jnp.where(largest > 0, largest, jnp.max(largest)))


def check_bits(name: str, value: float) -> None:
    """Raises ValueError unless `value` is a sensible number of bits to start with."""
    if not (math.isfinite(value) and -60 <= value <= 60):
        raise ValueError(f"{name} is {value}; a number of bits within -60..60 is needed")
