"""Which axes share a bit-width."""

from typing import Literal, get_args

Granularity = Literal["element", "channel", "tensor"]


def widths_shape(shape: tuple[int, ...], granularity: str) -> tuple[int, ...]:
    """Shape of the bit-widths for data of `shape`: 1 on every axis that shares.

    "element": none shares; "channel": all but the last axis share; "tensor": all share.

    >>> widths_shape((16, 64), "channel")
    (1, 64)
    """
    if granularity not in get_args(Granularity):
        raise ValueError(f"granularity is {granularity!r}; legal are {', '.join(get_args(Granularity))}")
    if granularity == "element" or not shape:
        return shape
    return (1,) * (len(shape) - 1) + ((shape[-1],) if granularity == "channel" else (1,))
