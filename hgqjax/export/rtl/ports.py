"""Input ports of RTL: the fewest bits with which the input quantizers, which are part of the hardware, see no difference from floats."""

import math
from typing import NamedTuple

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Input, Quantize
from hgqjax.description.readers import input_readers
from hgqjax.export.gate import ExportError


class Port(NamedTuple):
    """Formats of the flattened elements of one input: `k`, `i`, `f` (int64; all 0: no bits), whether words wrap or are clipped, and
    whether the last bit collects what is cut off (`sticky`, for ties of RND_CONV)."""

    k: np.ndarray
    i: np.ndarray
    f: np.ndarray
    wraps: bool
    sticky: np.ndarray


def input_ports(description: ModelDescription) -> tuple[Port, ...]:
    """The port of each input.

    Each element has the largest k, i and f of the formats of the quantizers that read it, one fractional bit more where one rounds (RND),
    and two where ties go to even (RND_CONV); the last of these is set where anything finer was cut off. Rows beyond the range wrap where
    the quantizers wrap, and are clipped where they saturate.
    """
    return tuple(_port(op, input_readers(description, op)) for op in description.inputs)


def _port(op: Input, readers: list[Quantize]) -> Port:
    if not readers:
        zero = np.zeros(math.prod(op.shape), np.int64)
        return Port(zero, zero, zero, True, zero > 0)
    wraps = {reader.overflow == "WRAP" for reader in readers}
    if len(wraps) > 1:
        raise ExportError(f"input {op.name!r} feeds a quantizer that wraps and one that saturates; one port cannot do both")
    live = np.stack([reader.bits.ravel() > 0 for reader in readers])
    sticky = np.any([alive & (reader.rounding == "RND_CONV") for reader, alive in zip(readers, live, strict=True)], 0)
    more = [np.where(sticky, 2, int(reader.rounding == "RND")) for reader in readers]
    least = np.iinfo(np.int64).min
    k, i, f = (np.stack([getattr(reader, name).ravel() for reader in readers]) for name in "kif")
    k, i, f = (np.where(live, v, least).max(0) for v in (k, i, f + np.stack(more)))
    dead = ~live.any(0)
    k, i, f = (np.where(dead, 0, v) for v in (k, i, f))
    return Port(k, i, f, wraps.pop(), sticky)


def port_values(port: Port, x: np.ndarray) -> np.ndarray:
    """Rows `x` (rows, *shape) as values of the port, float64 (rows, elements), exact."""
    v = np.ldexp(x.reshape(len(x), -1).astype(np.float64), port.f)
    floor = np.floor(v)
    words = np.where(port.sticky & (v != floor) & (np.mod(floor, 2) == 0), floor + 1, floor)
    span = np.ldexp(1.0, port.i + port.f)
    low, high = np.where(port.k > 0, -span, 0), span - 1
    if port.wraps:
        words = np.mod(words - low, high - low + 1) + low
    else:
        words = np.clip(words, low, high)
    return np.ldexp(np.where(port.k + port.i + port.f > 0, words, 0), -port.f)
