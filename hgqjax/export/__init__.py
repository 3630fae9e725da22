"""From a trained model to firmware: the model description and its back ends."""

from hgqjax.export.describe import describe
from hgqjax.export.gate import ExportError, GateError
from hgqjax.export.hls4ml import to_hls4ml
from hgqjax.export.model import ModelDescription
from hgqjax.export.operations import DescriptionError

__all__ = ["DescriptionError", "ExportError", "GateError", "ModelDescription", "describe", "to_hls4ml"]
