"""From a trained model to firmware: the model description and its back ends."""

from hgqjax.export.describe import describe
from hgqjax.export.model import DescriptionError, ModelDescription

__all__ = ["DescriptionError", "ModelDescription", "describe"]
