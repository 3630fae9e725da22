"""Minifloat: mantissa and exponent bits are trained, for weights."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jax import lax

from hgqjax import fixed_point
from hgqjax.quantizers._base import AbstractQuantizer, Format, as_float32, check_bits, rounded_width, sample_exponent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Minifloat(AbstractQuantizer):
    r"""Floats with `m` mantissa bits (the leading one not counted), `e` exponent bits around the centre `c`, and a sign.

    Normal numbers have exponents from c + 1 - E to c + E - 1, with :math:`E = 2^{e-1}`, 1 for e = 0; below there is the fixed-point grid
    of step :math:`2^{c+1-E-m}` (subnormal numbers); there is no infinity, the greatest is :math:`(2 - 2^{-m}) 2^{c+E-1}`, and x beyond
    saturates. Rounding is to the nearest, ties to the even significand. Each weight's own fixed-point format is what hardware sees: m + 1
    magnitude bits, fewer for a subnormal number.

    Initialisation: m = `m0`, e = `e0`, c = `c0`, or from the sample such that the largest magnitude of the group is in the top binade.

    Gradients: dq/dx = 1 in range, 0 saturated; dq/dm = ln2 (x - q); where subnormal the error is that of c + 1 - E: dq/dc = ln2 (q - x),
    dq/de = -dE/de dq/dc; saturated, those of the greatest number: dq/dm = ln2 2^(c+E-1-m) sign(x), dq/dc = ln2 q, dq/de = dE/de dq/dc; with
    dE/de = ln2 E, at e = 0 too, so that no width is stuck there. A penalty moves m only: unrolled hardware holds a weight's value, not its
    code.
    Raises: ValueError for limits beyond m 0..20, e 0..5, for c beyond -60..60, for starts beyond -60..60.
    Source: the grid of the IEEE 754 formats without infinities; trained widths as in HGQ2's float quantizer, whose gradient beyond the
    range is another.

    >>> q = Minifloat(m0=1.0, e0=2.0, c0=0.0)
    >>> q.quantize(jnp.array([[0.3, 1.2, -2.4, 9.0]]), q.init((1, 1))).tolist()
    [[0.25, 1.0, -2.0, 3.0]]
    """

    format_of_each_value: ClassVar[bool] = True
    m0: float = 2.0
    e0: float = 4.0
    c0: float = 0.0
    m_limits: tuple[float, float] = (0.0, 10.0)
    e_limits: tuple[float, float] = (0.0, 5.0)
    c_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        super().__post_init__()
        if self.m_limits[0] < 0 or self.m_limits[1] > 20:
            raise ValueError(f"m_limits is {self.m_limits}; mantissa bits within 0..20 are legal")
        if self.e_limits[0] < 0 or self.e_limits[1] > 5:
            raise ValueError(f"e_limits is {self.e_limits}; exponent bits within 0..5 are legal")
        for name in ("m0", "e0", "c0"):
            check_bits(name, getattr(self, name))

    def limits(self):
        return {"m": self.m_limits, "e": self.e_limits, "c": self.c_limits}

    def init(self, shape, key=None, sample=None):
        m, e, c = (jnp.full(shape, v, jnp.float32) for v in (self.m0, self.e0, self.c0))
        if sample is not None:
            c = sample_exponent(sample, shape) - _span(jnp.clip(e, *self.e_limits))
        return self.clip({"m": m, "e": e, "c": c})

    def format(self, params, ranges=None):
        m, e, c = (fixed_point.round_ste(params[name]) for name in ("m", "e", "c"))
        span = _span(e)
        least, greatest = c + 1.0 - span, c + span - 1.0
        if ranges is None:  # that of all levels
            return Format(jnp.ones_like(m), greatest + 1.0, m - least)
        low, high = as_float32(ranges)
        value = lax.stop_gradient(_round(jnp.where(high > 0, high, low), m, e, c)[0])
        own = fixed_point.exponent(value)
        f = m - jnp.maximum(own - 1.0, least)
        return Format((value < 0).astype(own.dtype), jnp.where(value == 0, -f, own), f)

    def quantize(self, x, params, *, ranges=None, key=None):
        x = fixed_point.as_float(x)
        m, e, c = (rounded_width(params, name, x) for name in ("m", "e", "c"))
        q, exponent, subnormal, saturated = _round(x, m, e, c)
        error = lax.stop_gradient(x - q)
        last_place = jnp.sign(x) * fixed_point.pow2(exponent - m)
        span = _span(e)
        inner = x + fixed_point.LN2 * error * (m - jnp.where(subnormal, c - span, 0.0))
        outer = fixed_point.LN2 * (lax.stop_gradient(last_place) * m + lax.stop_gradient(q) * (c + span))
        return fixed_point.straight_through(q, jnp.where(saturated, outer, inner))


def _span(e):
    """E, half the number of exponents, with the gradient ln2 E."""
    value = fixed_point.pow2(jnp.maximum(lax.stop_gradient(e) - 1.0, 0.0))
    return fixed_point.straight_through(value, fixed_point.LN2 * value * e)


def _round(x, m, e, c):
    """(value, exponent of its binade, whether below the normal numbers, whether beyond the greatest)."""
    m, e, c = (lax.stop_gradient(v) for v in (m, e, c))
    span = _span(e)
    exponent = jnp.clip(fixed_point.exponent(x) - 1.0, c + 1.0 - span, c + span - 1.0)
    greatest = (2.0 - fixed_point.pow2(-m)) * fixed_point.pow2(c + span - 1.0)
    q = jnp.round(x * fixed_point.pow2(m - exponent)) * fixed_point.pow2(exponent - m)
    return jnp.clip(q, -greatest, greatest), exponent, abs(x) < fixed_point.pow2(c + 1.0 - span), abs(x) > greatest
