"""Models on rows of data, by the exact evaluator."""

from hgqjax.evaluation.measurement import Measured, measure, measured, outputs
from hgqjax.evaluation.rows import RowReader

__all__ = ["Measured", "RowReader", "measure", "measured", "outputs"]
