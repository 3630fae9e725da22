"""RowWise: each output row of a weight is powers of two in 4 bits, or fixed point in 4 or 8, in one ratio for all layers."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from hgqjax import fixed_point
from hgqjax.quantizers._base import (
    AbstractQuantizer,
    Format,
    as_float32,
    check_bits,
    largest_magnitude,
    nearest_exponent,
    rounded_exponent,
    rounded_width,
)
from hgqjax.quantizers.power_of_two import PowerOfTwo

POWERS, FIXED_4, FIXED_8 = 0.0, 1.0, 2.0
"""Schemes of a row."""
_CODE = PowerOfTwo(bits=4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowWise(AbstractQuantizer):
    r"""Schemes of rows (slices along the last axis: neurons, filters): powers of two of 4 bits, fixed point of 4 bits, or of 8.

    :math:`\pm 2^{i-1-n}`, n = 0 .. 6, and 0; or :math:`\pm 2^{i-3} m`, m = 0 .. 7; or :math:`\pm 2^{i-7} m`, m = 0 .. 127; i follows the
    largest magnitude of the row where `ranges` are given. The rows that `reassign` finds to have the largest eigenvalues of the loss's
    Hessian get 8 bits; of the rest those of the least variance become powers of two, whose levels crowd around 0. That is done before
    every `every`-th epoch, from the first on until the share `until` of the run.

    Args:
      ratio: shares (powers of two, fixed 4 bits, fixed 8 bits) of the rows of every layer, first and last included; their sum is 1. Rows
        are whole: largest remainders. For a board: `hgqjax.resources.row_ratio`.

    Initialisation: i = `i0`, or from the sample; schemes by variance, 8 bits for the rows of the largest magnitude (there is no loss yet).
    Gradients: dq/dx = 1, 0 beyond :math:`2^i`; the parameters have none.
    Raises: ValueError for ratios that are no shares or do not sum to 1, and for epochs below 1.
    Source: Chang et al., arXiv:2009.07460 (MSP), 2111.00155 (ILMPQ), 2111.00153 (RMSMP); there each row has a real scale, which no
    fixed-point format has, so that here it is a power of two.

    >>> q = RowWise(ratio=(0.5, 0.5, 0.0), i0=0.0)
    >>> params = q.init((1, 2)) | {"scheme": jnp.array([[0.0, 1.0]])}
    >>> q.quantize(jnp.array([[0.4, 0.4]]), params).tolist()
    [[0.5, 0.375]]
    """

    format_of_each_value: ClassVar[bool] = True
    untrained: ClassVar[frozenset[str]] = frozenset({"i", "scheme"})
    ratio: tuple[float, float, float] = (0.6, 0.35, 0.05)
    every: int = 10
    until: float = 0.6
    i0: float = 1.0
    i_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        super().__post_init__()
        shares = len(self.ratio) == 3 and all(0 <= share <= 1 for share in self.ratio)
        if not shares or not math.isclose(sum(self.ratio), 1.0, abs_tol=1e-6):
            raise ValueError(
                f"ratio is {self.ratio}, which sums to {sum(self.ratio):g}; three shares (powers of two, fixed 4 bits, fixed 8 bits) that "
                "sum to 1 are needed"
            )
        if self.every < 1 or not 0 <= self.until <= 1:
            raise ValueError(f"every is {self.every}, until {self.until}; at least 1 epoch and a share within 0..1 are needed")
        check_bits("i0", self.i0)

    def limits(self):
        return {"i": self.i_limits, "scheme": (POWERS, FIXED_8)}

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32)
        if sample is None:
            order = jnp.arange(math.prod(shape)).reshape(shape)
            return self.clip({"i": i, "scheme": self._schemes(order, order)})
        largest = largest_magnitude(sample, shape)
        i = jnp.where(largest > 0, fixed_point.exponent(largest), i)
        axes = tuple(a for a, n in enumerate(shape) if n == 1)
        spread = jnp.zeros(shape) if sample.size == 0 else jnp.var(as_float32(sample), axes, keepdims=True)
        return self.clip({"i": i, "scheme": self._schemes(spread, largest)})

    def _schemes(self, variance, sensitivity):
        """Scheme of each row, in the counts of the ratio."""
        shape, rows = variance.shape, variance.size
        powers, _, eight = row_counts(self.ratio, rows)
        rank = jnp.argsort(jnp.argsort(-sensitivity.ravel()))  # 0: most sensitive
        rest = jnp.argsort(jnp.argsort(jnp.where(rank < eight, jnp.inf, variance.ravel().astype(jnp.float32))))
        return jnp.where(rank < eight, FIXED_8, jnp.where(rest < powers, POWERS, FIXED_4)).astype(jnp.float32).reshape(shape)

    def reassigns(self, epoch, epochs):
        return (epoch % self.every == 0) & (epoch <= math.floor(self.until * epochs))

    def reassign(self, params, x, *, progress, curvature):
        assert x is not None, "RowWise is for weights"
        shape = params["scheme"].shape
        if shape != (1,) * (x.ndim - 1) + (x.shape[-1],):
            raise ValueError(f"scheme has shape {shape} for weights {x.shape}; row-wise schemes need granularity 'channel'")
        x, axes = as_float32(x), tuple(range(x.ndim - 1))
        there = (x != 0).astype(x.dtype)  # what a mask leaves out is no weight
        count = jnp.maximum(jnp.sum(there, axes, keepdims=True), 1.0)
        mean = jnp.sum(x, axes, keepdims=True) / count
        return params | {"scheme": self._schemes(jnp.sum(there * (x - mean) ** 2, axes, keepdims=True) / count, curvature())}

    def narrowest(self, params):
        return params

    def format(self, params, ranges=None):
        i = jnp.round(params["i"])
        if ranges is None:  # that of all levels
            return Format(jnp.ones_like(i), i, _CODE.powers - i)
        low, high = as_float32(ranges)
        value = jnp.where(high > 0, high, low)
        scheme = jnp.round(params["scheme"])
        largest = _of_rows(jnp.maximum(-low, high), scheme.shape)
        power = fixed_point.exponent(_CODE._levels(value, _scale(largest, scheme)))
        zero = _CODE._levels(value, _scale(largest, scheme)) == 0
        i = jnp.where(scheme == POWERS, power, _scale(largest, scheme))
        bits = jnp.where(scheme == POWERS, jnp.where(zero, 0.0, 1.0), _magnitude_bits(scheme))
        return Format(((value < 0) & ~((scheme == POWERS) & zero)).astype(i.dtype), i, bits - i)

    def quantize(self, x, params, *, ranges=None, key=None):
        x = fixed_point.as_float(x)
        scheme = rounded_width(params, "scheme", x)
        i = rounded_width(params, "i", x)
        if ranges is not None:
            largest = jnp.maximum(-ranges.low, ranges.high).astype(x.dtype)
            i = _scale(_of_rows(largest, params["scheme"].shape), scheme)
        bits = jnp.broadcast_to(_magnitude_bits(scheme), x.shape)
        fixed = fixed_point.quantize(x, jnp.ones_like(i), i, bits - i, "RND", "SAT_SYM")
        q = jnp.where(scheme == POWERS, _CODE._levels(x, i), fixed)
        beyond = abs(x) > fixed_point.pow2(i)
        return fixed_point.straight_through(q, jnp.where(beyond, 0.0, 1.0) * x)


def row_counts(ratio: tuple[float, ...], rows: int) -> tuple[int, ...]:
    """Whole numbers of rows, `rows` in all, nearest to the shares of `ratio`, by largest remainders.

    >>> row_counts((0.6, 0.35, 0.05), 32), row_counts((0.6, 0.35, 0.05), 5)
    ((19, 11, 2), (3, 2, 0))
    """
    exact = np.asarray(ratio) * rows
    counts = np.floor(exact + 1e-9).astype(int)
    for n in np.argsort(counts - exact, kind="stable")[: rows - counts.sum()]:
        counts[n] += 1
    return tuple(counts.tolist())


def _of_rows(values, shape):
    """The greatest of each row."""
    return jnp.max(values, tuple(a for a, n in enumerate(shape) if n == 1), keepdims=True, initial=0.0)


def _magnitude_bits(scheme):
    return jnp.where(scheme == FIXED_8, 7.0, 3.0).astype(scheme.dtype)


def _scale(largest, scheme):
    """i of each row from its largest magnitude: the nearest power of two is the largest level, or the fewest integer bits that hold it."""
    return jnp.where(scheme == POWERS, nearest_exponent(largest) + 1.0, rounded_exponent(largest, _magnitude_bits(scheme)))
