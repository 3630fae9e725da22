"""The exact model: operations on whole numbers, their evaluator, which is the judge of every back end, and how a model becomes one."""

from hgqjax.description.describe import describe
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import DescriptionError

__all__ = ["DescriptionError", "ModelDescription", "describe"]
