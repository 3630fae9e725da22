"""What a report draws of a model on its test rows, as plain JSON values: confusion matrix, ROC curves, histograms of residuals."""

from typing import Any

import numpy as np

BINS = 60
STEPS = 150


def confusion(guess: np.ndarray, y: np.ndarray, weight: np.ndarray | None, classes: int) -> list[list[float]]:
    """Weight of the rows of each class (first index) that are taken for each class (second).

    >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), None, 2)
    [[1.0, 1.0], [0.0, 1.0]]
    """
    found = np.bincount(y.astype(np.int64) * classes + guess, weight, classes**2).astype(np.float64)
    return found.reshape(classes, classes).tolist()


def roc(outputs: np.ndarray, signal: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve of outputs (rows,): shares of background and signal whose output is a threshold or more, from (0, 0) to (1, 1).

    >>> [part.tolist() for part in roc(np.array([2.0, 0.0, 1.0]), np.array([True, True, False]))]
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0]]
    """
    weight = np.ones(len(signal)) if weight is None else weight.astype(np.float64)
    values, which = np.unique(-outputs, return_inverse=True)
    parts = (np.bincount(which, np.where(part, weight, 0.0), len(values)) for part in (~signal, signal))
    background, efficiency = (np.concatenate([[0.0], np.cumsum(part)]) for part in parts)
    return background / (background[-1] or 1.0), efficiency / (efficiency[-1] or 1.0)


def roc_curve(name: str, outputs: np.ndarray, signal: np.ndarray, weight: np.ndarray | None) -> dict[str, Any]:
    """`roc` of one class or label, with few enough points to draw, its ends and its lowest decades among them."""
    background, passing = roc(outputs, signal, weight)
    wanted = np.concatenate([np.geomspace(1e-5, 1.0, STEPS), np.linspace(0.0, 1.0, STEPS)])
    kept = np.unique([0, *np.minimum(np.searchsorted(background, wanted, side="right") - 1, len(background) - 1), len(background) - 1])
    return {"name": name, "background": background[kept].tolist(), "signal": passing[kept].tolist()}


def histogram(name: str, residuals: np.ndarray, weight: np.ndarray | None, edge: float | None) -> dict[str, Any]:
    """Histogram of finite residuals (rows,) within +-`edge`, by default within their 99.5 % quantile, and how much lies outside."""
    finite = np.isfinite(residuals)
    weight = np.ones(len(residuals)) if weight is None else weight.astype(np.float64)
    if edge is None:
        edge = float(np.quantile(np.abs(residuals[finite]), 0.995)) if finite.any() else 1.0
    edges = np.linspace(-(edge or 1.0), edge or 1.0, BINS + 1)
    counts, _ = np.histogram(residuals[finite], edges, weights=weight[finite])
    return {"name": name, "edges": edges.tolist(), "counts": counts.tolist(), "outside": float(np.sum(weight) - np.sum(counts))}
