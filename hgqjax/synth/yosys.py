"""Yosys for AMD UltraScale+ out of context: the script, the run in a process of its own, the counts."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from hgqjax.synth import netlist, process
from hgqjax.synth.designs import Rtl
from hgqjax.synth.settings import SynthError

RUN = "from pyosys import libyosys\nlibyosys.run_pass(f'script {sys.argv[1]}', libyosys.Design())\n"
SYNTH = "synth_xilinx -family xcup -noiopad -noclkbuf -flatten"
ADDERS = ("proc", "opt -full", "wreduce", "peepopt", "opt -full", "alumacc", "opt")
"""Before the hierarchy goes, so that each module keeps its adders: in the flat design alumacc would merge whole trees of them into
carry-save adders, which Vivado does not do. Inside a module it may: sums of three become what the ternary adder of a CARRY8 takes."""
MAP_LUTS = (
    "techmap -map +/xilinx/ff_map.v",  # done already by Yosys 0.70, not by 0.66
    "opt_expr -mux_undef -noclkinv",
    "abc -luts 2:2,3,6:5,10,20",
    "clean",
    "xilinx_srl -fixed -minlen 3",
    "techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6",
    "xilinx_dffopt",
    "opt_lut_ins -tech xilinx",
)
"""In place of synth_xilinx's own step, which takes abc9: that is half as fast, even without its verification, and gains nothing (network
16-64-32-32-10 of adder cost 2 100, two busy cores: abc 2 771 LUTs in 18 s, abc9 2 786 in 37 s)."""


def version() -> str:
    """Of Yosys; ToolError where it is not installed."""
    process.need_module("pyosys", "synthesis with Yosys")
    return importlib.metadata.version("pyosys")


def read_sources(rtl: Rtl) -> list[str]:
    """Commands that read the RTL, its top module elaborated."""
    if rtl.flavor != "verilog":
        raise SynthError(f"{rtl.folder.name} is {rtl.flavor}, and Yosys reads Verilog; export it with flavor verilog")
    files = [f'read_verilog "{path}"' for path in rtl.sources]
    return [*files, f"hierarchy -check -top {rtl.top}"]


def script(rtl: Rtl) -> str:
    """The commands: mapped netlist and counts go to netlist.json and stat.json where Yosys runs."""
    lines = [*read_sources(rtl), *ADDERS, f"{SYNTH} -top {rtl.top} -run :map_luts", *MAP_LUTS, f"{SYNTH} -top {rtl.top} -run finalize:"]
    return "\n".join([*lines, "tee -q -o stat.json stat -json", "write_json netlist.json"]) + "\n"


def synthesize(rtl: Rtl, folder: Path, seconds: float) -> dict[str, Any]:
    """Counts of the mapped netlist, as columns of `Synthesis`; netlist.json stays in `folder` for who wants to simulate it.

    Raises: ToolError where Yosys fails or takes longer than `seconds`; SynthError for RTL that it does not read.
    """
    found: dict[str, Any] = {"tool_version": version()}
    execute(script(rtl), folder, "yosys", seconds)
    stat = json.loads((folder / "stat.json").read_text())
    found |= netlist.count(stat["design"].get("num_cells_by_type", {}))
    cells = netlist.read(folder / "netlist.json", rtl.top)["cells"]
    return found | {"lut_sites": netlist.sites(cells), "carry8": netlist.carry8(cells)}


def execute(commands: str, folder: Path, name: str, seconds: float) -> None:
    """Runs a script in `folder`, with its log; the name is relative, as Yosys takes no blanks in that of a script."""
    (folder / f"{name}.ys").write_text(commands)
    process.run(process.python(RUN, f"{name}.ys"), log=folder / f"{name}.log", seconds=seconds, cwd=folder, tool="Yosys")
