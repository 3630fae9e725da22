"""Vivado, where it is on PATH: synthesis, place and route out of context for the RTL's own part and clock, and its reports read back."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hgqjax.synth import process
from hgqjax.synth.designs import Rtl
from hgqjax.synth.settings import SynthError, ToolError

ROWS = {
    "lut_sites": r"(?:CLB|Slice) LUTs\*?",
    "srl": r"LUT as Shift Register",
    "ff": r"(?:CLB|Slice) Registers",
    "carry8": r"CARRY8",
    "muxf7": r"F7 Muxes",
    "muxf8": r"F8 Muxes",
    "bram": r"Block RAM Tile\*?",
    "dsp": r"DSPs",
} | {f"lut{k}": f"LUT{k}" for k in range(1, 7)}
"""Names of rows in report_utilization, of its tables of sites and of primitives."""
VERSION_SECONDS = 120


def version() -> str:
    """Of the Vivado on PATH; ToolError where there is none."""
    if shutil.which("vivado") is None:
        raise ToolError("tool vivado is not here: no program vivado on PATH; source its settings64.sh, or use the tool yosys")
    argv = ["vivado", "-version"]
    try:
        said = subprocess.run(argv, capture_output=True, text=True, timeout=VERSION_SECONDS, check=True, stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"vivado -version failed: {error}") from error
    found = re.search(r"v(\d{4}\.\d\S*)", said)
    return found[1] if found else said.strip().splitlines()[0] if said.strip() else "unknown"


def script(rtl: Rtl) -> str:
    """Tcl; reports go to utilization.rpt and timing.rpt where Vivado runs."""
    read = "read_verilog" if rtl.flavor == "verilog" else "read_vhdl -vhdl2008"
    lines = [f"{read} {{{path}}}" for path in rtl.sources]
    lines += ["read_xdc -mode out_of_context -unmanaged constraints.tcl"]
    lines += [f"synth_design -top {rtl.top} -part {rtl.part} -mode out_of_context -flatten_hierarchy full"]
    lines += ["opt_design", "place_design", "phys_opt_design", "route_design"]
    lines += ["report_utilization -file utilization.rpt", "report_timing_summary -file timing.rpt"]
    return "\n".join(lines) + "\n"


def constraints(clock_ns: float) -> str:
    """A clock where the design has one; for combinational RTL, which has none, a limit from its inputs to its outputs."""
    return (
        "if {[llength [get_ports -quiet clk]]} {\n"
        f"  create_clock -name clk -period {clock_ns:g} [get_ports clk]\n"
        "} else {\n"
        f"  set_max_delay {clock_ns:g} -from [all_inputs] -to [all_outputs]\n"
        "}\n"
    )


def synthesize(rtl: Rtl, folder: Path, seconds: float) -> dict[str, Any]:
    """Columns of `Synthesis` after routing; the log and both reports stay in `folder`."""
    found: dict[str, Any] = {"tool_version": version(), "family": rtl.part}
    (folder / "vivado.tcl").write_text(script(rtl))
    (folder / "constraints.tcl").write_text(constraints(rtl.clock_ns))
    argv = ["vivado", "-mode", "batch", "-nojournal", "-log", "vivado_full.log", "-source", "vivado.tcl"]
    process.run(argv, log=folder / "vivado.log", seconds=seconds, cwd=folder, tool="Vivado")
    found |= parse_utilization((folder / "utilization.rpt").read_text())
    worst = parse_timing((folder / "timing.rpt").read_text())
    return found if worst is None else found | {"fmax_mhz": round(1000 / (rtl.clock_ns - worst), 2), "fmax_family": rtl.part}


def parse_utilization(report: str) -> dict[str, int | float]:
    """Columns of `Synthesis` in the text of report_utilization. A row that is not there, of a primitive that is not used, counts 0.

    Raises: SynthError for a text without the rows of LUTs and registers.
    """
    cells: dict[str, str] = {}
    for line in report.splitlines():
        parts = [part.strip() for part in line.strip().strip("|").split("|")]
        if line.strip().startswith("|") and len(parts) > 1:
            cells.setdefault(parts[0], parts[1])
    found: dict[str, int | float] = {}
    for column, pattern in ROWS.items():
        texts = [text for name, text in cells.items() if re.fullmatch(pattern, name) and re.fullmatch(r"\d+(\.\d+)?", text)]
        if not texts and column in ("lut_sites", "ff"):
            raise SynthError(f"the text is no report_utilization: it has no row {pattern.replace('(?:CLB|Slice)', 'CLB')!r}")
        found[column] = (float if column == "bram" else int)(texts[0]) if texts else 0
    return found | {"lut": sum(found[f"lut{k}"] for k in range(1, 7))}


def parse_timing(report: str) -> float | None:
    """Worst negative slack, ns, in the text of report_timing_summary; None where no path is constrained.

    Raises: SynthError for a text without that table.
    """
    lines = report.splitlines()
    for n, line in enumerate(lines):
        if line.split()[:2] == ["WNS(ns)", "TNS(ns)"]:
            value = next((text.split()[0] for text in lines[n + 1 :] if text.strip() and not set(text) <= set("- ")), "")
            if value == "NA":
                return None
            if re.fullmatch(r"-?\d+(\.\d+)?", value):
                return float(value)
    raise SynthError("the text is no report_timing_summary: it has no table with WNS(ns)")
