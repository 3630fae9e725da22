"""What the hls4ml export refuses, by the name of the layer, before anything is written."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import (
    Add,
    AveragePool,
    Concatenate,
    Contract,
    Conv,
    Dense,
    Einsum,
    Gather,
    Grid,
    Input,
    Linear,
    Lookup,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Operation,
    Pool,
    Quantize,
    Relu,
    Reshape,
    Slice,
    Subtract,
    Sum,
    Table,
    Transpose,
)
from hgqjax.description.readers import input_readers
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml import streams
from hgqjax.export.hls4ml.rewrite import is_wiring, slices_last_axis, stream_sum
from hgqjax.export.hls4ml.types import enclosing, tensor_types, uniform

STREAM_READERS = 7
"""Readers of one tensor that hls4ml has stream copies for."""
TABLE_BITS = 16
"""Widest input of a table: hls4ml has a word for everything that the C++ type can hold."""


def check_operations(description: ModelDescription, io_type: str, strategy: str) -> None:
    """Raises ExportError naming the first operation that hls4ml cannot do with these settings."""
    for op in description.operations:
        if type(op) not in _RULES:
            known = ", ".join(kind.kind for kind in _RULES)
            raise ExportError(f"layer {op.name!r} is of kind {op.kind}; the hls4ml export knows {known}")
        grids = tuple(description.grids[name] for name in op.inputs)
        for why in itertools.chain(_RULES[type(op)](op, grids, io_type, strategy), _readers(op, description, io_type)):
            raise ExportError(f"layer {op.name!r} {why}")
    # the header files of hls4ml 1.3 for depthwise convolutions over one and over two axes have the same include guard
    depthwise = {len(op.strides): op for op in description.operations if isinstance(op, Conv) and op.groups > 1}
    if io_type == "io_parallel" and len(depthwise) > 1:
        raise ExportError(
            f"layer {depthwise[1].name!r} is a depthwise convolution over one axis, and {depthwise[2].name!r} one over two; in io_parallel "
            "hls4ml has one sort of them in a network"
        )


def _readers(op: Operation, description: ModelDescription, io_type: str) -> Iterator[str]:
    count = sum(reader.inputs.count(op.name) for reader in description.operations) + description.outputs.count(op.name)
    if io_type == "io_stream" and count > STREAM_READERS:
        yield f"is read {count} times; hls4ml's io_stream has copies for {STREAM_READERS} at most"


def _nothing(op: Operation, grids: tuple[Grid, ...], io_type: str, strategy: str) -> Iterator[str]:
    yield from ()


def _quantize(op: Quantize, grids: tuple[Grid, ...], io_type: str, strategy: str) -> Iterator[str]:
    if op.rounding not in ("RND", "TRN", "RND_CONV") or op.overflow not in ("WRAP", "SAT", "SAT_SYM"):
        yield f"has rounding {op.rounding} and overflow {op.overflow}, for which hls4ml has no quantizer"
    if io_type == "io_stream" and not uniform(op):
        yield 'has more than one format, and a stream of hls4ml has one for all its elements; use granularity "tensor", or io_parallel'


def _conv(op: Conv, grids: tuple[Grid, ...], io_type: str, strategy: str) -> Iterator[str]:
    rank, channels = len(op.strides), grids[0].f.shape[-1]
    if rank > 2:
        yield f"is a convolution over {rank} axes; hls4ml has those over 1 and 2"
    if any(n != 1 for n in op.dilation):
        yield f"has dilation {op.dilation}, which hls4ml has not"
    if op.groups not in (1, channels):
        yield f"has {op.groups} groups for {channels} channels; hls4ml has 1 group, or as many as channels"
    if op.groups > 1 and op.shape[-1] != channels:
        yield f"has {op.shape[-1] // channels} filters for each channel; hls4ml's depthwise convolutions have 1"
    if op.groups > 1 and strategy == "distributed_arithmetic":
        yield "is a depthwise convolution, which hls4ml has not with distributed_arithmetic; use strategy latency"
    positions = math.prod(op.shape[:-1])
    if io_type == "io_parallel" and op.parallelization and positions % op.parallelization:
        yield f"computes {op.parallelization} of its {positions} positions at a time; hls4ml needs a divisor of {positions}"


def _einsum(op: Einsum, grids: tuple[Grid, ...], io_type: str, strategy: str) -> Iterator[str]:
    if io_type == "io_stream" and streams.factors(op):
        if strategy == "distributed_arithmetic" and len(op.shape) > 1:
            yield "multiplies with constants, which hls4ml has not in io_stream with distributed_arithmetic; use strategy latency"
    elif io_type == "io_stream":
        yield "is an einsum, which hls4ml has not in io_stream; use a dense layer, or io_parallel"


def _pool(op: Pool, grids: tuple[Grid, ...], io_type: str, strategy: str) -> Iterator[str]:
    if len(op.size) > 2:
        yield f"pools over {len(op.size)} axes; hls4ml does so over 1 and 2"
    if io_type == "io_stream" and any(map(any, op.padding)):
        yield "pools with padding, which hls4ml has not in io_stream; pad with a convolution before it, or use io_parallel"
    if io_type == "io_stream" and op.strides != op.size:
        yield f"pools windows of size {op.size} every {op.strides}; in io_stream hls4ml needs strides that are the size"


def _merge(op: Operation, grids: tuple[Grid, ...], io_type: str, strategy: str) -> Iterator[str]:
    if io_type == "io_stream" and any(g.f.shape != op.shape for g in grids):
        yield "repeats an input along axes of size 1, which hls4ml has not in io_stream; use io_parallel"


def _concatenate(op: Concatenate, grids: tuple[Grid, ...], io_type: str, strategy: str) -> Iterator[str]:
    if len(op.shape) > 3:
        yield f"concatenates values of {len(op.shape)} axes; hls4ml does so up to 3"


def _slice(op: Slice, grids: tuple[Grid, ...], io_type: str, strategy: str) -> Iterator[str]:
    if io_type == "io_stream" and not slices_last_axis(op, grids[0].f.shape):
        yield "takes a part of an axis that is not the last; in io_stream hls4ml can do so for the last axis alone"


def _gather(op: Gather, grids: tuple[Grid, ...], io_type: str, strategy: str) -> Iterator[str]:
    shape = grids[0].f.shape
    if io_type == "io_stream" and streams.zeros_around(op, shape) is None and streams.repeats(op, shape) is None:
        yield "chooses elements; in io_stream hls4ml has zeros around them and up-sampling alone; use io_parallel"


def _arrays(op: Operation, grids: tuple[Grid, ...], io_type: str, strategy: str) -> Iterator[str]:
    if io_type == "io_stream":
        yield f"is of kind {op.kind}, which has no form in io_stream; use io_parallel"


def _sum(op: Sum, grids: tuple[Grid, ...], io_type: str, strategy: str) -> Iterator[str]:
    shape = grids[0].f.shape
    if io_type == "io_stream" and stream_sum(op, shape) is None:
        yield f"sums over axes {op.axes} of shape {shape}; in io_stream hls4ml can sum over the last axis, or over all but the last"


_RULES: dict[type[Operation], Callable[[Any, tuple[Grid, ...], str, str], Iterator[str]]] = {
    **dict.fromkeys((Input, Relu, Table, Dense), _nothing),
    Quantize: _quantize,
    Einsum: _einsum,
    Conv: _conv,
    **dict.fromkeys((Add, Subtract, Multiply, Maximum, Minimum), _merge),
    Concatenate: _concatenate,
    **dict.fromkeys((Reshape, Transpose), _nothing),
    Slice: _slice,
    **dict.fromkeys((MaxPool, AveragePool), _pool),
    Sum: _sum,
    **dict.fromkeys((Contract, Lookup), _arrays),
    Gather: _gather,
}


def _check_keys(op: Lookup, source: Grid) -> None:
    for where in np.ndindex(op.shape):
        width = enclosing(Grid(*(np.asarray(v[where]).reshape(1) for v in source))).width
        if width > TABLE_BITS:
            raise ExportError(
                f"layer {op.name!r}: the key of table {where} has {width} bits in C++, more than the {TABLE_BITS} that are possible"
            )


def check_types(rewritten: ModelDescription, strategy: str) -> None:
    """Raises ExportError where a constant, a port or a table is too wide for hls4ml or for its test bridge."""
    limit = 24 if strategy == "distributed_arithmetic" else 53  # da4ml 0.5 keeps kernels in float32
    types = tensor_types(rewritten, "io_parallel")
    for op in rewritten.operations:
        if isinstance(op, Linear) and not is_wiring(op):
            for constant in (op.kernel, op.bias):
                if constant is not None and abs(constant.integers).max(initial=0) >= 2**limit:
                    raise ExportError(
                        f"layer {op.name!r}: a constant has more than {limit} significant bits, too many for strategy {strategy}"
                    )
        if isinstance(op, Lookup):
            _check_keys(op, rewritten.grids[op.inputs[0]])
        if isinstance(op, Table) and types[op.inputs[0]].width > TABLE_BITS:
            width = types[op.inputs[0]].width
            raise ExportError(f"layer {op.name!r}: the table's input has {width} bits in C++, more than the {TABLE_BITS} that are possible")
    for source in rewritten.inputs:
        if len({reader.overflow == "WRAP" for reader in input_readers(rewritten, source)}) > 1:
            raise ExportError(f"input {source.name!r} feeds a quantizer that wraps and one that saturates; one port cannot do both")
    for name in rewritten.outputs:
        kind = enclosing(rewritten.grids[name])
        if kind.i + kind.f > 53:
            raise ExportError(f"output {name!r} has {kind.i + kind.f} bits, more than the 53 that the C++ test bridge can carry")
