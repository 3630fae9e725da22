"""Trained networks of tables, improved word by word: descent on the loss of the training rows and the exact count of LUTs."""

from hgqjax.refine.descent import refine
from hgqjax.refine.tables import RefineError

__all__ = ["RefineError", "refine"]
