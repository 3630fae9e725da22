"""Regions: a fine step for the many weights near 0, and a coarse one for the few beyond, with the bits that an allocation gives."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import lax

from hgqjax import fixed_point
from hgqjax.quantizers._base import AbstractQuantizer, Format, as_float32, check_bits, rounded_width, sample_exponent
from hgqjax.quantizers.allocation import AbstractAllocation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regions(AbstractQuantizer):
    r"""Two regions of weights that share a boundary :math:`2^i`, with :math:`2^b` magnitudes each; float in training until allocated.

    Below the boundary the step is :math:`d = 2^{i - b}`; beyond it :math:`2^t d`, up to :math:`2^i + 2^t (2^i - d)`. With t = 0 there is
    no tail: fixed point with b magnitude bits that saturates. A word in memory has a sign, b bits and one bit for its region. Hardware sees
    the format of each value: i integer and b - i fractional bits, of a tail i + t + 1 and b - i - t. Before the allocation the grid outside
    training has `widest` magnitude bits and holds the largest value.

    Args:
      bits: fewest and most magnitude bits that the allocation may give. i0: integer bits without a sample.

    Parameters, shared by the values of a group: `b`, `i`, `t`, and `allocated`, 0 before and 1 after. None has a gradient. dq/dx = 1, 0
    beyond the largest level.
    Raises: ValueError for bits that do not rise within 2..16.
    Source: after Ghavami et al., arXiv:2404.02947: a dense region and a sparse tail, not overlapping, quantized apart. Whole exponents of
    boundary and steps are ours, so that each value is fixed point.

    >>> q = Regions(bits=(2, 4))
    >>> params = {name: jnp.full((1, 1), v) for name, v in {"b": 2.0, "i": 0.0, "t": 1.0, "allocated": 1.0}.items()}
    >>> q.quantize(jnp.array([[0.3, 0.9, 1.4, -1.6, 9.0]]), params).tolist()
    [[0.25, 1.0, 1.5, -1.5, 2.5]]
    """

    format_of_each_value: ClassVar[bool] = True
    samples: ClassVar[bool] = True
    untrained: ClassVar[frozenset[str]] = frozenset({"b", "i", "t", "allocated"})
    allocation: AbstractAllocation | None = None
    bits: tuple[int, int] = (3, 7)
    widest: int = 12
    i0: float = 1.0
    i_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        super().__post_init__()
        if len(self.bits) != 2 or not 2 <= self.bits[0] <= self.bits[1] <= 16 or not 2 <= self.widest <= 16:
            raise ValueError(f"bits is {self.bits}, widest {self.widest}; fewest and most magnitude bits within 2..16 are needed")
        check_bits("i0", self.i0)

    def limits(self):
        return {"b": (2.0, 16.0), "i": self.i_limits, "t": (0.0, 2.0), "allocated": (0.0, 1.0)}

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32) if sample is None else as_float32(sample_exponent(sample, shape))
        return self.clip({"b": jnp.full_like(i, self.widest), "i": i, "t": jnp.zeros_like(i), "allocated": jnp.zeros_like(i)})

    def given(self, params, b, i, t):
        """`params` with allocated bits `b`, boundary `i` and tail `t`, which broadcast to them."""
        found = {"b": b, "i": i, "t": t, "allocated": 1.0}
        return self.clip({name: jnp.broadcast_to(jnp.asarray(v, jnp.float32), params[name].shape) for name, v in found.items()})

    def narrowest(self, params):
        return self.given(params, float(self.bits[0]), params["i"], 0.0)

    def format(self, params, ranges=None):
        if ranges is None:  # that of all levels
            b, i, t = self._choice(params, None, params["i"])
            return Format(jnp.ones_like(i), i + jnp.where(t > 0, t + 1.0, 0.0), b - i)
        low, high = as_float32(ranges)
        value = jnp.where(high > 0, high, low)
        b, i, t = self._choice(params, ranges, value)
        tail = (t > 0) & (abs(_levels(value, b, i, t)) >= fixed_point.pow2(i))
        i, f = i + jnp.where(tail, t + 1.0, 0.0), b - i - jnp.where(tail, t, 0.0)
        return Format((value < 0).astype(i.dtype), i, jnp.broadcast_to(f, i.shape))

    def quantize(self, x, params, *, ranges=None, key=None):
        x = fixed_point.as_float(x)
        b, i, t = self._choice(params, ranges, x)
        beyond = abs(x) > _largest(b, i, t)
        return fixed_point.straight_through(_levels(x, b, i, t), jnp.where(beyond, 0.0, 1.0) * x)

    def sample(self, x, params, *, key, temperature, ranges=None):
        done = lax.stop_gradient(params["allocated"]) >= 0.5
        return jnp.where(done, self.quantize_unwrapped(x, params, ranges=ranges), x)

    def _choice(self, params, ranges, x):
        """b, i and t in force, without gradients; before the allocation those that hold the range."""
        b, i, t, done = (lax.stop_gradient(rounded_width(params, name, x)) for name in ("b", "i", "t", "allocated"))
        if ranges is None:
            return b, i, t
        axes = tuple(a for a, n in enumerate(params["i"].shape) if n == 1)
        largest = jnp.max(jnp.maximum(-ranges.low, ranges.high), axes, keepdims=True, initial=0.0).astype(i.dtype)
        i = jnp.where(done > 0, i, fixed_point.exponent(largest))
        return jnp.where(done > 0, b, float(self.widest)), i, jnp.where(done > 0, t, 0.0)


def _largest(b, i, t):
    """The largest level."""
    boundary = fixed_point.pow2(i)
    magnitudes = boundary - fixed_point.pow2(i - b)
    return jnp.where(t > 0, boundary + fixed_point.pow2(t) * magnitudes, magnitudes)


def _levels(x, b, i, t):
    """The level of each value."""
    boundary = fixed_point.pow2(i)
    dense = fixed_point.quantize(x, jnp.ones_like(i), i + jnp.where(t > 0, 1.0, 0.0), b - i, "RND", "SAT_SYM")
    tail = fixed_point.quantize(x, jnp.ones_like(i), i + t + 1.0, b - i - t, "RND", "SAT_SYM")
    most = _largest(b, i, t)
    return jnp.where((t > 0) & (abs(x) >= boundary), jnp.clip(tail, -most, most), dense)
