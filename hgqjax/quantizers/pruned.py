"""Pruned: fixed point of one width, with the smallest weights of a tensor set to zero, more of them as training goes on."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
from jax import lax

from hgqjax import fixed_point
from hgqjax.quantizers._base import AbstractQuantizer, Format, as_float32, check_bits, largest_magnitude, rounded_exponent, rounded_width


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pruned(AbstractQuantizer):
    r"""Levels :math:`2^{i-b+1} m` with `bits` b, sign included, where a weight is kept; 0, of no bits, where it is not.

    All weights of a tensor share i, which follows the largest magnitude where `ranges` are given. `reassign` keeps the weights of the
    largest magnitudes, before every epoch of the share `until` of the run; of n weights :math:`n s` are gone when the share p is over:

    .. math:: s = sparsity\,(1 - (1 - p / until)^3)

    Use it with granularity "element": each weight has its own `keep`. Initialisation: all are kept; i = `i0` or from the sample.
    Gradients: dq/dx = 1 where kept, 0 where not and beyond the largest level; the parameters have none.
    Raises: ValueError for bits outside 2..16 and shares outside 0..1.
    Source: magnitude pruning with the schedule of Zhu and Gupta, arXiv:1710.01878.

    >>> q = Pruned(bits=3, i0=0.0)
    >>> q.quantize(jnp.array([0.4, 0.4]), q.init((2,)) | {"keep": jnp.array([1.0, 0.0])}).tolist()
    [0.5, 0.0]
    """

    format_of_each_value: ClassVar[bool] = True
    untrained: ClassVar[frozenset[str]] = frozenset({"i", "keep"})
    bits: int = 6
    sparsity: float = 0.5
    until: float = 0.5
    i0: float = 1.0
    i_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not 2 <= self.bits <= 16:
            raise ValueError(f"bits is {self.bits!r}; 2 to 16 bits, the sign included, are legal")
        if not 0 <= self.sparsity < 1 or not 0 < self.until < 1:
            raise ValueError(f"sparsity is {self.sparsity}, until {self.until}; shares below 1 are needed, of the run above 0")
        check_bits("i0", self.i0)

    def limits(self):
        return {"i": self.i_limits, "keep": (0.0, 1.0)}

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32)
        if sample is not None:
            largest = jnp.max(largest_magnitude(sample, shape), initial=0.0)
            i = jnp.where(largest > 0, jnp.broadcast_to(self._integer_bits(largest), shape), i)
        return self.clip({"i": i, "keep": jnp.ones(shape, jnp.float32)})

    def reassigns(self, epoch, epochs):
        return epoch <= math.ceil(self.until * epochs)

    def reassign(self, params, x, *, progress, curvature):
        assert x is not None, "Pruned is for weights"
        if params["keep"].shape != x.shape:
            raise ValueError(f"keep has shape {params['keep'].shape} for weights {x.shape}; pruning needs granularity 'element'")
        left = (1.0 - jnp.minimum(progress / self.until, 1.0)) ** 3
        zeros = jnp.sum((x == 0).astype(jnp.float32))  # not there at all: a mask
        gone = zeros + jnp.round(self.sparsity * (1.0 - left) * (x.size - zeros))
        rank = jnp.argsort(jnp.argsort(abs(x).ravel())).astype(jnp.float32)
        return params | {"keep": (rank >= gone).astype(jnp.float32).reshape(x.shape)}

    def format(self, params, ranges=None):
        i, kept = jnp.round(params["i"]), params["keep"] >= 0.5
        k = jnp.ones_like(i)
        if ranges is not None:
            low, high = as_float32(ranges)
            i = jnp.broadcast_to(self._integer_bits(jnp.max(jnp.maximum(-low, high), initial=0.0)), low.shape)
            k = (low < 0).astype(i.dtype)
        return Format(jnp.where(kept, k, 0.0), i, jnp.where(kept, self.bits - 1.0 - i, -i))

    def quantize(self, x, params, *, ranges=None, key=None):
        x = fixed_point.as_float(x)
        keep, i = rounded_width(params, "keep", x) >= 0.5, lax.stop_gradient(rounded_width(params, "i", x))
        if ranges is not None:
            i = jnp.broadcast_to(self._integer_bits(jnp.max(jnp.maximum(-ranges.low, ranges.high).astype(x.dtype), initial=0.0)), i.shape)
        q = fixed_point.quantize(x, jnp.ones_like(i), i, self.bits - 1.0 - i, "RND", "SAT_SYM")
        return jnp.where(keep, q, jnp.zeros_like(q))

    def _integer_bits(self, largest):
        """The fewest that hold the largest magnitude, rounded."""
        return rounded_exponent(largest, jnp.float32(self.bits - 1))
