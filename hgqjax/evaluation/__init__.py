"""Models on rows of data, by the exact evaluator: their score, and what they predict."""

from hgqjax.evaluation.measurement import Measured, measure, measured, outputs, trigger
from hgqjax.evaluation.network import Network, load
from hgqjax.evaluation.rows import RowReader

__all__ = ["Measured", "Network", "RowReader", "load", "measure", "measured", "outputs", "trigger"]
