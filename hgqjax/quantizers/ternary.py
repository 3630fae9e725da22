"""Ternary: minus one, zero or plus one times a trained power of two."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from hgqjax import fixed_point
from hgqjax.quantizers._base import FixedPoint, Format, as_float32, check_bits, group_mean, nearest_exponent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ternary(FixedPoint):
    r"""Levels :math:`\{-2^{i-1}, 0, 2^{i-1}\}` with the scale `i` trained; {0, 1} times it with ``keep_negative=False``.

    It is the fixed-point format of one magnitude bit, f = 1 - i, saturated symmetrically: so activations can be ternary too, and a
    multiplication by it costs as many bit operations as the other factor has bits (a zero too, by the definition "hgq2"; none by
    "paper_v1"). The cost does not depend on i: a penalty does not prune.

    Initialisation: i = `i0`, or from the sample the power of two nearest to the mean of the magnitudes above 0.7 times their mean.

    Gradients: dq/dx = 1 up to the outer level and 0 beyond; dq/di = ln2 (q - x) inside and ln2 q beyond.
    Raises: ValueError for an unknown rounding, limits that are no interval within -60..60, a start beyond -60..60.
    Source: Li et al., Ternary Weight Networks, arXiv:1605.04711 (threshold and scale, which is any number there).

    >>> q = Ternary(i0=0.0)
    >>> q.quantize(jnp.array([[0.2, 0.3, -9.0]]), q.init((1, 1))).tolist()
    [[0.0, 0.5, -0.5]]
    """

    overflow: ClassVar[str] = "SAT_SYM"
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
            magnitude = as_float32(abs(sample))
            large = (magnitude > 0.7 * group_mean(magnitude, shape)).astype(magnitude.dtype)
            scale = group_mean(magnitude * large, shape) / jnp.maximum(group_mean(large, shape), 1e-30)
            i = jnp.where(scale > 0, nearest_exponent(scale) + 1.0, i)
        return self.clip({"i": i})

    def format(self, params, ranges=None):
        i = fixed_point.round_ste(params["i"])
        return Format(self._sign(i), i, 1.0 - i)
