"""Operations as the cost models see them: which widths meet which. Formats go in, bit operations come out, differentiable in every width.

All are named tuples of signals and whole numbers; arrays may be numpy's (exact, of a model description) or JAX's (traced, in training).
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax import lax
from jaxtyping import Float

from hgqjax.quantizers import Format
from hgqjax.resources._base import Cost, Definition, Values

ACCUMULATOR = 0.65
"""Bit operations that HGQ2 counts for a bit that is added."""
TABLE_BIT = 1e-4
"""Bit operations that HGQ2 counts for a bit of a table."""


class Signal(NamedTuple):
    """One operand: its `format`, which broadcasts to `shape`; whether it is a `constant`, and of a frozen one its `enclosed_bits`.

    `sharing` is the number of values that share a trained width; by default what the shape of the format says. `values` gives, of a
    constant, ``(x, q)``: its values before quantization and after; a function, as few cost models ask. `uniform`: x is rounded to the
    nearest of all multiples of 2**-f in reach, not to chosen ones of them, as powers of two are. `share`, which broadcasts to `shape`:
    how much of each value is counted, in [0, 1], where a gate decides which are there; None: all.
    """

    format: Format
    overflow: str
    shape: tuple[int, ...]
    constant: bool = False
    enclosed_bits: Any = None
    sharing: float | None = None
    values: Callable[[], tuple[Any, Any]] | None = None
    uniform: bool = True
    share: Any = None

    def shared(self, share: Float[Values, "..."]) -> "Signal":
        """The same with a further share of each value."""
        return self._replace(share=share if self.share is None else self.share * share)

    def weighted(self, values: Float[Values, "..."]) -> Float[Values, "..."]:
        """`values`, of `shape`, times the share of each."""
        return values if self.share is None else values * self.share

    def bits(self, definition: Definition, normalize_gradient: bool) -> Float[Values, "..."]:
        """Width that counts, in bits, >= 0, of `shape`; see `ebops`."""
        k, i, f = self.format
        xp = f.__array_namespace__()
        if definition == "paper_v1" and self.enclosed_bits is not None:
            return xp.broadcast_to(self.enclosed_bits, self.shape)
        sign = k if (self.overflow == "SAT" if definition == "hgq2" else not self.constant) else 0.0 * k
        width = i + f
        width = width + xp.where(width > 0, sign, 0.0 * sign) if definition == "paper_v1" else width + sign
        width = xp.where(width > 0, width, 0.0 * width)  # not maximum: its gradient at 0 is 1/2
        if normalize_gradient:
            group = math.prod(self.shape) / math.prod(f.shape) if self.sharing is None else self.sharing
            width = width / group**0.5 + lax.stop_gradient(width - width / group**0.5)
        return self.weighted(xp.broadcast_to(width, self.shape))

    def with_sign(self, normalize_gradient: bool) -> Float[Values, "..."]:
        """Width with the sign, of WRAP where there is another bit, as HGQ2 counts keys and words of tables; of `shape`."""
        if self.overflow == "WRAP":
            return self.bits("paper_v1", normalize_gradient)
        return self._replace(overflow="SAT").bits("hgq2", normalize_gradient)


class Dense(NamedTuple):
    """``input @ kernel + bias``: `input` of shape (..., n), `kernel` (n, m), `bias` (m,) or None."""

    input: Signal
    kernel: Signal
    bias: Signal | None

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        """Bit operations of an inference, by "hgq2" or "paper_v1"; see `hgqjax.resources.Ebops`, whose arguments these are."""
        bits_in = self.input.bits(definition, normalize_gradient)
        total = dense_ebops(bits_in, self.kernel.bits(definition, normalize_gradient))
        size = math.prod(self.input.shape[:-1]) * self.kernel.shape[1]
        return total + _bias_ebops(self.bias, size, definition, normalize_gradient)

    def sums(self, inputs: Float[Values, "..."], kernel: Float[Values, "..."]) -> Float[Values, "..."]:
        """The operation without its bias on other numbers: `inputs` and `kernel` of the shapes of these signals."""
        return inputs @ kernel

    def share(self) -> float:
        """Of the results, the share that hardware computes at a time."""
        return 1.0


class Einsum(NamedTuple):
    """``einsum(equation, input, kernel) + bias``, without a label for the batch axis; every label is in two of the three parts.

    `parallelization` is the number of positions (labels of input and result, not of the kernel) that hardware computes at a time: all by
    default; fewer share multipliers and adders.
    """

    input: Signal
    kernel: Signal
    bias: Signal | None
    equation: str
    parallelization: int | None = None

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        x, kernel, y = self.equation.replace("->", ",").split(",")
        bits_in, bits_kernel = (s.bits(definition, normalize_gradient) for s in (self.input, self.kernel))
        xp = bits_in.__array_namespace__()
        both = "".join(label for label in x if label in kernel)
        total = (xp.einsum(f"{x}->{both}", bits_in) * xp.einsum(f"{kernel}->{both}", bits_kernel)).sum()
        sizes = dict(zip(x, self.input.shape, strict=True)) | dict(zip(kernel, self.kernel.shape, strict=True))
        total = total + _bias_ebops(self.bias, math.prod(sizes[label] for label in y), definition, normalize_gradient)
        return total * self.share()

    def sums(self, inputs: Float[Values, "..."], kernel: Float[Values, "..."]) -> Float[Values, "..."]:
        """As `Dense.sums`."""
        return inputs.__array_namespace__().einsum(self.equation, inputs, kernel)

    def share(self) -> float:
        """As `Dense.share`."""
        x, kernel, _ = self.equation.replace("->", ",").split(",")
        return _share(self.parallelization, math.prod(n for n, label in zip(self.input.shape, x, strict=True) if label not in kernel))


class Conv(NamedTuple):
    """Convolution: `input` (spatial axes..., channels), `kernel` (window sizes..., channels / groups, filters), `bias` (filters,) or None.

    `padding` has the zeros (before, after) each spatial axis; they cost nothing. With `parallelization` of p positions of all P, the
    multiplications count p / P. A bias counts mean(bits) * filters for each position of the *input*, whatever the strides, as in HGQ2.
    """

    input: Signal
    kernel: Signal
    bias: Signal | None
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    parallelization: int | None = None

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        bits_in, bits_kernel = (s.bits(definition, normalize_gradient) for s in (self.input, self.kernel))
        *_, channels, filters = self.kernel.shape
        seen = bits_in.__array_namespace__().stack(_sums_seen(bits_in, self._axes())).reshape(-1, self.groups, channels)
        weights = bits_kernel.reshape(-1, channels, self.groups, filters // self.groups).sum(axis=3)
        total = (seen * weights.swapaxes(1, 2)).sum() * self.share()
        return total + _bias_ebops(self.bias, math.prod(self.input.shape[:-1]) * filters, definition, normalize_gradient)

    def sums(self, inputs: Float[Values, "..."], kernel: Float[Values, "..."]) -> Float[Values, "..."]:
        """As `Dense.sums`."""
        *size, channels, filters = kernel.shape
        xp, positions = inputs.__array_namespace__(), self.positions()
        inputs = xp.pad(inputs, (*self.padding, (0, 0)))
        total: Any = 0.0
        for element in itertools.product(*map(range, size)):
            starts = [n * dilation for n, dilation in zip(element, self.dilation, strict=True)]
            window = inputs[*(slice(s, s + (n - 1) * d + 1, d) for s, n, d in zip(starts, positions, self.strides, strict=True))]
            window = window.reshape(*positions, self.groups, 1, channels)
            weights = kernel[element].reshape(channels, self.groups, filters // self.groups).swapaxes(0, 1)
            total = total + (window @ weights).reshape(*positions, filters)
        return total

    def share(self) -> float:
        """As `Dense.share`."""
        return _share(self.parallelization, math.prod(self.positions()))

    def positions(self) -> tuple[int, ...]:
        """Results along each spatial axis."""
        return tuple((n + sum(pad) - dilation * (taps - 1) - 1) // stride + 1 for n, taps, stride, pad, dilation in self._axes())

    def _axes(self):
        return list(zip(self.input.shape, self.kernel.shape[:-2], self.strides, self.padding, self.dilation, strict=False))


class Add(NamedTuple):
    """The sum of `inputs`, of one shape or of size 1 on axes that repeat: 0.65 for each bit of all but an element's narrowest input."""

    inputs: tuple[Signal, ...]

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        if definition == "paper_v1":
            return 0.0
        return ACCUMULATOR * _beyond_the_narrowest(self.inputs, definition, normalize_gradient)


class Subtract(NamedTuple):
    """The difference of two `inputs`, shapes as of `Add`: the bits of the wider input of each element."""

    inputs: tuple[Signal, ...]

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        if definition == "paper_v1":
            return 0.0
        bits = merged_bits([s.bits(definition, normalize_gradient) for s in self.inputs])
        return functools.reduce(bits[0].__array_namespace__().maximum, bits).sum()


class Extreme(NamedTuple):
    """The greatest or least of `inputs`, shapes as of `Add`: each bit of all but the narrowest input of an element."""

    inputs: tuple[Signal, ...]

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        return 0.0 if definition == "paper_v1" else _beyond_the_narrowest(self.inputs, definition, normalize_gradient)


class Sum(NamedTuple):
    """The sum of `input` over `axes`: as `Add`, of what these axes hold."""

    input: Signal
    axes: tuple[int, ...]

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        if definition == "paper_v1":
            return 0.0
        bits = self.input.bits(definition, normalize_gradient)
        return ACCUMULATOR * (bits.sum() - bits.min(axis=self.axes).sum())


class Multiply(NamedTuple):
    """The product of `inputs`, shapes as of `Add`: the product of their bits, summed over the elements."""

    inputs: tuple[Signal, ...]

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        return functools.reduce(lambda a, b: a * b, (s.bits(definition, normalize_gradient) for s in self.inputs)).sum()


class Contract(NamedTuple):
    """``einsum(equation, *inputs)`` of two computed `inputs`: the product of the bits of every product's factors; sums are not counted.

    The equation has no label for the batch axis; every label is in two of its three parts.
    """

    inputs: tuple[Signal, Signal]
    equation: str

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        a, b, _ = self.equation.replace("->", ",").split(",")
        bits_a, bits_b = (s.bits(definition, normalize_gradient) for s in self.inputs)
        xp = bits_a.__array_namespace__()
        both = "".join(label for label in a if label in b)
        return (xp.einsum(f"{a}->{both}", bits_a) * xp.einsum(f"{b}->{both}", bits_b)).sum()


class Lookup(NamedTuple):
    """A table of its own for each element, from `input` to `output`, of one shape; `summed`: a sum of the results follows, counted here.

    A table of b bits in and n out is n/2 of those that two five-bit inputs share in a LUT6: ``2**(b - 5) n / 2``, below five bits
    ``b / 5 * n / 2``; the adder tree of a sum costs n more for each table. All widths have their sign
    (`Signal.with_sign`). As HGQ-LUT counts (arXiv:2604.22293).

    `span` gives, for each table, its greatest result less its least, as values, differentiable while training; `luts` the LUT6 of its
    content (`hgqjax.resources.tables_luts`). They are functions, as few cost models ask.
    """

    input: Signal
    output: Signal
    summed: bool = False
    span: Callable[[], Any] | None = None
    luts: Callable[[], Any] | None = None

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        if definition == "paper_v1":
            return 0.0
        words, width = (s.with_sign(normalize_gradient) for s in (self.input, self.output))
        return (small_tables(words) * width / 2).sum() + (width.sum() if self.summed else 0.0)


class Table(NamedTuple):
    """A function of single values, looked up: 1e-4 for each bit of the table, 2**bits of the `input` times those of the `output`."""

    input: Signal
    output: Signal

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        if definition == "paper_v1":
            return 0.0
        words, width = (s.bits(definition, normalize_gradient) for s in (self.input, self.output))
        xp = words.__array_namespace__()
        return TABLE_BIT * (xp.where(words > 0, xp.exp2(words), 0.0 * words) * width).sum()


class Pool(NamedTuple):
    """Pooling to `positions` results for each channel, `parallelization` at a time (all by default): the bits of the input."""

    input: Signal
    positions: int
    parallelization: int | None = None

    def ebops(self, definition: Definition, normalize_gradient: bool) -> Cost:
        if definition == "paper_v1":
            return 0.0
        return self.input.bits(definition, normalize_gradient).sum() * self.share()

    def share(self) -> float:
        """As `Dense.share`."""
        return _share(self.parallelization, self.positions)


def small_tables(words: Float[Values, "..."]) -> Float[Values, "..."]:
    """Tables of five bits that one of `words` bits is, differentiable: ``2**(words - 5)``, below five ``words / 5``.

    >>> import numpy as np
    >>> small_tables(np.array([0.0, 2.5, 5.0, 7.0])).tolist()
    [0.0, 0.5, 1.0, 4.0]
    """
    xp = words.__array_namespace__()
    return xp.where(words >= 5, xp.exp2(xp.maximum(words, 5.0) - 5), words / 5)


def merged_bits(bits: list[Any]) -> list[Any]:
    """Bits of the operands of each element of a sum, product or extreme: those of axes of size 1 repeated."""
    shape = np.broadcast_shapes(*(b.shape for b in bits))
    return [b if b.shape == shape else b.__array_namespace__().broadcast_to(b, shape) for b in bits]


def _beyond_the_narrowest(inputs: tuple[Signal, ...], definition: Definition, normalize_gradient: bool):
    bits = merged_bits([s.bits(definition, normalize_gradient) for s in inputs])
    return sum(b.sum() for b in bits) - functools.reduce(bits[0].__array_namespace__().minimum, bits).sum()


def _share(parallelization: int | None, positions: int) -> float:
    return 1.0 if parallelization is None else parallelization / positions


def _bias_ebops(bias: Signal | None, size: int, definition: Definition, normalize_gradient: bool):
    if bias is None or definition == "paper_v1":
        return 0.0
    return bias.bits(definition, normalize_gradient).mean() * size


def _sums_seen(bits, axes) -> list:
    """For each element of the window, the bits of the inputs that it meets, (channels,): a strided slice of the input, summed."""
    slices = []
    for n, taps, stride, (before, after), dilation in axes:
        positions = (n + before + after - dilation * (taps - 1) - 1) // stride + 1
        first = [tap * dilation - before for tap in range(taps)]
        skipped = [max(0, -(start // stride)) for start in first]  # positions at which the element lies in the padding
        last = [min(start + (positions - 1) * stride, n - 1) for start in first]
        slices.append([slice(f + s * stride, max(end + 1, 0), stride) for f, s, end in zip(first, skipped, last, strict=True)])
    spatial = tuple(range(len(slices)))
    return [bits[element].sum(axis=spatial) for element in itertools.product(*slices)]


def dense_ebops(bits_in: Float[Values, "*positions n"], bits_kernel: Float[Values, "n m"]) -> Cost:
    r"""EBOPs of ``x @ kernel``: :math:`\sum_{p,n,m} b^{in}_{pn} b^{kernel}_{nm}`, bit operations per inference.

    Args:
      bits_in: width of each input, bits, >= 0.
      bits_kernel: width of each weight, bits, >= 0; 0 means that the weight is gone.

    Gradients: exact, in both widths.
    Source: Sun et al. (HGQ), arXiv:2405.00645, Eq. 5.

    >>> import numpy as np
    >>> float(dense_ebops(np.array([3.0, 0.0]), np.array([[2.0], [5.0]])))
    6.0
    """
    return (bits_in @ bits_kernel.sum(axis=1)).sum()
