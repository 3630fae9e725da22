"""The operations of a network of HGQ2 while its layers are read, and what all its layers have in common."""

import re
from typing import Any

import numpy as np

from hgqjax.description import operations as o
from hgqjax.interop.hgq2_quantizers import quantizer
from hgqjax.interop.keras_file import Layer


class Graph:
    """Collects operations; `results` has the operation that is the result of each layer."""

    def __init__(self):
        self.operations: list[o.Operation] = []
        self.results: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def add(self, cls: type[o.Operation], name: str, inputs: tuple[str, ...], shape, **fields: Any) -> str:
        """Adds an operation and returns its name: `name` as a C identifier, with a number where it is taken."""
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        name = name if name.isidentifier() else f"_{name}"
        while name in self.shapes:
            name += "_2"
        shape = tuple(int(n) for n in shape)
        self.operations.append(cls(name=name, inputs=inputs, shape=shape, **fields))
        self.shapes[name] = shape
        return name

    def operation(self, name: str) -> Any:
        """The operation that `add` gave this name."""
        return next(op for op in reversed(self.operations) if op.name == name)

    def input(self, layer: Layer) -> None:
        """Adds an input of the network."""
        shape = layer.config.get("batch_shape") or layer.config.get("batch_input_shape") or [None, None]
        if layer.cls != "InputLayer" or any(n is None for n in shape[1:]):
            raise layer.refuse(f"is an input of shape {shape}; an InputLayer of a fixed shape is needed")
        self.results[layer.name] = self.add(o.Input, layer.name, (), shape[1:])

    def sources(self, layer: Layer, count: int | None = 1) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
        """What the layer reads: operations and their shapes; `count` of them, None for any number."""
        if count is not None and len(layer.inputs) != count:
            raise layer.refuse(f"reads {len(layer.inputs)} results; {count} is legal")
        names = tuple(self.results[name] for name in layer.inputs)
        return names, [self.shapes[name] for name in names]

    def quantized(self, layer: Layer) -> tuple[str, tuple[int, ...]]:
        """What the layer computes on: its one input behind its input quantizer, if it has one; and its shape."""
        (source,), (shape,) = self.sources(layer)
        if layer["enable_iq"]:
            source = self.quantize(layer, layer["iq_conf"], "iq", f"{layer.name}_iq", source)
        return source, shape

    def quantized_each(self, layer: Layer, names: tuple[str, ...]) -> tuple[str, ...]:
        """Results that a layer of several inputs reads, each behind its quantizer, if the layer has them."""
        if not layer["enable_iq"]:
            return names
        configs = layer["iq_confs"]
        configs = configs if isinstance(configs, list) else [configs] * len(names)
        under = [f"iq/quantizers/quantizer_{n}" if n else "iq/quantizers/quantizer" for n in range(len(names))]
        parts = enumerate(zip(configs, under, names, strict=True))
        return tuple(self.quantize(layer, config, path, f"{layer.name}_iq{n}", name) for n, (config, path, name) in parts)

    def quantize(self, layer: Layer, config: Any, under: str, name: str, source: str) -> str:
        """Adds the quantizer whose variables lie `under` the layer."""
        shape = self.shapes[source]
        return self.add(o.Quantize, name, (source,), shape, **quantizer(layer, config, under).data(layer, shape))

    def finish(self, layer: Layer, source: str) -> str:
        """Adds activation and output quantizer of a layer of HGQ2, where it has them."""
        activation = function_name(layer.config.get("activation"))
        if activation not in ("linear", "relu"):
            raise layer.refuse(f"has the activation {activation!r}; 'linear' and 'relu' are legal")
        if activation == "relu":
            source = self.add(o.Relu, f"{layer.name}_relu", (source,), self.shapes[source])
        if layer["enable_oq"]:
            source = self.quantize(layer, layer["oq_conf"], "oq", f"{layer.name}_oq", source)
        return source

    def stored_ebops(self, layer: Layer) -> int | None:
        """EBOPs that HGQ2 counted last: its one unsigned number, and those of its sub-layers."""
        counts = [int(v) for path, v in layer.weights.items() if "/vars/" in f"/{path}" and v.ndim == 0 and v.dtype == np.uint32]
        return sum(counts) if counts else None


def function_name(value: Any) -> str:
    """Name of a function as Keras writes it: a name, nothing, or an object whose configuration is the name."""
    value = value.get("config") if isinstance(value, dict) else value
    return "linear" if value is None else str(value)


def arrays(layer: Layer, **shapes: tuple[int, ...]) -> list[np.ndarray]:
    """The weights of the layer itself (scalars are HGQ2's bookkeeping), float32, which must have these shapes in this order."""
    found = [v for v in layer.variables() if v.ndim]
    if [v.shape for v in found] != list(shapes.values()):
        wanted = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise layer.refuse(f"has weights of shapes {[v.shape for v in found]}; needed are {wanted}")
    return [v.astype(np.float32) for v in found]
