"""An ONNX graph while it is made: nodes, constants, and a shape for every tensor. Nothing here knows what an operation computes."""

from typing import Any

import numpy as np

from hgqjax.description.model import ModelDescription

OPSET = 13
QUANT = "qonnx.custom_op.general"
"""Domain of the nodes that QONNX adds to ONNX."""


class Graph:
    """Collects nodes for the operations of `description`; `dtype` is that of all numbers, np.float32 or np.float64.

    A tensor has the name of an operation, then ``/`` and a number: no operation can have such a name. Shapes are without the batch axis.
    A result may lie with its channels first, as convolutions of ONNX have them; `value` and `channels_first` bring it to what is needed.
    """

    def __init__(self, description: ModelDescription, dtype: type[np.floating]):
        self.description, self.dtype = description, dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[int, ...]] = {op.name: op.shape for op in description.inputs}
        self._weights: set[str] = set()
        self._integers: set[str] = set()
        self._last: dict[str, str] = {op.name: op.name for op in description.inputs}
        self._first: dict[str, str] = {}
        self._scope, self._count = "", 0

    @property
    def has_quant(self) -> bool:
        """Whether nodes Quant compute in the type of the graph; qonnx's executor gives float32 whatever comes in."""
        return self.dtype == np.float32

    def within(self, name: str) -> None:
        """The operation whose nodes come next."""
        self._scope = name

    def _name(self) -> str:
        self._count += 1
        return f"{self._scope}/{self._count}"

    def number(self, values: Any) -> str:
        """A constant of `dtype`."""
        return self._constant(np.asarray(values, self.dtype))

    def whole(self, values: Any) -> str:
        """A constant of int64: axes, shapes, indices."""
        return self._constant(np.asarray(values, np.int64))

    def _constant(self, values: np.ndarray) -> str:
        name = self._name()
        self.constants[name] = values
        return name

    def node(self, kind: str, inputs: list[str], shape: tuple[int, ...], *, integer: bool = False, **attributes: Any) -> str:
        """Adds a node of ONNX; returns its result, which has `shape` and is int64 where `integer`, else of `dtype`."""
        from onnx import helper

        name = self._name()
        if integer:
            self._integers.add(name)
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.shapes[name] = tuple(int(n) for n in shape)
        return name

    def quant(self, x: str, scale: float, bits: int, signed: int, narrow: int = 0, rounding: str = "ROUND") -> str:
        """Adds a node Quant: ``round(clip(x / scale)) * scale``; returns its result."""
        settings = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": rounding}
        inputs = [x, self.number(scale), self.number(0), self.number(bits)]
        shape = self.constants[x].shape if x in self.constants else self.shapes[x]
        name = self.node("Quant", inputs, shape, domain=QUANT, **settings)
        if x in self.constants:
            self._weights.add(name)
        return name

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        """`x` with another `shape`."""
        return self.node("Reshape", [x, self.whole([-1, *shape])], shape)

    # ---- results of operations ----

    def finish(self, name: str, tensor: str, *, channels_first: bool = False) -> None:
        """`tensor` is the result of the operation `name`."""
        (self._first if channels_first else self._last)[name] = tensor

    def value(self, name: str) -> str:
        """Result of the operation `name`, (batch, *shape)."""
        if name not in self._last:
            first = self._first[name]
            channels, *space = self.shapes[first]
            order = [0, *range(2, len(space) + 2), 1]
            self._last[name] = self.node("Transpose", [first], (*space, channels), perm=order)
        return self._last[name]

    def channels_first(self, name: str) -> str:
        """Result of the operation `name` (batch, channels, spatial axes...)."""
        if name not in self._first:
            last = self._last[name]
            *space, channels = self.shapes[last]
            order = [0, len(space) + 1, *range(1, len(space) + 1)]
            self._first[name] = self.node("Transpose", [last], (channels, *space), perm=order)
        return self._first[name]

    def either(self, name: str) -> tuple[str, bool]:
        """Result of the operation `name` as it lies, and whether its channels are first: for what treats all elements alike."""
        return (self._last[name], False) if name in self._last else (self._first[name], True)

    # ---- the whole ----

    def model(self, properties: dict[str, str]):
        """The ModelProto for a batch of one row; its inputs and outputs have the names of their operations."""
        import onnx
        from onnx import helper, numpy_helper

        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        names: dict[str, str] = {}
        for n, output in enumerate(self.description.outputs):
            self.within(output)
            tensor = self.value(output)
            if tensor in names:  # an output that is given twice
                tensor = self.node("Identity", [tensor], self.shapes[tensor])
            names[tensor] = output if output not in names.values() else f"{output}_output{n}"
        for node in self.nodes:
            for field in (node.input, node.output):
                for n, name in enumerate(field):
                    field[n] = names.get(name, name)
        infos = {}
        for name, shape in self.shapes.items():
            element = onnx.TensorProto.INT64 if name in self._integers else kind
            infos[name] = helper.make_tensor_value_info(names.get(name, name), element, [*([] if name in self._weights else [1]), *shape])
        inputs = [infos.pop(op.name) for op in self.description.inputs]
        outputs = [infos.pop(name) for name in names]
        weights = [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in self.constants.items()]
        graph = helper.make_graph(self.nodes, self.description.name, inputs, outputs, weights, value_info=list(infos.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(QUANT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="hgqjax", ir_version=8)
        helper.set_model_props(model, properties)
        return model
