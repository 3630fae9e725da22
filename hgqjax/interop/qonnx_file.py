"""An ONNX file as nodes, constants and shapes; what depends on constants alone is computed here. Only the package onnx is needed."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from hgqjax.archives import check_memory
from hgqjax.interop.keras_file import InteropError

QUANT, BIPOLAR = ("Quant", "IntQuant"), "BipolarQuant"


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """A constant tensor: `integers` times `scale`, of one shape, where a Quant made it; else `scale` is None and `values` are all.

    `bits` of the Quant, sign included, where there was one; `narrow`: symmetric.
    """

    values: np.ndarray
    integers: np.ndarray | None = None
    scale: np.ndarray | None = None
    bits: int = 0
    narrow: bool = False

    def moved(self, move) -> "Constant":
        """The same after `move`, a function that moves elements of an array."""
        integers, scale = (None if part is None else move(part) for part in (self.integers, self.scale))
        return Constant(move(self.values), integers, scale, self.bits, self.narrow)


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One node; `name` is what messages call it."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    last: bool = False
    """Whether it is one of qonnx's own nodes for tensors whose channels come last."""

    def refuse(self, why: str) -> InteropError:
        """The error that names the node and its kind; to be raised."""
        return InteropError(f"node {self.name!r} ({self.kind}) {why}")

    def get(self, key: str, default: Any) -> Any:
        """An attribute; lists are tuples."""
        value = self.attributes.get(key, default)
        value = value.decode() if isinstance(value, bytes) else value
        return tuple(value) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """What a file holds; `inputs` with their shapes, the batch axis included."""

    path: Path
    sha256: str
    producer: str
    properties: dict[str, str]
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: dict[str, Constant]


def read(path: Path) -> Model:
    """Reads the file; raises InteropError, one sentence, where it is no sound ONNX file, ImportError without onnx."""
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError:
        raise ImportError("files of QONNX need the package onnx; pip install 'hgqjax[qonnx]'") from None
    raw = path.read_bytes()
    check_memory(4 * len(raw), "its content")
    try:
        model = onnx.load_model_from_string(raw)
    except Exception as error:  # of protobuf, which has classes of its own for each implementation
        raise InteropError(f"it is not a sound ONNX file: {' '.join(str(error).split())[:120]}") from error
    graph = model.graph
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise InteropError("it keeps its weights in files beside it; save it as one file")
    constants = {tensor.name: Constant(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    inputs = {}
    for info in graph.input:
        if info.name not in constants:
            inputs[info.name] = tuple(int(d.dim_value) for d in info.type.tensor_type.shape.dim)
    nodes = []
    for n, node in enumerate(graph.node):
        values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        values = {key: numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for key, v in values.items()}
        name, last = node.name or f"{node.op_type}_{n}", node.domain.endswith("channels_last")
        nodes.append(Node(node.op_type, name, tuple(node.input), tuple(node.output), values, last))
    properties = {entry.key: entry.value for entry in model.metadata_props}
    outputs = tuple(info.name for info in graph.output)
    return Model(path, hashlib.sha256(raw).hexdigest(), model.producer_name, properties, inputs, outputs, tuple(nodes), constants)


# ---- what constants give ----


def fold(node: Node, inputs: list[Constant]) -> Constant | None:
    """The result of a node that reads constants alone; None where its kind is not known."""
    if node.kind in (*QUANT, BIPOLAR):
        return _quantized(node, inputs)
    if node.kind == "Transpose":
        order = node.get("perm", tuple(range(inputs[0].values.ndim))[::-1])
        return inputs[0].moved(lambda v: v.transpose(order))
    if node.kind == "Reshape":
        shape = inputs[1].values.tolist()
        return inputs[0].moved(lambda v: v.reshape(shape))
    if node.kind in ("Identity", "Cast"):
        return inputs[0]
    found = _FOLDED.get(node.kind)
    return None if found is None else Constant(np.asarray(found(node, *(c.values for c in inputs))))


def _quantized(node: Node, inputs: list[Constant]) -> Constant:
    """As qonnx's executor computes it, in float32."""
    x, scale = (np.asarray(c.values, np.float32) for c in inputs[:2])
    scale = np.broadcast_to(scale, x.shape)
    if node.kind == BIPOLAR:
        integers, bits, narrow = np.where(x / scale >= 0, 1, -1), 2, True
    else:
        zero, width = (np.asarray(c.values, np.float32) for c in inputs[2:4])
        if zero.any() or width.size != 1:
            raise node.refuse("quantizes a constant with a zero point, or with more than one bit-width; neither is possible")
        setting = QuantSetting.of(node, float(width.ravel()[0]))
        integers, bits, narrow = setting.words((x / scale).astype(np.float64)), setting.bits, setting.narrow
    integers = integers.astype(np.int64)
    return Constant(integers * scale.astype(np.float64), integers, scale.astype(np.float64), bits, bool(narrow))


@dataclasses.dataclass(frozen=True)
class QuantSetting:
    """What a node Quant does in units of its scale: rounding and clipping to words."""

    bits: int
    signed: bool
    narrow: bool
    rounding: str

    @classmethod
    def of(cls, node: Node, width: float) -> "QuantSetting":
        """Reads the attributes; `width` is the input of the node."""
        rounding = str(node.get("rounding_mode", "ROUND")).upper()
        rounding = {"HALF_EVEN": "ROUND"}.get(rounding, rounding)
        if rounding not in _ROUNDINGS:
            raise node.refuse(f"has rounding mode {rounding}; legal are {', '.join(_ROUNDINGS)}")
        if width != round(width) or not 1 <= width <= 32:
            raise node.refuse(f"has {width} bits; whole numbers from 1 to 32 are legal")
        return cls(int(width), bool(node.get("signed", 1)), bool(node.get("narrow", 0)), rounding)

    @property
    def bipolar(self) -> bool:
        """QONNX takes one signed bit for the signs -1 and 1."""
        return self.signed and self.bits == 1

    @property
    def limits(self) -> tuple[int, int]:
        """Least and greatest word."""
        if self.bipolar:
            return -1, 1
        if not self.signed:
            return 0, 2**self.bits - 1 - self.narrow
        return -(2 ** (self.bits - 1)) + self.narrow, 2 ** (self.bits - 1) - 1

    def words(self, x: np.ndarray) -> np.ndarray:
        """Words of values in units of the scale."""
        if self.bipolar:
            return np.where(x >= 0, 1.0, -1.0)
        return _ROUNDINGS[self.rounding](np.clip(x, *self.limits))


def _half(x: np.ndarray, up: bool) -> np.ndarray:
    """Ties away from zero, or toward it."""
    return np.sign(x) * (np.floor(np.abs(x) + 0.5) if up else np.ceil(np.abs(x) - 0.5))


_ROUNDINGS = {
    "ROUND": np.rint,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.trunc,
    "HALF_UP": lambda x: _half(x, True),
    "HALF_DOWN": lambda x: _half(x, False),
}


def _axes(node: Node, more: tuple[np.ndarray, ...]) -> tuple[int, ...]:
    return tuple(int(n) for n in (more[0].tolist() if more else node.get("axes", ())))


def _unsqueeze(node: Node, x: np.ndarray, *more: np.ndarray) -> np.ndarray:
    return np.expand_dims(x, _axes(node, more))


def _squeeze(node: Node, x: np.ndarray, *more: np.ndarray) -> np.ndarray:
    axes = _axes(node, more)
    return np.squeeze(x, axes or None)


_FOLDED = {
    "Constant": lambda node: node.attributes["value"],
    "Gather": lambda node, x, index: np.take(x, index, node.get("axis", 0)),
    "Concat": lambda node, *parts: np.concatenate(parts, node.get("axis", 0)),
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Sqrt": lambda node, x: np.sqrt(x),
    "Pow": lambda node, x, y: np.power(x, y),
    "Neg": lambda node, x: -x,
    "Add": lambda node, x, y: x + y,
    "Sub": lambda node, x, y: x - y,
    "Mul": lambda node, x, y: x * y,
    "Div": lambda node, x, y: x / y,
}
