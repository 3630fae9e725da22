"""Each operation of a model description as nodes of ONNX and QONNX that compute exactly the same.

Floats of the graph hold whole numbers times a power of two, and every sum that is left to a node has few enough bits; `bits_needed` says
how many. What QONNX has no name for is written in plain arithmetic: rounding half up as ``floor(2v) - floor(v)``, which is exact for every
float, and wrapping as ``v - span * floor((v - low) / span)``.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hgqjax.description import operations as o
from hgqjax.description.operations import Grid
from hgqjax.export.hls4ml.types import constant_type, uniform
from hgqjax.export.qonnx.graph import Graph

LOWEST = -(2.0**120)
"""Stands for what is below every value, in float32 too."""
SPATIAL = 3
"""Most axes of a convolution that ONNX's executor has."""


def add_operation(op: o.Operation, graph: Graph) -> None:
    """Adds the nodes of `op`, whose inputs are there already."""
    graph.within(op.name)
    _MAKERS[type(op)](op, graph)


def bits_needed(op: o.Operation, grids: tuple[Grid, ...], grid: Grid) -> int:
    """Significant bits of the widest number that the nodes of `op` compute, partial sums in any order included; 0 of an input."""
    if isinstance(op, o.Input):
        return 0
    if isinstance(op, o.Linear | o.Contract):
        return int(op.accumulator_bits(*grids).max(initial=0))
    if isinstance(op, o.Add | o.Subtract | o.Sum | o.AveragePool):
        largest = [np.maximum(abs(g.low), abs(g.high)) for g in grids]
        grid = op.grid(*(Grid(g.f, -v, v) for g, v in zip(grids, largest, strict=True)))
    bits = _bits(grid)
    if isinstance(op, o.Quantize) and not _from_rows(grids[0]):  # before it wraps; and half a step finer
        bits = max(bits, _bits(Grid(grid.f, grids[0].low, grids[0].high)) + 2)
    return bits


def _bits(grid: Grid) -> int:
    return max(int(abs(v).max(initial=0)).bit_length() for v in (grid.low, grid.high))


def _from_rows(source: Grid) -> bool:
    """Whether `source` is the grid of unquantized rows, whose bits nobody knows."""
    return bool(source.f.max(initial=0) > 1000)


# ---- quantizers ----


def is_named(op: o.Quantize, source: Grid, raw: bool) -> bool:
    """Whether QONNX has a name for the format: one for all elements, not the signed one of 1 bit, saturating or never beyond its range."""
    if not uniform(op) or not (op.bits > 0).all() or (op.k.max() and op.bits.max() == 1):
        return False
    return op.overflow != "WRAP" or (not raw and _never_wraps(op, source))


def _never_wraps(op: o.Quantize, source: Grid) -> bool:
    reach = dataclasses.replace(op, i=np.full(op.shape, 2000), k=np.ones(op.shape, np.int64)).grid(source)
    low, high = op.limits()
    return bool(np.all((low <= reach.low) & (reach.high <= high) & (op.bits > 0)))


def _quantize(op: o.Quantize, graph: Graph) -> None:
    source, raw = graph.description.grids[op.inputs[0]], op.inputs[0] in graph.description.unquantized
    named = graph.has_quant and is_named(op, source, raw)
    drops = bool(np.any((source.f > op.f) & ((source.low != 0) | (source.high != 0))))
    x, first = graph.either(op.inputs[0]) if named and not (raw and op.rounding == "RND") else (graph.value(op.inputs[0]), False)
    if not named:
        graph.finish(op.name, _arithmetic(op, source, raw, drops, x, graph))
        return
    f, k, bits = int(op.f.flat[0]), int(op.k.flat[0]), int(op.bits.flat[0])
    rounding = {"TRN": "FLOOR", "RND": "FLOOR", "RND_CONV": "ROUND"}[op.rounding] if drops else "ROUND"
    if drops and op.rounding == "RND":
        if raw:
            x = _scaled(_half_up(_scaled(x, op.f, op.shape, graph), op.shape, graph), -op.f, op.shape, graph)
        else:
            x = graph.node("Add", [x, graph.number(2.0 ** -(f + 1))], graph.shapes[x])
    graph.finish(op.name, graph.quant(x, 2.0**-f, bits, k, k and op.overflow == "SAT_SYM", rounding), channels_first=first)


def _arithmetic(op: o.Quantize, source: Grid, raw: bool, drops: bool, x: str, graph: Graph) -> str:
    """Formats that QONNX has no name for."""
    shape, f = op.shape, np.where(op.bits > 0, op.f, 0)
    low, high = (v.astype(np.float64) for v in op.limits())
    span = high - low + 1.0
    v = _scaled(x, f, shape, graph)
    if raw and op.overflow == "WRAP":
        v = graph.node("Mod", [v, _spread(span, shape, graph)], shape, fmod=1)
    if drops and op.rounding == "RND":
        v = _half_up(v, shape, graph)
    elif drops:
        v = graph.node("Floor" if op.rounding == "TRN" else "Round", [v], shape)
    if op.overflow != "WRAP":
        v = graph.node("Max", [v, _spread(low, shape, graph)], shape)
        v = graph.node("Min", [v, _spread(high, shape, graph)], shape)
    elif raw or not _never_wraps(op, source):
        above = graph.node("Sub", [v, _spread(low, shape, graph)], shape)
        turns = graph.node("Floor", [graph.node("Mul", [above, _spread(1.0 / span, shape, graph)], shape)], shape)
        v = graph.node("Sub", [v, graph.node("Mul", [turns, _spread(span, shape, graph)], shape)], shape)
    return _scaled(v, -f, shape, graph)


def _half_up(v: str, shape: tuple[int, ...], graph: Graph) -> str:
    doubled = graph.node("Floor", [graph.node("Mul", [v, graph.number(2)], shape)], shape)
    return graph.node("Sub", [doubled, graph.node("Floor", [v], shape)], shape)


def _scaled(x: str, f: np.ndarray, shape: tuple[int, ...], graph: Graph) -> str:
    """``x * 2**f`` of each element."""
    return x if not f.any() else graph.node("Mul", [x, _spread(np.asarray(np.ldexp(1.0, f)), shape, graph)], shape)


def _spread(values: np.ndarray, shape: tuple[int, ...], graph: Graph) -> str:
    """A constant for each element; one number where all are equal."""
    values = np.broadcast_to(values, shape)
    return graph.number(values.flat[0] if np.all(values == values.flat[0]) else values[None])


# ---- layers with weights ----


def _weights(constant: o.Constant, values: np.ndarray, graph: Graph) -> str:
    """Constants behind a Quant of the type that encloses them, which changes nothing and says the type."""
    name, kind = graph.number(values), constant_type(constant)
    k, bits = kind.k, kind.k + kind.i + kind.f
    if bits > 24 or not graph.has_quant:
        return name
    if bits <= 0:
        k, bits = 0, 1
    return graph.quant(name, 2.0**-kind.f, max(bits, 1 + k), k)


def _with_bias(op: o.Linear, y: str, graph: Graph) -> str:
    return y if op.bias is None else graph.node("Add", [y, _weights(op.bias, op.bias.values, graph)], op.shape)


def _dense(op: o.Dense, graph: Graph) -> None:
    x = graph.value(op.inputs[0])
    y = graph.node("MatMul", [x, _weights(op.kernel, op.kernel.values, graph)], op.shape)
    graph.finish(op.name, _with_bias(op, y, graph))


def _einsum(op: o.Einsum, graph: Graph) -> None:
    x, kernel, y = op.labels
    batch = _unused(op.equation)
    inputs = [graph.value(op.inputs[0]), _weights(op.kernel, op.kernel.values, graph)]
    result = graph.node("Einsum", inputs, op.shape, equation=f"{batch}{x},{kernel}->{batch}{y}")
    graph.finish(op.name, _with_bias(op, result, graph))


def _contract(op: o.Contract, graph: Graph) -> None:
    a, b, y = op.labels
    batch, inputs = _unused(op.equation), [graph.value(name) for name in op.inputs]
    result = graph.node("Einsum", inputs, op.shape if y else (), equation=f"{batch}{a},{batch}{b}->{batch}{y}")
    graph.finish(op.name, result if y else graph.reshape(result, (1,)))


def _unused(equation: str) -> str:
    return next(label for label in "zyxwvutsrqponmlkjihgfedcba" if label not in equation)


def _conv(op: o.Conv, graph: Graph) -> None:
    rank = len(op.strides)
    if graph.dtype != np.float32 or rank > SPATIAL:  # onnxruntime has convolutions of float32 alone
        graph.finish(op.name, _conv_by_windows(op, graph))
        return
    order = (rank + 1, rank, *range(rank))
    inputs = [graph.channels_first(op.inputs[0]), _weights(op.kernel, op.kernel.values.transpose(order), graph)]
    by_channel = op.bias is not None and op.bias.integers.ndim <= 1
    if op.bias is not None and by_channel:
        inputs.append(_weights(op.bias, np.broadcast_to(op.bias.values, op.shape[-1:]), graph))
    pads = [pair[side] for side in (0, 1) for pair in op.padding]
    settings = {"kernel_shape": op.kernel.integers.shape[:rank], "strides": op.strides, "dilations": op.dilation, "pads": pads}
    y = graph.node("Conv", inputs, (op.shape[-1], *op.shape[:-1]), group=op.groups, **settings)
    graph.finish(op.name, y, channels_first=True)
    if op.bias is not None and not by_channel:
        graph.finish(op.name, _with_bias(op, graph.value(op.name), graph))


def _conv_by_windows(op: o.Conv, graph: Graph) -> str:
    x = graph.value(op.inputs[0])
    channels, filters = op.kernel.integers.shape[-2:]
    x, positions, elements = _windows(op.windows(graph.shapes[x]), x, 0.0, graph)
    x = graph.reshape(x, (positions, elements, op.groups, channels))
    kernel = op.kernel.values.reshape(elements, channels, op.groups, filters // op.groups)
    inputs = [x, _weights(op.kernel, kernel, graph)]
    y = graph.node("Einsum", inputs, (positions, op.groups, filters // op.groups), equation="npegc,ecgf->npgf")
    return _with_bias(op, graph.reshape(y, op.shape), graph)


def _windows(windows: o.Windows, x: str, fill: float, graph: Graph) -> tuple[str, int, int]:
    """(positions, elements of a window, channels) of `x`, `fill` in the padding; and both numbers."""
    index, (*space, channels) = windows.index, windows.shape
    size = math.prod(space)
    x = graph.reshape(x, (size, channels))
    x = graph.node("Pad", [x, graph.whole([0, 0, 0, 0, 1, 0]), graph.number(fill)], (size + 1, channels))
    return graph.node("Gather", [x, graph.whole(index)], (*index.shape, channels), axis=1), *index.shape


# ---- pooling, sums ----


def _pool(op: o.Pool, graph: Graph) -> None:
    average, rank = isinstance(op, o.AveragePool), len(op.size)
    if graph.dtype == np.float32 and rank <= SPATIAL:
        pads = [pair[side] for side in (0, 1) for pair in op.padding]
        settings = {"kernel_shape": op.size, "strides": op.strides, "pads": pads}
        inputs, kind = [graph.channels_first(op.inputs[0])], "AveragePool" if average else "MaxPool"
        graph.finish(op.name, graph.node(kind, inputs, (op.shape[-1], *op.shape[:-1]), **settings), channels_first=True)
        return
    x = graph.value(op.inputs[0])
    x, positions, elements = _windows(op.windows(graph.shapes[x]), x, 0.0 if average else LOWEST, graph)
    shape = (positions, op.shape[-1])
    if average:
        x = graph.node("ReduceSum", [x, graph.whole([2])], shape, keepdims=0)
        x = graph.node("Mul", [x, graph.number(1.0 / elements)], shape)
    else:
        x = graph.node("ReduceMax", [x], shape, axes=[2], keepdims=0)
    graph.finish(op.name, graph.reshape(x, op.shape))


def _sum(op: o.Sum, graph: Graph) -> None:
    x = graph.value(op.inputs[0])
    rest = tuple(n for axis, n in enumerate(graph.shapes[x]) if axis not in op.axes)
    y = graph.node("ReduceSum", [x, graph.whole([1 + axis for axis in op.axes])], rest, keepdims=0)
    y = y if rest == op.shape else graph.reshape(y, op.shape)
    graph.finish(op.name, y if op.shift == 0 else graph.node("Mul", [y, graph.number(2.0**-op.shift)], op.shape))


# ---- element by element ----


def _relu(op: o.Relu, graph: Graph) -> None:
    x, first = graph.either(op.inputs[0])
    graph.finish(op.name, graph.node("Relu", [x], graph.shapes[x]), channels_first=first)


def _table(op: o.Table, graph: Graph) -> None:
    values = np.ldexp(op.table.astype(np.float64), -op.f)
    graph.finish(op.name, _looked_up(op, np.array(op.f_in), np.array(-op.low), values, graph))


def _lookup(op: o.Lookup, graph: Graph) -> None:
    values = np.ldexp(op.words.astype(np.float64), -np.repeat(op.f.ravel(), op.sizes))
    graph.finish(op.name, _looked_up(op, op.f_in, op.start[:-1].reshape(op.shape) - op.low, values, graph))


def _looked_up(op: o.Operation, f_in: np.ndarray, offset: np.ndarray, values: np.ndarray, graph: Graph) -> str:
    """``values[x * 2**f_in + offset]``."""
    x = _scaled(graph.value(op.inputs[0]), f_in, op.shape, graph)
    index = graph.node("Cast", [x], op.shape, integer=True, to=7)  # int64
    offsets = graph.whole(offset.flat[0] if np.all(offset == offset.flat[0]) else offset[None])
    index = graph.node("Add", [index, offsets], op.shape, integer=True)
    return graph.node("Gather", [graph.number(values), index], op.shape, axis=0)


_MERGES: dict[type[o.Operation], str] = {o.Add: "Add", o.Subtract: "Sub", o.Multiply: "Mul", o.Maximum: "Max", o.Minimum: "Min"}


def _merge(op: o.Elementwise, graph: Graph) -> None:
    first, *others = (graph.value(name) for name in op.inputs)
    for other in others:
        shape = np.broadcast_shapes(graph.shapes[first], graph.shapes[other])
        first = graph.node(_MERGES[type(op)], [first, other], shape)
    graph.finish(op.name, first)


# ---- moving elements ----


def _concatenate(op: o.Concatenate, graph: Graph) -> None:
    inputs = [graph.value(name) for name in op.inputs]
    graph.finish(op.name, graph.node("Concat", inputs, op.shape, axis=op.axis + 1))


def _reshape(op: o.Reshape, graph: Graph) -> None:
    graph.finish(op.name, graph.reshape(graph.value(op.inputs[0]), op.shape))


def _transpose(op: o.Transpose, graph: Graph) -> None:
    order = [0, *(axis + 1 for axis in op.axes)]
    graph.finish(op.name, graph.node("Transpose", [graph.value(op.inputs[0])], op.shape, perm=order))


def _gather(op: o.Gather | o.Slice, graph: Graph) -> None:
    """Of all elements in a row, behind which stands a 0."""
    x = graph.value(op.inputs[0])
    shape = graph.shapes[x]
    size = math.prod(shape)
    index = op.index if isinstance(op, o.Gather) else op.move(np.arange(size).reshape(1, *shape)).reshape(op.shape)
    x = graph.reshape(x, (size,))
    if np.any(np.asarray(index) < 0):
        x = graph.node("Pad", [x, graph.whole([0, 0, 0, 1]), graph.number(0)], (size + 1,))
    index = np.where(np.asarray(index) < 0, size, index)
    graph.finish(op.name, graph.node("Gather", [x, graph.whole(index)], op.shape, axis=1))


_MAKERS: dict[type[o.Operation], Callable[[Any, Graph], None]] = {
    o.Input: lambda op, graph: None,
    o.Quantize: _quantize,
    o.Relu: _relu,
    o.Table: _table,
    o.Lookup: _lookup,
    o.Dense: _dense,
    o.Einsum: _einsum,
    o.Conv: _conv,
    o.Contract: _contract,
    **dict.fromkeys((o.MaxPool, o.AveragePool), _pool),
    o.Sum: _sum,
    **dict.fromkeys(_MERGES, _merge),
    o.Concatenate: _concatenate,
    o.Reshape: _reshape,
    o.Transpose: _transpose,
    **dict.fromkeys((o.Gather, o.Slice), _gather),
}
