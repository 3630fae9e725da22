"""Functions that move the values of rows, or join them; of arrays (rows, ...), or of layers' results while a model is described."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgqjax import fixed_point
from hgqjax.layers._base import Value
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.windows import Padding, each, pads


def row_shape(x: jax.Array | Symbol) -> tuple[int, ...]:
    """Shape of one row of `x`."""
    return x.shape if isinstance(x, Symbol) else x.shape[1:]


def reshape(x: Value, shape: Sequence[int]) -> Value:
    """Rows of another `shape` with the same elements, last axis fastest.

    >>> reshape(jnp.zeros((5, 4, 3)), (2, 6)).shape
    (5, 2, 6)
    """
    shape = tuple(shape)
    if math.prod(shape) != math.prod(row_shape(x)) or min(shape, default=0) < 1:
        raise ValueError(f"shape is {shape} for rows of shape {row_shape(x)}; it must hold as many elements")
    if isinstance(x, Symbol):
        return x.graph.apply("reshape", (x,), shape)
    # else loops over the new shape would compute x in it: XLA's CPU back end does not vectorise those that mix shapes
    once = fixed_point.materialized(x) if jnp.issubdtype(x.dtype, jnp.floating) else x
    return once.reshape(len(x), *shape)


def flatten(x: Value) -> Value:
    """Rows of one axis.

    >>> flatten(jnp.zeros((5, 4, 3))).shape
    (5, 12)
    """
    return x if len(row_shape(x)) == 1 else reshape(x, (math.prod(row_shape(x)),))


def transpose(x: Value, axes: Sequence[int]) -> Value:
    """Axis n of a row of the result is axis ``axes[n]`` of one of `x`; the batch axis is not counted.

    >>> transpose(jnp.zeros((5, 4, 3)), (1, 0)).shape
    (5, 3, 4)
    """
    axes, shape = tuple(axes), row_shape(x)
    if sorted(axes) != list(range(len(shape))):
        raise ValueError(f"axes is {axes} for rows of shape {shape}; each of 0 .. {len(shape) - 1} once is needed")
    if isinstance(x, Symbol):
        return x.graph.apply("transpose", (x,), tuple(shape[n] for n in axes), axes=axes)
    return x.transpose(0, *(1 + n for n in axes))


def select(x: Value, *index: int | slice) -> Value:
    """``row[index]`` of each row: for each axis from the first on, a whole number (the axis goes) or a slice; the rest is kept whole.

    >>> select(jnp.arange(12.0).reshape(1, 4, 3), slice(1, 3), 0).tolist()
    [[3.0, 6.0]]
    """
    shape = row_shape(x)
    if len(index) > len(shape) or not all(isinstance(part, int | slice) for part in index):
        raise ValueError(f"index is {index} for rows of shape {shape}; a whole number or a slice for each axis is needed")
    index = index + (slice(None),) * (len(shape) - len(index))
    try:
        taken = np.empty(shape, np.bool_)[index].shape
    except IndexError as error:
        raise ValueError(f"index is {index} for rows of shape {shape}: {error}") from error
    if not taken or not math.prod(taken):
        raise ValueError(f"index is {index} for rows of shape {shape}; at least one axis must be left, and no empty one")
    if isinstance(x, Symbol):
        parts = tuple((part.start, part.stop, part.step) if isinstance(part, slice) else part for part in index)
        return x.graph.apply("slice", (x,), taken, index=parts)
    return x[(slice(None), *index)]


def gather(x: Value, index: Any, axis: int | None = None) -> Value:
    """Any choice of elements of each row, also several times; 0 where `index` is -1.

    Args:
      index: whole numbers, an array of any shape: of the elements of a row, last axis fastest, or of what lies along `axis`, whose place
        the axes of `index` take.
      axis: counted without the batch axis, from the end where negative.

    Raises: ValueError where an index is not within -1 .. the last element, or all are -1.

    >>> gather(jnp.arange(6.0).reshape(1, 3, 2), [[0, 0], [5, -1]]).tolist()
    [[[0.0, 0.0], [5.0, 0.0]]]
    >>> gather(jnp.arange(6.0).reshape(1, 3, 2), [2, 0], axis=0).tolist()
    [[[4.0, 5.0], [0.0, 1.0]]]
    """
    shape, index = row_shape(x), np.asarray(index)
    if axis is not None and not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis is {axis} for rows of shape {shape}; one of {-len(shape)} .. {len(shape) - 1} is needed")
    axis = axis if axis is None else axis % len(shape)
    size = math.prod(shape) if axis is None else shape[axis]
    whole = index.dtype.kind in "iu" and index.ndim > 0
    if not whole or not -1 <= index.min(initial=0) <= index.max(initial=-1) < size or not np.any(index >= 0):
        raise ValueError(f"index has values {index.dtype} that are not all -1 .. {size - 1}, or none that takes an element")
    if isinstance(x, Symbol):
        taken = _taken(np.arange(math.prod(shape)).reshape(shape), index, axis, -1)
        return x.graph.apply("gather", (x,), taken.shape, index=taken.astype(np.int64))
    return _taken(x, index, axis if axis is None else 1 + axis, 0, len(x))


def _taken(x: Any, index: np.ndarray, axis: int | None, none: int, *rows: int) -> Any:
    """`x`, of `rows` rows if any, at `index`, and `none` where that is -1."""
    if axis is None:
        x, axis = x.reshape(*rows, -1), len(rows)
    lead, rest = x.shape[:axis], x.shape[axis + 1 :]
    if np.array_equal(index.ravel(), np.arange(x.shape[axis])):
        return x.reshape(*lead, *index.shape, *rest)
    xp = x.__array_namespace__()
    there = (index >= 0).reshape(*index.shape, *(1 for _ in rest))
    taken = xp.take(x, np.maximum(index, 0), axis=axis)
    return taken if there.all() else xp.where(there, taken, np.asarray(none, x.dtype))


def concatenate(xs: Sequence[Value], axis: int = -1) -> Value:
    """The rows of `xs` one after the other along `axis`, counted without the batch axis; the last by default.

    >>> concatenate([jnp.zeros((5, 4, 3)), jnp.ones((5, 4, 2))]).shape
    (5, 4, 5)
    """
    shapes = [row_shape(x) for x in xs]
    rank = len(shapes[0]) if shapes else 0
    if not -rank <= axis < rank or any(len(shape) != rank for shape in shapes):
        raise ValueError(f"axis is {axis} for rows of shapes {shapes}; an axis that all have is needed")
    axis %= rank
    if len({shape[:axis] + shape[axis + 1 :] for shape in shapes}) > 1:
        raise ValueError(f"rows of shapes {shapes} are joined along axis {axis}; they may differ in that one alone")
    if symbols := tuple(x for x in xs if isinstance(x, Symbol)):
        shape = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
        return symbols[0].graph.apply("concatenate", symbols, shape, axis=axis)
    return jnp.concatenate([x for x in xs if not isinstance(x, Symbol)], axis=1 + axis)  # pyright: ignore[reportReturnType] all are arrays


def upsample(x: Value, size: int | Sequence[int]) -> Value:
    """Each element of rows (spatial axes..., channels) `size` times along each spatial axis, one number or one for each.

    >>> upsample(jnp.arange(4.0).reshape(1, 2, 2), 2).tolist()
    [[[0.0, 1.0], [0.0, 1.0], [2.0, 3.0], [2.0, 3.0]]]
    """
    spatial = row_shape(x)[:-1]
    if not spatial:
        raise ValueError(f"upsample: rows have shape {row_shape(x)}; spatial axes and channels are needed")
    size = each(size, len(spatial), "upsample: size")
    if not isinstance(x, Symbol):
        for axis, n in enumerate(size, start=1):
            x = jnp.repeat(x, n, axis)
        return x
    index = np.arange(math.prod(x.shape)).reshape(x.shape)
    for axis, n in enumerate(size):
        index = np.repeat(index, n, axis)
    return x.graph.apply("gather", (x,), index.shape, index=index)


def zero_pad(x: Value, padding: int | Padding) -> Value:
    """Zeros around rows (spatial axes..., channels): `padding` at both ends of each spatial axis, or a pair (before, after) for each.

    >>> zero_pad(jnp.ones((1, 1, 2)), (1, 0)).tolist()
    [[[0.0, 0.0], [1.0, 1.0]]]
    """
    spatial = row_shape(x)[:-1]
    if not spatial or isinstance(padding, str):
        raise ValueError(
            f"zero_pad: padding is {padding!r} for rows of shape {row_shape(x)}; spatial axes and channels, and numbers, are needed"
        )
    ones = (1,) * len(spatial)
    pairs = pads(((padding, padding),) * len(spatial) if isinstance(padding, int) else padding, spatial, ones, ones, ones, "zero_pad")
    if not isinstance(x, Symbol):
        return jnp.pad(x, ((0, 0), *pairs, (0, 0)))
    index = np.pad(np.arange(math.prod(x.shape)).reshape(x.shape), (*pairs, (0, 0)), constant_values=-1)
    return x.graph.apply("gather", (x,), index.shape, index=index)
