"""One function for each class of layer: it adds the layer's operations and returns the one that is its result."""

import functools
import math
from collections.abc import Callable

import numpy as np

from hgqjax.description import operations as o
from hgqjax.interop.hgq2_graph import Graph, arrays
from hgqjax.interop.hgq2_quantizers import weight
from hgqjax.interop.keras_file import Layer

EINSUM_EPSILON = 1e-7
"""QEinsumDenseBatchnorm uses Keras's global epsilon, whatever its configuration says."""


# ---- layers with weights ----


def _dense(layer: Layer, graph: Graph) -> str:
    source, shape = graph.quantized(layer)
    size = (shape[-1], layer["units"])
    shapes = {"kernel": size, "bias": size[1:]} if layer["use_bias"] else {"kernel": size}
    kernel, *bias = arrays(layer, **shapes)
    return _dense_operation(layer, graph, source, shape, kernel, bias[0] if bias else None)


def _batch_norm_dense(layer: Layer, graph: Graph) -> str:
    """Batch norm of the *input*, folded: kernel rows are scaled, and the bias gets -mean @ kernel, of the kernel before it is scaled."""
    source, shape = graph.quantized(layer)
    n, units = shape[-1], layer["units"]
    gamma = {"gamma": (n,)} if layer["scale"] else {}
    kernel, bias, *gamma, mean, variance = arrays(layer, kernel=(n, units), bias=(units,), **gamma, mean=(n,), variance=(n,))
    scale = _scale(gamma, variance, layer["epsilon"])
    return _dense_operation(layer, graph, source, shape, scale[:, None] * kernel, bias + -np.dot(mean, kernel))


def _dense_operation(layer: Layer, graph: Graph, source: str, shape, kernel: np.ndarray, bias: np.ndarray | None) -> str:
    constants = _constants(layer, kernel, bias)
    positions = math.prod(shape[:-1])
    share = _parallelization(layer, positions)
    result = (*shape[:-1], kernel.shape[1])
    if share is None:
        return graph.finish(layer, graph.add(o.Dense, layer.name, (source,), result, **constants))
    labels = "abcdefghijklmnopqrstuvw"[: len(shape) - 1]
    equation = {"equation": f"{labels}x,xy->{labels}y", "parallelization": share}
    return graph.finish(layer, graph.add(o.Einsum, layer.name, (source,), result, **constants, **equation))


def einsum(layer: Layer, graph: Graph, batch_norm: bool = False) -> str:
    """QEinsumDense, and with `batch_norm` QEinsumDenseBatchnorm."""
    source, shape = graph.quantized(layer)
    x, kernel_labels, y = equation(layer, len(shape))
    output = layer["output_shape"]
    output = [output] if isinstance(output, int) else list(output)
    sizes = dict(zip(x, shape, strict=True))
    sizes |= {label: n for label, n in zip(y[len(y) - len(output) :], output, strict=True) if n is not None}
    result, kernel_shape = (tuple(sizes[label] for label in part) for part in (y, kernel_labels))
    bias_axes = layer["bias_axes"]
    bias_shape = {} if bias_axes is None else {"bias": _spread(y, result, bias_axes)}
    if not batch_norm:
        kernel, *bias = arrays(layer, kernel=kernel_shape, **bias_shape)
        bias = bias[0] if bias else None
    else:
        axes = layer.config.get("normalize_axes") or bias_axes or ""
        kernel, bias = _folded_einsum(layer, kernel_labels, y, dict(sizes), axes, kernel_shape, bias_shape)
    constants = _constants(layer, kernel, bias)
    share = _parallelization(layer, math.prod(sizes[label] for label in x if label not in kernel_labels))
    plain = kernel_labels == x[-1:] + y[-1:] and x[:-1] == y[:-1] and (bias is None or bias.ndim == 1)
    if plain and share is None:
        return graph.finish(layer, graph.add(o.Dense, layer.name, (source,), result, **constants))
    more = {"equation": f"{x},{kernel_labels}->{y}", "parallelization": share}
    return graph.finish(layer, graph.add(o.Einsum, layer.name, (source,), result, **constants, **more))


def _folded_einsum(layer: Layer, kernel_labels: str, y: str, sizes, axes: str, kernel_shape, bias_shape):
    """Kernel and bias with batch norm folded in, float32, in HGQ2's order of operations."""
    order = "".join(label for label in y if label in axes)
    if order != "".join(label for label in kernel_labels if label in axes) or not bias_shape:
        raise layer.refuse(f"normalizes the axes {axes!r}, which its kernel has in another order than its result, or has no bias")
    norm = tuple(sizes[label] for label in order)
    gamma = {"gamma": norm} if layer.config.get("scale", True) else {}
    kernel, bias, *gamma, mean, variance = arrays(layer, kernel=kernel_shape, **bias_shape, **gamma, mean=norm, variance=norm)
    scale = _scale(gamma, variance, EINSUM_EPSILON)
    along_kernel = scale.reshape([sizes[label] if label in axes else 1 for label in kernel_labels])
    offset = (-mean * scale).reshape(_spread(y, [sizes[label] for label in y], axes))
    return kernel * along_kernel, bias + offset


def equation(layer: Layer, rank: int) -> tuple[str, str, str]:
    """Labels of input, kernel and result without the batch axis; an ellipsis becomes as many free letters as it stands for."""
    text = layer["equation"].replace(" ", "")
    sources, _, y = text.partition("->")
    x, _, kernel = sources.partition(",")
    free = "".join(c for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in text)
    free = free[: max(rank + 1 - len(x.replace("...", "")), 0)]
    x, kernel, y = (part.replace("...", free) for part in (x, kernel, y))
    if len(x) != rank + 1 or x[:1] != y[:1] or x[:1] in kernel or "." in x + kernel + y:
        raise layer.refuse(f"has the equation {text!r}, which does not keep the batch axis of values of rank {rank + 1} first")
    return x[1:], kernel, y[1:]


def _spread(labels: str, shape, axes: str) -> tuple[int, ...]:
    """Shape of a bias over `axes` of a result: it broadcasts from the first of them on."""
    first = min(labels.index(label) for label in axes)
    return tuple(n if label in axes else 1 for label, n in zip(labels[first:], shape[first:], strict=True))


def _conv(layer: Layer, graph: Graph, rank: int) -> str:
    source, shape = graph.quantized(layer)
    channels_last(layer)
    size, strides, dilation = (each(layer[key], rank) for key in ("kernel_size", "strides", "dilation_rate"))
    groups, filters = layer["groups"], layer["filters"]
    if len(shape) != rank + 1 or shape[-1] % groups:
        raise layer.refuse(f"reads values of shape {shape}, which {rank} spatial axes and {groups} groups of channels do not fit")
    shapes = {"kernel": (*size, shape[-1] // groups, filters)} | ({"bias": (filters,)} if layer["use_bias"] else {})
    kernel, *bias = arrays(layer, **shapes)
    around = padding(layer, shape, size, strides, dilation)
    positions = o.Windows(shape, size, strides, around, dilation).positions
    moves = {"strides": strides, "padding": around, "dilation": dilation, "groups": groups}
    constants = _constants(layer, kernel, bias[0] if bias else None)
    share = {"parallelization": _parallelization(layer, math.prod(positions))}
    return graph.finish(layer, graph.add(o.Conv, layer.name, (source,), (*positions, filters), **constants, **moves, **share))


def _batch_norm(layer: Layer, graph: Graph) -> str:
    """One factor and one offset for each channel, quantized; without `center` HGQ2's offset starts at 1."""
    source, shape = graph.quantized(layer)
    axis = layer["axis"] if isinstance(layer["axis"], int) else layer["axis"][0]
    if axis % (len(shape) + 1) != len(shape):
        raise layer.refuse(f"normalizes axis {axis}; the last one is legal")
    names = [name for name, there in (("gamma", layer["scale"]), ("beta", layer["center"])) if there]
    found = arrays(layer, **{name: shape[-1:] for name in (*names, "mean", "variance")})
    by_name = dict(zip((*names, "mean", "variance"), found, strict=True))
    scale = _scale([by_name["gamma"]] if "gamma" in by_name else [], by_name["variance"], layer["epsilon"])
    offset = by_name.get("beta", np.float32(1)) - by_name["mean"] * scale
    labels = "abcdefghijklmnopqrstuvw"[: len(shape) - 1]
    fields = _constants(layer, scale, offset) | {"equation": f"{labels}x,x->{labels}x"}
    return graph.finish(layer, graph.add(o.Einsum, layer.name, (source,), shape, **fields))


def _scale(gamma: list[np.ndarray], variance: np.ndarray, epsilon: float) -> np.ndarray:
    return (gamma[0] if gamma else np.float32(1)) / np.sqrt(variance + np.float32(epsilon))


def _constants(layer: Layer, kernel: np.ndarray, bias: np.ndarray | None) -> dict[str, o.Constant | None]:
    return {"kernel": weight(layer, "kq_conf", "kq", kernel), "bias": None if bias is None else weight(layer, "bq_conf", "bq", bias)}


def _parallelization(layer: Layer, positions: int) -> int | None:
    """Positions computed at a time, None for all: HGQ2 stores all, or nothing, or -1 where none was asked for."""
    asked = layer.config.get("parallelization_factor") or -1
    return None if asked < 1 or asked == positions else int(asked)


# ---- layers without weights ----


def _merge(layer: Layer, graph: Graph, cls: type[o.Operation]) -> str:
    names, shapes = graph.sources(layer, None)
    largest = merged_shape(layer, shapes, exactly_two=cls is o.Subtract)
    names = graph.quantized_each(layer, names)
    return graph.finish(layer, graph.add(cls, layer.name, names, largest))


def merged_shape(layer: Layer, shapes: list[tuple[int, ...]], exactly_two: bool) -> tuple[int, ...]:
    """Shape of a sum, product, ... of values of `shapes`."""
    largest = tuple(max(sizes) for sizes in zip(*shapes, strict=False))
    fit = all(len(shape) == len(largest) == len(shapes[0]) and o.broadcasts(shape, largest) for shape in shapes)
    if len(shapes) < 2 or (exactly_two and len(shapes) != 2) or not fit:
        raise layer.refuse(f"reads results of shapes {shapes}; two of one shape, or of size 1, are legal, and more unless it subtracts")
    return largest


def _concatenate(layer: Layer, graph: Graph) -> str:
    names, shapes = graph.sources(layer, None)
    axis = layer["axis"] % (len(shapes[0]) + 1) - 1
    if axis < 0 or len({shape[:axis] + shape[axis + 1 :] for shape in shapes}) > 1:
        raise layer.refuse(f"joins shapes {shapes} along axis {layer['axis']}; they may differ in one axis, not the batch's")
    shape = [*shapes[0]]
    shape[axis] = sum(s[axis] for s in shapes)
    return graph.add(o.Concatenate, layer.name, names, tuple(shape), axis=axis)


def _sum(layer: Layer, graph: Graph) -> str:
    """QSum, and QMeanPow2, whose scale is the power of two next to one over the number of elements."""
    source, shape = graph.quantized(layer)
    axes = [axis % (len(shape) + 1) - 1 for axis in ([layer["axes"]] if isinstance(layer["axes"], int) else layer["axes"])]
    if min(axes) < 0:
        raise layer.refuse(f"sums over axes {layer['axes']}, of which one is the batch's")
    scale = layer["scale"] if layer.cls == "QSum" else 2.0 ** round(math.log2(1 / math.prod(shape[axis] for axis in axes)))
    mantissa, exponent = math.frexp(scale)
    if mantissa != 0.5:
        raise layer.refuse(f"has scale {scale}; a power of two is legal")
    kept = (1,) if layer["keepdims"] else ()
    result = tuple(n for axis, size in enumerate(shape) for n in (kept if axis in axes else (size,)))
    return graph.finish(layer, graph.add(o.Sum, layer.name, (source,), result, axes=tuple(axes), shift=1 - exponent))


def _pool(layer: Layer, graph: Graph, rank: int, cls: type[o.Operation], everywhere: bool = False) -> str:
    ours = layer.module == "hgq"
    if ours:
        source, shape = graph.quantized(layer)
    else:
        (source,), (shape,) = graph.sources(layer)
    channels_last(layer)
    if len(shape) != rank + 1:
        raise layer.refuse(f"reads values of shape {shape}; {rank} spatial axes and channels are needed")
    size = shape[:-1] if everywhere else each(layer["pool_size"], rank)
    strides = size if everywhere else each(layer["strides"] or layer["pool_size"], rank)
    around = ((0, 0),) * rank if everywhere else padding(layer, shape, size, strides, (1,) * rank)
    positions = o.Windows(shape, size, strides, around, (1,) * rank).positions
    fields = {"size": size, "strides": strides, "padding": around, "counted": ours}
    squeezed = everywhere and not layer["keepdims"]
    name = f"{layer.name}_pool" if squeezed else layer.name
    result = graph.add(cls, name, (source,), (*positions, shape[-1]), **fields)
    if squeezed:
        result = graph.add(o.Reshape, layer.name, (result,), shape[-1:])
    return graph.finish(layer, result) if ours else result


def _reshape(layer: Layer, graph: Graph) -> str:
    names, (shape,) = graph.sources(layer)
    target, size = list(layer["target_shape"]), math.prod(shape)
    if -1 in target:
        rest = -math.prod(target)
        target[target.index(-1)] = size // rest if rest > 0 else 0
    if math.prod(target) != size:
        raise layer.refuse(f"reshapes {shape} to {tuple(layer['target_shape'])}, which has another number of elements")
    return graph.add(o.Reshape, layer.name, names, tuple(target))


def _flatten(layer: Layer, graph: Graph) -> str:
    names, (shape,) = graph.sources(layer)
    channels_last(layer)
    return graph.add(o.Reshape, layer.name, names, (math.prod(shape),))


def _permute(layer: Layer, graph: Graph) -> str:
    names, (shape,) = graph.sources(layer)
    axes = tuple(n - 1 for n in layer["dims"])
    if sorted(axes) != list(range(len(shape))):
        raise layer.refuse(f"permutes values of shape {shape} by dims {layer['dims']}")
    return graph.add(o.Transpose, layer.name, names, tuple(shape[n] for n in axes), axes=axes)


def _get_item(layer: Layer, graph: Graph) -> str:
    names, (shape,) = graph.sources(layer)
    key = layer.arguments[1]
    parts = list(key) if isinstance(key, list) else [key]
    whole = {"slice": (None, None, None)}
    if {"ellipsis": ()} in parts:
        at = parts.index({"ellipsis": ()})
        parts[at : at + 1] = [whole] * (len(shape) + 1 - (len(parts) - 1))
    parts += [whole] * (len(shape) + 1 - len(parts))
    legal = len(parts) == len(shape) + 1 and all(isinstance(part, int) or (isinstance(part, dict) and "slice" in part) for part in parts)
    if not legal or parts[0] != whole:
        raise layer.refuse(f"takes {key} of values of shape {shape}; slices and whole numbers are legal, and all of the batch axis")
    index = tuple(tuple(part["slice"]) if isinstance(part, dict) else part for part in parts[1:])
    result = np.empty(shape, bool)[tuple(slice(*part) if isinstance(part, tuple) else part for part in index)].shape
    return graph.add(o.Slice, layer.name, names, result, index=index)


def plain_relu(layer: Layer) -> None:
    """Refuses a relu with a slope, a limit or a threshold."""
    settings = {"max_value": None, "negative_slope": 0, "threshold": 0}
    if any((layer.config.get(key) or None) != (value or None) for key, value in settings.items()):
        raise layer.refuse("has a slope, a limit or a threshold; max(x, 0) is legal")


def _relu(layer: Layer, graph: Graph) -> str:
    names, (shape,) = graph.sources(layer)
    plain_relu(layer)
    return graph.add(o.Relu, layer.name, names, shape)


def _activation(layer: Layer, graph: Graph) -> str:
    if layer["activation"] not in ("linear", "relu"):
        raise layer.refuse(f"is {layer['activation']!r}; 'linear' and 'relu' are legal")
    return _relu(layer, graph) if layer["activation"] == "relu" else _identity(layer, graph)


def _identity(layer: Layer, graph: Graph) -> str:
    return graph.sources(layer)[0][0]


def _quantizer(layer: Layer, graph: Graph) -> str:
    (source,), _ = graph.sources(layer)
    return graph.quantize(layer, layer["config"], "", layer.name, source)


# ---- what they share ----


def channels_last(layer: Layer) -> None:
    """Refuses a layer whose channels are first."""
    if layer.config.get("data_format") not in (None, "channels_last"):
        raise layer.refuse(f"has data_format {layer['data_format']!r}; 'channels_last' is legal")


def each(value, rank: int) -> tuple[int, ...]:
    """One number for each axis."""
    return (value,) * rank if isinstance(value, int) else tuple(value)


def padding(layer: Layer, shape, size, strides, dilation) -> tuple[tuple[int, int], ...]:
    """Zeros before and after each spatial axis, for Keras's "valid", "same" (the odd one after) and "causal" (all before)."""
    reach = [d * (n - 1) for n, d in zip(size, dilation, strict=True)]
    mode = layer["padding"]
    if mode == "valid":
        return ((0, 0),) * len(size)
    if mode == "causal":
        return tuple((n, 0) for n in reach)
    if mode != "same":
        raise layer.refuse(f"has padding {mode!r}; 'valid', 'same' and 'causal' are legal")
    axes = zip(shape, reach, strides, strict=False)
    total = [max((-(-n // stride) - 1) * stride + r + 1 - n, 0) for n, r, stride in axes]
    return tuple((n // 2, n - n // 2) for n in total)


# by class of the layer: what `load_hgq2` can read
READERS: dict[str, Callable[[Layer, Graph], str]] = {
    "Activation": _activation,
    "AveragePooling1D": functools.partial(_pool, rank=1, cls=o.AveragePool),
    "AveragePooling2D": functools.partial(_pool, rank=2, cls=o.AveragePool),
    "Concatenate": _concatenate,
    "Dropout": _identity,
    "Flatten": _flatten,
    "GetItem": _get_item,
    "GlobalMaxPooling1D": functools.partial(_pool, rank=1, cls=o.MaxPool, everywhere=True),
    "GlobalMaxPooling2D": functools.partial(_pool, rank=2, cls=o.MaxPool, everywhere=True),
    "MaxPooling1D": functools.partial(_pool, rank=1, cls=o.MaxPool),
    "MaxPooling2D": functools.partial(_pool, rank=2, cls=o.MaxPool),
    "Permute": _permute,
    "QAdd": functools.partial(_merge, cls=o.Add),
    "QBatchNormDense": _batch_norm_dense,
    "QBatchNormalization": _batch_norm,
    "QConv1D": functools.partial(_conv, rank=1),
    "QConv2D": functools.partial(_conv, rank=2),
    "QDense": _dense,
    "QEinsumDense": einsum,
    "QEinsumDenseBatchnorm": functools.partial(einsum, batch_norm=True),
    "QMaximum": functools.partial(_merge, cls=o.Maximum),
    "QMeanPow2": _sum,
    "QMinimum": functools.partial(_merge, cls=o.Minimum),
    "QMultiply": functools.partial(_merge, cls=o.Multiply),
    "QSubtract": functools.partial(_merge, cls=o.Subtract),
    "QSum": _sum,
    "Quantizer": _quantizer,
    "ReLU": _relu,
    "Reshape": _reshape,
}
for _rank in (1, 2):
    for _name, _cls in (("Max", o.MaxPool), ("Average", o.AveragePool)):
        READERS[f"Q{_name}Pooling{_rank}D"] = functools.partial(_pool, rank=_rank, cls=_cls)
        READERS[f"QGlobal{_name}Pooling{_rank}D"] = functools.partial(_pool, rank=_rank, cls=_cls, everywhere=True)
