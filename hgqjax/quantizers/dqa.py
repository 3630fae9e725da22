"""Dqa: a soft mixture of several grids for each tensor, whose attention becomes a choice as a temperature falls."""

import dataclasses
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from hgqjax import fixed_point
from hgqjax.quantizers._base import FixedPoint, Format, check_bits, sample_exponent
from hgqjax.quantizers._grid import grid

CHOSEN = 30.0
"""Attention of the grid that is chosen, and minus that of the others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dqa(FixedPoint):
    r"""Fixed point of one of several magnitude bits :math:`n_1 .. n_K` (`bits`): while it trains, the mixture of all K grids.

    A group has an `alpha` (K,), trained with the weights. With the temperature T

    .. math:: a = softmax(\alpha / (s\,T)), \qquad q = \sum_k a_k Q_k(x)

    where s is the standard deviation of alpha (K - 1 in the denominator; 1 where all alphas are equal) and :math:`Q_k` is a grid of
    :math:`n_k` magnitude bits: with WRAP its range is that of the values, up to a power of two (min-max); with SAT_SYM its largest level is
    one step below the power of two above the largest value, where few bits clip. A sign bit is there where the range, if given, has
    negative values. T falls from `t0` to `t1` exponentially over the run.
    After the share `choice` of the run the grid of the largest alpha is taken for good; from there on `sample`, `format` and export are
    that one grid. `format` and `quantize` are those of the largest alpha at any time. `expected_format` has the mean bits
    :math:`\sum_k a_k n_k`.

    Initialisation: :math:`\alpha_k = \sum_{j \ne k} n_j / \sum_j n_j`: the fewest bits are favoured.

    Gradients: of `sample`, in x those of the K grids, each straight through: 1 inside the smallest range; in alpha those of the softmax, s
    held. Of `expected_format`, those of the softmax. `format` has none.
    Raises: ValueError for bits that are no different whole numbers within 1..16, temperatures that do not fall or are not above 0, a
    `choice` outside 0..1.
    Source: DQA, arXiv:2103.13322. Ours: K - 1; no gradient goes through s (with two grids there would be none at all); ranges are powers
    of two; the `choice` is before the end of the run; no regulariser of its own, as the penalty is on `expected_format`.

    >>> q = Dqa(bits=(2, 4, 8))
    >>> [round(v, 4) for v in q.attention(q.init((1,)), q.temperature(jnp.zeros(())))[0].tolist()]
    [0.3362, 0.3341, 0.3297]
    """

    samples: ClassVar[bool] = True
    untrained: ClassVar[frozenset[str]] = frozenset({"i", "chosen"})
    overflow: Literal["WRAP", "SAT_SYM"] = "SAT_SYM"
    bits: tuple[int, ...] = (2, 4, 8)
    t0: float = 100.0
    t1: float = 0.03
    choice: float = 0.9
    i0: float = 2.0
    i_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        super().__post_init__()
        if self.overflow not in ("WRAP", "SAT_SYM"):
            raise ValueError(f"overflow is {self.overflow!r}; Dqa has WRAP (the range holds all values) or SAT_SYM (few bits clip)")
        whole = all(isinstance(b, int) and not isinstance(b, bool) and 1 <= b <= 16 for b in self.bits)
        if not whole or not self.bits or len(set(self.bits)) < len(self.bits):
            raise ValueError(f"bits is {self.bits}; one or more different whole numbers within 1..16 are needed")
        if not 0 < self.t1 < self.t0 < math.inf:
            raise ValueError(f"t0 is {self.t0}, t1 {self.t1}; temperatures above 0 that fall from t0 to t1 are needed")
        if not 0 < self.choice <= 1:
            raise ValueError(f"choice is {self.choice}; a share within 0..1 of the run is needed")
        check_bits("i0", self.i0)

    def limits(self):
        return {"i": self.i_limits, "alpha": (-CHOSEN, CHOSEN), "chosen": (0.0, 1.0)}

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32) if sample is None else sample_exponent(sample, shape)
        alpha = 1.0 - np.asarray(self.bits, np.float32) / sum(self.bits) if len(self.bits) > 1 else np.zeros(1, np.float32)
        return self.clip({"i": i, "alpha": jnp.broadcast_to(alpha, (*shape, len(self.bits))), "chosen": jnp.zeros(shape, jnp.float32)})

    def attention(self, params, temperature: Float[Array, ""]) -> Float[Array, "... K"]:
        """The share :math:`a_k` of each grid, (*shape, K)."""
        alpha, count = params["alpha"], len(self.bits)
        deviation = jnp.std(lax.stop_gradient(alpha), -1, keepdims=True) * math.sqrt(count / max(count - 1, 1))
        soft = jax.nn.softmax(alpha / jnp.where(deviation > 0, deviation, 1.0) / temperature, -1)
        return jnp.where(params["chosen"][..., None] > 0.5, self._largest(params), soft)

    def format(self, params, ranges=None):
        return self._mean(params, ranges, self._largest(params))

    def expected_format(self, params, ranges=None, temperature=None):
        return self._mean(params, ranges, self.attention(params, jnp.ones(()) if temperature is None else temperature))

    def sample(self, x, params, *, key, temperature, ranges=None):
        share = self.attention(params, temperature).astype(x.dtype)
        values = (fixed_point.quantize_unwrapped(x, *fmt, *self._modes()) for fmt in self._grids(params, ranges))
        return sum(share[..., n] * value for n, value in enumerate(values))

    def temperature(self, progress):
        return self.t0 * jnp.exp(progress * math.log(self.t1 / self.t0))

    def reassigns(self, epoch, epochs):
        return epoch == min(math.ceil(round(self.choice * epochs, 6)), epochs - 1)

    def reassign(self, params, x, *, progress, curvature):
        return self._take(params, self._largest(params))

    def narrowest(self, params):
        return self._take(params, jnp.broadcast_to(np.equal(self.bits, min(self.bits)).astype(np.float32), params["alpha"].shape))

    def _take(self, params, best):
        return params | {"alpha": jnp.where(best > 0, CHOSEN, -CHOSEN), "chosen": jnp.ones_like(params["chosen"])}

    def _largest(self, params):
        """1 for the grid of the largest alpha, 0 elsewhere; no gradient."""
        return jax.nn.one_hot(jnp.argmax(params["alpha"], -1), len(self.bits), dtype=jnp.float32)

    def _grids(self, params, ranges) -> list[Format]:
        """The formats of the K grids."""
        i = params["i"]
        return [grid(self, jnp.full_like(i, float(b)), i, ranges) for b in self.bits]

    def _mean(self, params, ranges, share):
        grids = zip(*self._grids(params, ranges), strict=True)
        return Format(*(jnp.sum(share * jnp.stack(parts, -1), -1) for parts in grids))
