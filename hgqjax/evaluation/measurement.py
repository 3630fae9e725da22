"""The score of a model on rows of data, with its statistical error."""

import dataclasses
import math
from typing import Any

import numpy as np

from hgqjax import scores, scratch
from hgqjax.description import ModelDescription
from hgqjax.evaluation.rows import RowReader
from hgqjax.scores import AbstractScore


def outputs(description: ModelDescription, x: Any) -> np.ndarray:
    """What the frozen model gives for rows `x`, by the exact evaluator; of a model with several inputs `x` is a tuple of their rows."""
    parts = x if isinstance(x, tuple) else (x,)
    words = sum(math.prod(op.shape) for op in description.operations)
    batch = min(20_000, max(1, 2**25 // words))  # so many rows of a large network that their words take 256 MiB
    found = []
    for start in range(0, len(parts[0]), batch):
        found.append(description.evaluate(tuple(part[start : start + batch] for part in parts)))
        scratch.release(*parts)
    return np.concatenate(found)


def measure(
    description: ModelDescription, x: Any, y: np.ndarray, score: AbstractScore, weight: np.ndarray | None = None
) -> dict[str, float]:
    """`AbstractScore.measure` of what the frozen model gives for rows `x`: the score, its error, further shares."""
    return score.measure(outputs(description, x), y, weight)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A model on the rows of a data set, by the exact evaluator."""

    score: AbstractScore
    """What was measured."""
    rows: int
    found: dict[str, float]
    """As `AbstractScore.measure` gives it."""
    unit: str
    """Of y."""
    training_rows: bool
    """Whether rows that the model was trained on are among them."""

    @property
    def error(self) -> float | None:
        """Statistical, in units of the score; None where it is not known."""
        return self.score.error(self.found, self.rows)

    def __str__(self) -> str:
        return self.score.text(self.found, self.rows, self.unit)


def trigger(description: ModelDescription, background: str, signal: str, reader: RowReader, rate: float) -> str:
    """How well the error of a row, given back by an autoencoder, tells rows of `signal` from those of `background`, in words.

    Args:
      background, signal: data sets or files. rate: share of the background that may pass, for the signal efficiency.

    Raises: ValueError where the model is no autoencoder; else as `RowReader`.
    """
    if not isinstance(scores.of_model(description.metadata), scores.Reconstruction):
        raise ValueError(f"model {description.name!r} is no autoencoder, trained by the score reconstruction")

    def residuals(data: str) -> np.ndarray:
        x, y, *_ = reader(description, data)
        return outputs(description, x).reshape(len(y), -1) - y.reshape(len(y), -1)

    return scores.Auc(background_rate=rate).text(scores.anomaly(residuals(background), residuals(signal), rate))


def measured(
    description: ModelDescription, data: str, reader: RowReader, *, rows: int | None = None, window: float | None = None
) -> Measured:
    """The score of `description` on the last `rows` rows of `data`, by default all: that which the model was trained for, or else fits.

    `window` is that of a resolution, for models that do not say theirs, such as files of HGQ2; other scores have none. Raises: as
    `RowReader`.
    """
    x, y, weight, unit = reader(description, data)
    if rows is not None:
        x, y = tuple(part[-rows:] for part in x) if isinstance(x, tuple) else x[-rows:], y[-rows:]
        weight = None if weight is None else weight[-rows:]
    score = (scores.of_model(description.metadata) or scores.fitting(y)).within(window)
    return Measured(score, len(y), measure(description, x, y, score, weight), unit, reader.trained_on(description, data))
