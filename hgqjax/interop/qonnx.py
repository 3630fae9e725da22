"""Networks in QONNX files (Brevitas, QKeras, hgqjax itself) as model descriptions, with the package onnx alone."""

import json
import os
from pathlib import Path

import numpy as np

from hgqjax.description import ModelDescription
from hgqjax.description import operations as o
from hgqjax.interop import qonnx_file
from hgqjax.interop.keras_file import InteropError
from hgqjax.interop.qonnx_file import Constant, Node
from hgqjax.interop.qonnx_layers import READERS
from hgqjax.interop.qonnx_values import INPUT_FORMAT, Builder, Reading, Tensor, Value

PROPERTY = "hgqjax"
"""Where `export.to_qonnx` keeps the metadata of a description."""


def load_qonnx(path: str | os.PathLike[str], input_format: tuple[int, int, int] = INPUT_FORMAT) -> ModelDescription:
    """Reads a quantized network from a QONNX file.

    Where scales are powers of two, the description computes what qonnx's executor computes, word for word, as long as the float32 of that
    is exact. Other scales, zero points, biases in floating point and batch norms are taken together, from one Quant to the next, as
    thresholds for each channel: the whole numbers of the sums are exact, and the thresholds are computed in float64. So a word may differ
    from the executor's where float32 rounds a value across a tie.

    One scale and offset of the rows before their first Quant become the scaler of the model. Rows that no Quant reads are quantized to
    `input_format`, rounded half up, saturating. A Softmax at an output is left out, and so is one positive factor and an offset that all
    elements of an output share: neither changes which output is the greatest. `metadata["qonnx"]` says which (`softmax`,
    `output_scales`: name -> factor, offset), the inputs that got `input_format`, file, sha256 and producer.

    Args:
      path: the ``.onnx`` file, weights inside.
      input_format: `k`, `i`, `f` of rows that no Quant reads.

    Raises: InteropError, one sentence: the file is damaged; or a node, named with its kind, is not one of `READERS` or has settings that
      exact hardware has not, such as weights without a Quant. OSError where the file cannot be opened, ImportError without onnx.
    """
    path = Path(path)
    try:
        return _described(qonnx_file.read(path), input_format)
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise InteropError(f"{path} is damaged, or not as QONNX has it: {error!r}") from error
    except ValueError as error:
        raise InteropError(f"{path}: {error}") from error


def _described(model: qonnx_file.Model, input_format: tuple[int, int, int]) -> ModelDescription:
    reading = Reading(input_format)
    tensors: dict[str, Tensor] = dict(model.constants)
    names: dict[str, str] = {}
    for name, shape in model.inputs.items():
        if len(shape) < 2 or min(shape[1:]) < 1:
            raise InteropError(f"input {name!r} has shape {shape}; a batch axis and fixed sizes behind it are needed")
        op = f"x_{name}" if name[:1].isdigit() else name
        names[name] = reading.build.add(o.Input, op, (), shape[1:])
        tensors[name] = Value(names[name])
    softmax = [node for node in model.nodes if node.kind in ("Softmax", "LogSoftmax")]
    for node in model.nodes:
        if node in softmax and node.outputs[0] in model.outputs:
            tensors[node.outputs[0]] = tensors[node.inputs[0]]
        else:
            tensors[node.outputs[0]] = _read(node, tensors, reading, model)
    build, scales = reading.build, {}
    results = [reading.output(Node("output", name, (), (), {}), tensors[name], scales) for name in model.outputs]
    about = {"file": model.path.name, "sha256": model.sha256, "producer": model.producer, "softmax": bool(softmax)}
    about |= {"input_format": list(input_format), "inputs_that_got_it": reading.assumed, "output_scales": scales}
    metadata = _metadata(model) | {"qonnx": about} | _scaler(reading, build)
    name = model.path.stem
    return ModelDescription(name=name, operations=build.used(results), outputs=tuple(results), metadata=metadata)


def _read(node: Node, tensors: dict[str, Tensor], reading: Reading, model: qonnx_file.Model) -> Tensor:
    lost = [name for name in node.inputs if name and name not in tensors]
    if lost:
        raise node.refuse(f"reads {lost[0]!r}, which nothing before it gives")
    inputs = [tensors[name] for name in node.inputs if name]
    if node.kind == "Shape" and len(inputs) == 1:
        return _shape(inputs[0], reading.build)
    constants = [tensor for tensor in inputs if isinstance(tensor, Constant)]
    if len(constants) == len(inputs):
        found = qonnx_file.fold(node, constants)
        if found is not None:
            return found
    if node.kind not in READERS:
        raise node.refuse(f"is not known; there are {', '.join(READERS)}, and Softmax at an output")
    return READERS[node.kind](node, inputs, reading)


def _shape(tensor: Tensor, build: Builder) -> Constant:
    """For a batch of one row."""
    if isinstance(tensor, Constant):
        return Constant(np.array(tensor.values.shape))
    shape = build.shape(tensor.name)
    return Constant(np.array([1, *(shape[-1:] + shape[:-1] if tensor.first else shape)]))


def _scaler(reading: Reading, build: Builder) -> dict:
    """The scaler of the one input whose first Quant has a scale or an offset of its own: (raw - mean) / scale."""
    if not reading.scaling:
        return {}
    inputs = [op for op in build.operations if isinstance(op, o.Input)]
    if len(inputs) > 1:
        raise InteropError(f"input {min(reading.scaling)!r} is scaled before its Quant, which is possible for one input alone")
    (step,) = reading.scaling.values()
    factor, offset = step.scale.item(), step.offset.item()
    shape = inputs[0].shape
    return {"scaler": {"mean": np.full(shape, -offset / factor).tolist(), "scale": np.full(shape, 1 / factor).tolist()}}


def _metadata(model: qonnx_file.Model) -> dict:
    """What `export.to_qonnx` kept."""
    try:
        found = json.loads(model.properties.get(PROPERTY, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
