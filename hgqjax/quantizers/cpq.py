"""Cpq: fixed point whose highest bits are dropped at random while it trains, with the gradient of a distribution over its levels."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from hgqjax import fixed_point
from hgqjax.quantizers._base import FixedPoint, Format, as_float32, check_bits, sample_exponent
from hgqjax.quantizers.allocation import AbstractAllocation

CHOSEN = 30.0
"""Logit of a bit that is kept for good, and minus that of one that is dropped."""
BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
"""Of the hard concrete distribution: temperature, and the interval that its values are stretched to."""
APART = 1.5
"""Logits of neighbouring bits differ by this at the start, so that the highest is the first to go."""
SIGMA = (1 / 16, 1.0)
"""Least and greatest width of the distribution over levels, in steps."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cpq(FixedPoint):
    r"""Fixed point of `least` to `most` magnitude bits, the highest of which are dropped together at random: CPQ with DropBits.

    A group has trained fractional bits f and a logit for each of the D = most - least bits that can be dropped, `drop` (D,), lowest bit
    first. With the step :math:`\Delta = 2^{-f}` and

    .. math:: Z_d \sim Bernoulli(\Pi_d), \quad \Pi_d = 1/(1 + e^{-drop_d}), \quad b = least + \sum_d \prod_{j \le d} Z_j

    `sample` is round to nearest, saturated at :math:`\pm(2^b - 1)\Delta` (from 0 where the range, if given, has no negative level): a bit
    is there only if all below it are. One draw is for the whole group. `expected_format` has the mean bits
    :math:`least + \sum_d \prod_{j \le d} \Pi_j`. `format` and `quantize` have the bits with :math:`\Pi_d \ge 1/2`, at any time. When
    `allocation` has taken some of them for good, `sample`, `format` and export are one grid.

    Initialisation: f, so that `most` bits hold the largest of the sample (without one, `i0` integer bits); :math:`\Pi` = `keep` for the
    highest bit, and a logit that is larger by 1.5 for each bit below.

    Gradients: the level is seen as drawn from :math:`\pi_m = S((m + 1/2 - v)/\sigma) - S((m - 1/2 - v)/\sigma)`, v = x in steps, S the
    logistic function, `sigma` in steps. The mean over levels has the slope :math:`s = \frac{1}{\sigma} \sum_t S'((v - t)/\sigma)`, t the
    thresholds between levels: larger between levels than on them. So dq/dx = s up to sigma beyond the largest kept level and 0 outside;
    dq/df = ln2 (x s - q); in `drop` what a bit adds to x where it saturates, times the slope of the hard concrete gate whose rounding Z
    is. `expected_format` is smooth in `drop`. `format` has gradients in f alone.
    Raises: ValueError for bits that are no whole numbers with 1 <= least < most <= 16, a `sigma` outside 1/16..1, a `keep`
    outside 0..1, a rounding that is not to nearest.
    Source: after CPQ with DropBits, arXiv:2109.02100, whose abstract alone was at hand; gates after arXiv:1712.01312. Ours: the gradient
    goes through all levels (not through that of the chosen one) and sigma stays as given; gates are rounded to 0 and 1; steps are powers
    of two; the start; when the choice is made.

    >>> q = Cpq(least=1, most=3, i0=0.0)
    >>> q.quantize(jnp.array([0.3, 5.0]), q.init((1,))).tolist()
    [0.25, 0.875]
    """

    samples: ClassVar[bool] = True
    untrained: ClassVar[frozenset[str]] = frozenset({"chosen"})
    overflow: ClassVar[str] = "SAT_SYM"
    least: int = 1
    most: int = 7
    sigma: float = 1 / 3
    keep: float = 0.9
    allocation: AbstractAllocation | None = None
    i0: float = 2.0
    f_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        super().__post_init__()
        whole = all(isinstance(b, int) and not isinstance(b, bool) for b in (self.least, self.most))
        if not whole or not 1 <= self.least < self.most <= 16:
            raise ValueError(f"least is {self.least}, most {self.most}; whole numbers with 1 <= least < most <= 16 are needed")
        if not SIGMA[0] <= self.sigma <= SIGMA[1]:
            raise ValueError(f"sigma is {self.sigma}; a width of {SIGMA[0]:g} to {SIGMA[1]:g} steps is needed")
        if not 0 < self.keep < 1:
            raise ValueError(f"keep is {self.keep}; a probability above 0 and below 1 is needed")
        if self.rounding not in ("RND", "RND_CONV"):
            raise ValueError(f"rounding is {self.rounding!r}; the likeliest level is the nearest, RND or RND_CONV")
        check_bits("i0", self.i0)

    def limits(self):
        return {"f": self.f_limits, "drop": (-CHOSEN, CHOSEN), "chosen": (0.0, 1.0)}

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32) if sample is None else sample_exponent(sample, shape)
        bits = self.most - self.least
        drop = math.log(self.keep / (1 - self.keep)) + APART * np.arange(bits - 1, -1, -1, dtype=np.float32)
        return self.clip(
            {"f": self.most - as_float32(i), "drop": jnp.broadcast_to(drop, (*shape, bits)), "chosen": jnp.zeros(shape, jnp.float32)}
        )

    def format(self, params, ranges=None):
        return self._format(params, ranges, jnp.sum(self._kept(params), -1))

    def expected_format(self, params, ranges=None, temperature=None):
        there = _all_below(jax.nn.sigmoid(params["drop"]))
        return self._format(params, ranges, jnp.sum(jnp.where(_chosen(params), self._kept(params), there), -1))

    def sample(self, x, params, *, key, temperature, ranges=None):
        shown = jax.random.logistic(key, params["drop"].shape, jnp.float32) + params["drop"]
        gate = jnp.clip((ZETA - GAMMA) * jax.nn.sigmoid(shown / BETA) + GAMMA, 0.0, 1.0)
        gate = fixed_point.straight_through((shown >= 0).astype(jnp.float32), gate)
        there = jnp.where(_chosen(params), self._kept(params), _all_below(gate))  # 1 for each bit that is
        k, _, f = (lax.stop_gradient(jnp.asarray(v, x.dtype)) for v in self._format(params, ranges, jnp.zeros(())))
        step, up = (fixed_point.materialized(fixed_point.pow2(n)) for n in (-f, f))
        bits = self.least + jnp.sum(lax.stop_gradient(there), -1)
        top = fixed_point.materialized(fixed_point.pow2(bits).astype(x.dtype) - 1.0)  # in steps
        fixed = lax.stop_gradient(x)
        v = fixed * up
        level = fixed_point.round_to_integer(v, self.rounding)
        value = jnp.clip(level, -k * top, top) * step

        inside = (v <= top + self.sigma) & (v >= -k * top - self.sigma)
        slope = jnp.where(inside, _slope(v - level, self.sigma), 0.0)
        limits = step[..., None] * (2.0 ** np.arange(self.least, self.most + 1, dtype=x.dtype) - 1.0).reshape((1,) * f.ndim + (-1,))
        return _trained(x, fixed_point.round_ste(params["f"]), there, (value, slope, fixed, k[..., None] * limits, limits))

    def odds(self, params):
        """Logits of each bit, or of one below where that is less: what is 0 or more is in `format`, in falling order."""
        return lax.cummin(params["drop"], params["drop"].ndim - 1)

    def narrowest(self, params):
        return self.taken(params, jnp.zeros(params["drop"].shape, bool))

    def taken(self, params, kept):
        """`params` with the bits that are `kept`, True or False of each, for good."""
        return params | {"drop": jnp.where(kept, CHOSEN, -CHOSEN), "chosen": jnp.ones_like(params["chosen"])}

    def _kept(self, params):
        """1 for each bit that format has, 0 for the others; no gradient."""
        return _all_below((lax.stop_gradient(params["drop"]) >= 0).astype(jnp.float32))

    def _format(self, params, ranges, more):
        """`least` bits and so many more, at the step in force."""
        f = fixed_point.round_ste(params["f"])
        k = self._sign(f)
        if ranges is not None and self.keep_negative:  # a range that decays never comes to 0: a level below it is what counts
            k = (as_float32(ranges.low) < -fixed_point.pow2(-lax.stop_gradient(f)) / 2).astype(jnp.float32)
        return Format(k, self.least + more - f, f)


def _chosen(params):
    return params["chosen"][..., None] > 0.5


@jax.custom_vjp
def _trained(x: Array, f: Array, there: Array, about: tuple) -> Array:
    """The value, with gradients in x by its slope, in f by what that makes of the step, in the bits `there` by what each adds to x."""
    return about[0]


def _trained_fwd(x, f, there, about):
    return about[0], (f, about)


def _trained_bwd(kept, g):
    f, (value, slope, fixed, low, high) = kept

    def summed(terms):
        shape = (1,) * (g.ndim - f.ndim) + f.shape
        axes = tuple(a for a, (n, m) in enumerate(zip(g.shape, shape, strict=True)) if n != m)
        terms = jnp.where(g == g, terms, g)  # a select, else XLA's CPU back end makes one slow loop of product and sum
        rows = fixed_point.materialized(jnp.sum(terms, axes[:-1], keepdims=True))  # the last axis: vectors
        return jnp.sum(rows, axes[-1:], keepdims=True).reshape(f.shape).astype(f.dtype)

    to_x = fixed_point.materialized(g * slope)  # else the slope is computed again for f
    to_f = fixed_point.LN2 * summed(fixed * to_x - g * value)
    of_limits = jnp.stack([summed(g * jnp.clip(fixed, -low[..., d], high[..., d])) for d in range(high.shape[-1])], -1)
    return to_x, to_f, of_limits[..., 1:] - of_limits[..., :-1], jax.tree.map(jnp.zeros_like, kept[1])


_trained.defvjp(_trained_fwd, _trained_bwd)


def _all_below(gates: Array) -> Array:
    """Products of the gates up to each one, along the last axis."""
    found = [gates[..., :1]]
    for d in range(1, gates.shape[-1]):
        found.append(found[-1] * gates[..., d : d + 1])
    return jnp.concatenate(found, -1)


def _slope(away: Float[Array, "..."], sigma: float) -> Array:
    r"""Slope of the mean over levels without end, at a distance `away` from a level, in steps.

    .. math:: 1 + 2 \sum_k (-1)^k \frac{z_k}{\sinh z_k} \cos(2 \pi k\, away), \quad z_k = 2 \pi^2 k \sigma

    which is the Fourier series of :math:`\frac{1}{\sigma} \sum_t S'((t - away)/\sigma)` over all thresholds; terms below 1e-4 are left out.
    """
    angle = math.pi * away
    square = angle * angle
    sine = angle * (1.0 + square * (-1 / 6 + square * (1 / 120 + square * (-1 / 5040 + square / 362880))))  # of half the angle, to 4e-6
    cosine = 1.0 - 2.0 * sine * sine
    z = [2 * math.pi**2 * k * sigma for k in range(1, 17)]
    terms = [(-1) ** k * 2 * v / math.sinh(v) for k, v in enumerate(z, 1) if v / math.sinh(v) > 5e-5]
    above = later = jnp.zeros_like(away)
    for term in reversed(terms):  # Clenshaw's recurrence
        above, later = term + 2.0 * cosine * above - later, above
    return 1.0 + cosine * above - later
