"""Networks of QKeras as model descriptions, with json, numpy and h5py alone."""

import dataclasses
import difflib
import functools
import math
import os
from collections.abc import Callable

import numpy as np

from hgqjax.description import ModelDescription
from hgqjax.description import operations as o
from hgqjax.interop import hgq2_layers, keras_file, qkeras_quantizers
from hgqjax.interop.hgq2_graph import arrays, function_name
from hgqjax.interop.hgq2_layers import channels_last, each, padding
from hgqjax.interop.keras_file import InteropError, Layer
from hgqjax.interop.qkeras_activations import activate
from hgqjax.interop.qonnx_file import Constant
from hgqjax.interop.qonnx_layers import add_constant, commutes, convolution, dense, is_exact_weight, relu, step
from hgqjax.interop.qonnx_values import INPUT_FORMAT, Affine, Reading, Value


class _Reading(Reading):
    """With the layers at the outputs, where a softmax may be left out."""

    def __init__(self, input_format: tuple[int, int, int], outputs: tuple[str, ...]):
        super().__init__(input_format)
        self.outputs, self.softmax = outputs, False


_Reader = Callable[[Layer, list[Value], _Reading], Value]


def load_qkeras(path: str | os.PathLike[str], input_format: tuple[int, int, int] = INPUT_FORMAT) -> ModelDescription:
    """Reads a network of QKeras; the description computes what QKeras computes, word for word, as long as float32 is exact there.

    Weights are quantized here as QKeras does it, in float32; all else is exact. Scales that are no powers of two (alpha "auto"), biases
    without a quantizer and batch norms are taken together, from one quantizer to the next, as thresholds for each channel, in float64, as
    `load_qonnx` does it: there a word may differ where float32 rounds a value across a tie. So may one of a real tanh or sigmoid.

    Rows that no quantizer reads are quantized to `input_format`, rounded half up, saturating. A softmax at an output is left out, and so is
    one positive factor and an offset that all elements of an output share; neither changes which output is the greatest.
    ``metadata["qkeras"]`` says which, and file, sha256, Keras version, and the operation that is the result of each layer, where one is.

    Args:
      path: a `.keras` file, a whole model in one `.h5` file, or NAME.json with the weights in NAME_weights.h5 beside it.
      input_format: `k`, `i`, `f` of rows that no quantizer reads.

    Raises: InteropError, one sentence: the file is damaged; or a layer or quantizer, named with its class, is none that is known or has
      settings that exact hardware has not, such as weights without a quantizer. OSError where the file cannot be opened, ImportError
      without h5py.
    """
    return described(keras_file.read(path), input_format)


def described(model: keras_file.Model, input_format: tuple[int, int, int] = INPUT_FORMAT) -> ModelDescription:
    """What `load_qkeras` gives for the file."""
    reading = _Reading(input_format, model.outputs)
    build, values = reading.build, {}
    with keras_file.one_sentence(model.path):
        theirs = model.of("hgq")
        if theirs:
            raise InteropError(f"its layers are those of HGQ2 ({theirs[0]}, ...); load_hgq2 reads them")
        if not model.is_quantized:
            kinds = [layer.cls for layer in model.layers if layer.weights] or ["none with weights"]
            raise InteropError(
                f"its layers are those of Keras ({kinds[0]}, ...), whose weights are floats; give it to a sweep as --start, or "
                "to layers.load_weights"
            )
        by_name = {layer.name: layer for layer in model.layers}
        for name in model.inputs:
            build.input(by_name[name])
            values[name] = Value(build.results[name])
        for layer in model.layers:
            if layer.name not in model.inputs:
                values[layer.name] = _read(layer, [values[name] for name in layer.inputs], reading)
        scales: dict[str, list[float]] = {}
        results = [reading.output(by_name[name], values[name], scales) for name in model.outputs]
        about = {"file": model.path.name, "sha256": model.sha256, "keras_version": model.metadata.get("keras_version")}
        operations = build.used(results)
        kept = {op.name for op in operations} - build.raw
        exact = {name: value.name for name, value in values.items() if not value.steps and value.name in kept}
        about |= {"softmax": reading.softmax, "output_scales": scales, "results": exact}
        about |= {"input_format": list(input_format), "inputs_that_got_it": reading.assumed}
        return ModelDescription(name=model.path.stem, operations=operations, outputs=tuple(results), metadata={"qkeras": about})


def _read(layer: Layer, values: list[Value], reading: _Reading) -> Value:
    if layer.cls not in READERS or layer.module.partition(".")[0] not in ("qkeras", "keras", "tf_keras"):
        near = difflib.get_close_matches(layer.cls, READERS, 1, cutoff=0.0)[0]
        raise layer.refuse(f"has no description; the nearest that has one is {near}")
    if not values:
        raise layer.refuse("reads nothing")
    return READERS[layer.cls](layer, values, reading)


# ---- layers with weights ----


def _weights(layer: Layer, values: np.ndarray, part: str = "kernel") -> Constant:
    what = f"{part}_quantizer"
    quantizer = qkeras_quantizers.read(layer, layer.config.get(what), what)
    found = qkeras_quantizers.constant(layer, quantizer, values, what, trained_scale=part != "bias")
    if part != "bias" and not is_exact_weight(found):
        raise layer.refuse(f"has no {what}, and its weights are floats; a quantizer is needed on them")
    return found


def _finish(layer: Layer, value: Value, bias: np.ndarray | None, reading: _Reading) -> Value:
    """Bias, and activation."""
    if bias is not None:
        value = add_constant(value, _weights(layer, bias, "bias"), reading.build)
    return _activated(layer, value, reading)


def _activated(layer: Layer, value: Value, reading: _Reading) -> Value:
    config = layer.config.get("activation")
    if function_name(config) == "softmax":
        if layer.name not in reading.outputs:
            raise layer.refuse("has a softmax that is not at an output; it is legal there alone, where it is left out")
        reading.softmax = True
        return value
    return activate(layer, qkeras_quantizers.read(layer, config, "activation"), value, reading)


def _one(layer: Layer, values: list[Value]) -> Value:
    if len(values) != 1:
        raise layer.refuse(f"reads {len(values)} results; 1 is legal")
    return values[0]


def _dense(layer: Layer, values: list[Value], reading: _Reading) -> Value:
    value = _one(layer, values)
    size = (reading.build.shape(value.name)[-1], layer["units"])
    kernel, *bias = arrays(layer, kernel=size, **({"bias": size[1:]} if layer["use_bias"] else {}))
    return _finish(layer, dense(layer, reading, value, _weights(layer, kernel)), bias[0] if bias else None, reading)


def _window(layer: Layer, shape: tuple[int, ...], rank: int) -> dict:
    """Settings of the operation, and "size", which is that of the kernel."""
    channels_last(layer)
    if len(shape) != rank + 1:
        raise layer.refuse(f"reads values of shape {shape}; {rank} spatial axes and channels are needed")
    size, strides, dilation = (each(layer[key], rank) for key in ("kernel_size", "strides", "dilation_rate"))
    return {"size": size, "strides": strides, "dilation": dilation, "padding": padding(layer, shape, size, strides, dilation)}


def _conv(layer: Layer, values: list[Value], reading: _Reading, rank: int) -> Value:
    value = _one(layer, values)
    shape = reading.build.shape(value.name)
    settings = _window(layer, shape, rank)
    groups, filters = layer.config.get("groups", 1), layer["filters"]
    if not isinstance(groups, int) or groups < 1 or shape[-1] % groups:
        raise layer.refuse(f"has {groups} groups for {shape[-1]} channels")
    kernel_shape = (*settings.pop("size"), shape[-1] // groups, filters)
    kernel, *bias = arrays(layer, kernel=kernel_shape, **({"bias": (filters,)} if layer["use_bias"] else {}))
    found = convolution(layer, reading, value, _weights(layer, kernel), settings | {"groups": groups})
    return _finish(layer, found, bias[0] if bias else None, reading)


def _conv_batch_norm(layer: Layer, values: list[Value], reading: _Reading, depthwise: bool = False) -> Value:
    """QConv2DBatchnorm and QDepthwiseConv2DBatchnorm: statistics are folded into the kernel before it is quantized."""
    value = _one(layer, values)
    shape = reading.build.shape(value.name)
    settings = _window(layer, shape, 2)
    size, channels = settings.pop("size"), shape[-1]
    filters = channels * layer["depth_multiplier"] if depthwise else layer["filters"]
    names = [name for name, there in (("bias", layer["use_bias"]), ("gamma", layer["scale"]), ("beta", layer["center"])) if there]
    shapes = {"kernel": (*size, channels, filters // channels if depthwise else filters)}
    shapes |= dict.fromkeys((*names, "mean", "variance"), (filters,))
    found: dict[str, np.ndarray] = {}
    for part, inside in zip(layer.apart(), (False, True), strict=True):  # the convolution, and the batch norm in it
        wanted = {name: shape for name, shape in shapes.items() if inside != (name in ("kernel", "bias"))}
        found |= dict(zip(wanted, arrays(part, **wanted), strict=True))
    kernel = found["kernel"].reshape(*size, 1, filters) if depthwise else found["kernel"]
    factor = np.float32(1) / np.sqrt(found["variance"] + np.float32(layer["epsilon"])) * found.get("gamma", np.float32(1))
    bias = factor * (found.get("bias", np.float32(0)) - found["mean"]) + found.get("beta", np.float32(0))
    if depthwise:  # whose quantizer shares scales over channels
        folded = (factor * kernel).reshape(found["kernel"].shape)
        weights = _weights(layer, folded, "depthwise").moved(lambda v: v.reshape(*size, 1, filters))
    else:
        weights = _weights(layer, factor * kernel)
    groups = channels if depthwise else 1
    return _finish(layer, convolution(layer, reading, value, weights, settings | {"groups": groups}), bias, reading)


def _depthwise(layer: Layer, values: list[Value], reading: _Reading, rank: int, separable: bool = False) -> Value:
    """QDepthwiseConv2D, and with `separable` the sum over channels behind it."""
    value = _one(layer, values)
    shape = reading.build.shape(value.name)
    settings = _window(layer, shape, rank)
    size, channels, each_channel = settings.pop("size"), shape[-1], layer["depth_multiplier"]
    result = layer["filters"] if separable else channels * each_channel
    more = {"pointwise": (*(1,) * rank, channels * each_channel, result)} if separable else {}
    more |= {"bias": (result,)} if layer["use_bias"] else {}
    kernel, *rest = arrays(layer, depthwise=(*size, channels, each_channel), **more)
    weights = _weights(layer, kernel, "depthwise").moved(lambda v: v.reshape(*size, 1, channels * each_channel))
    own = dataclasses.replace(layer, name=f"{layer.name}_depthwise") if separable else layer
    found = convolution(own, reading, value, weights, settings | {"groups": channels})
    if separable:
        ones = {"strides": (1,) * rank, "dilation": (1,) * rank, "padding": ((0, 0),) * rank, "groups": 1}
        found = convolution(layer, reading, found, _weights(layer, rest[0], "pointwise"), ones)
    return _finish(layer, found, rest[-1] if layer["use_bias"] else None, reading)


def _batch_norm(layer: Layer, values: list[Value], reading: _Reading) -> Value:
    """One factor and one offset for each channel, float64, of numbers that QKeras may have quantized."""
    value = reading.grounded(_one(layer, values), layer)
    shape = reading.build.shape(value.name)
    axis = layer["axis"] if isinstance(layer["axis"], int) else layer["axis"][0]
    if axis % (len(shape) + 1) != len(shape):
        raise layer.refuse(f"normalizes axis {axis}; the last one is legal")
    names = [name for name, there in (("gamma", layer["scale"]), ("beta", layer["center"])) if there] + ["mean", "variance"]
    parts = {"gamma": np.ones(1), "beta": np.zeros(1)}
    for name, array in zip(names, arrays(layer, **{name: shape[-1:] for name in names}), strict=True):
        what = f"{name}_quantizer"
        quantizer = qkeras_quantizers.read(layer, layer.config.get(what), what)
        trained = name in ("gamma", "variance")
        parts[name] = qkeras_quantizers.constant(layer, quantizer, array, what, trained_scale=trained).values
    with np.errstate(all="ignore"):
        scale = parts["gamma"] / np.sqrt(parts["variance"] + np.float64(layer["epsilon"]))
        offset = parts["beta"] - parts["mean"] * scale
    if not (np.all(np.isfinite(scale)) and np.all(np.isfinite(offset))):
        raise layer.refuse("has a variance at which its factor is NaN or infinite")
    ones = (1,) * (len(shape) - 1)
    scale, offset = (np.broadcast_to(v, shape[-1:]).reshape(*ones, -1) for v in (scale, offset))
    return step(value, scale, offset, reading.build)


# ---- layers without weights ----


def _activation(layer: Layer, values: list[Value], reading: _Reading) -> Value:
    return _activated(layer, _one(layer, values), reading)


def _softmax(layer: Layer, values: list[Value], reading: _Reading) -> Value:
    return _activated(dataclasses.replace(layer, config={"activation": "softmax"}), _one(layer, values), reading)


def _relu(layer: Layer, values: list[Value], reading: _Reading) -> Value:
    hgq2_layers.plain_relu(layer)
    return relu(layer, _one(layer, values), reading)


def _same(layer: Layer, values: list[Value], reading: _Reading) -> Value:
    return _one(layer, values)


def _exactly(layer: Layer, values: list[Value], reading: _Reading, moves: bool = False) -> Value:
    """By the reader of the same layer of Keras in networks of HGQ2; layers that only move elements may read rows, `moves`."""
    build = reading.build
    for name, value in zip(layer.inputs, values, strict=True):
        build.results[name] = build.exact(value if moves and len(values) == 1 else reading.grounded(value, layer), layer)
    return Value(hgq2_layers.READERS[layer.cls](layer, build))


def _merge(layer: Layer, values: list[Value], reading: _Reading, cls: type[o.Operation]) -> Value:
    names = tuple(reading.build.exact(reading.grounded(value, layer), layer) for value in values)
    shapes = [reading.build.shape(name) for name in names]
    largest = hgq2_layers.merged_shape(layer, shapes, exactly_two=cls is o.Subtract)
    found = Value(reading.build.add(cls, layer.name, names, largest))
    if layer.cls != "Average":
        return found
    return step(found, np.array([1 / len(values)]), np.zeros(1), reading.build)


def _max_pool(layer: Layer, values: list[Value], reading: _Reading) -> Value:
    """Before the steps of the value, where these grow and are the same everywhere."""
    value = reading.grounded(_one(layer, values), layer)
    if not commutes(value, False):
        return _exactly(layer, values, reading)
    reading.build.results[layer.inputs[0]] = value.name
    name = hgq2_layers.READERS[layer.cls](layer, reading.build)
    return _over(Value(name, value.first, value.steps), reading)


def _over(value: Value, reading: _Reading) -> Value:
    """Steps by channel with as many axes as the value has now."""
    rank = len(reading.build.shape(value.name))

    def last(v: np.ndarray) -> np.ndarray:
        return v.reshape((1,) * (rank - 1) + (v.shape[-1],))

    steps = tuple(dataclasses.replace(s, scale=last(s.scale), offset=last(s.offset)) if isinstance(s, Affine) else s for s in value.steps)
    return dataclasses.replace(value, steps=steps)


def _average(layer: Layer, values: list[Value], reading: _Reading, rank: int, everywhere: bool = False) -> Value:
    """The sum over each window, times one over its size, which QKeras may quantize."""
    value = reading.grounded(_one(layer, values), layer)
    build = reading.build
    if not commutes(value, True):
        value = Value(build.exact(value, layer))
    channels_last(layer)
    shape = build.shape(value.name)
    if len(shape) != rank + 1:
        raise layer.refuse(f"reads values of shape {shape}; {rank} spatial axes and channels are needed")
    size = shape[:-1] if everywhere else each(layer["pool_size"], rank)
    strides = size if everywhere else each(layer["strides"] or layer["pool_size"], rank)
    around = ((0, 0),) * rank if everywhere else padding(layer, shape, size, strides, (1,) * rank)
    if any(n for pair in around for n in pair):
        raise layer.refuse("averages windows of which some reach over the edge; padding 'valid' is legal")
    quantizer = qkeras_quantizers.read(layer, layer.config.get("average_quantizer"), "average_quantizer")
    share = np.array([1.0 / math.prod(size)])
    if quantizer is not None:
        share = qkeras_quantizers.constant(layer, quantizer, share, "average_quantizer").values
    if everywhere:
        kept = bool(layer.config.get("keepdims"))
        result = ((1,) * rank if kept else ()) + shape[-1:]
        found = build.add(o.Sum, layer.name, (value.name,), result, axes=tuple(range(rank)))
    else:
        settings = {"strides": strides, "padding": around, "dilation": (1,) * rank, "groups": shape[-1]}
        ones = Constant(np.ones((*size, 1, shape[-1])))
        found = convolution(layer, reading, Value(value.name), ones, settings).name
    found = step(_over(Value(found, False, value.steps), reading), share, np.zeros(1), build)
    return _activated(layer, found, reading)


READERS: dict[str, _Reader] = {
    **dict.fromkeys(("Activation", "QActivation"), _activation),
    **dict.fromkeys(("BatchNormalization", "QBatchNormalization"), _batch_norm),
    **dict.fromkeys(("ActivityRegularization", "Dropout", "GaussianDropout", "GaussianNoise"), _same),
    **dict.fromkeys(("SpatialDropout1D", "SpatialDropout2D"), _same),
    **{name: functools.partial(_exactly, moves=True) for name in ("Concatenate", "Flatten", "Permute", "Reshape")},
    **{f"{place}MaxPooling{rank}D": _max_pool for place in ("", "Global") for rank in (1, 2)},
    "QConv2DBatchnorm": _conv_batch_norm,
    "QDense": _dense,
    "QDepthwiseConv2DBatchnorm": functools.partial(_conv_batch_norm, depthwise=True),
    "QDepthwiseConv2D": functools.partial(_depthwise, rank=2),
    "ReLU": _relu,
    "Softmax": _softmax,
    "Add": functools.partial(_merge, cls=o.Add),
    "Average": functools.partial(_merge, cls=o.Add),
    "Maximum": functools.partial(_merge, cls=o.Maximum),
    "Minimum": functools.partial(_merge, cls=o.Minimum),
    "Multiply": functools.partial(_merge, cls=o.Multiply),
    "Subtract": functools.partial(_merge, cls=o.Subtract),
}
"""By class of the layer: what `load_qkeras` can read."""
for _rank in (1, 2):
    READERS[f"QConv{_rank}D"] = functools.partial(_conv, rank=_rank)
    READERS[f"QSeparableConv{_rank}D"] = functools.partial(_depthwise, rank=_rank, separable=True)
    for _owner in ("", "Q"):
        READERS[f"{_owner}AveragePooling{_rank}D"] = functools.partial(_average, rank=_rank)
        READERS[f"{_owner}GlobalAveragePooling{_rank}D"] = functools.partial(_average, rank=_rank, everywhere=True)
