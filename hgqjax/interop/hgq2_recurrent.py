"""HGQ2's recurrent layers, unrolled: one step after the other in hardware, all with the same weights and formats."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from hgqjax.description import operations as o
from hgqjax.description.operations import Constant
from hgqjax.interop.hgq2_graph import Graph, function_name
from hgqjax.interop.hgq2_quantizers import quantizer
from hgqjax.interop.keras_file import Layer

MOST_STEPS = 1024
"""Of a recurrent layer: each is hardware of its own."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Cell:
    """The cell of a layer: its weights on their grids, and operations of its steps; state and formats have `units` elements."""

    layer: Layer
    graph: Graph
    units: int
    kernel: Constant
    recurrent: Constant
    bias: Constant | None

    def quantize(self, which: str, name: str, source: str) -> str:
        """`source` (its last axis what the quantizer of the cell knows) quantized, and scaled where that is a hard sigmoid."""
        shape = self.graph.shapes[source]
        config = self.layer[f"{which}_conf"]
        found = quantizer(self.layer, config, f"cell/{which}", scaled=which == "praq")
        data = found.data(self.layer, shape[-1:])
        formats = {key: np.broadcast_to(data[key], shape).copy() for key in "kif"}
        result = self.graph.add(o.Quantize, name, (source,), shape, **data | formats)
        if config["class_name"] != "HardSigmoidConfig":
            return result
        # a hard sigmoid is a quarter of the value and a half; HGQ2 counts nothing for it, so these constants have no bits
        quarter, half = (Constant(np.ones(shape, np.int64), np.full(shape, f), np.zeros(shape, np.int64)) for f in (2, 1))
        labels = "abcdefgh"[: len(shape)]
        fields = {"kernel": quarter, "bias": half, "equation": f"{labels},{labels}->{labels}"}
        return self.graph.add(o.Einsum, f"{name}_scaled", (result,), shape, **fields)

    def dense(self, name: str, source: str, kernel: Constant, bias: Constant | None) -> str:
        """`source` times a kernel."""
        shape = (*self.graph.shapes[source][:-1], kernel.integers.shape[1])
        return self.graph.add(o.Dense, name, (source,), shape, kernel=kernel, bias=bias)

    def part(self, name: str, source: str, first: int, last: int) -> str:
        """Elements `first` to `last` of the last axis."""
        return self.graph.add(o.Slice, name, (source,), (last - first,), index=((first, last, None),))

    def activation(self, key: str, name: str, source: str) -> str:
        """The activation in the configuration: none, or relu."""
        function = function_name(self.layer[key])
        if function not in ("linear", "relu"):
            raise self.layer.refuse(f"has the {key} {function!r}; 'linear' and 'relu' are legal")
        return self.graph.add(o.Relu, name, (source,), self.graph.shapes[source]) if function == "relu" else source


def simple_rnn(layer: Layer, graph: Graph) -> str:
    """QSimpleRNN: h = act(paq(iq(x) W + b + h R))."""
    if layer.config.get("sq_conf"):
        raise layer.refuse("has a quantizer of its state, which HGQ2 0.2.0 loses when it loads the file; networks without one are legal")
    cell = _cell(layer, graph, 1)
    bias = cell.bias

    def step(name: str, x: str, state: str) -> str:
        inner = cell.dense(f"{name}_recurrent", state, cell.recurrent, None)
        result = graph.add(o.Add, f"{name}_sum", (x, inner), (cell.units,))
        return cell.activation("activation", f"{name}_relu", cell.quantize("paq", f"{name}_paq", result))

    return _unrolled(cell, bias, step)


def gru(layer: Layer, graph: Graph) -> str:
    """QGRU: z and r gates, c the candidate; h = c + z (h - c), which is z h + (1 - z) c with one product less."""
    cell, after = _cell(layer, graph, 3), layer["reset_after"]
    units, bias, inner_bias = cell.units, cell.bias, None
    if cell.bias is not None and after:
        bias, inner_bias = _take(cell.bias, 0), _take(cell.bias, 1)
    gates, candidate = (
        _take(cell.recurrent, (slice(None), slice(None, 2 * units))),
        _take(cell.recurrent, (slice(None), slice(2 * units, None))),
    )

    def step(name: str, x: str, state: str) -> str:
        state = cell.quantize("sq", f"{name}_sq", state)
        inner = cell.dense(f"{name}_recurrent", state, cell.recurrent if after else gates, inner_bias)
        parts = cell.part(f"{name}_x_zr", x, 0, 2 * units), cell.part(f"{name}_h_zr", inner, 0, 2 * units) if after else inner
        zr = cell.activation("recurrent_activation", f"{name}_zr_relu", graph.add(o.Add, f"{name}_zr", parts, (2 * units,)))
        zr = cell.quantize("praq", f"{name}_praq", zr)
        z, r = cell.part(f"{name}_z", zr, 0, units), cell.part(f"{name}_r", zr, units, 2 * units)
        if after:
            hidden = cell.quantize("rhq", f"{name}_rhq", cell.part(f"{name}_h_c", inner, 2 * units, 3 * units))
            hidden = graph.add(o.Multiply, f"{name}_reset", (r, hidden), (units,))
        else:
            reset = cell.quantize("rhq", f"{name}_rhq", graph.add(o.Multiply, f"{name}_reset", (r, state), (units,)))
            hidden = cell.dense(f"{name}_candidate", reset, candidate, None)
        c = graph.add(o.Add, f"{name}_c", (cell.part(f"{name}_x_c", x, 2 * units, 3 * units), hidden), (units,))
        c = cell.quantize("paq", f"{name}_paq", cell.activation("activation", f"{name}_c_relu", c))
        change = graph.add(o.Subtract, f"{name}_change", (state, c), (units,))
        change = graph.add(o.Multiply, f"{name}_kept", (z, change), (units,))
        return graph.add(o.Add, f"{name}_h", (c, change), (units,))

    return _unrolled(cell, bias, step)


def _cell(layer: Layer, graph: Graph, gates: int) -> _Cell:
    (_,), (shape,) = graph.sources(layer)
    for setting in ("return_state", "stateful"):
        if layer.config.get(setting):
            raise layer.refuse(f"has {setting}; a layer that gives its outputs and starts from 0 is legal")
    if layer["enable_oq"] or not layer["enable_iq"] or len(shape) != 2:
        raise layer.refuse(f"reads values of shape {shape}; steps and features, an input quantizer and no output quantizer are legal")
    if shape[0] > MOST_STEPS:
        raise layer.refuse(f"has {shape[0]} steps; {MOST_STEPS} are the most that are unrolled")
    units, features = int(layer["units"]), shape[-1]
    rows = (2,) if gates == 3 and layer["reset_after"] else ()
    shapes = [(features, gates * units), (units, gates * units), *([(*rows, gates * units)] if layer["use_bias"] else [])]
    found = [v for v in layer.variables("cell") if v.ndim]
    if [v.shape for v in found] != shapes:
        raise layer.refuse(f"has weights of shapes {[v.shape for v in found]} in its cell; needed are {shapes}")
    quantized = []
    for values, which in zip(found, ("kq", "rkq", "bq"), strict=False):
        quantized.append(quantizer(layer, layer[f"{which}_conf"], f"cell/{which}").constant(layer, values.astype(np.float32)))
    kernel, recurrent, *bias = quantized
    return _Cell(layer, graph, units, kernel, recurrent, bias[0] if layer["use_bias"] else None)


def _unrolled(cell: _Cell, bias: Constant | None, step: Callable[[str, str, str], str]) -> str:
    """All steps: the part of the input at once, then one state after the other; all of them, or the last."""
    layer, graph, units = cell.layer, cell.graph, cell.units
    (source,), ((count, _),) = graph.sources(layer)
    x = cell.dense(f"{layer.name}_input", cell.quantize("iq", f"{layer.name}_iq", source), cell.kernel, bias)
    order = range(count - 1, -1, -1) if layer.config.get("go_backwards") else range(count)
    nothing = Constant(*(np.zeros((graph.shapes[x][-1], units), np.int64) for _ in range(3)))
    steps = list(_slices(graph, layer.name, x, order))
    state, states = cell.dense(f"{layer.name}_start", steps[0], nothing, None), []  # 0, whatever comes in
    for n, part in enumerate(steps):
        state = step(f"{layer.name}_{n}", part, state)
        states.append(state)
    if not layer["return_sequences"]:
        return state
    rows = tuple(graph.add(o.Reshape, f"{layer.name}_{n}_row", (state,), (1, units)) for n, state in enumerate(states))
    if count == 1:
        return rows[0]
    return graph.add(o.Concatenate, layer.name, rows, (count, units), axis=0)


def _slices(graph: Graph, name: str, x: str, order: range) -> Iterator[str]:
    width = graph.shapes[x][-1]
    for n, position in enumerate(order):
        yield graph.add(o.Slice, f"{name}_{n}_x", (x,), (width,), index=(position, (None, None, None)))


def _take(constant: Constant, index) -> Constant:
    return Constant(*(v[index] for v in (constant.integers, constant.f, constant.bits)))


READERS: dict[str, Callable[[Layer, Graph], str]] = {"QGRU": gru, "QSimpleRNN": simple_rnn}
"""By class of the layer."""
