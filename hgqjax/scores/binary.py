"""One of two classes by one output, a logit: sigmoid cross-entropy; accuracy, AUC, signal efficiency at a given background rate.

Class 1 is the signal, class 0 the background; the larger the output, the more it is signal.
"""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from hgqjax.data import Kind
from hgqjax.scores._base import AbstractScore, ScoreError, average, bernoulli_divergence, described, mean
from hgqjax.scores.classification import share, share_error
from hgqjax.scores.curves import confusion, roc_curve


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractBinary(AbstractScore):
    """What all scores of one logit have in common."""

    kinds: ClassVar[tuple[Kind, ...]] = ("classes",)

    def outputs(self, classes, targets):
        return 1

    def loss(self, outputs, y, weight=None):
        return mean(optax.sigmoid_binary_cross_entropy(outputs[:, 0], y.astype(outputs.dtype)), weight)

    def divergence(self, outputs, reference):
        return bernoulli_divergence(outputs, reference)

    def guess(self, outputs):
        """Class 1 where the logit is above 0."""
        return np.asarray(outputs[..., 0] > 0, np.int64)

    def curves(self, outputs, y, weight=None, names=()):
        found = {"confusion": confusion(self.guess(outputs), y, weight, 2), "classes": list(names)}
        return found | {"roc": [roc_curve(names[1] if len(names) == 2 else "signal", outputs[:, 0], y == 1, weight)]}

    def check(self, outputs, y, what="y"):
        if y.ndim != 1 or y.dtype.kind not in "iu" or outputs != (1,):
            raise ScoreError(
                f"{what} has shape {y.shape} and type {y.dtype}, and the network has {described(outputs)}; for the {self.name} of two "
                "classes each row needs a label, 0 or 1, and the network 1 output, a logit"
            )
        if not isinstance(y, Tracer) and len(y) and not 0 <= int(y.min()) <= int(y.max()) <= 1:
            raise ScoreError(f"labels of {what} run from {int(y.min())} to {int(y.max())}; for a network of one logit legal are 0 and 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryAccuracy(AbstractBinary):
    """Share of the rows whose logit is above 0 just where their label is 1. Loss: sigmoid cross-entropy. Error: as that of `Accuracy`.

    >>> BinaryAccuracy().measure(np.array([[2.0], [0.0], [-1.0]]), np.array([1, 1, 0]))["score"]
    0.6666666666666666
    """

    name: ClassVar[str] = "accuracy"
    plural: ClassVar[str] = "accuracies"
    factor: ClassVar[float] = 100.0
    unit: ClassVar[str] = "%"
    digits: ClassVar[int] = 2

    def value(self, outputs, y, weight=None):
        return average(((outputs[:, 0] > 0) == (y == 1)).astype(jnp.float32), weight)

    def measure(self, outputs, y, weight=None):
        return share(self.guess(outputs) == y, weight)

    def error(self, found, rows):
        return share_error(found, rows)

    def explained(self, unit=""):
        return "A row counts as signal where its logit is above 0. The error of an accuracy a on n rows is sqrt(a(1 - a)/n). "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Auc(AbstractBinary):
    r"""Area under the ROC curve: the probability that a signal row has a greater output than a background row, ties counting half.

    With weights w, over signal rows s and background rows b:
    :math:`\sum_{sb} w_s w_b ([o_s > o_b] + [o_s = o_b] / 2) / \sum_{sb} w_s w_b`. 0.5 where a class has no row. Loss: sigmoid
    cross-entropy. Error: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837: the scatter of each row's share in the sum.

    >>> Auc().measure(np.array([[2.0], [0.0], [1.0], [0.0]]), np.array([1, 1, 0, 0]))["score"]
    0.625
    """

    background_rate: float | None = None
    """Also the signal efficiency where this share of the background passes, 0 .. 1, the share ``efficiency``; None: not."""

    name: ClassVar[str] = "AUC"
    plural: ClassVar[str] = "AUCs"
    unit: ClassVar[str] = ""
    digits: ClassVar[int] = 4

    def __post_init__(self):
        if self.background_rate is not None:
            _check_rate(self.background_rate)

    @property
    def shares(self):
        return () if self.background_rate is None else ("efficiency",)

    def value(self, outputs, y, weight=None):
        out, signal, background = _traced(outputs, y, weight)
        below, tied = _below(jnp, out, background)
        pairs = jnp.sum(signal) * jnp.sum(background)
        return jnp.where(pairs > 0, jnp.sum(signal * (below + tied / 2)) / jnp.where(pairs > 0, pairs, 1.0), 0.5)

    def further(self, outputs, y, weight=None):
        return {} if self.background_rate is None else {"efficiency": _efficiency(outputs, y, weight, self.background_rate)}

    def measure(self, outputs, y, weight=None):
        out, signal, background = _exact(outputs, y, weight)
        found = {"score": 0.5, "error": math.nan}
        if signal.any() and background.any():
            of_signal, of_background = (_share_below(out, w) for w in (background, signal))
            score = float(np.sum(signal * of_signal) / np.sum(signal))
            variance = _scatter(signal, of_signal, score) + _scatter(background, 1 - of_background, score)
            found = {"score": score, "error": variance**0.5}
        if self.background_rate is not None:
            found["efficiency"] = _measured_efficiency(out, signal, background, self.background_rate)
        return found

    def share_label(self, name, unit=""):
        assert self.background_rate is not None, "the share is that at a background"
        return f"signal efficiency at a background of {100 * self.background_rate:g} %"

    def explained(self, unit=""):
        text = (
            "The AUC, the area under the ROC curve, is the probability that a signal row has a greater output than a background row; its "
        )
        text += "error is DeLong's. "
        return text if self.background_rate is None else text + f"Efficiency is the {self.share_label('efficiency')}. "


@dataclasses.dataclass(frozen=True, kw_only=True)
class Efficiency(AbstractBinary):
    """Share of the signal that passes the lowest threshold which at most `background_rate` of the background passes. Loss: sigmoid
    cross-entropy.

    A row passes where its output is the threshold or more; outputs of a quantized network are few, so that less background than
    `background_rate` may pass. The error is the binomial one of the signal rows at that threshold; that of the threshold itself is not
    in it.

    >>> Efficiency(background_rate=0.4).measure(np.array([[2.0], [0.0], [1.0], [-1.0]]), np.array([1, 1, 0, 0]))["score"]
    0.5
    """

    background_rate: float = 0.01
    """Between 0 and 1."""

    name: ClassVar[str] = "signal efficiency"
    plural: ClassVar[str] = "signal efficiencies"
    factor: ClassVar[float] = 100.0
    unit: ClassVar[str] = "%"
    digits: ClassVar[int] = 2

    def __post_init__(self):
        _check_rate(self.background_rate)

    def value(self, outputs, y, weight=None):
        return _efficiency(outputs, y, weight, self.background_rate)

    def measure(self, outputs, y, weight=None):
        out, signal, background = _exact(outputs, y, weight)
        score = _measured_efficiency(out, signal, background, self.background_rate)
        total = float(np.sum(signal))
        effective = total**2 / float(np.sum(signal**2)) if total else 0.0  # rows of one weight that say as much
        return {"score": score, "error": (score * (1 - score) / effective) ** 0.5 if effective else math.nan}

    def explained(self, unit=""):
        return (
            f"The signal efficiency is the share of the signal that passes where at most {100 * self.background_rate:g} % of the "
            "background do; its error is the binomial one of the signal rows. "
        )


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise ScoreError(f"background_rate is {rate}; a number between 0 and 1 is needed")


def _traced(outputs, y, weight):
    """Output, weight as signal and weight as background of each row."""
    signal = (y == 1).astype(jnp.float32)
    weight = jnp.ones(len(y), jnp.float32) if weight is None else weight
    return outputs[:, 0], weight * signal, weight * (1 - signal)


def _exact(outputs: np.ndarray, y: np.ndarray, weight: np.ndarray | None):
    weight = np.ones(len(y)) if weight is None else weight.astype(np.float64)
    return outputs.reshape(len(y)).astype(np.float64), weight * (y == 1), weight * (y != 1)


def _below(np_, out, weight):
    """Weight of the rows whose output is below that of each row, and of those whose output is the same."""
    order = np_.argsort(out)
    ordered, total = out[order], np_.concatenate([np_.zeros(1, weight.dtype), np_.cumsum(weight[order])])
    below = total[np_.searchsorted(ordered, out, side="left")]
    return below, total[np_.searchsorted(ordered, out, side="right")] - below


def _share_below(out: np.ndarray, weight: np.ndarray) -> np.ndarray:
    below, tied = _below(np, out, weight)
    return (below + tied / 2) / np.sum(weight)


def _scatter(weight: np.ndarray, values: np.ndarray, mean_: float) -> float:
    """Variance of the weighted mean of `values`, whose rows are independent."""
    return float(np.sum(weight**2 * (values - mean_) ** 2) / np.sum(weight) ** 2)


def _efficiency(outputs, y, weight, rate: float):
    out, signal, background = _traced(outputs, y, weight)
    passing_signal, passing = (jnp.sum(w) - _below(jnp, out, w)[0] for w in (signal, background))
    allowed = passing <= rate * jnp.sum(background) * (1 + 1e-5)
    total = jnp.sum(signal)
    return jnp.max(jnp.where(allowed, passing_signal, 0.0)) / jnp.where(total > 0, total, 1.0)


def _measured_efficiency(out: np.ndarray, signal: np.ndarray, background: np.ndarray, rate: float) -> float:
    passing_signal, passing = (np.sum(w) - _below(np, out, w)[0] for w in (signal, background))
    allowed = passing <= rate * np.sum(background) * (1 + 1e-9)
    total = float(np.sum(signal))
    return float(np.max(np.where(allowed, passing_signal, 0.0))) / total if total else 0.0
