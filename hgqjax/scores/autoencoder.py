"""Rows to be given back, y = x: mean squared error, reconstruction error; and how well that tells a signal from the background."""

import dataclasses
from typing import ClassVar

import numpy as np

from hgqjax.scores.binary import Auc
from hgqjax.scores.regression import AbstractResidual


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruction(AbstractResidual):
    """Root mean square of what a network that is to give back its scaled row gives wrong, over all values of all rows; less is better.

    As `Resolution` in all else: `window` and outliers, the loss, and the statistical error, which has a row as its unit.

    >>> Reconstruction().text({"score": 0.5, "error": 0.01}, unit="sigma")
    'reconstruction error 0.5 +- 0.01 sigma'
    """

    name: ClassVar[str] = "reconstruction error"
    plural: ClassVar[str] = "reconstruction errors"


def anomaly(background: np.ndarray, signal: np.ndarray, rate: float | None = None) -> dict[str, float]:
    """How well the errors of rows tell a signal that the network was not trained on from the background that it was: `Auc.measure`.

    Args:
      background, signal: residuals (rows, values); the mean square of a row is what a trigger cuts on.
      rate: share of the background that may pass, for the share ``efficiency``; None: it is left out.

    >>> anomaly(np.array([[0.1, 0.1], [0.3, 0.0]]), np.array([[0.5, 1.0]]))["score"]
    1.0
    """
    sizes = np.concatenate([np.mean(rows.reshape(len(rows), -1).astype(np.float64) ** 2, axis=1) for rows in (background, signal)])
    labels = np.repeat([0, 1], [len(background), len(signal)])
    return Auc(background_rate=rate).measure(sizes[:, None], labels)
