"""The nodes of a QONNX network that read computed values, each as exact operations or as steps of a value (`qonnx_values`)."""

import dataclasses
import math

import numpy as np

from hgqjax.description import operations as o
from hgqjax.interop import qonnx_quantizers, qonnx_shapes
from hgqjax.interop.qonnx_file import Constant, Node
from hgqjax.interop.qonnx_values import (
    SCALE_BITS,
    Affine,
    Builder,
    Named,
    Positive,
    Reader,
    Reading,
    Tensor,
    Value,
    computed,
    constant,
    is_dyadic,
    split,
)

WEIGHT_BITS = 16
"""Most bits of a weight that no Quant made."""

# ---- layers with weights ----


def _weights(tensor: Tensor, node: Named, outputs: int) -> tuple[o.Constant, np.ndarray]:
    """Exact weights, and the scale that is left of each along the axis `outputs`, ones where that is a power of two."""
    if not isinstance(tensor, Constant):
        raise node.refuse("has computed weights; constants are legal")
    bits = None
    if tensor.bits:
        bits = tensor.bits - int(tensor.narrow)
    count = tensor.values.shape[outputs]
    if tensor.integers is None or tensor.scale is None or is_dyadic(tensor.scale, 1):
        if not is_exact_weight(tensor):
            raise node.refuse("has weights that no Quant made; a Quant is needed on them")
        return constant(tensor.values, bits), np.ones(count)
    scale = np.moveaxis(tensor.scale, outputs, -1).reshape(-1, count)
    if np.any(scale != scale[:1]):
        raise node.refuse("has scales of weights that differ within an output; one for each output is legal")
    return constant(tensor.integers.astype(np.float64), bits), scale[0]


def is_exact_weight(tensor: Constant) -> bool:
    """Whether its values are whole numbers with a scale, or small dyadic numbers."""
    return (tensor.integers is not None and tensor.scale is not None) or is_dyadic(tensor.values, WEIGHT_BITS)


def _linear_input(value: Value, node: Named, reading: Reading) -> tuple[str, float, np.ndarray]:
    """An exact result, and the one scale and the offsets that it still needs."""
    value = reading.grounded(value, node)
    steps, build = value.steps, reading.build
    one = len(steps) == 1 and isinstance(steps[0], Affine) and np.unique(steps[0].scale).size == 1
    if not steps or not one:
        return build.exact(value, node), 1.0, np.zeros(1)
    (step,) = steps
    assert isinstance(step, Affine)
    return value.name, float(step.scale.flat[0]), step.offset


def _left(scale: np.ndarray, offset: np.ndarray, name: str, build: Builder) -> tuple[Affine, ...]:
    """The step that is left, with channels last."""
    if np.all(scale == 1) and not offset.any():
        return ()
    shape = (1,) * (len(build.shape(name)) - 1) + (build.shape(name)[-1],)
    return (Affine(np.broadcast_to(scale, shape), np.broadcast_to(offset, shape)),)


def _matmul(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    if all(isinstance(t, Value) for t in tensors):
        return _product(node, tensors, reading)
    return dense(node, reading, tensors[0], tensors[1])


def dense(node: Named, reading: Reading, x: Tensor, weights: Tensor) -> Value:
    """``x @ weights``, weights (inputs, outputs)."""
    build = reading.build
    value = build.ordered(computed(x, node), False)
    name, factor, offset = _linear_input(value, node, reading)
    if not isinstance(weights, Constant) or weights.values.ndim != 2:
        raise node.refuse("has weights that are not constants (inputs, outputs)")
    kernel, scale = _weights(weights, node, 1)
    shape = (*build.shape(name)[:-1], weights.values.shape[1])
    shift = np.broadcast_to(offset.reshape(-1), (weights.values.shape[0],)) @ weights.values if offset.any() else np.zeros(1)
    if is_dyadic(np.array(factor), 1):
        kernel, factor = dataclasses.replace(kernel, f=np.where(kernel.integers == 0, 0, kernel.f - int(np.log2(factor)))), 1.0
    result = build.add(o.Dense, node.name, (name,), shape, kernel=kernel, bias=None)
    return Value(result, False, _left(factor * scale, shift, result, build))


def _gemm(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    x, weights, *bias = tensors
    if node.get("alpha", 1.0) != 1.0 or node.get("beta", 1.0) != 1.0 or node.get("transA", 0):
        raise node.refuse("has alpha, beta or transA; a plain product and a bias are legal")
    if node.get("transB", 0) and isinstance(weights, Constant):  # else refused below
        weights = weights.moved(lambda v: v.T)
    value = dense(node, reading, x, weights)
    return _add(node, [value, *bias], reading) if bias else value


def _product(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    """Of two computed values."""
    build = reading.build
    values = [build.ordered(reading.grounded(computed(t, node), node), False) for t in tensors]
    names = [build.exact(value, node) for value in values]
    a, b = (build.shape(name) for name in names)
    if len(a) != len(b) or len(a) < 2 or a[:-2] != b[:-2]:
        raise node.refuse(f"multiplies values of shapes {a} and {b}; equal axes but for the last two are legal")
    lead = "abcdef"[: len(a) - 2]
    equation = f"{lead}xy,{lead}yz->{lead}xz"
    return Value(build.add(o.Contract, node.name, tuple(names), (*a[:-1], b[-1]), equation=equation))


def _conv(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    value, weights = reading.build.ordered(computed(tensors[0], node), not node.last), tensors[1]
    rank = weights.values.ndim - 2 if isinstance(weights, Constant) else 0
    if isinstance(weights, Constant):  # else refused below
        order = (*range(1, rank + 2), 0) if node.last else (*range(2, rank + 2), 1, 0)
        weights = weights.moved(lambda v: v.transpose(order))
    found = convolution(node, reading, value, weights, {"groups": int(node.get("group", 1)), **_window_settings(node, rank)})
    if len(tensors) < 3 or not isinstance(tensors[2], Constant):
        return found
    return _add(node, [found, tensors[2].moved(lambda v: v.reshape(-1) if node.last else v.reshape(1, -1, *(1,) * rank))], reading)


def convolution(node: Named, reading: Reading, value: Value, weights: Tensor, settings: dict) -> Value:
    """Of a value whose channels are last, with weights (window..., channels, filters); `settings`: of the operation."""
    build = reading.build
    name, factor, offset = _linear_input(value, node, reading)
    kernel, scale = _weights(weights, node, -1)
    if offset.any():
        raise node.refuse("reads values with an offset, which a Quant with a zero point has; one without is needed")
    *size, _, filters = kernel.integers.shape
    windows = o.Windows(build.shape(name), tuple(size), settings["strides"], settings["padding"], settings["dilation"])
    result = build.add(o.Conv, node.name, (name,), (*windows.positions, filters), kernel=kernel, bias=None, **settings)
    return Value(result, value.first, _left(factor * scale, np.zeros(1), result, build))


def _window_settings(node: Node, rank: int) -> dict:
    if str(node.get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID") or node.get("ceil_mode", 0):
        raise node.refuse("has auto_pad or ceil_mode; explicit pads are legal")
    pads = node.get("pads", (0,) * (2 * rank))
    ones = (1,) * rank
    padding = tuple((int(pads[n]), int(pads[n + rank])) for n in range(rank))
    return {"strides": node.get("strides", ones), "dilation": node.get("dilations", ones), "padding": padding}


# ---- element by element ----


def step(value: Value, scale: np.ndarray, offset: np.ndarray, build: Builder) -> Value:
    """The value after one more scale and offset, those of an affine step before it taken in."""
    rank = (1,) * len(build.shape(value.name))
    scale, offset = (v.reshape(rank) if v.size == 1 else v for v in (np.asarray(scale), np.asarray(offset)))
    if value.steps and isinstance(value.steps[-1], Affine):
        before = value.steps[-1]
        return dataclasses.replace(value, steps=(*value.steps[:-1], Affine(before.scale * scale, before.offset * scale + offset)))
    return dataclasses.replace(value, steps=(*value.steps, Affine(scale, offset)))


def _add(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    value, other = split(node, tensors)
    if other is None:
        return _sum(node, tensors, reading)
    return add_constant(value, other, reading.build)


def add_constant(value: Value, other: Constant, build: Builder) -> Value:
    """A bias, where it is exact and a layer with weights is right before it; else a step."""
    offset = build.parameter(other.values, value)
    op = build.operations[-1]
    by_channel = offset.size in (1, offset.shape[-1])
    free = isinstance(op, o.Linear) and op.name == value.name and op.bias is None and not value.steps
    if isinstance(op, o.Linear) and free and by_channel and is_dyadic(offset, WEIGHT_BITS):
        bias = constant(np.broadcast_to(offset.reshape(-1), op.shape[-1:]), other.bits - int(other.narrow) if other.bits else None)
        build.replace_last(dataclasses.replace(op, bias=bias))
        return value
    return step(value, np.ones(1), offset, build)


def _sum(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    build, sign = reading.build, -1 if node.kind == "Sub" else 1
    values = [reading.grounded(computed(t, node), node) for t in tensors]
    values = [build.ordered(value, values[0].first) for value in values]
    scales = [v.steps[0] if len(v.steps) == 1 and isinstance(v.steps[0], Affine) else None for v in values]
    a, b = scales
    alike = a is not None and b is not None and np.array_equal(a.scale, b.scale) and not a.offset.any() and not b.offset.any()
    names = tuple(v.name for v in values) if alike else tuple(build.exact(v, node) for v in values)
    shape = np.broadcast_shapes(*(build.shape(name) for name in names))
    result = build.add(o.Add if sign > 0 else o.Subtract, node.name, names, shape)
    return Value(result, values[0].first, values[0].steps if alike else ())


def _subtract(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    value, other = split(node, tensors)
    if other is None:
        return _sum(node, tensors, reading)
    parameter = reading.build.parameter(other.values, value)
    if isinstance(tensors[0], Constant):
        return step(value, -np.ones(1), parameter, reading.build)
    return step(value, np.ones(1), -parameter, reading.build)


def _multiply(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    build = reading.build
    value, other = split(node, tensors)
    if other is not None:
        factor = build.parameter(other.values, value)
        return step(value, factor, np.zeros(1), build)
    values = [build.ordered(reading.grounded(computed(t, node), node), value.first) for t in tensors]
    names = tuple(build.exact(v, node) for v in values)
    shape = np.broadcast_shapes(*(build.shape(name) for name in names))
    return Value(build.add(o.Multiply, node.name, names, shape), value.first)


def _divide(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    value, divisor = tensors
    if not isinstance(value, Value) or not isinstance(divisor, Constant) or not np.all(divisor.values):
        raise node.refuse("divides by a computed value or by 0; constants are legal")
    return step(value, 1.0 / reading.build.parameter(divisor.values, value), np.zeros(1), reading.build)


def _batch_norm(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    value = computed(tensors[0], node)
    build = reading.build
    if any(not isinstance(t, Constant) for t in tensors[1:]):
        raise node.refuse("has computed parameters; constants are legal")
    gamma, beta, mean, variance = (np.asarray(t.values, np.float64) for t in tensors[1:] if isinstance(t, Constant))
    if len(build.shape(value.name)) > 1:
        value = build.ordered(value, not node.last)
    rank = (1,) * (len(build.shape(value.name)) - 1)
    scale = gamma / np.sqrt(variance + float(node.get("epsilon", 1e-5)))
    return step(value, scale.reshape(*rank, -1), (beta - mean * scale).reshape(*rank, -1), build)


def _relu(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    return relu(node, computed(tensors[0], node), reading)


def relu(node: Named, value: Value, reading: Reading) -> Value:
    """``max(x, 0)``."""
    value = reading.grounded(value, node)
    if value.steps:
        return dataclasses.replace(value, steps=(*value.steps, Positive()))
    return dataclasses.replace(value, name=reading.build.add(o.Relu, node.name, (value.name,), reading.build.shape(value.name)))


def _leaky(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    """The greater one of ``x`` and ``alpha * x``, for an alpha up to 1."""
    alpha, build = float(node.get("alpha", 0.01)), reading.build
    value = reading.grounded(computed(tensors[0], node), node)
    if not (0 <= alpha <= 1 and is_dyadic(np.array(alpha), SCALE_BITS)):
        raise node.refuse(f"has the slope {alpha:.9g}; one from 0 to 1 with at most {SCALE_BITS} significant bits is legal")
    name = build.exact(value, node)
    shape = build.shape(name)
    slope = Affine(np.full((1,) * len(shape), alpha), np.zeros((1,) * len(shape)))
    return Value(build.add(o.Maximum, node.name, (name, build.exact(Value(name, steps=(slope,)), node)), shape), value.first)


# ---- pooling ----


def _pool(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    build, average = reading.build, node.kind == "AveragePool"
    value = build.ordered(reading.grounded(computed(tensors[0], node), node), not node.last)
    if not commutes(value, average):
        value = Value(build.exact(value, node), value.first)
    size = node.get("kernel_shape", ())
    settings = _window_settings(node, len(size))
    if any(n != 1 for n in settings.pop("dilation")):
        raise node.refuse("has dilations; none are legal")
    shape = build.shape(value.name)
    windows = o.Windows(shape, size, settings["strides"], settings["padding"], (1,) * len(size))
    cls = o.AveragePool if average else o.MaxPool
    result = build.add(cls, node.name, (value.name,), (*windows.positions, shape[-1]), size=size, **settings)
    return Value(result, value.first, value.steps)


def commutes(value: Value, average: bool) -> bool:
    """Whether the mean, or the greatest, of a window may come before the steps: these are the same everywhere, and affine, or grow."""
    affine = [s for s in value.steps if isinstance(s, Affine)]
    everywhere = all(part.size in (1, part.shape[-1]) for s in affine for part in (s.scale, s.offset))
    return everywhere and (len(affine) == len(value.steps) if average else all(np.all(s.scale > 0) for s in affine))


def _global_average(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    build = reading.build
    value = build.ordered(reading.grounded(computed(tensors[0], node), node), True)
    if not commutes(value, average=True):
        value = Value(build.exact(value, node), value.first)
    *space, channels = build.shape(value.name)
    ones = (1,) * len(space)
    result = build.add(o.Sum, node.name, (value.name,), (*ones, channels), axes=tuple(range(len(space))))
    return step(Value(result, True, value.steps), np.array([1.0 / math.prod(space)]), np.zeros(1), build)


def _same(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    return tensors[0]


READERS: dict[str, Reader] = {
    **qonnx_quantizers.READERS,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "Add": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Div": _divide,
    "BatchNormalization": _batch_norm,
    "Relu": _relu,
    "LeakyRelu": _leaky,
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    "GlobalAveragePool": _global_average,
    **qonnx_shapes.READERS,
    **dict.fromkeys(("Identity", "Dropout"), _same),
}
"""By kind of the node: what reads it where an input is computed."""
