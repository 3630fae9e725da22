"""Several labels at once, each yes or no: sigmoid cross-entropy, share of the labels that are right."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from hgqjax.data import Kind
from hgqjax.scores._base import AbstractScore, ScoreError, average, bernoulli_divergence, mean
from hgqjax.scores.curves import roc_curve


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelAccuracy(AbstractScore):
    """Share of the labels that are right, an output above 0 meaning yes. Loss: sigmoid cross-entropy, the mean over a row's labels.

    The share ``exact`` is that of the rows whose labels are all right. The statistical error is that of independent rows, as labels of
    one row depend on each other.

    >>> found = LabelAccuracy().measure(np.array([[1.0, -1.0], [1.0, 2.0]]), np.array([[1, 0], [0, 1]]))
    >>> found["score"], found["exact"]
    (0.75, 0.5)
    """

    name: ClassVar[str] = "label accuracy"
    plural: ClassVar[str] = "label accuracies"
    kinds: ClassVar[tuple[Kind, ...]] = ("labels",)
    factor: ClassVar[float] = 100.0
    unit: ClassVar[str] = "%"
    digits: ClassVar[int] = 2

    @property
    def shares(self):
        return ("exact",)

    def outputs(self, classes, targets):
        return targets

    def loss(self, outputs, y, weight=None):
        return mean(jnp.mean(optax.sigmoid_binary_cross_entropy(outputs, y.astype(outputs.dtype)), axis=-1), weight)

    def divergence(self, outputs, reference):
        return bernoulli_divergence(outputs, reference)

    def value(self, outputs, y, weight=None):
        return average(jnp.mean(((outputs > 0) == (y == 1)).astype(jnp.float32), axis=-1), weight)

    def further(self, outputs, y, weight=None):
        return {"exact": average(jnp.all((outputs > 0) == (y == 1), axis=-1).astype(jnp.float32), weight)}

    def measure(self, outputs, y, weight=None):
        right = (outputs > 0) == (y == 1)
        weight = np.ones(len(y)) if weight is None else weight.astype(np.float64)
        share, total = np.mean(right, axis=1), float(np.sum(weight))
        score = float(np.sum(weight * share)) / total
        error = float(np.sqrt(np.sum(weight**2 * (share - score) ** 2))) / total
        return {"score": score, "error": error, "exact": float(np.sum(weight * right.all(axis=1))) / total}

    def curves(self, outputs, y, weight=None, names=()):
        names = list(names) or [str(n) for n in range(y.shape[1])]
        return {"roc": [roc_curve(name, outputs[:, n], y[:, n] == 1, weight) for n, name in enumerate(names)]}

    def check(self, outputs, y, what="y"):
        if y.ndim != 2 or y.dtype.kind not in "iu" or outputs != y.shape[1:]:
            raise ScoreError(
                f"{what} has shape {y.shape} and type {y.dtype}, and the network gives shape {outputs} for each row; several labels at "
                "once need a column of 0 and 1 for each output"
            )
        if not isinstance(y, Tracer) and len(y) and not 0 <= int(y.min()) <= int(y.max()) <= 1:
            raise ScoreError(f"labels of {what} run from {int(y.min())} to {int(y.max())}; legal are 0 and 1")

    def explained(self, unit=""):
        return (
            "The label accuracy is the share of all labels that are right, an output above 0 meaning yes; exact is the share of the rows "
            "whose labels are all right. The error is that of independent rows. "
        )
