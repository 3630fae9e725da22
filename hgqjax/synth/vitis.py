"""Vitis HLS, where it is on PATH, for the projects that hls4ml wrote: its own build script, and the report of synthesis read back."""

import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from hgqjax.synth import process
from hgqjax.synth.settings import SynthError, ToolError

STEPS = {"reset": 1, "csim": 0, "synth": 1, "cosim": 0, "validation": 0, "export": 0, "vsynth": 0, "fifo_opt": 0}
"""Options of hls4ml's build_prj.tcl: C synthesis and nothing else."""
RESOURCES = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram": "BRAM_18K"}


def command() -> list[str]:
    """Command line that runs build_prj.tcl; ToolError where Vitis HLS is not on PATH."""
    if shutil.which("vitis-run"):
        return ["vitis-run", "--mode", "hls", "--tcl", "build_prj.tcl"]
    if shutil.which("vitis_hls"):
        return ["vitis_hls", "-f", "build_prj.tcl"]
    raise ToolError("tool vitis is not here: neither vitis-run nor vitis_hls is on PATH; source its settings64.sh")


def version() -> str:
    """What stands for the version before it has run: the program; ToolError where there is none. The report has the version."""
    return command()[0]


def is_project(folder: Path) -> bool:
    """Whether hls4ml wrote `folder`."""
    return (folder / "build_prj.tcl").is_file() and (folder / "firmware").is_dir()


def synthesize(project: Path, folder: Path, seconds: float) -> dict[str, Any]:
    """Columns of `Synthesis`, as HLS estimates them; it works in a copy of `project` within `folder`."""
    argv, copy = command(), folder / "project"
    shutil.copytree(project, copy)
    options = "\n".join(f"    {name} {value}" for name, value in STEPS.items())
    (copy / "build_opt.tcl").write_text(f"array set opt {{\n{options}\n}}\n")
    process.run(argv, log=folder / "vitis.log", seconds=seconds, cwd=copy, tool="Vitis HLS")
    top = re.search(r'set project_name "(\w+)"', (copy / "project.tcl").read_text())
    reports = sorted(copy.glob(f"*/*/syn/report/{top[1] if top else '*'}_csynth.xml"))
    if not reports:
        raise ToolError("Vitis HLS wrote no report of the top function (log: vitis.log)")
    return parse_csynth(reports[0].read_text())


def parse_csynth(report: str) -> dict[str, Any]:
    """Columns of `Synthesis` in the text of a csynth.xml; the greatest latency where it is a range.

    Raises: SynthError for a text that is none.
    """
    try:
        root = ElementTree.fromstring(report)
        area = root.find("./AreaEstimates/Resources")
        found: dict[str, Any] = {column: int(_text(area, name)) for column, name in RESOURCES.items()}
        found |= {"bram": found["bram"] / 2, "tool_version": _text(root, "./ReportVersion/Version")}
        found["family"] = f"{_text(root, './UserAssignments/Part')}, estimated by HLS"
        found["clock_ns"] = float(_text(root, "./UserAssignments/TargetClockPeriod"))
        estimated = float(_text(root, "./PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod"))
        latency = _text(root, "./PerformanceEstimates/SummaryOfOverallLatency/Worst-caseLatency")
    except (ElementTree.ParseError, ValueError) as error:
        raise SynthError(f"the text is no csynth.xml: {error}") from error
    found["latency_cycles"] = int(latency) if re.fullmatch(r"\d+", latency) else None
    return found | {"fmax_mhz": round(1000 / estimated, 2), "fmax_family": found["family"]}


def _text(node: ElementTree.Element | None, path: str) -> str:
    text = None if node is None else node.findtext(path)
    if text is None:
        raise ValueError(f"it has no {path.rpartition('/')[2]}")
    return text.strip()
