"""Model description to a QONNX file: what FINN, hls4ml's front end and onnx tools read; qonnx's own executor must give the same words.

The graph: graph.py. The nodes of each operation: operations.py.
"""

import dataclasses
import importlib.util
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hgqjax.description import operations as o
from hgqjax.description.model import ModelDescription
from hgqjax.export import gate
from hgqjax.export.gate import ExportError, GateReport
from hgqjax.export.qonnx.graph import Graph
from hgqjax.export.qonnx.operations import add_operation, bits_needed, is_named
from hgqjax.files import write_atomically

FLOATS: tuple[tuple[type[np.floating], int, int], ...] = ((np.float32, 24, 120), (np.float64, 53, 1000))
"""Types of the numbers of a graph, the significant bits and the largest exponent of each."""
PROPERTY = "hgqjax"
"""Where a file keeps the metadata of the description (classes, scaler, ...), as JSON; other tools leave it alone."""
CHUNK = 2**22
"""Numbers of all tensors that the executor holds at a time."""


@dataclasses.dataclass(frozen=True)
class QonnxFile:
    """A written file. `unnamed` are the quantizers that are no node Quant; `gate` is None where it was left out."""

    path: Path
    nodes: dict[str, int]
    unnamed: tuple[str, ...]
    wide: bool
    gate: GateReport | None

    def __str__(self) -> str:
        checked = f"{self.gate.words} words on {self.gate.rows} rows equal in qonnx's executor" if self.gate else "not verified"
        if self.wide:
            why = "sums have more than 24 bits, so all numbers are float64, which nodes Quant are not; no tool reads widths from the file"
        elif self.unnamed:
            some = ", ".join(self.unnamed[:3]) + (", ..." if len(self.unnamed) > 3 else "")
            why = f"QONNX has no name for the formats of {some} (differing between elements, wrapping, or signed with 1 bit), which are"
            why = f"{why} arithmetic without widths"
        else:
            why = "every format has a name of QONNX"
        return f"{self.path} (QONNX): {checked}; {why}"


def to_qonnx(
    description: ModelDescription,
    output: str | os.PathLike,
    *,
    rows: gate.Rows | None = None,
    verify: bool = True,
    min_rows: int = 10_000,
    seed: int = 0,
) -> QonnxFile:
    """Write a QONNX file that computes exactly what `description` does, and prove it in qonnx's executor.

    A quantizer becomes a node Quant where QONNX has a name for its format: one format for all elements, saturating, or wrapping where no
    value can leave the range. Rounding half up, which has no name, is then half a step that is added before FLOOR. All other quantizers are
    plain arithmetic of ONNX. Kernels and biases stand behind a Quant of the type that encloses them. Numbers are float32. Where a sum has
    more than 24 bits they are float64, and there is no node Quant, since those compute in float32.

    Args:
      description: the model.
      output: the file, by convention ``.onnx``; must not exist yet, and appears only after the gate has passed.
      rows: data (n, *input shape) for the gate besides `description.sample`; a tuple where the model has several inputs.
      verify: False leaves the gate out; then the package onnx is enough.
      min_rows: least number of rows of the gate. Rows are floats of the graph's type.
      seed: of the gate's random words.
    Raises:
      ExportError: a sum has more than the 53 bits of float64, by the name of its layer; a package is missing; `output` exists.
      GateError: a word differs. In either case nothing is left on disk.
    """
    output = Path(output).absolute()
    gate.check_rows(description, min_rows=min_rows)
    if output.exists():
        raise ExportError(f"{output} exists already; name a file that does not")
    _check_tools(verify)
    graph = Graph(description, _float_type(description))
    for op in description.operations:
        add_operation(op, graph)
    model = graph.model({PROPERTY: json.dumps(description.metadata)})
    report = _run_gate(description, model, graph, rows, min_rows, seed) if verify else None
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, model.SerializeToString())
    nodes = dict(Counter(node.op_type for node in model.graph.node))
    return QonnxFile(output, nodes, unnamed(description, graph.has_quant), not graph.has_quant, report)


def unnamed(description: ModelDescription, has_quant: bool) -> tuple[str, ...]:
    """Names of the quantizers whose formats QONNX has no name for; all of them where it has no Quant for numbers of the graph."""
    found = (op for op in description.operations if isinstance(op, o.Quantize))
    grids, raw = description.grids, description.unquantized
    return tuple(op.name for op in found if not (has_quant and is_named(op, grids[op.inputs[0]], op.inputs[0] in raw)))


def _check_tools(verify: bool) -> None:
    for name in ("onnx", *(("qonnx", "onnxruntime") if verify else ())):
        if importlib.util.find_spec(name) is None:
            raise ExportError(f"QONNX needs the package {name}, which is not installed; pip install 'hgqjax[qonnx]'")


def _float_type(description: ModelDescription) -> type[np.floating]:
    """The first of `FLOATS` that holds every number of the graph."""
    most, widest, exponent = 0, "", 0
    for op in description.operations:
        grid = description.grids[op.name]
        if op.name in description.unquantized:
            continue
        bits = bits_needed(op, tuple(description.grids[name] for name in op.inputs), grid)
        if bits > most:
            most, widest = bits, op.name
        alive = (grid.low != 0) | (grid.high != 0)
        exponent = max(exponent, int(abs(grid.f[alive]).max(initial=0)) + bits)
    for dtype, bits, largest in FLOATS:
        if most <= bits and exponent <= largest:
            return dtype
    raise ExportError(f"layer {widest!r} computes numbers of {most} bits; the floats of a QONNX file hold {FLOATS[-1][1]} at most")


def _run_gate(description: ModelDescription, model: Any, graph: Graph, rows, min_rows: int, seed: int) -> GateReport:
    start = time.perf_counter()
    x = gate.gate_rows(description, rows=rows, min_rows=min_rows, seed=seed)
    parts = [np.asarray(part, graph.dtype) for part in (x if isinstance(x, tuple) else (x,))]
    values = execute(model, parts)
    x = tuple(part.astype(np.float64) for part in parts) if isinstance(x, tuple) else parts[0].astype(np.float64)
    words = tuple(gate.to_words(v.astype(np.float64), description.grids[n]) for v, n in zip(values, description.outputs, strict=True))
    total = gate.check_words(description, x, words, tool="qonnx's executor")
    return GateReport(gate.row_count(x), total, seed, time.perf_counter() - start)


def execute(model: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs of a ModelProto for rows of each input, by qonnx's executor; the batch axis of its tensors is set to as many rows."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    graph, count = model.graph, len(inputs[0])
    batched = {info.name for info in graph.input}
    for node in graph.node:
        batched.update(node.output if batched.intersection(node.input) else ())
    infos = [info for info in (*graph.input, *graph.output, *graph.value_info) if info.name in batched]
    per_row = sum(int(np.prod([d.dim_value for d in info.type.tensor_type.shape.dim[1:]])) for info in infos)
    step = max(CHUNK // max(per_row, 1), 1)
    found = []
    for n in range(0, count, step):
        chunk = [part[n : n + step] for part in inputs]
        for info in infos:
            info.type.tensor_type.shape.dim[0].dim_value = len(chunk[0])
        wrapper = ModelWrapper(model, make_deepcopy=True)
        results = execute_onnx(wrapper, dict(zip([info.name for info in graph.input], chunk, strict=True)))
        found.append([results[info.name] for info in graph.output])
    for info in infos:
        info.type.tensor_type.shape.dim[0].dim_value = 1
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]
