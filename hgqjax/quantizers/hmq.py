"""Hmq: one of several pairs of bit-width and power-of-two threshold for each tensor, found by a Gumbel-softmax search."""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from hgqjax import fixed_point
from hgqjax.quantizers._base import FixedPoint, Format, as_float32, check_bits, sample_exponent

CHOSEN = 30.0
"""Logit of the pair that is chosen at the end of the search, and minus that of the others: no sample draws another one."""
STEPS = 125
"""Steps of the temperature in a cycle."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hmq(FixedPoint):
    r"""Fixed point whose `bits` b (sign included) and threshold :math:`t = 2^{i-j}`, j = 0 .. `thresholds` - 1, are chosen together.

    A group has a matrix of `logits` :math:`\pi_{bj}`. While it trains, a sample
    :math:`p = softmax((\log softmax(\pi) + G) / \tau)` with Gumbel noise G makes one grid of all: step
    :math:`\hat\Delta = \sum p_{bj}\, t_j\, 2^{k-b}` and threshold :math:`\hat t = \sum p_{bj}\, t_j`,

    .. math:: Q(x) = \hat\Delta\, clip(round(x / \hat\Delta), \pm(\hat t / \hat\Delta - 1))

    (from 0 where k = 0). Slices of x along `sample_axis` draw their own p: -2 are the input channels of a kernel, 0 the rows of a batch; no
    more than `draws` of them, which then repeat (in the paper every slice has its own).
    The search takes the share `search` of the run; the temperature falls in `cycles` saw-teeth from 1 to 0.5. Then the choice is made: the
    likeliest number of bits, and its likeliest threshold; from there on `sample`, `format` and export are that one grid. `format` and
    `quantize` are those of the present choice at any time: hardware always has a plain grid, with overflow SAT_SYM.

    Initialisation: largest threshold :math:`2^i`, i = `i0`, or from the sample `headroom` octaves above each group's largest magnitude; it
    is not trained. The pair of most bits and largest threshold has log(0.95 n / 0.05) of n pairs, the others 0, or with a key -U(0, 1).
    The sign bit k is there where the range, if given, has negative values, or always if `signed` (for weights).

    Gradients: of `sample`, in x 1 inside the range and 0 outside; in the logits by :math:`round(x / \hat\Delta) - x / \hat\Delta` inside
    for :math:`\hat\Delta`, outside by -1 for it and 1 for :math:`\hat t`. Of `expected_format`, those of the softmax. `format` has none.
    Raises: ValueError for bits that are no different whole numbers within 1..16, or for numbers of thresholds outside 1..16.
    Source: Habi et al. (HMQ), arXiv:2007.09952. There the upper level is :math:`\hat t`, which b bits do not hold, and the threshold is
    one octave above the largest weight of a trained network.

    >>> q = Hmq(bits=(4, 2), i0=0.0)
    >>> params = q.init((1, 1))
    >>> float(q.quantize(jnp.array([[0.8]]), params)[0, 0])
    0.75
    """

    samples: ClassVar[bool] = True
    untrained: ClassVar[frozenset[str]] = frozenset({"i"})
    overflow: ClassVar[str] = "SAT_SYM"
    bits: tuple[int, ...] = (8, 7, 6, 5, 4, 3, 2)
    thresholds: int = 8
    i0: float = 2.0
    headroom: int = 1
    signed: bool = False
    sample_axis: int = -2
    draws: int = 32
    search: float = 0.6
    cycles: int = 6
    i_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        super().__post_init__()
        whole = all(isinstance(b, int) and not isinstance(b, bool) and 1 <= b <= 16 for b in self.bits)
        if not whole or not self.bits or len(set(self.bits)) < len(self.bits):
            raise ValueError(f"bits is {self.bits}; different whole numbers within 1..16 are needed")
        if not 1 <= self.thresholds <= 16 or not 0 <= self.headroom <= 8 or self.draws < 1:
            found = f"thresholds is {self.thresholds}, headroom {self.headroom}, draws {self.draws}"
            raise ValueError(f"{found}; 1 to 16, 0 to 8 and at least 1 are legal")
        if not 0 < self.search <= 1 or self.cycles < 1:
            raise ValueError(f"search is {self.search}, cycles {self.cycles}; a share within 0..1 of the run and at least 1 are needed")
        check_bits("i0", self.i0)

    def limits(self):
        return {"i": self.i_limits, "logits": (-CHOSEN, CHOSEN)}

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32) if sample is None else sample_exponent(sample, shape) + float(self.headroom)
        pairs = (len(self.bits), self.thresholds)
        logits = jnp.zeros(pairs, jnp.float32) if key is None else -jax.random.uniform(key, pairs, jnp.float32)
        logits = logits.at[int(np.argmax(self.bits)), 0].set(math.log(0.95 * math.prod(pairs) / 0.05))
        return self.clip({"i": as_float32(i), "logits": jnp.broadcast_to(logits, (*shape, *pairs))})

    def format(self, params, ranges=None):
        return self._format(params, ranges, self._chosen(params))

    def expected_format(self, params, ranges=None, temperature=None):
        return self._format(params, ranges, jax.nn.softmax(params["logits"], (-2, -1)))

    def _format(self, params, ranges, p):
        """Means over the pairs, which have the probabilities `p`."""
        bits, shift = (jnp.sum(p * v, (-2, -1)) for v in self._pairs(p.ndim))
        largest = jnp.round(lax.stop_gradient(params["i"]))
        i = largest - shift
        k = self._signs(largest, ranges)
        return Format(k, i, bits - k - i)

    def _signs(self, like, ranges):
        if ranges is None or not self.keep_negative or self.signed:
            return self._sign(like)
        return (as_float32(ranges.low) < -self._finest(like) / 2).astype(like.dtype)

    def _finest(self, i):
        """A step that tells values from 0: ranges that decay in training never come to it."""
        return fixed_point.pow2(jnp.round(i) - max(self.bits))

    def sample(self, x, params, *, key, temperature, ranges=None):
        *slices, count_bits, count_thresholds = params["logits"].shape
        logits = params["logits"].reshape(*slices, count_bits * count_thresholds)
        axis = self.sample_axis % x.ndim if -x.ndim <= self.sample_axis < x.ndim else None
        if axis is not None and slices[axis] == 1:
            slices[axis] = min(x.shape[axis], self.draws)
        noisy = logits + jax.random.gumbel(key, (*slices, logits.shape[-1]), logits.dtype)
        bits, shift = (v.ravel() for v in self._pairs(2))
        of_pairs = jnp.stack([fixed_point.pow2(-shift), fixed_point.pow2(-shift - bits)], -1)
        means = jnp.matmul(jax.nn.softmax(noisy / temperature, -1), of_pairs, precision=lax.Precision.HIGHEST)
        largest = jnp.round(lax.stop_gradient(params["i"]))
        k = self._signs(largest, ranges)
        threshold, step = (fixed_point.pow2(n) * means[..., m] for m, n in enumerate((largest, largest + k)))
        return _saturated(x, step.astype(x.dtype), threshold.astype(x.dtype), k.astype(x.dtype), axis)

    def temperature(self, progress):
        within = jnp.minimum(progress / self.search, 1.0) * self.cycles % 1.0
        return jnp.maximum(jnp.exp(-jnp.round(STEPS * within) / 100), 0.5)

    def reassigns(self, epoch, epochs):
        return epoch == min(math.ceil(round(self.search * epochs, 6)), epochs - 1)

    def reassign(self, params, x, *, progress, curvature):
        return params | {"logits": jnp.where(self._chosen(params) > 0, CHOSEN, -CHOSEN)}

    def narrowest(self, params):
        logits = params["logits"]
        bits, _ = self._pairs(logits.ndim)
        return params | {"logits": jnp.where(bits == min(self.bits), logits, -CHOSEN)}

    def _pairs(self, rank: int):
        """Bits of each pair, and octaves of its threshold below the largest one, with leading axes of 1."""
        pairs = np.meshgrid(np.asarray(self.bits, np.float32), np.arange(self.thresholds, dtype=np.float32), indexing="ij")
        return tuple(jnp.asarray(v.reshape((1,) * (rank - 2) + v.shape)) for v in pairs)

    def _chosen(self, params):
        """1 for the likeliest bits and their likeliest threshold, 0 elsewhere; no gradient."""
        logits = lax.stop_gradient(params["logits"])
        bits = jax.nn.logsumexp(logits, -1, keepdims=True)
        best = jax.nn.one_hot(jnp.argmax(bits, -2), len(self.bits), axis=-2, dtype=logits.dtype)
        return best * jax.nn.one_hot(jnp.argmax(jnp.sum(best * logits, -2), -1), self.thresholds, dtype=logits.dtype)[..., None, :]

    def quantize(self, x, params, *, ranges=None, key=None):
        if not isinstance(params["logits"], Tracer) and not np.all(np.isfinite(params["logits"])):
            raise ValueError("logits is NaN or infinite; finite numbers are needed")
        return super().quantize(x, params, ranges=ranges, key=key)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _saturated(x, step, threshold, k, axis):
    """`x` on the grids of `step` up to `threshold`; slices of these along `axis` repeat."""
    return _value(x, *_steps(x, step, threshold, k, axis))[0]


def _steps(x, step, threshold, k, axis):
    """(step, steps in 1, the greatest level, the least) for each slice of `x`."""
    most = threshold / step - 1.0
    found = (fixed_point.materialized(v) for v in (step, 1.0 / step, most, -k * most))
    return tuple(_repeated(v, x.shape[axis], axis) if axis is not None else v for v in found)


def _value(x, step, inverse, most, least):
    """(value, level, x in steps)"""
    v = x * inverse
    level = fixed_point.round_to_integer(v, "RND")
    return step * jnp.clip(level, least, most), level, v


def _saturated_fwd(x, step, threshold, k, axis):
    return _saturated(x, step, threshold, k, axis), (x, step, threshold, k)


def _saturated_bwd(axis, kept, g):
    x, step, threshold, k = kept
    step_, inverse, most, least = _steps(x, step, threshold, k, axis)
    _, level, v = _value(x, step_, inverse, most, least)
    above, below = level > most, level < least
    inside = ~(above | below)
    beyond = jnp.where(above, g, jnp.where(below, -k * g, 0.0))
    of_step = jnp.where(inside, g * (level - v), -beyond)
    return jnp.where(inside, g, 0.0), _summed(of_step, step.shape, axis), _summed(beyond, step.shape, axis), jnp.zeros_like(k)


_saturated.defvjp(_saturated_fwd, _saturated_bwd)


def _repeated(v, count: int, axis: int):
    """The slices of `v` along `axis` again and again, `count` in all."""
    draws = v.shape[axis]
    if draws in (1, count):
        return v
    return lax.slice_in_dim(jnp.tile(v, [-(-count // draws) if a == axis else 1 for a in range(v.ndim)]), 0, count, axis=axis)


def _summed(g, shape: tuple[int, ...], axis: int | None):
    """Sum of `g` over the values of each slice, of this shape: over slices that repeat first, which are vectors."""
    if axis is not None and 1 < shape[axis] < g.shape[axis]:
        draws, count = shape[axis], g.shape[axis]
        times = -(-count // draws)
        g = jnp.pad(g, [(0, times * draws - count if a == axis else 0) for a in range(g.ndim)])
        g = fixed_point.materialized(jnp.sum(g.reshape(*g.shape[:axis], times, draws, *g.shape[axis + 1 :]), axis))
    return jnp.sum(g, tuple(a for a, n in enumerate(shape) if n == 1 != g.shape[a]), keepdims=True)
