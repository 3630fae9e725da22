"""Model description to Verilog or VHDL by the adder-graph compiler alkaid; what is written must equal the description word for word.

The symbols: trace.py. Ports and files of words: words.py. Test benches: bench.py. Simulators: simulate.py. The design is
fully unrolled: one result a cycle, every multiplication a tree of adders.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.export import gate, readme
from hgqjax.export.gate import ExportError, GateReport, Rows
from hgqjax.export.project import DEFAULT_PART, MODEL_FOLDER, RTL_FILE, check_clock, check_part
from hgqjax.export.rtl import bench, simulate, trace, words
from hgqjax.export.rtl.keywords import RESERVED
from hgqjax.files import new_folder
from hgqjax.resources import ebops

FLAVORS = ("verilog", "vhdl")
MAX_COST = 50_000.0
"""Bit operations (EBOPs of the unrolled design) up to which a design is traced unless asked otherwise: about a minute."""
BENCH_ROWS = 10_000
"""Rows that a simulator runs, and that stay with the project for its test bench."""


@dataclasses.dataclass(frozen=True)
class AdderGraph:
    """The compiler's own estimate: `cost` in LUTs, `levels` (least and greatest over the outputs) in adder levels."""

    cost: float
    levels: tuple[float, float]
    adders: int
    constant_adders: int
    multipliers: int
    lookups: int
    multiplexers: int

    @property
    def latency(self) -> float:
        """Adder levels of the slowest output."""
        return self.levels[1]


@dataclasses.dataclass(frozen=True)
class RtlProject:
    """A written project. `latency_cycles` counts clock edges from the one that takes a row in to the one that shows its result;
    `gate` is None where the caller left the gate out."""

    path: Path
    flavor: str
    top: str
    latency_cycles: int
    adder_cost: float
    gate: GateReport | None
    simulated_rows: int = 0
    """Rows of the gate that the simulator ran; the compiler's interpreter ran all."""

    def __str__(self) -> str:
        checked = f"{self.gate.words} words on {self.gate.rows} rows equal, {self.simulated_rows} of them simulated" if self.gate else ""
        checked = checked or "not verified"
        return f"{self.path} ({self.flavor}, {in_cycles(self.latency_cycles)}, adder cost {self.adder_cost:.0f}): {checked}"


def cutoff(clock_ns: float) -> int:
    """Adder levels that fit into one clock cycle.

    The line through the two published settings, 1 level at 1 ns and 12 at 6.25 ns: 0.48 ns a level and 0.52 ns for the register, rounded
    down, and at least 1.

    >>> cutoff(1.0), cutoff(5.0), cutoff(6.25), cutoff(0.5)
    (1, 9, 12, 1)
    """
    return max(1, int(1 + (clock_ns - 1) * 11 / 5.25 + 1e-9))


def adder_graph(description: ModelDescription, *, hard_dc: int = trace.HARD_DC, max_cost: float = MAX_COST) -> AdderGraph:
    """What the adder-graph compiler makes of `description`, without writing anything.

    Raises: ExportError as `to_rtl`.
    """
    check_size(description, max_cost)
    return _summary(trace.trace(description, hard_dc=hard_dc))


def _summary(graph) -> AdderGraph:
    counts = np.bincount([op.opcode + 2 for op in graph.ops], minlength=16)[2:]
    adders = int(counts[0] + counts[1] + counts[11])
    low, high = graph.latency
    numbers = (int(counts[n]) for n in (4, 7, 8, 6))
    return AdderGraph(float(graph.cost), (float(low), float(high)), adders, *numbers)


def check_size(description: ModelDescription, max_cost: float) -> float:
    """EBOPs of the fully unrolled design; raises ExportError where they exceed `max_cost`."""
    unrolled = dataclasses.replace(description, operations=tuple(_unrolled(op) for op in description.operations))
    cost = float(ebops(unrolled).total)
    if cost > max_cost:
        raise ExportError(
            f"model {description.name!r} has {cost:.0f} bit operations with hardware for every position, more than the {max_cost:.0f} that "
            "the RTL export takes on; give a larger max_cost (hours, perhaps), or use hls4ml in io_stream"
        )
    return cost


def _unrolled(op):
    return dataclasses.replace(op, parallelization=None) if getattr(op, "parallelization", None) is not None else op


def to_rtl(
    description: ModelDescription,
    output_dir: str | os.PathLike,
    *,
    flavor: str = "verilog",
    clock_ns: float = 5.0,
    latency_cutoff: float | None = None,
    part: str = DEFAULT_PART,
    project_name: str = "myproject",
    rows: Rows | None = None,
    verify: bool = True,
    min_rows: int = 10_000,
    simulated_rows: int | None = None,
    seed: int = 0,
    hard_dc: int = trace.HARD_DC,
    ternary: bool = False,
    max_cost: float = MAX_COST,
) -> RtlProject:
    """Write a project in Verilog or VHDL that computes exactly what `description` does, and prove it on `min_rows` rows or more.

    Args:
      description: the model; it may have several inputs.
      output_dir: must not exist yet; it appears only after the gate has passed.
      flavor: "verilog" or "vhdl".
      clock_ns: target clock period, ns.
      latency_cutoff: adder levels per clock cycle, >= 1; 0 for a purely combinational design; None derives it from `clock_ns` (`cutoff`).
      part: the device, for the build scripts.
      project_name: name of the top module.
      rows: data (n, *input shape) for the gate besides `description.sample`; a tuple where the model has several inputs.
      verify: False leaves the gate out, and the project says so.
      min_rows: least number of rows of the gate.
      simulated_rows: rows of these that the simulator runs (Verilator, or ghdl for VHDL), evenly spread; None for all with Verilator and
        1 000 with ghdl, which is slow. alkaid's interpreter of the adder graph runs all rows.
      seed: of the gate's random words.
      hard_dc: adder levels that a matrix may have beyond the least possible; more saves adders; -1 for any number.
      ternary: three-input adders, where they fit.
      max_cost: largest design that is taken on, in bit operations (EBOPs) with every position of a convolution unrolled.
    Raises:
      ExportError: the model, an argument or a tool does not fit (found before anything is written), or a simulator fails.
      GateError: a word differs. In either case nothing is left on disk.

    The top module has ports `model_inp` and `model_out`, elements one after the other from the lowest bit (hgqjax_rtl.json has their
    formats), and `clk` unless it is combinational. Input quantizers are inside; `rtl_ports.input_ports` says what the port expects.
    """
    _check_arguments(flavor, clock_ns, latency_cutoff, project_name)
    check_part(part)
    gate.check_rows(description, min_rows=min_rows, simulated_rows=simulated_rows)
    output_dir = Path(output_dir).absolute()
    if output_dir.exists():
        raise ExportError(f"{output_dir} exists already; name a folder that does not")
    trace.check_alkaid()
    if verify:
        simulate.check_simulator(flavor)
    check_size(description, max_cost)
    levels = float(cutoff(clock_ns) if latency_cutoff is None else latency_cutoff)
    graph = trace.trace(description, hard_dc=hard_dc)
    with new_folder(output_dir) as folder:
        design = _write(graph, folder, flavor, project_name, levels, part, clock_ns, ternary)
        x = gate.gate_rows(description, rows=rows, min_rows=min_rows, seed=seed)
        limit = simulated_rows or (BENCH_ROWS if flavor == "verilog" else simulate.VHDL_ROWS)
        few = _spread(x, max(limit, min_rows) if flavor == "verilog" and simulated_rows is None else limit)
        _write_bench(description, folder, design, few)
        report = _run_gate(description, folder, design, x, few, seed) if verify else None
        description.save(folder / MODEL_FOLDER)
        record = _record(design, report, few) | {"clock_ns": clock_ns, "latency_cutoff": levels, "part": part}
        (folder / RTL_FILE).write_text(json.dumps(record, indent=2) + "\n")
        readme.write(description, folder, _how_to_build(design, report, clock_ns))
    simulated = gate.row_count(few) if verify else 0
    return RtlProject(output_dir, flavor, project_name, design.latency_cycles, design.cost, report, simulated)


def _check_arguments(flavor: str, clock_ns: float, latency_cutoff: float | None, project_name: str):
    if flavor not in FLAVORS:
        raise ExportError(f"flavor {flavor!r} is not one of {', '.join(FLAVORS)}")
    check_clock(clock_ns)
    if latency_cutoff is not None and latency_cutoff != 0 and not 1 <= latency_cutoff < 1e6:
        raise ExportError(f"latency_cutoff is {latency_cutoff}; at least 1 adder level a cycle is needed, or 0 for no registers")
    reserved = project_name.lower() in RESERVED or re.fullmatch(r"(logic|stage)\d+.*", project_name)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", project_name) or reserved:
        words = "use letters, digits and single _, and no word of theirs"
        raise ExportError(f"project_name {project_name!r} cannot name a module in Verilog and VHDL; {words}")


# ---- what is written ----


@dataclasses.dataclass(frozen=True)
class _Design:
    """A written design: the adder graph that its code was made of, and what the record says."""

    graph: Any
    flavor: str
    top: str
    sources: list[str]
    latency_cycles: int
    registers_bits: int
    cost: float
    inputs: words.Bus
    outputs: words.Bus

    @property
    def bench(self) -> bench.Bench:
        clocked = self.registers_bits > 0
        return bench.Bench(self.top, self.inputs.width, self.outputs.width, self.latency_cycles, clocked)


def _write(graph, folder: Path, flavor: str, top: str, levels: float, part: str, clock_ns: float, ternary: bool) -> _Design:
    from alkaid.codegen import RTLModel

    pipelined = levels if levels > 0 else -1
    model = RTLModel(
        graph,
        folder,
        top,
        flavor,
        latency_cutoff=pipelined,
        part_name=part,
        clock_period=clock_ns,
        ternary_fuse=ternary,
        print_latency=False,
    )
    try:
        model.write()
    except AssertionError as error:  # a limit of its C++ harness, which takes all elements in one format
        raise ExportError(f"alkaid cannot write this design: {error}") from error
    suffix = "v" if flavor == "verilog" else "vhd"
    static = sorted(f"src/static/{path.name}" for path in (folder / "src/static").glob(f"*.{suffix}"))
    names = {path.stem for path in (folder / "src").glob(f"*.{suffix}")} - {top, f"{top}_wrapper", f"{top}_tables"}
    tables = [f"src/{top}_tables.{suffix}"] if (folder / f"src/{top}_tables.{suffix}").exists() else []
    sources = [*static, *tables, *(f"src/{name}.{suffix}" for name in sorted(names)), f"src/{top}.{suffix}"]
    written = model._comb  # alkaid has no public name for it; with three-input adders it is another graph than the traced one
    ends = model.fsm.inp_signals[0].precisions, model.fsm.out_signals[0].precisions
    buses = [words.Bus(tuple((int(k), int(i), int(f)) for k, i, f in kifs)) for kifs in ends]
    latency = model.latency if levels > 0 else 0
    assert written is not None and latency is not None, "alkaid knows both once it has written the design"
    return _Design(written, flavor, top, sources, int(latency), int(model.reg_bits), float(written.cost), *buses)


def in_cycles(count: int) -> str:
    """For people: "1 cycle", "7 cycles"."""
    return f"{count} cycle" if count == 1 else f"{count} cycles"


def _how_to_build(design: _Design, report: GateReport | None, clock_ns: float) -> str:
    checked = readme.compared(report)
    bits = f"`model_inp` has {design.inputs.width} bits, `model_out` {design.outputs.width}; element 0 is lowest"
    cycles = f"{in_cycles(design.latency_cycles)} at {clock_ns:g} ns, a result each cycle" if design.latency_cycles else "combinational"
    return f"{design.flavor} RTL, {cycles}. {checked}.\n{bits}. Sources: {', '.join(f'`{source}`' for source in design.sources)}."


def _spread(x: Rows, count: int) -> Rows:
    """At most `count` of the rows, evenly spread."""
    n = gate.row_count(x)
    chosen = np.unique(np.linspace(0, n - 1, min(count, n)).astype(int))
    return tuple(part[chosen] for part in x) if isinstance(x, tuple) else x[chosen]


def _write_bench(description: ModelDescription, folder: Path, design: _Design, x: Rows) -> None:
    place = folder / bench.BENCH
    place.mkdir()
    suffix = "v" if design.flavor == "verilog" else "vhd"
    (place / f"{design.bench.name}.{suffix}").write_text(bench.bench_source(design.bench, design.flavor))
    inputs = words.stimulus_words(description, x, design.inputs)
    outputs = words.expected_words(description, x, design.outputs)
    (place / "stimulus.hex").write_text(words.hex_lines(inputs, design.inputs.width))
    (place / "expected.hex").write_text(words.hex_lines(outputs, design.outputs.width))


def _run_gate(description: ModelDescription, folder: Path, design: _Design, x: Rows, few: Rows, seed: int) -> GateReport:
    start = time.perf_counter()
    values = design.graph.predict(words.stimulus_values(description, x), n_threads=1)
    found = words.output_integers(description, values)
    total = gate.check_words(description, x, found, tool="alkaid's adder graph")
    packed = simulate.simulate(folder, design.flavor, design.sources, design.bench)
    found = words.bus_integers(description, packed, design.outputs)
    gate.check_words(description, few, found, tool=simulate.name_of(design.flavor))
    return GateReport(gate.row_count(x), total, seed, time.perf_counter() - start)


def _record(design: _Design, report: GateReport | None, few: Rows) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("alkaid", "hgqjax", "numpy")}
    simulated = {"simulator": simulate.version_of(design.flavor), "simulated_rows": gate.row_count(few)} if report else {}
    return {
        "top": design.top,
        "flavor": design.flavor,
        "sources": design.sources,
        "latency_cycles": design.latency_cycles,
        "initiation_interval": 1,
        "adder_cost": design.cost,
        "registers_bits": design.registers_bits,
        "verified": report is not None,
        "gate": dataclasses.asdict(report) | simulated if report else None,
        "input_formats": [list(kif) for kif in design.inputs.kif],
        "output_formats": [list(kif) for kif in design.outputs.kif],
        "testbench": bench.BENCH,
        "versions": versions | {"python": platform.python_version()},
    }
