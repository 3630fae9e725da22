"""PowerOfTwo: a sign and an exponent, or zero, for weights: a multiplication becomes a shift."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import lax

from hgqjax import fixed_point
from hgqjax.quantizers._base import AbstractQuantizer, Format, as_float32, check_bits, largest_magnitude, nearest_exponent, rounded_width


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerOfTwo(AbstractQuantizer):
    r"""Levels 0 and :math:`\pm 2^{i-1}, \pm 2^{i-2}, \ldots`, in all :math:`L = 2^{bits-1} - 1` powers, with the largest trained by `i`.

    x goes to the nearest level, ties to the larger magnitude. A group shares `i`; each weight has its own exponent, and hardware sees
    one magnitude bit at that place, none of a zero: a multiplication costs as many bit operations as the other factor has bits, whatever i.

    Args: `bits` of the code, sign included, 2 to 6. Initialisation: i = `i0`, or from the sample the power of two nearest to each
    group's largest magnitude.

    Gradients: dq/dx = 1 up to the largest level, 0 beyond; dq/di = ln2 q beyond it, ln2 (q - x) below the smallest power
    (where the step is that of i), 0 between, where the error does not depend on i.
    Raises: ValueError for `bits` that are not 2 to 6, limits that are no interval within -60..60, a start beyond -60..60.
    Source: Miyashita et al., arXiv:1603.01025; the weights of Chang et al. (MSP), arXiv:2009.07460, with a power of two as scale.

    >>> q = PowerOfTwo(i0=1.0, bits=3)
    >>> q.quantize(jnp.array([[0.8, 0.4, 0.1, -9.0]]), q.init((1, 1))).tolist()
    [[1.0, 0.5, 0.0, -1.0]]
    """

    format_of_each_value: ClassVar[bool] = True
    bits: int = 4
    i0: float = 1.0
    i_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 2 <= self.bits <= 6:
            raise ValueError(f"bits is {self.bits!r}; 2 to 6 bits, the sign included, are legal")
        check_bits("i0", self.i0)

    @property
    def powers(self) -> int:
        """Number of powers of two, L."""
        return 2 ** (self.bits - 1) - 1

    def limits(self):
        return {"i": self.i_limits}

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32)
        if sample is not None:
            largest = largest_magnitude(sample, shape)
            i = jnp.where(largest > 0, nearest_exponent(largest) + 1.0, i)
        return self.clip({"i": i})

    def format(self, params, ranges=None):
        i = fixed_point.round_ste(params["i"])
        if ranges is None:  # that of all levels
            return Format(jnp.ones_like(i), i, self.powers - i)
        low, high = as_float32(ranges)
        value = lax.stop_gradient(self._levels(jnp.where(high > 0, high, low), i))
        own = fixed_point.exponent(value)
        return Format((value < 0).astype(own.dtype), own, jnp.where(value == 0, -own, 1.0 - own))

    def quantize(self, x, params, *, ranges=None, key=None):
        x = fixed_point.as_float(x)
        i = rounded_width(params, "i", x)
        q = self._levels(x, i)
        moves = jnp.where(abs(x) > fixed_point.pow2(i - 1.0), q, jnp.where(abs(x) < fixed_point.pow2(i - self.powers), q - x, 0.0))
        inside = (abs(x) <= fixed_point.pow2(i - 1.0)).astype(x.dtype)
        return fixed_point.straight_through(q, inside * x + fixed_point.LN2 * lax.stop_gradient(moves) * i)

    def _levels(self, x, i):
        power = jnp.clip(nearest_exponent(abs(x)), i - self.powers, i - 1.0)
        dead = abs(x) < fixed_point.pow2(i - self.powers - 1.0)
        return jnp.where(dead, jnp.zeros_like(x), jnp.sign(x) * fixed_point.pow2(power))
