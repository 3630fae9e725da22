"""Sums, means and greatest values over axes: of particles, of tokens, of the entries of a softmax."""

import math
from collections.abc import Sequence

import jax

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._base import Layer, Value
from hgqjax.layers._symbol import CONSTANT_BITS, Symbol, nearest
from hgqjax.layers.pool import max_pool
from hgqjax.layers.quantize import ACTIVATION, Quantize
from hgqjax.layers.shapes import reshape, row_shape, transpose
from hgqjax.quantizers import AbstractQuantizer


class Sum(Layer):
    """``sum(q(x), axes) * 2**-shift``.

    Args:
      shape: of a row.
      axes: whole numbers, counted without the batch axis, from the end where negative.
      shift: log2 of what the sum is divided by: that of the number of terms makes it their mean.
      keepdims: whether `axes` stay, with size 1. A sum over all axes keeps one axis of size 1.
      input_quantizer, input_granularity: see `Quantize`.

    Cost: `hgqjax.resources.Sum`.
    Raises: ValueError, where `axes` are not different axes of `shape`.

    >>> Sum((4, 3), (0,), shift=2)(jax.numpy.ones((5, 4, 3)))[0].tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        shape: Sequence[int],
        axes: Sequence[int],
        *,
        shift: int = 0,
        keepdims: bool = False,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        input_granularity: Granularity = "element",
    ):
        shape = tuple(shape)
        self.axes, self.shift = _axes(shape, axes, "Sum"), int(shift)
        self.output_shape = _kept(shape, self.axes, keepdims)
        self.input_quantizer = Quantize(shape, input_quantizer, input_granularity)

    def forward(self, x: jax.Array) -> jax.Array:
        total = self.input_quantizer(x).sum(tuple(1 + axis for axis in self.axes))
        return total.reshape(len(x), *self.output_shape) * 2.0**-self.shift

    def cost(self) -> resources.Sum:
        return resources.Sum(self.input_quantizer.signal(), self.axes)

    def describe(self, x: Symbol) -> Symbol:
        name = x.graph.name_of(self)
        x = self.input_quantizer.describe(x, f"{name}_input")
        return x.graph.apply("sum", (x,), self.output_shape, name=name, axes=self.axes, shift=self.shift)


def sum(x: Value, axes: int | Sequence[int], *, keepdims: bool = False, shift: int = 0) -> Value:
    """``x.sum(axes) * 2**-shift``, exact, without a quantizer; `axes` are counted without the batch axis. All axes leave one of size 1.

    >>> sum(jax.numpy.ones((5, 4, 3)), 0).tolist()[0]
    [4.0, 4.0, 4.0]
    """
    shape = row_shape(x)
    found = _axes(shape, axes, "sum")
    kept = _kept(shape, found, keepdims)
    if isinstance(x, Symbol):
        return x.graph.apply("sum", (x,), kept, axes=found, shift=shift)
    return x.sum(tuple(1 + axis for axis in found)).reshape(len(x), *kept) * 2.0**-shift


def mean(x: Value, axes: int | Sequence[int], *, keepdims: bool = False, bits: int = 8) -> Value:
    """The mean over `axes`, arguments as of `sum`; exact where it is one of a power of two of terms.

    Of another number n of terms it is the sum times the word of at most `bits` significant bits nearest to 1 / n: with 8 bits 171 * 2**-9
    for three terms. Training has the same word. Its relative error is at most ``2**-bits``.

    >>> mean(jax.numpy.ones((5, 4, 3)), 0)[0].tolist()
    [1.0, 1.0, 1.0]
    >>> mean(jax.numpy.ones((5, 3)), 0)[0].tolist() == [3 * 171 / 512]
    True
    """
    if not 1 <= bits <= CONSTANT_BITS:
        raise ValueError(f"mean: bits is {bits}; 1 .. {CONSTANT_BITS} are legal")
    shape = row_shape(x)
    terms = math.prod(shape[axis] for axis in _axes(shape, axes, "mean"))
    if terms & (terms - 1) == 0:
        return sum(x, axes, keepdims=keepdims, shift=terms.bit_length() - 1)
    return sum(x, axes, keepdims=keepdims) * nearest(1 / terms, bits)


def max(x: Value, axes: int | Sequence[int], *, keepdims: bool = False) -> Value:
    """The greatest value over `axes`, arguments as of `sum`.

    >>> max(jax.numpy.arange(12.0).reshape(1, 4, 3), 1).tolist()
    [[2.0, 5.0, 8.0, 11.0]]
    """
    shape = row_shape(x)
    found = _axes(shape, axes, "max")
    kept = _kept(shape, found, keepdims)
    if not isinstance(x, Symbol):
        return x.max(tuple(1 + axis for axis in found)).reshape(len(x), *kept)
    rest = [axis for axis in range(len(shape)) if axis not in found]
    terms = math.prod(shape[axis] for axis in found)
    columns = reshape(transpose(x, (*found, *rest)), (terms, math.prod(shape) // terms))
    return reshape(max_pool(columns, terms), kept)


def _axes(shape: tuple[int, ...], axes: int | Sequence[int], name: str) -> tuple[int, ...]:
    """`axes` of rows of `shape` as whole numbers from 0 on, in order; raises ValueError where they are not different ones."""
    given, rank = (axes,) if isinstance(axes, int) else tuple(axes), len(shape)
    found = {axis % rank for axis in given if -rank <= axis < rank}
    if not found or len(found) < len(given):
        raise ValueError(f"{name}: axes is {given} for rows of shape {shape}; different ones of {-rank} .. {rank - 1} are needed")
    return tuple(sorted(found))


def _kept(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """Shape of a row without `axes`, or with size 1 there; one axis at least."""
    return tuple(1 if n in axes else size for n, size in enumerate(shape) if keepdims or n not in axes) or (1,)
