"""From a trained model to firmware: the back ends of a model description, each behind the gate."""

from hgqjax.description import DescriptionError, ModelDescription, describe
from hgqjax.export.gate import ExportError, GateError
from hgqjax.export.hls4ml import link_project, to_hls4ml
from hgqjax.export.qonnx import to_qonnx
from hgqjax.export.rtl import adder_graph, to_rtl

__all__ = ["DescriptionError", "ExportError", "GateError", "ModelDescription", "adder_graph", "describe"]
__all__ += ["link_project", "to_hls4ml", "to_qonnx", "to_rtl"]
