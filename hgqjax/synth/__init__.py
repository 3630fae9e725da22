"""Synthesis of a model's RTL: what it takes on a device, with open tools (Yosys, nextpnr) or with Vivado where that is on PATH."""

from hgqjax.synth import record
from hgqjax.synth.flow import synthesize, synthesize_many
from hgqjax.synth.settings import Settings, SynthError, Synthesis, ToolError
from hgqjax.synth.tables import measure

__all__ = ["Settings", "SynthError", "Synthesis", "ToolError", "measure", "record", "synthesize", "synthesize_many"]
