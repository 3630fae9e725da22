"""The quantizers of a QONNX network: our own where scales are powers of two, thresholds elsewhere (`qonnx_values`)."""

import dataclasses

import numpy as np

from hgqjax.description import operations as o
from hgqjax.interop.qonnx_file import BIPOLAR, QUANT, Constant, Node, QuantSetting
from hgqjax.interop.qonnx_values import Affine, Builder, Named, Positive, Reader, Reading, Tensor, Value, computed, is_dyadic


def _quant(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    value = computed(tensors[0], node)
    if not all(isinstance(t, Constant) for t in tensors[1:]):
        raise node.refuse("has a scale, a zero point or a bit-width that is computed; constants are legal")
    scale, *more = (np.asarray(t.values, np.float64) for t in tensors[1:] if isinstance(t, Constant))
    if node.kind == BIPOLAR:
        zero, setting = np.zeros(()), QuantSetting(1, True, False, "ROUND")
    else:
        zero, width = more
        if width.size != 1:
            raise node.refuse("has more than one bit-width; one is legal")
        setting = QuantSetting.of(node, float(width.ravel()[0]))
    if not (np.all(scale > 0) and np.all(zero == np.rint(zero)) and zero.size == 1):
        raise node.refuse("has a scale that is not above 0, or a zero point that is no one whole number")
    return quantized(node, value, scale, int(zero.ravel()[0]), setting, reading)


def quantized(node: Named, value: Value, scale: np.ndarray, zero: int, setting: QuantSetting, reading: Reading) -> Value:
    """``(words(x / scale + zero) - zero) * scale``: of a node Quant, and of quantizers of QKeras."""
    build = reading.build
    value = _rows_scaled(value, scale, reading)
    scale = build.parameter(scale, value) if scale.size > 1 else scale.reshape((1,) * len(build.shape(value.name)))
    if setting.bipolar and value.name in build.raw and not zero:
        return _sign_of_rows(value, scale, node, reading)
    found = None if zero else _exactly(value, scale, setting, node, reading)
    if found is not None:
        return found
    value = reading.grounded(value, node)
    limits = setting.limits[0] - zero, setting.limits[1] - zero
    if limits[0] > 0 or limits[1] < 0:
        raise node.refuse(f"has the zero point {zero}, which is none of its words")
    word = build.words(value, lambda x: setting.words(x / scale + zero) - zero, limits, node)
    return Value(word, value.first, (Affine(scale, np.zeros_like(scale)),))


def _rows_scaled(value: Value, scale: np.ndarray, reading: Reading) -> Value:
    """Of rows: one scale and offset before their first Quant move into the scaler of the model, and the rows come scaled."""
    build, steps = reading.build, value.steps
    source = build.operation(value.name)
    plain = scale.size == 1 and is_dyadic(scale, 1) and not steps
    affine = all(isinstance(s, Affine) and s.scale.size == s.offset.size == 1 for s in steps)
    if value.name not in build.raw or plain or scale.size > 1 or not affine:
        return value
    while not isinstance(source, o.Input):
        source = build.operation(source.inputs[0])
    if source.name in reading.scaling or _readers(source.name, build) > (value.name != source.name):
        return value
    factor, offset = 1.0, 0.0
    for step in steps:
        if isinstance(step, Affine):
            factor, offset = factor * step.scale.item(), offset * step.scale.item() + step.offset.item()
    if factor <= 0:
        return value
    ones = (1,) * len(source.shape)
    # what comes in is now raw * factor / scale + offset / scale, in units of the Quant: as if rows were multiplied by its scale
    reading.scaling[source.name] = Affine(np.full(ones, factor / scale.item()), np.full(ones, offset / scale.item()))
    rank = (1,) * len(build.shape(value.name))
    return dataclasses.replace(value, steps=(Affine(np.full(rank, scale.item()), np.zeros(rank)),))


def _sign_of_rows(value: Value, scale: np.ndarray, node: Named, reading: Reading) -> Value:
    """-1 and 1 times the scale: rows rounded down and clipped to -1 and 0, which is exact for every float."""
    build, shape = reading.build, reading.build.shape(value.name)
    if not all(isinstance(s, Affine) and np.all(s.scale > 0) and not s.offset.any() for s in value.steps):
        raise node.refuse("takes the sign of rows after steps that are no scale or offset of all rows")
    zeros = np.zeros(shape, np.int64)
    name = _name(value)
    name = build.add(o.Quantize, name, (value.name,), shape, k=zeros + 1, i=zeros, f=zeros, rounding="TRN", overflow="SAT")
    ones = np.ones((1,) * len(shape))
    name = build.exact(Value(name, value.first, (Affine(2 * ones, ones),)), node)
    return Value(name, value.first, (Affine(scale, np.zeros_like(scale)),))


def _readers(name: str, build: Builder) -> int:
    return sum(name in op.inputs for op in build.operations)


def _exactly(value: Value, scale: np.ndarray, setting: QuantSetting, node: Named, reading: Reading) -> Value | None:
    """A quantizer of our own, where scale and steps are exact: powers of two, small dyadic numbers."""
    build, steps, rounding = reading.build, value.steps, setting.rounding
    raw = value.name in build.raw
    if raw and len(steps) == 1 and isinstance(steps[0], Affine) and np.array_equal(steps[0].scale, scale) and not steps[0].offset.any():
        word = _quantize(dataclasses.replace(value, steps=()), np.ones_like(scale), setting, rounding, reading)
        return None if word is None else Value(word, value.first, (Affine(scale, np.zeros_like(scale)),))
    if not is_dyadic(scale, 1) or setting.bipolar:
        return None
    half = isinstance(steps[-1], Affine) and np.all(steps[-1].scale == 1) and np.all(steps[-1].offset == scale / 2) if steps else False
    if half and rounding == "FLOOR":
        steps, rounding = steps[:-1], "RND"
    if raw and steps:
        value = reading.grounded(value, node)
    if not all(isinstance(s, Positive) or (is_dyadic(s.scale, 8) and is_dyadic(s.offset, 16)) for s in steps):
        return None
    value = Value(build.exact(dataclasses.replace(value, steps=steps), node) if steps else value.name, value.first)
    word = _quantize(value, scale, setting, rounding, reading)
    return None if word is None else Value(word, value.first)


def _quantize(value: Value, scale: np.ndarray, setting: QuantSetting, rounding: str, reading: Reading) -> str | None:
    build, shape = reading.build, reading.build.shape(value.name)
    grid = build.grids[value.name]
    positive = value.name not in build.raw and bool(np.all(grid.low >= 0))
    mode = {"ROUND": "RND_CONV", "FLOOR": "TRN", "RND": "RND"}.get(rounding)
    mode = mode or ({"HALF_UP": "RND", "DOWN": "TRN"}.get(rounding) if positive else None)
    if mode is None or setting.bipolar or (setting.narrow and not setting.signed):
        return None
    f = np.broadcast_to(1 - np.frexp(scale)[1], shape).astype(np.int64)
    k = np.full(shape, int(setting.signed), np.int64)
    overflow = "SAT_SYM" if setting.narrow else "SAT"
    return build.add(o.Quantize, _name(value), (value.name,), shape, k=k, i=setting.bits - k - f, f=f, rounding=mode, overflow=overflow)


def _name(value: Value) -> str:
    return f"{value.name}_quantized"


READERS: dict[str, Reader] = dict.fromkeys((*QUANT, BIPOLAR), _quant)
"""By kind of the node."""
