"""Binary: minus one or plus one times a trained power of two, for weights."""

import dataclasses

import jax
import jax.numpy as jnp

from hgqjax import fixed_point
from hgqjax.quantizers._base import AbstractQuantizer, Format, as_float32, check_bits, group_mean, nearest_exponent, rounded_width


@dataclasses.dataclass(frozen=True, kw_only=True)
class Binary(AbstractQuantizer):
    r"""Levels :math:`\pm 2^{i-1}` by the sign of x (+ for 0), with the scale `i` trained. Nothing is ever pruned, and no penalty moves i.

    Hardware sees one magnitude bit, f = 1 - i. Zero lies on that grid and is no level: not for activations.

    Initialisation: i = `i0`, or from the sample the power of two nearest to its mean magnitude, the scale of least error.

    Gradients: dq/dx = 1 for \|x\| < 2^i, else 0; dq/di = ln2 q, which is exact.
    Raises: ValueError for limits that are no interval within -60..60, a start beyond -60..60.
    Source: Courbariaux et al., arXiv:1602.02830 (sign and its gradient); Rastegari et al., arXiv:1603.05279 (scale, any number there).

    >>> q = Binary(i0=0.0)
    >>> q.quantize(jnp.array([[0.2, -0.3]]), q.init((1, 1))).tolist()
    [[0.5, -0.5]]
    """

    i0: float = 0.0
    i_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        super().__post_init__()
        check_bits("i0", self.i0)

    def limits(self):
        return {"i": self.i_limits}

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32)
        if sample is not None:
            scale = group_mean(as_float32(abs(sample)), shape)
            i = jnp.where(scale > 0, nearest_exponent(scale) + 1.0, i)
        return self.clip({"i": i})

    def format(self, params, ranges=None):
        i = fixed_point.round_ste(params["i"])
        return Format(jnp.ones_like(i), i, 1.0 - i)

    def quantize(self, x, params, *, ranges=None, key=None):
        x = fixed_point.as_float(x)
        i = rounded_width(params, "i", x)
        level = fixed_point.pow2(i - 1.0)
        q = jnp.where(x >= 0, level, jnp.where(x < 0, -level, x))  # NaN stays
        inside = (abs(x) < 2.0 * level).astype(x.dtype)
        return fixed_point.straight_through(q, inside * x + fixed_point.LN2 * jax.lax.stop_gradient(q) * i)
