import json

import pytest

from hgqjax.synth import yosys

VERILOG = """
module {top} (input wire clk, input wire [7:0] a, input wire [7:0] b, output reg [7:0] sum, output wire all, output wire odd,
              output wire six, output wire late, output wire [15:0] product);
  reg [6:0] line;
  always @(posedge clk) begin
    sum <= a + b;
    line <= {{line[5:0], a[7]}};
  end
  assign all = &a[4:0];
  assign odd = ^a[4:0];
  assign six = &b[5:0];
  assign late = line[6];
  assign product = {product};
endmodule
"""


@pytest.fixture
def make_project(tmp_path):
    """Writes RTL projects as `to_rtl` does: one module, or the given Verilog."""

    def make(name="project", verilog=None, product="$signed(a) * $signed(b)", **about):
        folder = tmp_path / name
        (folder / "src").mkdir(parents=True)
        (folder / "src" / "top.v").write_text(verilog or VERILOG.format(top="top", product=product))
        about = {"top": "top", "flavor": "verilog", "sources": ["src/top.v"], "latency_cycles": 1, "clock_ns": 4.0} | about
        about = {"latency_cutoff": 2.0, "adder_cost": 8.0, "part": "xcvu13p-flga2577-2-e"} | about
        (folder / "hgqjax_rtl.json").write_text(json.dumps(about))
        return folder

    return make


@pytest.fixture
def instead_of_yosys(monkeypatch):
    """Each run of Yosys writes this count of cells, at once; the list of projects that came."""
    came = []

    def synthesize(rtl, folder, seconds):
        came.append(rtl.folder.name)
        module = {"ports": {}, "cells": {}}
        (folder / "netlist.json").write_text(json.dumps({"modules": {"top": module}}))
        return {"tool_version": "0", "lut": 8, "lut_sites": 7}

    monkeypatch.setattr(yosys, "synthesize", synthesize)
    return came
