"""Pooling over the spatial axes; of arrays (rows, ...), or of layers' results while a model is described."""

import itertools
import math

import jax
import numpy as np
from jax import lax

from hgqjax.layers._base import Value
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.shapes import reshape, row_shape
from hgqjax.layers.windows import Padding, each, pads, positions


def max_pool(x: Value, size, strides=None, padding: Padding = "VALID") -> Value:
    """Greatest value of each window over the spatial axes of rows (spatial axes..., channels); padding never wins.

    Args:
      size: one number or one for each spatial axis. strides: as `size`, which they are by default. padding: as in `Conv1D`.

    >>> max_pool(jax.numpy.arange(8.0).reshape(1, 4, 2), 2).tolist()
    [[[2.0, 3.0], [6.0, 7.0]]]
    """
    shape, size, strides, padding = _pool(x, size, strides, padding, "max_pool")
    if isinstance(x, Symbol):
        return x.graph.apply("max_pool", (x,), shape, size=size, strides=strides, padding=padding, counted=False)
    if strides == size and not any(itertools.chain(*padding)):  # the gradient takes less than half the time on a CPU
        return _tiles(x, size, shape).max(tuple(range(2, 2 * len(size) + 1, 2)))
    window = (1, *size, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0))
    return lax.reduce_window(x, np.asarray(-np.inf, x.dtype), lax.max, *window)


def average_pool(x: Value, size, strides=None) -> Value:
    """Mean of each window, exact: windows have a power of two of elements, so that hardware only shifts. `size`, `strides`: as `max_pool`.

    >>> average_pool(jax.numpy.arange(8.0).reshape(1, 4, 2), 2).tolist()
    [[[1.0, 2.0], [5.0, 6.0]]]
    """
    shape, size, strides, padding = _pool(x, size, strides, "VALID", "average_pool")
    elements = math.prod(size)
    if elements & (elements - 1):
        raise ValueError(f"average_pool: size is {size}, {elements} elements; only a power of two of them has its mean on a grid")
    if isinstance(x, Symbol):
        return x.graph.apply("average_pool", (x,), shape, size=size, strides=strides, padding=padding, counted=False)
    window = (1, *size, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0))
    return lax.reduce_window(x, np.asarray(0, x.dtype), lax.add, *window) * (1.0 / elements)


def global_max_pool(x: Value) -> Value:
    """Greatest value over all spatial axes: (rows, spatial axes..., channels) to (rows, channels).

    >>> global_max_pool(jax.numpy.arange(8.0).reshape(1, 4, 2)).tolist()
    [[6.0, 7.0]]
    """
    return _whole(max_pool, x)


def global_average_pool(x: Value) -> Value:
    """Mean over all spatial axes, which hold a power of two of elements: (rows, spatial axes..., channels) to (rows, channels).

    >>> global_average_pool(jax.numpy.arange(8.0).reshape(1, 4, 2)).tolist()
    [[3.0, 4.0]]
    """
    return _whole(average_pool, x)


def _tiles(x: jax.Array, size: tuple[int, ...], shape: tuple[int, ...]) -> jax.Array:
    """Windows that do not overlap: (rows, positions, elements of the window, positions, elements, ..., channels)."""
    used = tuple(slice(0, n * s) for n, s in zip(shape, size, strict=False))
    axes = itertools.chain(*zip(shape, size, strict=False))
    return x[(slice(None), *used)].reshape(len(x), *axes, shape[-1])


def _whole(pool, x):
    shape = row_shape(x)
    return reshape(pool(x, shape[:-1]), shape[-1:])


def _pool(x, size, strides, padding, name):
    spatial = row_shape(x)[:-1]
    if not spatial:
        raise ValueError(f"{name}: rows have shape {row_shape(x)}; spatial axes and channels are needed")
    size = each(size, len(spatial), f"{name}: size")
    strides = size if strides is None else each(strides, len(spatial), f"{name}: strides")
    ones = (1,) * len(spatial)
    padding = pads(padding, spatial, size, strides, ones, name)
    if any(pad >= n for pad, n in zip(itertools.chain(*padding), itertools.chain(*zip(size, size, strict=True)), strict=True)):
        raise ValueError(f"{name}: padding is {padding} for windows of size {size}; a window would hold nothing but padding")
    return (*positions(spatial, size, strides, padding, ones, name), row_shape(x)[-1]), size, strides, padding
