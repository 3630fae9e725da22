"""A model description as another one that computes the same words with what hls4ml has, in a form that leaves nothing to get wrong.

Merges have two inputs of one shape, sums (and slices in io_stream) are layers with the weights 0 and 1, other slices gathers, kernel rows
of constant-0 inputs are 0, constants have no trailing zero bits, quantizers are no wider than what can reach them, and an output that is
also read inside gets a copy (an output port is never read).
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import (
    Add,
    Concatenate,
    Constant,
    Contract,
    Conv,
    Dense,
    Einsum,
    Elementwise,
    Gather,
    Grid,
    Linear,
    Maximum,
    Minimum,
    Multiply,
    Operation,
    Quantize,
    Relu,
    Reshape,
    Slice,
    Sum,
    Table,
    Transpose,
)
from hgqjax.export.hls4ml import streams
from hgqjax.export.hls4ml.types import enclosing


def rewrite(description: ModelDescription, io_type: str = "io_parallel") -> ModelDescription:
    """The same words on all finite inputs, see above."""
    lowered = _lower(description, io_type)
    if io_type == "io_stream":
        lowered = _hoist(lowered, description.outputs)
    operations, outputs = [], list(description.outputs)
    grids: dict[str, Grid] = {}
    for op in lowered:
        sources = tuple(grids[name] for name in op.inputs)
        if isinstance(op, Quantize):
            op = _narrowed(op, sources[0], shared=io_type == "io_stream")
        if isinstance(op, Linear):
            dead = ~np.any((sources[0].low.astype(bool) | sources[0].high.astype(bool)).reshape(-1, sources[0].low.shape[-1]), axis=0)
            by_channel = isinstance(op, Dense) or (isinstance(op, Conv) and op.groups == 1)
            dead = dead[:, None] if by_channel else False
            op = dataclasses.replace(op, kernel=_trimmed(op.kernel, dead), bias=op.bias and _trimmed(op.bias, False))
        grids[op.name] = op.grid(*sources)
        operations.append(op)
    read = {name for op in operations for name in op.inputs}
    kinds = {op.name: type(op) for op in operations}
    for n, name in enumerate(outputs):
        # hls4ml takes a reshape that nobody reads out of the graph
        if name in read or name in outputs[:n] or kinds[name] in (Reshape, Transpose):
            outputs[n] = f"{name}_output{n}"
            operations.append(_copy(outputs[n], name, grids[name], shared=io_type == "io_stream"))
    return ModelDescription(name=description.name, operations=tuple(operations), outputs=tuple(outputs))


def is_wiring(op: Linear) -> bool:
    """Whether all weights are 0 or one power of two: such a layer has no multiplications, only wires and sums."""
    integers = op.kernel.integers
    return op.bias is None and bool(np.all((integers == 0) | (integers == 1))) and np.unique(op.kernel.f[integers != 0]).size <= 1


# ---- operations that hls4ml has not ----


def _lower(description: ModelDescription, io_type: str) -> list[Operation]:
    operations: list[Operation] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for op in description.operations:
        for part in _parts(op, shapes, io_type):
            operations.append(part)
            shapes[part.name] = part.shape
    return operations


def _parts(op: Operation, shapes: dict[str, tuple[int, ...]], io_type: str) -> Iterator[Operation]:
    """What stands for `op`; the last part has its name."""
    sources = len(op.inputs)
    if isinstance(op, Elementwise) and any(shapes[name] != op.shape for name in op.inputs):
        yield from _repeated(op, shapes, io_type)
    elif isinstance(op, Add | Multiply | Maximum | Minimum | Concatenate) and sources > 2:
        yield from _chain(op, shapes)
    elif isinstance(op, Slice) and io_type == "io_stream":
        yield from _selection(op, shapes[op.inputs[0]])
    elif isinstance(op, Slice):
        shape = shapes[op.inputs[0]]
        index = op.move(np.arange(math.prod(shape)).reshape(1, *shape)).reshape(op.shape)
        yield Gather(name=op.name, inputs=op.inputs, shape=op.shape, index=index)
    elif isinstance(op, Contract) and not op.labels[2]:
        yield from _one_result(op, shapes[op.inputs[0]])
    elif isinstance(op, Sum):
        yield from (_sum_stream if io_type == "io_stream" else _sum_parallel)(op, shapes[op.inputs[0]])
    elif isinstance(op, Conv) and io_type == "io_stream":
        yield _two_rows(op)
    elif isinstance(op, Einsum) and io_type == "io_stream":
        yield streams.scaled(op)
    elif isinstance(op, Dense) and len(op.shape) > 3:  # hls4ml has dense layers over one or two more axes
        yield from _flat_rows(op, shapes[op.inputs[0]])
    elif isinstance(op, Transpose) and op.axes == tuple(range(len(op.axes))):
        # in io_stream hls4ml 1.3 takes each transpose of rank 2 for the one that moves elements (since fastmachinelearning/hls4ml#1124)
        yield Reshape(name=op.name, inputs=op.inputs, shape=op.shape)
    else:
        yield op


def _repeated(op: Elementwise, shapes: dict[str, tuple[int, ...]], io_type: str) -> Iterator[Operation]:
    """Inputs with axes of size 1 get all elements of the result first: wires, no adders."""
    names = list(op.inputs)
    for n, name in enumerate(op.inputs):
        shape = shapes[name]
        if shape != op.shape:
            index = np.array(np.broadcast_to(np.arange(math.prod(shape), dtype=np.int64).reshape(shape), op.shape))
            names[n] = f"{op.name}__repeated{n}"
            yield Gather(name=names[n], inputs=(name,), shape=op.shape, index=index)
    yield from _parts(dataclasses.replace(op, inputs=tuple(names)), shapes, io_type)


def _one_result(op: Contract, shape: tuple[int, ...]) -> Iterator[Operation]:
    """hls4ml's results have an axis: the first source gets one of size 1, which stays."""
    label = next(label for label in "abcdefghijklmnopqrstuvwxyz" if label not in op.equation)
    yield Reshape(name=f"{op.name}__row", inputs=op.inputs[:1], shape=(1, *shape))
    yield dataclasses.replace(op, inputs=(f"{op.name}__row", op.inputs[1]), equation=f"{label}{op.equation}{label}")


def _chain(op: Operation, shapes: dict[str, tuple[int, ...]]) -> Iterator[Operation]:
    first, *others = op.inputs
    axis = op.axis if isinstance(op, Concatenate) else None
    size = 0 if axis is None else shapes[first][axis]
    for n, other in enumerate(others):
        name, shape = op.name if n == len(others) - 1 else f"{op.name}__part{n}", op.shape
        if axis is not None:
            size += shapes[other][axis]
            shape = (*shape[:axis], size, *shape[axis + 1 :])
        yield dataclasses.replace(op, name=name, inputs=(first, other), shape=shape)
        first = name


def _two_rows(op: Conv) -> Conv:
    """In io_stream hls4ml 1.3 gives windows of height 1 no stride from row to row; those of height 2, the second of zeros, have it.

    Only its pointwise convolutions, of windows 1 by 1 over all channels, have code of their own.
    """
    height, *width = op.kernel.integers.shape[:-2]
    if not width or height > 1 or op.strides[0] == 1 or (width == [1] and op.groups == 1):
        return op
    kernel = Constant(*(np.concatenate([v, np.zeros_like(v)]) for v in (op.kernel.integers, op.kernel.f, op.kernel.bits)))
    (before, after), *padding = op.padding
    return dataclasses.replace(op, kernel=kernel, padding=((before, after + 1), *padding))


def _flat_rows(op: Dense, shape: tuple[int, ...]) -> Iterator[Operation]:
    rows = math.prod(shape[:-1])
    yield Reshape(name=f"{op.name}__rows", inputs=op.inputs, shape=(rows, shape[-1]))
    bias = op.bias and _broadcast(op.bias, op.shape, (rows, op.shape[-1]))
    yield dataclasses.replace(op, name=f"{op.name}__flat", inputs=(f"{op.name}__rows",), shape=(rows, op.shape[-1]), bias=bias)
    yield Reshape(name=op.name, inputs=(f"{op.name}__flat",), shape=op.shape)


def _broadcast(constant: Constant, shape: tuple[int, ...], to: tuple[int, ...]) -> Constant:
    if constant.integers.ndim <= 1:
        return constant
    return Constant(*(np.broadcast_to(v, shape).reshape(to) for v in (constant.integers, constant.f, constant.bits)))


def _wires(integers: np.ndarray, f: int = 0) -> Constant:
    return Constant(integers.astype(np.int64), np.full(integers.shape, f), np.ones(integers.shape, np.int64))


def slices_last_axis(op: Slice, shape: tuple[int, ...]) -> bool:
    """Whether `op` leaves all axes but the last as they are."""
    whole = Slice(name=op.name, inputs=op.inputs, shape=shape, index=op.index[: len(shape) - 1])
    positions = np.arange(math.prod(shape)).reshape(1, *shape)
    return len(shape) == 1 or np.array_equal(whole.move(positions), positions)


def _selection(op: Slice, shape: tuple[int, ...]) -> Iterator[Operation]:
    """In io_stream, of the last axis: a dense layer with the weights 0 and 1."""
    lead, size = shape[:-1], shape[-1]
    positions = np.broadcast_to(np.arange(size), (1, *shape))
    chosen = op.move(positions).reshape(math.prod(lead), -1)[0]
    kernel, result = _wires(np.arange(size)[:, None] == chosen), (*lead, len(chosen))
    name = op.name if result == op.shape and len(result) <= 3 else f"{op.name}__chosen"
    dense = Dense(name=name, inputs=op.inputs, shape=result, kernel=kernel, bias=None)
    yield from _flat_rows(dense, shape) if len(result) > 3 else (dense,)
    if name != op.name:
        yield Reshape(name=op.name, inputs=(name,), shape=op.shape)


def _sum_parallel(op: Sum, shape: tuple[int, ...]) -> Iterator[Operation]:
    """The axes of the sum come last, as one; a dense layer with equal weights sums over it."""
    rest = tuple(axis for axis in range(len(shape)) if axis not in op.axes)
    order, source = rest + tuple(op.axes), op.inputs[0]
    if order != tuple(range(len(shape))):
        source = f"{op.name}__turned"
        yield Transpose(name=source, inputs=op.inputs, shape=tuple(shape[axis] for axis in order), axes=order)
    terms, rows = math.prod(shape[axis] for axis in op.axes), math.prod(shape[axis] for axis in rest)
    yield Reshape(name=f"{op.name}__terms", inputs=(source,), shape=(rows, terms))
    kernel = _wires(np.ones((terms, 1)), op.shift)
    yield Dense(name=f"{op.name}__sums", inputs=(f"{op.name}__terms",), shape=(rows, 1), kernel=kernel, bias=None)
    yield Reshape(name=op.name, inputs=(f"{op.name}__sums",), shape=op.shape)


def stream_sum(op: Sum, shape: tuple[int, ...]) -> str | None:
    """How io_stream sums: "dense" over the last axis, "conv" over all but the last, None: not at all."""
    if op.axes == (len(shape) - 1,) and len(shape) <= 3:
        return "dense"
    return "conv" if sorted(op.axes) == list(range(len(shape) - 1)) and len(shape) in (2, 3) else None


def _sum_stream(op: Sum, shape: tuple[int, ...]) -> Iterator[Operation]:
    lead, channels = shape[:-1], shape[-1]
    if stream_sum(op, shape) == "dense":
        kernel, name, result = _wires(np.ones((channels, 1)), op.shift), f"{op.name}__sums", (*lead, 1)
        yield Dense(name=name, inputs=op.inputs, shape=result, kernel=kernel, bias=None)
    else:
        ones, zeros = (1,) * len(lead), ((0, 0),) * len(lead)
        kernel, name, result = _wires(np.ones((*lead, 1, channels)), op.shift), f"{op.name}__sums", (*ones, channels)
        settings = {"strides": ones, "dilation": ones, "padding": zeros, "groups": channels}
        yield Conv(name=name, inputs=op.inputs, shape=result, kernel=kernel, bias=None, **settings)
    yield Reshape(name=op.name, inputs=(name,), shape=op.shape)


def _hoist(operations: list[Operation], outputs: tuple[str, ...]) -> list[Operation]:
    """Quantizers, relus and tables go before a flatten that only they read.

    A flatten in front of a dense layer costs nothing in io_stream: the dense layer collects what comes. Any other reader needs all elements
    of the tensor side by side.
    """
    readers: dict[str, int] = {}
    for op in operations:
        for name in op.inputs:
            readers[name] = readers.get(name, 0) + 1
    done: dict[str, Operation] = {}
    renamed: dict[str, str] = {}
    for op in operations:
        op = dataclasses.replace(op, inputs=tuple(renamed.get(name, name) for name in op.inputs))
        flatten = done.get(op.inputs[0]) if isinstance(op, Quantize | Relu | Table) else None
        free = op.name not in outputs and isinstance(flatten, Reshape) and len(flatten.shape) == 1 and flatten.name not in outputs
        if flatten is None or not free or readers[flatten.name] > 1 or flatten.inputs[0] not in done:
            done[op.name] = op
            continue
        shape = done[flatten.inputs[0]].shape
        formats = {name: getattr(op, name).reshape(shape) for name in "kif"} if isinstance(op, Quantize) else {}
        del done[flatten.name]
        done[op.name] = dataclasses.replace(op, inputs=flatten.inputs, shape=shape, **formats)
        done[flatten.name] = dataclasses.replace(flatten, inputs=(op.name,))
        renamed[op.name], readers[flatten.name] = flatten.name, readers.get(op.name, 0)
    return list(done.values())


# ---- formats ----


def _trimmed(constant: Constant, dead: np.ndarray | bool) -> Constant:
    """The same values (0 where `dead`) with `f` as small as they allow: trailing zero bits cost width in a shared C++ type."""
    integers = np.where(dead, 0, constant.integers)
    lowest = np.where(integers == 0, 1, integers & -integers)  # lowest set bit, a power of two
    zeros = np.frexp(lowest.astype(np.float64))[1] - 1
    return dataclasses.replace(constant, integers=integers >> zeros, f=np.where(integers == 0, 0, constant.f - zeros))


def _narrowed(op: Quantize, source: Grid, shared: bool) -> Quantize:
    """Where rounding what comes in can never leave the range: as few bits as hold it. All dead elements: k = i = f = 0.

    `shared`: the elements have one format and keep one.
    """
    declared_low, declared_high = op.limits()
    reach = dataclasses.replace(op, i=np.full(op.shape, 2000), k=np.ones(op.shape, np.int64)).grid(source)
    lows, highs, f_source = reach.low, reach.high, source.f
    if shared:
        alive = (source.low != 0) | (source.high != 0)
        finest = f_source[alive].max() if alive.any() else f_source.min()
        lows, highs, f_source = (np.full(op.shape, v, object) for v in (lows.min(), highs.max(), int(finest)))
    k, i, f = (np.array(v, np.int64) for v in (op.k, op.i, op.f))
    for n in np.ndindex(op.shape):
        low, high = int(lows[n]), int(highs[n])
        if op.bits[n] <= 0:
            k[n] = i[n] = f[n] = 0
        elif declared_low[n] <= low and high <= declared_high[n]:
            zeros = max(int(f[n] - f_source[n]), 0)  # bits finer than anything that comes in
            low, high, f[n] = low >> zeros, high >> zeros, f[n] - zeros
            bits = max((-low if op.overflow == "SAT_SYM" else -low - 1).bit_length() if low < 0 else 0, high.bit_length())
            k[n], i[n] = int(low < 0), bits - f[n]
    return dataclasses.replace(op, k=k, i=i, f=f)


def _copy(name: str, source: str, grid: Grid, shared: bool) -> Quantize:
    if shared:
        kinds = [enclosing(grid)] * grid.f.size
    else:
        kinds = [enclosing(Grid(*(np.asarray(v[n]).reshape(1) for v in grid))) for n in np.ndindex(grid.f.shape)]
    k, i, f = (np.array([getattr(kind, v) for kind in kinds], np.int64).reshape(grid.f.shape) for v in "kif")
    return Quantize(name=name, inputs=(source,), shape=grid.f.shape, k=k, i=i, f=f, rounding="TRN", overflow="WRAP")
