"""From a trained model to firmware: the model description and its back ends."""

from hgqjax.export.describe import describe
from hgqjax.export.gate import ExportError, GateError
from hgqjax.export.hls4ml import to_hls4ml
from hgqjax.export.model import ModelDescription
from hgqjax.export.operations import DescriptionError
from hgqjax.export.rtl import adder_graph, to_rtl

__all__ = ["DescriptionError", "ExportError", "GateError", "ModelDescription", "adder_graph", "describe", "to_hls4ml", "to_rtl"]
