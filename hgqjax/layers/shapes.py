"""Functions that move the values of rows, or join them; of arrays (rows, ...), or of layers' results while a model is described."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hgqjax.layers._base import Symbol, Value


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
    return x.graph.apply("reshape", (x,), shape) if isinstance(x, Symbol) else x.reshape(len(x), *shape)


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
