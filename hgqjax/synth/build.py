"""hls4ml's own build of a project by the vendor's compiler, in the project; what it simulated is compared, what it reports is read."""

import dataclasses
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hgqjax.archives import read_json_file
from hgqjax.export.hls4ml import testbench
from hgqjax.export.project import GATE_FILE
from hgqjax.files import write_atomically
from hgqjax.synth import process, vitis
from hgqjax.synth.settings import SynthError, ToolError

STEPS = ("csim", "synth", "cosim", "vsynth", "export", "fifo_opt")
"""C simulation, C synthesis, simulation of its RTL, Vivado's synthesis of that, IP, FIFO depths of io_stream by a co-simulation."""
BACKENDS = ("Vitis", "Vivado", "VivadoAccelerator")
OPTIONS, LOG, RECORD = "build_opt.tcl", "hgqjax_build.log", "hgqjax_build.json"
VSYNTH = {"lut": r"(?:CLB|Slice) LUTs\*?", "ff": r"(?:CLB|Slice) Registers", "dsp": r"DSPs", "bram": r"Block RAM Tile"}
"""Rows of vivado_synth.rpt."""


@dataclasses.dataclass(frozen=True)
class Build:
    """What a build gave: outputs compared in each simulation, what C synthesis estimates, what Vivado's synthesis counts."""

    project: Path
    steps: tuple[str, ...]
    seconds: float
    compared: dict[str, int]
    csynth: dict[str, Any] | None
    vsynth: dict[str, float] | None

    def __str__(self) -> str:
        parts = [f"{self.project}: {' '.join(self.steps)} in {self.seconds:.0f} s"]
        parts += [f"{step}: {count} outputs as expected" for step, count in self.compared.items()]
        for name, found in (("C synthesis estimates", self.csynth), ("Vivado counts", self.vsynth)):
            if found is not None:
                named = ("lut", "ff", "dsp", "bram", "latency_cycles", "fmax_mhz")
                parts.append(f"{name} " + ", ".join(f"{key} {found[key]}" for key in named if found.get(key) is not None))
        return "\n  ".join(parts)


def build(project: Path, steps: Sequence[str] = ("csim", "synth"), *, time_limit: float = 36_000.0) -> Build:
    """Runs build_prj.tcl of an hls4ml project, with the compiler of its back end on PATH.

    Args:
      project: the folder that `to_hls4ml` wrote; the compiler works in it.
      steps: of `STEPS`. Simulations run the rows of tb_data, and their outputs must be those that lie beside them.
      time_limit: seconds after which the compiler is ended.
    Raises:
      SynthError: no such project, or step. ToolError: no compiler on PATH, or it fails.
      ExportError: a simulated output differs, or a simulation left no results.
    """
    project = Path(project)
    backend = str(read_json_file(project / GATE_FILE)["backend"]) if (project / GATE_FILE).is_file() else ""
    if backend and backend not in BACKENDS:
        raise SynthError(f"{project} is for back end {backend}; hgqjax build runs the compilers of {' and '.join(BACKENDS)}")
    if not vitis.is_project(project) or not backend:
        raise SynthError(f"{project} is no hls4ml project of hgqjax: it has no build_prj.tcl, firmware or {GATE_FILE}")
    odd = [step for step in steps if step not in STEPS]
    if odd or not steps:
        raise SynthError(f"step {odd[0]!r} is none of {', '.join(STEPS)}" if odd else f"name at least one step of {', '.join(STEPS)}")
    argv = _command(backend)
    for path in (project / testbench.FOLDER / name for name in testbench.RESULTS.values()):
        path.unlink(missing_ok=True)  # of an earlier build
    chosen = {"reset": True, "validation": False} | {step: step in steps for step in STEPS}
    lines = "\n".join(f"    {name} {int(on)}" for name, on in chosen.items())
    (project / OPTIONS).write_text(f"array set opt {{\n{lines}\n}}\n")
    seconds = process.run(argv, log=project / LOG, seconds=time_limit, cwd=project, tool=argv[0])
    compared = {step: testbench.compared(project, step) for step in testbench.RESULTS if step in steps}
    found = Build(project, tuple(steps), seconds, compared, _csynth(project, steps), _vsynth(project, steps))
    write_atomically(project / RECORD, json.dumps(dataclasses.asdict(found) | {"project": project.name}, indent=2) + "\n")
    return found


def _command(backend: str) -> list[str]:
    if backend == "Vitis":
        return vitis.command()
    if shutil.which("vivado_hls"):
        return ["vivado_hls", "-f", "build_prj.tcl"]
    raise ToolError("the compiler of back end Vivado is not here: vivado_hls is not on PATH; source its settings64.sh")


def _csynth(project: Path, steps: Sequence[str]) -> dict[str, Any] | None:
    if "synth" not in steps:
        return None
    top = re.search(r'set project_name "(\w+)"', (project / "project.tcl").read_text())
    reports = sorted(project.glob(f"*/*/syn/report/{top[1] if top else '*'}_csynth.xml"))
    if not reports:
        raise ToolError(f"{project} has no report of C synthesis (log: {LOG})")
    return vitis.parse_csynth(reports[0].read_text())


def _vsynth(project: Path, steps: Sequence[str]) -> dict[str, float] | None:
    """The column "Used" of Vivado's utilization report."""
    if "vsynth" not in steps:
        return None
    report = project / "vivado_synth.rpt"
    if not report.is_file():
        raise ToolError(f"{project} has no {report.name} (log: {LOG})")
    found = {}
    for name, row in VSYNTH.items():
        used = re.search(rf"^\|\s*{row}\s*\|\s*([\d.]+)\s*\|", report.read_text(), re.MULTILINE)
        if used:
            found[name] = float(used[1])
    return found
