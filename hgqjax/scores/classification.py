"""One of several classes: softmax cross-entropy, accuracy."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from hgqjax.data import Kind
from hgqjax.scores._base import AbstractScore, ScoreError, average, described, mean
from hgqjax.scores.curves import confusion, roc_curve


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy(AbstractScore):
    """Share of the rows whose greatest output is that of their label; of equal outputs the first counts. Loss: softmax cross-entropy.

    The statistical error of an accuracy a on n rows is :math:`\\sqrt{a (1 - a) / n}`; of weighted rows
    :math:`\\sqrt{\\sum w^2 (h - a)^2} / \\sum w`, h being 1 for a hit.

    >>> Accuracy().text({"score": 0.75}, rows=10_000)
    'accuracy 75.00 +- 0.43 %'
    """

    name: ClassVar[str] = "accuracy"
    plural: ClassVar[str] = "accuracies"
    kinds: ClassVar[tuple[Kind, ...]] = ("classes",)
    factor: ClassVar[float] = 100.0
    unit: ClassVar[str] = "%"
    digits: ClassVar[int] = 2

    def loss(self, outputs, y, weight=None):
        return mean(optax.softmax_cross_entropy_with_integer_labels(outputs, y), weight)

    def divergence(self, outputs, reference):
        logs, wanted = (jax.nn.log_softmax(v, axis=-1) for v in (outputs, reference))
        return jnp.mean(jnp.sum(jnp.exp(wanted) * (wanted - logs), axis=-1))

    def value(self, outputs, y, weight=None):
        return average((jnp.argmax(outputs, axis=-1) == y).astype(jnp.float32), weight)

    def measure(self, outputs, y, weight=None):
        return share(self.guess(outputs) == y, weight)

    def curves(self, outputs, y, weight=None, names=()):
        count = outputs.shape[1]
        names = list(names) or [str(n) for n in range(count)]
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        shares = np.exp(shifted) / np.sum(np.exp(shifted), axis=1, keepdims=True)
        found = {"confusion": confusion(self.guess(outputs), y, weight, count), "classes": names}
        return found | {"roc": [roc_curve(name, shares[:, n], y == n, weight) for n, name in enumerate(names)]}

    def error(self, found, rows):
        return share_error(found, rows)

    def check(self, outputs, y, what="y"):
        if y.ndim != 1 or y.dtype.kind not in "iu" or len(outputs) != 1:
            raise ScoreError(
                f"{what} has shape {y.shape} and type {y.dtype}, and the network gives shape {outputs} for each row; an accuracy needs one "
                "whole number for each row, and an output for each class"
            )
        check_labels(y, outputs, 2, what)

    def explained(self, unit=""):
        return "The error of an accuracy a on n rows is sqrt(a(1 - a)/n). "


def share(hits: np.ndarray, weight: np.ndarray | None) -> dict[str, float]:
    """The share of hits as a score; of weighted rows with its error.

    >>> share(np.array([True, False]), None), share(np.array([True, False]), np.array([3.0, 1.0]))["score"]
    ({'score': 0.5}, 0.75)
    """
    if weight is None:
        return {"score": int(np.sum(hits)) / len(hits)}
    weight, total = weight.astype(np.float64), float(np.sum(weight, dtype=np.float64))
    score = float(np.sum(weight * hits)) / total
    return {"score": score, "error": float(np.sqrt(np.sum(weight**2 * (hits - score) ** 2))) / total}


def share_error(found, rows: int | float | None) -> float | None:
    """The measured error of a share, or the binomial one on so many rows; None where there is neither.

    >>> share_error({"score": 0.5}, 10_000), share_error({"score": 0.5}, None)
    (0.005, None)
    """
    score, error = found["score"], found.get("error")
    if error is not None:
        return None if math.isnan(error) else error
    return math.sqrt(score * (1 - score) / rows) if rows and 0 <= score <= 1 else None


def check_labels(y, outputs: tuple[int, ...], least: int, what: str) -> None:
    """Raises ScoreError where labels index outputs that there are not, or there are fewer than `least`."""
    count = math.prod(outputs)
    known = not isinstance(y, Tracer) and len(y) > 0
    if count < least:
        found = f" (labels of {what} run from {int(y.min())} to {int(y.max())})" if known else ""
        raise ScoreError(
            f"the network has {described(outputs)}, but a network of classes needs 2 or more, one for each{found}; two classes and "
            "1 output, a logit, are for scores.BinaryAccuracy, Auc or Efficiency (--train.objective.score binary, auc or efficiency)"
        )
    if not known:
        return
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= count:
        raise ScoreError(f"labels of {what} run from {low} to {high}, but the network has {described(outputs)}; legal are 0 to {count - 1}")
