"""What the operations of a description cost: each counted one as the cost models read it, with its exact formats."""

import dataclasses
from typing import Any

import numpy as np

from hgqjax import resources
from hgqjax.description import operations as o
from hgqjax.quantizers import Format
from hgqjax.resources import Signal
from hgqjax.resources.content import EXACT_BITS, by_key


def operations_cost(operations: tuple[o.Operation, ...], grids: dict[str, o.Grid]) -> dict[str, Any]:
    """Cost operations of `hgqjax.resources` by name, for the operations that have a cost."""
    by_name = {op.name: op for op in operations}
    summed = {op.inputs[0] for op in operations if isinstance(op, o.Sum)}
    costs = {}
    for op in operations:
        inside = isinstance(op, o.Sum) and isinstance(by_name[op.inputs[0]], o.Lookup)  # counted with the tables
        if _counted(op) and not inside:
            cost = _cost(op, [_signal(by_name[name], grids[name], by_name) for name in op.inputs])
            costs[op.name] = cost._replace(summed=op.name in summed, **_content(op, by_name, grids)) if isinstance(op, o.Lookup) else cost
    return costs


def _content(op: o.Lookup, by_name: dict[str, o.Operation], grids: dict[str, o.Grid]) -> dict[str, Any]:
    """What costs that read the words of tables ask for: spans of their results, and the LUTs of those that their inputs reach."""
    source, size = grids[op.inputs[0]], op.low.size
    low, high = (v.ravel().tolist() for v in (source.low, source.high))
    reached = enumerate(zip(*op.reached(source), strict=True))
    tables = [op.words[op.start[n] + first : op.start[n] + last + 1 : step] for n, (first, last, step) in reached]

    def luts():
        bits = [_key_bits(*ends) for ends in zip(low, high, strict=True)]
        short = [0 < b <= EXACT_BITS for b in bits]
        wide = (by_key(tables[n], low[n], bits[n]) if short[n] else tables[n] for n in range(size))
        return resources.tables_luts(zip(_keys(op, by_name), wide, bits, strict=True)).reshape(op.shape)

    def span():
        spans = np.array([float(table.max() - table.min()) for table in tables])
        return np.ldexp(spans.reshape(op.shape), -op.f)

    return {"luts": luts, "span": span}


def _key_bits(low: int, high: int) -> int:
    """Of whole numbers within the two ends, a sign included; 0 of a single one."""
    return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + (low < 0) if high > low else 0


def _keys(op: o.Lookup, by_name: dict[str, o.Operation]) -> list[tuple]:
    """What each table's key is, the same for two that have the very same bits: an element of some result, and its format."""
    source, formats = by_name[op.inputs[0]], [()] * op.low.size
    if isinstance(source, o.Quantize):
        formats = list(zip(*(v.ravel().tolist() for v in (source.k, source.i, source.f)), strict=True))
        source = by_name[source.inputs[0]]
    elements = np.arange(op.low.size)
    while isinstance(source, o.Gather):
        elements = np.where(elements < 0, -1, source.index.ravel()[elements])
        source = by_name[source.inputs[0]]
    return [(element, *fmt) for element, fmt in zip(elements.tolist(), formats, strict=True)]


MERGES = {
    "add": resources.Add,
    "subtract": resources.Subtract,
    "multiply": resources.Multiply,
    "maximum": resources.Extreme,
    "minimum": resources.Extreme,
}


def _counted(op: o.Operation) -> bool:
    return (
        isinstance(op, o.Linear | o.Sum | o.Table | o.Contract | o.Lookup) or op.kind in MERGES or (isinstance(op, o.Pool) and op.counted)
    )


def _cost(op: o.Operation, inputs: list[Signal]):
    if isinstance(op, o.Linear):
        weights = inputs[0], op.kernel.signal(), op.bias and op.bias.signal()
        if isinstance(op, o.Conv):
            return resources.Conv(*weights, op.strides, op.padding, op.dilation, op.groups, op.parallelization)
        if isinstance(op, o.Einsum):
            return resources.Einsum(*weights, op.equation, op.parallelization)
        return resources.Dense(*weights)
    if isinstance(op, o.Pool):
        return resources.Pool(inputs[0], int(np.prod(op.shape[:-1])), op.parallelization)
    if isinstance(op, o.Sum):
        return resources.Sum(inputs[0], op.axes)
    if isinstance(op, o.Table):
        fmt = Format(*(np.array(v, np.float64) for v in (0, op.bits - op.f, op.f)))
        return resources.Table(inputs[0], Signal(fmt, "WRAP", op.shape))
    if isinstance(op, o.Lookup):
        bits = op.bits.astype(np.float64)
        return resources.Lookup(inputs[0], Signal(Format(np.zeros_like(bits), bits - op.f, op.f.astype(np.float64)), "WRAP", op.shape))
    if isinstance(op, o.Contract):
        return resources.Contract((inputs[0], inputs[1]), op.equation)
    return MERGES[op.kind](tuple(inputs))


def _signal(op: o.Operation, grid: o.Grid, by_name: dict[str, o.Operation]) -> Signal:
    if isinstance(op, o.Gather) and isinstance(source := by_name[op.inputs[0]], o.Quantize):
        moved = {name: op.move(np.where(source.bits > 0, getattr(source, name), 0)[None])[0] for name in "kif"}
        op = dataclasses.replace(source, shape=op.shape, **moved)
    if isinstance(op, o.Quantize):
        alive = op.bits > 0
        return Signal(Format(*(np.where(alive, v, 0).astype(np.float64) for v in (op.k, op.i, op.f))), op.overflow, op.shape)
    bits = np.vectorize(lambda lo, hi: max(int(hi), -int(lo) - 1, 0).bit_length(), otypes=[float])(grid.low, grid.high)
    signed = (grid.low < 0).astype(np.float64)
    return Signal(Format(signed, bits - grid.f, grid.f.astype(np.float64)), "WRAP", op.shape)
