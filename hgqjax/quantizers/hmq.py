"""Hmq: one of several pairs of bit-width and power-of-two threshold for each tensor, found by a Gumbel-softmax search."""

import dataclasses
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
    more than `draws` of them, which then repeat (in the paper every slice has its own; the noise is most of the cost of a step).
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
        logits = params["logits"]
        slices, count = list(logits.shape[:-2]), 1
        if -x.ndim <= self.sample_axis < x.ndim and slices[self.sample_axis] == 1:
            count = x.shape[self.sample_axis]
            slices[self.sample_axis] = min(count, self.draws)
        noise = jax.random.gumbel(key, (*slices, *logits.shape[-2:]), logits.dtype)
        p = jax.nn.softmax((jax.nn.log_softmax(logits, (-2, -1)) + noise) / temperature, (-2, -1))
        largest = jnp.round(lax.stop_gradient(params["i"]))
        k = self._signs(largest, ranges)
        bits, shift = self._pairs(p.ndim)
        thresholds = fixed_point.pow2(largest[..., None, None] - shift)
        steps = thresholds * fixed_point.pow2(k[..., None, None] - bits)
        threshold, step = (jnp.sum(p * v, (-2, -1)).astype(x.dtype) for v in (thresholds, steps))
        if count > self.draws:
            threshold, step = (jnp.take(v, np.arange(count) % self.draws, axis=self.sample_axis) for v in (threshold, step))
        most = threshold / step - 1.0
        v = x / step
        whole = fixed_point.straight_through(fixed_point.round_to_integer(v, "RND"), v)
        least = -k.astype(x.dtype) * most
        return step * jnp.where(whole > most, most, jnp.where(whole < least, least, whole))  # not clip: it halves gradients at ties

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
