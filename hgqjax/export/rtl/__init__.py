"""Verilog and VHDL of adder graphs, by the compiler alkaid."""

from hgqjax.export.rtl.convert import adder_graph, to_rtl

__all__ = ["adder_graph", "to_rtl"]
