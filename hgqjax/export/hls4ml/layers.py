"""Operations of a rewritten model description as hls4ml's layers, each with all its types."""

import dataclasses
import math
from collections.abc import Callable
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
    Subtract,
    Table,
    Transpose,
)
from hgqjax.export.hls4ml import generated, streams
from hgqjax.export.hls4ml.reuse import can_share
from hgqjax.export.hls4ml.rewrite import is_wiring
from hgqjax.export.hls4ml.types import Fixed, constant_type, enclosing, joint, quantizer_type

Node = tuple[dict[str, Any], dict[str, Any]]
"""hls4ml's dict for one layer, and its entry in hls4ml's configuration."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What every layer is made for."""

    description: ModelDescription
    names: dict[str, str]
    types: dict[str, Fixed]
    io_type: str
    strategy: str
    reuse: dict[str, int]
    has_latency: bool = True
    """Whether dense layers and convolutions of the back end have strategy latency; einsums have nothing else."""

    @property
    def stream(self) -> bool:
        """Whether tensors are streams of positions, not arrays."""
        return self.io_type == "io_stream"

    def shape(self, op: Operation) -> tuple[int, ...]:
        """Shape of the first input of `op`."""
        return self.description.grids[op.inputs[0]].f.shape


def layers(op: Operation, target: Target) -> list[Node]:
    """The layers that stand for `op`, in order; the last one has its name."""
    name, inputs = target.names[op.name], [target.names[source] for source in op.inputs]
    *before, (layer, config) = _MAKERS[type(op)](op, target)
    nodes = []
    for number, (layer_before, config_before) in enumerate(before):
        helper = f"{name}_before{number}"
        nodes.append((layer_before | {"name": helper, "inputs": inputs}, config_before))
        inputs = [helper]
    return [*nodes, ({"name": name} | ({"inputs": inputs} if inputs else {}) | layer, config)]


def _result(kind: Fixed, **more: Fixed) -> dict[str, Any]:
    return {"Precision": {"result": str(kind)} | {key: str(value) for key, value in more.items()}}


def _input(op: Input, target: Target) -> list[Node]:
    return [({"class_name": "InputLayer", "input_shape": list(op.shape)}, _result(target.types[op.name]))]


# ---- element by element ----


def _quantize(op: Quantize, target: Target) -> list[Node]:
    config = _result(target.types[op.name])
    if target.stream and not (op.bits > 0).any():  # no type makes everything 0, but the difference of a stream and itself is
        return [({"class_name": "Merge", "op": "subtract", "inputs": [target.names[op.inputs[0]]] * 2}, config)]
    if target.stream:
        return [_activation("linear", op, target.types[op.name])]
    mask = tuple(v[None].astype(np.int16) for v in (op.k, op.bits, np.where(op.bits > 0, op.k + op.i, 0)))
    layer = {"class_name": "FixedPointQuantizer", "mask_kbi": mask, "RND": op.rounding, "SAT": op.overflow}
    return [*_barrier(op, target), (layer | {"fusible": None, "overrides": {}}, config)]


def _barrier(op: Quantize, target: Target) -> list[Node]:
    source = target.description[op.inputs[0]]
    if target.strategy == "distributed_arithmetic" and isinstance(source, Quantize):
        # hls4ml 1.3 fuses a quantizer into the adder graph behind it, then the one before that too, and the C++ declares twice
        return [({"class_name": "Reshape", "target_shape": list(op.shape)}, _result(quantizer_type(source)))]
    return []


def _activation(function: str, op: Operation, kind: Fixed) -> Node:
    return {"class_name": "Activation", "activation": function, "n_in": math.prod(op.shape)}, _result(kind)


def _relu(op: Relu, target: Target) -> list[Node]:
    return [_activation("relu", op, target.types[op.name])]


def _table(op: Table, target: Target) -> list[Node]:
    """hls4ml indexes with the raw bits of the C++ type that comes in: first what is not negative, then the negative half."""
    kind = target.types[op.inputs[0]]
    raw = np.arange(2**kind.width)
    value = raw - np.where(raw >= 2 ** (kind.width - 1), 2**kind.width, 0) if kind.k else raw
    index = np.floor(np.ldexp(value.astype(np.float64), op.f_in - kind.f)).astype(np.int64) - op.low
    entries = op.table[np.clip(index, 0, op.table.size - 1)]  # what the type can hold beyond the table never comes in
    table_type = enclosing(Grid(np.full(entries.shape, op.f), entries.astype(object), entries.astype(object)))
    layer = {"class_name": "UnaryLUT", "activation": "unary_lut", "table_data": np.ldexp(entries.astype(np.float64), -op.f)}
    return [(layer, _result(target.types[op.name], table=table_type))]


# ---- layers with weights ----


def _linear(op: Linear, target: Target, layer: dict[str, Any]) -> Node:
    result = target.types[op.name]
    layer = {"weight_data": op.kernel.values, "bias_data": None if op.bias is None else op.bias.values} | layer
    config = _result(result, accum=result, weight=constant_type(op.kernel), bias=constant_type(op.bias))
    config["ReuseFactor"] = target.reuse.get(op.name, 1)
    alone = is_wiring(op) or (target.strategy == "resource" and not can_share(op))
    return layer, config | ({"Strategy": "latency"} if alone and (target.has_latency or isinstance(op, Einsum)) else {})


def _at_a_time(positions: int, wanted: int | None, target: Target) -> dict[str, int]:
    """hls4ml's word for the positions that are computed at a time; a stream has one at a time whatever is asked for."""
    return {} if target.stream else {"parallelization_factor": wanted or positions}


def _dense(op: Dense, target: Target) -> list[Node]:
    n_in, n_out = op.kernel.integers.shape
    layer = {"class_name": "Dense", "n_in": n_in, "n_out": n_out, "data_format": "channels_last"}
    if len(op.shape) > 1:  # hls4ml makes a pointwise convolution of it
        layer |= _at_a_time(math.prod(op.shape[:-1]), None, target)
    return [_linear(op, target, layer)]


def _einsum(op: Einsum, target: Target) -> list[Node]:
    layer = {"class_name": "EinsumDense", "equation": op.equation, "inp_shape": target.shape(op), "out_shape": op.shape}
    if op.bias is not None:
        layer["bias_data"] = np.broadcast_to(op.bias.values, op.shape)
    if op.parallelization is not None:
        layer["parallelization_factor"] = op.parallelization
    return [_linear(op, target, layer)]


def _contract(op: Contract, target: Target) -> list[Node]:
    result = target.types[op.name]
    a, b = (target.description.grids[name].f.shape for name in op.inputs)
    layer = {"class_name": "Einsum", "equation": op.equation, "inp0_shape": a, "inp1_shape": b, "out_shape": op.shape}
    return [(layer, _result(result, accum=result) | {"Strategy": "latency"})]


def _window_fields(sides: str, size, strides, padding, shape, result) -> dict[str, Any]:
    """Sizes along each spatial axis by hls4ml's names; `sides` is the prefix of the window's own size."""
    fields: dict[str, Any] = {"data_format": "channels_last"}
    names = [("height", "top", "bottom"), ("width", "left", "right")][-len(size) :]
    for (axis, before, after), n, stride, pads, n_in, n_out in zip(names, size, strides, padding, shape, result, strict=False):
        fields |= {f"{sides}_{axis}": n, f"stride_{axis}": stride, f"in_{axis}": n_in, f"out_{axis}": n_out}
        fields |= {f"pad_{before}": pads[0], f"pad_{after}": pads[1]}
    return fields


def _conv(op: Conv, target: Target) -> list[Node]:
    shape, rank = target.shape(op), len(op.strides)
    before, padding = [], op.padding
    if target.stream and any(map(any, padding)):
        shape, padding = tuple(n + sum(p) for n, p in zip(shape, padding, strict=False)) + shape[-1:], ((0, 0),) * rank
        before = [_zeros(op, op.padding, target, shape)]
    *size, _, filters = op.kernel.integers.shape
    fields = _window_fields("filt", size, op.strides, padding, shape, op.shape) | {"n_chan": shape[-1], "n_filt": filters}
    fields |= _at_a_time(math.prod(op.shape[:-1]), op.parallelization, target)
    if op.groups == 1:
        return [*before, _linear(op, target, {"class_name": f"Conv{rank}D"} | fields)]
    kernel = op.kernel.values.reshape(*size, op.groups, filters // op.groups)
    fields |= {"weight_data": kernel, "depthwise_data": kernel, "depth_multiplier": filters // op.groups}
    return [*before, _linear(op, target, {"class_name": f"DepthwiseConv{rank}D"} | fields)]


def _zeros(op: Operation, padding: streams.Pads, target: Target, shape: tuple[int, ...]) -> Node:
    """The padding of a convolution in io_stream, or zeros by themselves.

    hls4ml 1.3 would put it there itself, but for one axis it does so in front of the first reader of what comes in, which may be another
    one (fastmachinelearning/hls4ml#309 put that right for two axes).
    """
    rank = len(padding)
    fields = _window_fields("window", (1,) * rank, (1,) * rank, padding, target.shape(op), shape)
    return {"class_name": f"ZeroPadding{rank}D", "n_chan": shape[-1]} | fields, _result(target.types[op.inputs[0]])


# ---- pooling ----


def _pool(op: Pool, target: Target) -> list[Node]:
    shape, rank = target.shape(op), len(op.size)
    fields = _window_fields("pool", op.size, op.strides, op.padding, shape, op.shape) | {"n_filt": op.shape[-1], "count_pad": False}
    if rank == 1:
        fields |= {"n_in": shape[0], "n_out": op.shape[0]}
    source, result, before = target.types[op.inputs[0]], target.types[op.name], []
    accum = source
    if isinstance(op, AveragePool):  # the sum, then its quotient
        grid, shift = target.description.grids[op.name], math.prod(op.size).bit_length() - 1
        accum = joint([source, enclosing(Grid(grid.f - shift, grid.low, grid.high)), result])
    elif any(map(any, op.padding)) and not source.k:
        # hls4ml 1.3 pads with the word that has the top bit alone: the least one of a signed type, but half of an unsigned one
        accum = dataclasses.replace(source, k=1)
        before = [_activation("linear", target.description[op.inputs[0]], accum)]
    name = "AveragePooling" if isinstance(op, AveragePool) else "MaxPooling"
    return [*before, ({"class_name": f"{name}{rank}D"} | fields, _result(result, accum=accum))]


# ---- several inputs, and moving elements ----


def _merge(op: Operation, target: Target) -> list[Node]:
    return [({"class_name": "Merge", "op": op.kind}, _result(target.types[op.name]))]


def _concatenate(op: Concatenate, target: Target) -> list[Node]:
    rank = len(op.shape)  # hls4ml counts axes from 1; from the end it does not matter
    layer = {"class_name": "Concatenate", "op": f"Concatenate{rank}d", "axis": op.axis - rank}
    return [(layer, _result(target.types[op.name]))]


def _reshape(op: Reshape, target: Target) -> list[Node]:
    config = _result(target.types[op.name])
    layer = {"class_name": "Reshape", "target_shape": list(op.shape)}
    source = target.description[op.inputs[0]]
    if not target.stream:
        # from Transpose, Reshape, Dense hls4ml 1.3 takes the transpose out, and takes its axes for those of channels first
        # (fastmachinelearning/hls4ml#976)
        turned = isinstance(source, Transpose) and len(op.shape) == 1
        return [*([(layer | {"target_shape": [1, *op.shape]}, config)] if turned else []), (layer, config)]
    # a flatten is only a name for what comes in, position by position; a dense layer collects that, nothing else does
    # (fastmachinelearning/hls4ml#647)
    return [(layer if streams.is_gathered(op, target.description) else layer | {"class_name": "Repack"}, config)]


def _transpose(op: Transpose, target: Target) -> list[Node]:
    return [({"class_name": "Transpose", "perm": list(op.axes)}, _result(target.types[op.name]))]


def _gather(op: Gather, target: Target) -> list[Node]:
    if target.stream and (padding := streams.zeros_around(op, target.shape(op))) is not None:
        return [_zeros(op, padding, target, op.shape)]
    if target.stream:  # up-sampling
        (height, width), (tall, wide) = (((1, *shape) if len(shape) == 1 else shape) for shape in (target.shape(op)[:-1], op.shape[:-1]))
        sizes = {"in_height": height, "in_width": width, "out_height": tall, "out_width": wide, "n_chan": op.shape[-1]}
        resize = {"class_name": "Resize", "algorithm": "nearest", "align_corners": False, "data_format": "channels_last"}
        return [(resize | sizes, _result(target.types[op.name]))]
    layer = generated.layer(op, target.names[op.name], generated.gather_lines(op), math.prod(target.shape(op)))
    return [(layer, _result(target.types[op.name]))]


def _lookup(op: Lookup, target: Target) -> list[Node]:
    result, size = target.types[op.name], math.prod(op.shape)
    lines = list(generated.lookup_lines(op, target.description.grids[op.inputs[0]], result))
    return [(generated.layer(op, target.names[op.name], lines, size), _result(result))]


_MAKERS: dict[type[Operation], Callable[[Any, Target], list[Node]]] = {
    Input: _input,
    Quantize: _quantize,
    Relu: _relu,
    Table: _table,
    Dense: _dense,
    Einsum: _einsum,
    Conv: _conv,
    MaxPool: _pool,
    AveragePool: _pool,
    **dict.fromkeys((Add, Subtract, Multiply, Maximum, Minimum), _merge),
    Concatenate: _concatenate,
    Reshape: _reshape,
    Transpose: _transpose,
    Contract: _contract,
    Gather: _gather,
    Lookup: _lookup,
}
