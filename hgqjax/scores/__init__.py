"""Scores: what a network's task is, as one object that training, evaluation, reports and the command read. One file a task."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hgqjax.config import ConfigError, from_json, to_json
from hgqjax.data import Kind
from hgqjax.scores._base import AbstractScore, ScoreError
from hgqjax.scores.autoencoder import Reconstruction, anomaly
from hgqjax.scores.binary import Auc, BinaryAccuracy, Efficiency
from hgqjax.scores.classification import Accuracy
from hgqjax.scores.labels import LabelAccuracy
from hgqjax.scores.regression import Resolution

NAMES: dict[str, type[AbstractScore]] = {
    "accuracy": Accuracy,
    "binary": BinaryAccuracy,
    "auc": Auc,
    "efficiency": Efficiency,
    "labels": LabelAccuracy,
    "resolution": Resolution,
    "reconstruction": Reconstruction,
}
"""The scores by the names that the command takes."""
FITTING: dict[Kind, AbstractScore] = {"classes": Accuracy(), "labels": LabelAccuracy(), "regression": Resolution()}
"""What rows of each kind are trained and measured by, where nothing else is said."""

__all__ = ["FITTING", "NAMES", "AbstractScore", "Accuracy", "Auc", "BinaryAccuracy", "Efficiency", "LabelAccuracy", "Reconstruction"]
__all__ += ["Resolution", "ScoreError", "anomaly", "fitting", "of_model", "parse", "spelled"]


def parse(text: str) -> AbstractScore:
    """The score that ``NAME`` or ``NAME:FIELD=VALUE,...`` names, as the command takes it.

    Raises: ScoreError, one sentence.

    >>> parse("resolution:window=30")
    Resolution(window=30.0)
    """
    name, _, rest = text.partition(":")
    if name not in NAMES:
        raise ScoreError(f"there is no score {name!r}; legal are {', '.join(NAMES)}")
    given = [part.partition("=") for part in rest.split(",")] if rest else []
    try:
        return from_json(NAMES[name], {field: _value(value) for field, _, value in given}, name)
    except ConfigError as error:
        raise ScoreError(f"score {text!r}: {error}") from error


def spelled(score: AbstractScore) -> str:
    """The reverse of `parse`.

    >>> spelled(Resolution(window=30.0))
    'resolution:window=30'
    """
    name = next((name for name, kind in NAMES.items() if kind is type(score)), type(score).__name__)
    given = [f"{key}={value:g}" for key, value in to_json(score).items() if isinstance(value, int | float)]
    return f"{name}:{','.join(given)}" if given else name


def fitting(y: np.ndarray) -> AbstractScore:
    """The score of rows whose model does not say its own: by the type and shape of their targets.

    >>> fitting(np.array([0, 1])), fitting(np.array([0.5, 1.5]))
    (Accuracy(), Resolution(window=None))
    """
    return FITTING["regression" if y.dtype.kind == "f" else "classes" if y.ndim == 1 else "labels"]


def of_model(metadata: Mapping[str, Any]) -> AbstractScore | None:
    """The score that a model was trained for, by the metadata of its description; None where it does not say, as files of HGQ2.

    Raises: ConfigError, one sentence, where the score is of a class that cannot be imported.

    >>> of_model({"score": to_json(Resolution(window=30.0))}), of_model({})
    (Resolution(window=30.0), None)
    """
    return from_json(AbstractScore, metadata["score"], "score") if "score" in metadata else None


def _value(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return None if text == "None" else text
