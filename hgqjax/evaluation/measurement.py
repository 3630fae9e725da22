"""The score of a model on rows of data, with its statistical error."""

import dataclasses
import math
from typing import Any

import numpy as np

from hgqjax.description import ModelDescription
from hgqjax.evaluation.rows import RowReader
from hgqjax.training import Objective


def measure(description: ModelDescription, x: Any, y: np.ndarray, objective: Objective) -> dict[str, float]:
    """``score`` of the frozen model on rows `x`, as `Objective.score` says, by the exact evaluator; with a window ``outliers``, too.

    Of a regression also ``error``, the statistical one of its resolution r: the standard error of the squares of the residuals over 2 r,
    whatever their distribution; NaN of fewer than two. Of a model with several inputs `x` is a tuple of their rows.
    """
    parts = x if isinstance(x, tuple) else (x,)
    words = sum(math.prod(op.shape) for op in description.operations)
    batch = min(20_000, max(1, 2**25 // words))  # so many rows of a large network that their words take 256 MiB
    starts = range(0, len(y), batch)
    outputs = np.concatenate([description.evaluate(tuple(part[start : start + batch] for part in parts)) for start in starts])
    if objective.task == "classification":
        return {"score": int(np.sum(np.argmax(outputs, axis=-1) == y)) / len(y)}
    residual = outputs.reshape(len(y), -1) - y.reshape(len(y), -1)
    if objective.window is None:
        return _resolution(residual)
    inside = np.abs(residual) < objective.window
    found = _resolution(residual[inside]) if inside.any() else {"score": -objective.window, "error": math.nan}
    return found | {"outliers": float(np.mean(~inside))}


def _resolution(residuals: np.ndarray) -> dict[str, float]:
    squares = residuals.astype(np.float64) ** 2
    resolution = float(np.sqrt(np.mean(squares)))
    spread = float(np.std(squares)) if len(squares) > 1 else math.nan
    return {"score": -resolution, "error": spread / (2 * resolution * len(squares) ** 0.5) if resolution else 0.0}


def accuracy_error(score: float, rows: int | float | None) -> float | None:
    """Statistical error of an accuracy a, 0 .. 1, on n rows, in points: 100 sqrt(a (1 - a) / n); None without rows.

    >>> accuracy_error(0.5, 10_000), accuracy_error(0.5, None)
    (0.5, None)
    """
    return 100 * math.sqrt(score * (1 - score) / rows) if rows and 0 <= score <= 1 else None


@dataclasses.dataclass(frozen=True)
class Measured:
    """A model on the rows of a data set, by the exact evaluator."""

    objective: Objective
    rows: int
    score: float
    """As `Objective.score` gives it."""
    error: float
    """Statistical: of an accuracy in points, of a resolution in its unit; NaN where it is not known."""
    outliers: float | None
    unit: str
    """Of the numbers of a regression."""
    training_rows: bool
    """Whether rows that the model was trained on are among them."""

    def __str__(self) -> str:
        if self.objective.task == "classification":
            return f"accuracy {100 * self.score:.2f} +- {self.error:.2f} %"
        words = self.objective.in_words(self.score, "", self.outliers)
        resolution, comma, outliers = words.partition(",")
        error = "" if math.isnan(self.error) else f" +- {self.error:.2g}"
        return f"{resolution}{error} {self.unit}".rstrip() + comma + outliers


def measured(
    description: ModelDescription, data: str, reader: RowReader, *, rows: int | None = None, window: float | None = None
) -> Measured:
    """The score of `description` on the last `rows` rows of `data`, by default all.

    `window` is that of a regression, for models that do not say theirs, such as files of HGQ2; a classification has none. Raises: as
    `RowReader`.
    """
    x, y, unit = reader(description, data)
    if rows is not None:
        x, y = tuple(part[-rows:] for part in x) if isinstance(x, tuple) else x[-rows:], y[-rows:]
    about = description.metadata
    task = about.get("task", "regression" if y.dtype.kind == "f" else "classification")
    known = about.get("window")
    objective = Objective(task=task, window=known if known is not None or task == "classification" else window)
    found = measure(description, x, y, objective)
    error = found["error"] if task == "regression" else accuracy_error(found["score"], len(y))
    return Measured(objective, len(y), found["score"], error, found.get("outliers"), unit, reader.trained_on(description, data))
