"""Which quantizers read an input of a model, seen from its elements: what its port must hold and its test rows must hit."""

import dataclasses
from typing import Any

import numpy as np

from hgqjax.description.operations import Input, Quantize


def input_readers(description: Any, source: Input) -> list[Quantize]:
    """The quantizers that read `source`, directly or behind operations that only move elements, each with the shape of the input.

    A quantizer that sees an element several times, as one behind a `Gather` may, is given as several; of elements that it does not see it
    has formats without bits.
    """
    size = int(np.prod(source.shape))
    positions = {source.name: np.arange(1, size + 1).reshape(1, *source.shape)}  # 0 is what no element is moved to
    found: list[Quantize] = []
    for op in description.operations:
        if op.inputs[:1] and op.inputs[0] in positions:
            if isinstance(op, Quantize):
                found += _parts(op, positions[op.inputs[0]].ravel() - 1, source)
            else:
                positions[op.name] = op.move(positions[op.inputs[0]])
    return found


def _parts(op: Quantize, seen: np.ndarray, source: Input) -> list[Quantize]:
    if op.shape == source.shape and np.array_equal(seen, np.arange(seen.size)):
        return [dataclasses.replace(op, inputs=(source.name,))]
    order = np.argsort(seen, kind="stable")
    first = np.r_[True, np.diff(seen[order]) > 0]
    turn = np.empty(seen.size, np.int64)  # of an element that is seen several times: the how-manieth time
    turn[order] = np.arange(seen.size) - np.maximum.accumulate(np.where(first, np.arange(seen.size), 0))
    parts = []
    for n in range(int(turn[seen >= 0].max(initial=-1)) + 1):
        mine = (turn == n) & (seen >= 0)
        formats = {name: np.zeros(int(np.prod(source.shape)), np.int64) for name in "kif"}
        for name, values in formats.items():
            values[seen[mine]] = getattr(op, name).ravel()[mine]
        formats = {name: values.reshape(source.shape) for name, values in formats.items()}
        parts.append(dataclasses.replace(op, inputs=(source.name,), shape=source.shape, **formats))
    return parts
