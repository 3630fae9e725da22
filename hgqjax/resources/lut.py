"""Predicted LUTs: the adders that constant weights become, counted from the signed digits of the weights; differentiable in everything."""

import dataclasses
import functools
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from hgqjax import fixed_point
from hgqjax.resources import operations as o
from hgqjax.resources._base import AbstractCost, Cost, Values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Luts(AbstractCost):
    r"""LUTs of a fully unrolled network without multipliers: a weight becomes as many shifted copies of its input as it has digits.

    A result is the sum of :math:`N = \sum_t d_t` copies, and of its bias where that is not 0 (n = 1, else 0), by two-input adders, one LUT
    a bit:

    .. math:: LUT = \sum_{results} \max(N + n - 1, 0) \left(\frac{\sum_t d_t b_t}{N} + growth\right)

    with :math:`d_t` the non-zero digits of weight t in canonical signed-digit form, :math:`b_t` the bits of its input, sign included. So a
    weight of 0.5 costs one adder at any width, one of 0.484375 two, and a lone copy none. Other operations: see `operation`.

    Args:
      growth: bits by which a sum is wider than its operands, mean over a tree of adders, >= 0.
      slope: digits that a magnitude bit is expected to bring, >= 0.
      pull: how much of the gradient in the value of a weight is used, >= 0; 0 leaves the widths alone to be trained.
      spans: whether words of tables are counted, while training, by the span of their results instead of by their widths.

    Gradients: exact in the inputs' widths and in the digits; those of a digit count are straight-through. In the magnitude bits of a weight
    `slope` (none where it has none). In its value x, on a grid of step s, `pull` times :math:`(d(m + 1) - d(m)) / s` with
    :math:`m = \lfloor x / s \rfloor`: the slope of the count that stochastic rounding of x would have on average. It draws a weight to
    the neighbour with fewer digits, the smallest ones to 0. It is 0 where the quantized weight is a step or more from x, as it saturates,
    and for quantizers whose levels are not a grid of one step (`Signal.uniform`), such as powers of two.
    Raises: ValueError for a negative number.
    Source: ours. A signal without values (a layer of one's own that does not give them) counts `slope` digits a bit.

    >>> from hgqjax.quantizers import Format
    >>> def signal(k, i, f, **constant):
    ...     return o.Signal(Format(*map(np.array, (k, i, f))), "WRAP", np.shape(f), **constant)
    >>> inputs = signal([1.0, 1.0], [0.0, 0.0], [3.0, 3.0])
    >>> weights = np.array([[0.5], [0.4375]])  # one digit, and two: 1/2 - 1/16
    >>> kernel = signal([[1.0], [1.0]], [[0.0], [0.0]], [[4.0], [4.0]], constant=True, values=lambda: (weights, weights))
    >>> float(Luts(growth=1.0).operation(o.Dense(inputs, kernel, None)))  # three copies of 4 bits: two adders of 5 bits
    10.0
    """

    unit: ClassVar[str] = "LUTs"
    growth: float = 1.3
    slope: float = 0.5
    pull: float = 1.0
    spans: bool = False

    def __post_init__(self):
        for name in ("growth", "slope", "pull"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; a finite number of at least 0 is needed")

    def operation(self, op):
        """LUTs of one operation.

        Sums and differences: the bits of all but the narrowest operand. Extremes and pooling: twice that, a comparison and a selection.
        Products of two signals: the product of their bits. A table of b bits in and n out: 2**(b - 6) n, for b < 5 b n / 10 (LUTs of six
        inputs that can be two of five; as HGQ-LUT counts, arXiv:2604.22293). Tables of elements: see `_lookup`. Sums of
        products of two signals: the products, and adders of the mean width of the products plus `growth`.
        """
        if isinstance(op, o.Dense | o.Einsum | o.Conv):
            return self._linear(op)
        if isinstance(op, o.Sum):
            bits = _bits(op.input)
            return bits.sum() - bits.min(axis=op.axes).sum()
        if isinstance(op, o.Pool):
            return 2.0 * _bits(op.input).sum() * op.share()
        if isinstance(op, o.Lookup):
            return self._lookup(op)
        if isinstance(op, o.Table):
            return (o.small_tables(_bits(op.input)) * _bits(op.output) / 2).sum()
        if isinstance(op, o.Contract):
            return self._contract(op)
        bits = o.merged_bits([_bits(signal) for signal in op.inputs])
        if isinstance(op, o.Multiply):
            return functools.reduce(lambda a, b: a * b, bits).sum()
        rest = sum(b.sum() for b in bits) - functools.reduce(bits[0].__array_namespace__().minimum, bits).sum()
        return (2.0 if isinstance(op, o.Extreme) else 1.0) * rest

    def _linear(self, op) -> Cost:
        bits, digits = _bits(op.input), op.kernel.weighted(self._digits(op.kernel))
        xp = bits.__array_namespace__()
        copies = op.sums(xp.where(bits > 0, 1.0, 0.0), digits)
        total = op.sums(bits, digits)
        some = copies > 0
        adders = copies - 1.0
        if op.bias is not None:
            adders = adders + xp.broadcast_to(_present(op.bias), copies.shape)
        adders = xp.where(some & (adders > 0), adders, 0.0)
        return (adders * (total / xp.where(some, copies, 1.0) + self.growth)).sum() * op.share()

    def _lookup(self, op: o.Lookup) -> Cost:
        r"""Tables: of a description the exact count of their content (`hgqjax.resources.tables_luts`), while training by widths.

        With `spans` training counts :math:`\log_2(1 + s / step)` bits of a word, where s is the span of a table's results, if its format
        has as many: a gradient in the function of an edge, of which `pull` is used.

        Where a sum follows, N tables that are not constant are added by N - 1 adders of the mean bits of their words plus `growth`.
        """
        keys, bits = _bits(op.input), _bits(op.output)
        xp = bits.__array_namespace__()
        if op.span is not None and (self.spans or isinstance(bits, np.ndarray)):
            span, step = op.span(), xp.exp2(-op.output.format.f)
            if not isinstance(span, np.ndarray):
                span = self.pull * span + lax.stop_gradient((1.0 - self.pull) * span)
            there = (bits > 0) & (span > 0)
            needed = xp.log2(1.0 + xp.where(there, span, 1.0) / step)
            bits = xp.where(there, xp.where(needed < bits, needed, bits), 0.0 * bits)
        total = (o.small_tables(keys) * bits / 2).sum() if op.luts is None else op.luts().sum()
        if not op.summed:
            return total
        live = xp.where((bits > 0) & (keys > 0), 1.0, 0.0)
        count = live.sum(-2)
        adders = xp.where(count > 1, count - 1.0, 0.0)
        return total + (adders * ((bits * live).sum(-2) / xp.maximum(count, 1.0) + self.growth)).sum()

    def _contract(self, op) -> Cost:
        a, b = (_bits(signal) for signal in op.inputs)
        xp = a.__array_namespace__()
        live_a, live_b = (xp.where(bits > 0, 1.0, 0.0) for bits in (a, b))
        terms, products = xp.einsum(op.equation, live_a, live_b), xp.einsum(op.equation, a, b)
        widths = xp.einsum(op.equation, a, live_b) + xp.einsum(op.equation, live_a, b)
        adders = xp.maximum(terms - 1.0, 0.0)
        return products.sum() + (adders * (widths / xp.maximum(terms, 1.0) + self.growth)).sum()

    def _digits(self, kernel: o.Signal) -> Float[Values, "..."]:
        """Digits of each weight, with the gradients of the class."""
        width = kernel.format.i + kernel.format.f
        xp = width.__array_namespace__()
        expected = xp.broadcast_to(self.slope * xp.where(width > 0, width, 0.0), kernel.shape)
        if kernel.values is None:
            return expected
        x, q = kernel.values()
        if isinstance(q, np.ndarray):
            return signed_digits(q)
        if not kernel.uniform:
            return fixed_point.straight_through(signed_digits(q), expected)
        scale = fixed_point.pow2(lax.stop_gradient(jnp.asarray(kernel.format.f)))
        below = xp.floor(lax.stop_gradient(x) * scale)
        near = abs(lax.stop_gradient(q - x)) * scale < 1  # not where it saturates
        rise = xp.where(near, (signed_digits(below + 1) - signed_digits(below)) * scale, 0.0)
        return fixed_point.straight_through(signed_digits(q), expected + self.pull * x * lax.stop_gradient(rise))


def signed_digits(values: Float[Values, "..."]) -> Float[Values, "..."]:
    """Non-zero digits of each value in canonical signed-digit form (digits -1, 0, 1, no two neighbours non-zero); no gradient.

    They are the fewest powers of two, added or subtracted, that make the value; where the binary point is does not matter. Source:
    Reitwiesner (1960): the ones of ``m xor 3 m``.

    >>> signed_digits(np.array([0.0, 0.5, 0.484375, -7.0, 11.0])).tolist()
    [0.0, 1.0, 2.0, 2.0, 3.0]
    """
    if isinstance(values, np.ndarray):
        m = (np.frexp(abs(values))[0] * 2.0**53).astype(np.int64)
        return np.bitwise_count(m ^ (3 * m)).astype(np.float64)
    values = lax.stop_gradient(values)
    mantissa, _ = values.__array_namespace__().frexp(abs(values))  # 24 bits: 3 m has 26
    m = (mantissa * 2.0**24).astype(np.int32)
    return lax.population_count(m ^ (3 * m)).astype(values.dtype)


def _bits(signal: o.Signal) -> Float[Values, "..."]:
    """Bits of an operand, its sign included."""
    return signal.bits("paper_v1", False)


def _present(bias: o.Signal) -> Float[Values, "..."]:
    """1 where a bias is not 0, else 0; of one without values where it has bits. No gradient."""
    there = bias.bits("paper_v1", False) > 0 if bias.values is None else bias.values()[1] != 0
    return bias.weighted(there.__array_namespace__().where(there, 1.0, 0.0))
