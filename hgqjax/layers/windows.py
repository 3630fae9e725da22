"""Sizes of windows that slide over spatial axes, as convolutions and pooling take them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Padding = str | Sequence[Sequence[int]] | Sequence[int]


def each(value: int | Sequence[int], rank: int, what: str) -> tuple[int, ...]:
    """`value` for each of `rank` axes; raises ValueError, with `what` it is, unless these are numbers of at least 1."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * rank
    if len(values) != rank or any(isinstance(v, bool | np.bool_) or not isinstance(v, int | np.integer) or v < 1 for v in values):
        raise ValueError(f"{what} is {value!r}; one whole number of at least 1, or {rank} of them, is needed")
    return tuple(map(int, values))


def pads(padding: Padding, spatial, size, strides, dilation, name: str) -> tuple[tuple[int, int], ...]:
    """Zeros (before, after) each axis; raises ValueError for anything but "VALID", "SAME", "CAUSAL" or pairs."""
    if padding == "VALID":
        return ((0, 0),) * len(spatial)
    if padding == "SAME":
        axes = zip(spatial, size, strides, dilation, strict=True)
        total = [max((-(-n // stride) - 1) * stride + d * (taps - 1) + 1 - n, 0) for n, taps, stride, d in axes]
        return tuple((n // 2, n - n // 2) for n in total)
    if padding == "CAUSAL":
        return tuple((d * (taps - 1), 0) for taps, d in zip(size, dilation, strict=True))
    if isinstance(padding, Sequence) and not isinstance(padding, str):
        parts: Sequence[Any] = (padding,) if len(spatial) == 1 and all(isinstance(v, int) for v in padding) else padding
        pairs: list[tuple[Any, ...]] = [tuple(pair) if isinstance(pair, Sequence) else () for pair in parts]
        if len(pairs) == len(spatial) and all(len(p) == 2 and min(p) >= 0 for p in pairs):
            return tuple((int(p[0]), int(p[1])) for p in pairs)
    raise ValueError(f"{name}: padding is {padding!r}; 'VALID', 'SAME', 'CAUSAL' or a pair (before, after) for each spatial axis is needed")


def positions(spatial, size, strides, padding, dilation, name: str) -> tuple[int, ...]:
    """Number of windows along each axis; raises ValueError where there is none."""
    axes = list(zip(spatial, size, strides, padding, dilation, strict=True))
    counts = tuple((n + sum(pad) - d * (taps - 1) - 1) // stride + 1 for n, taps, stride, pad, d in axes)
    if min(counts) < 1:
        raise ValueError(f"{name}: windows of size {tuple(size)}, dilation {tuple(dilation)} do not fit into {tuple(spatial)}")
    return counts
