"""Numbers to be found: mean squared error, resolution within a window, outliers."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from hgqjax.data import Kind
from hgqjax.scores._base import AbstractScore, ScoreError, average, mean
from hgqjax.scores.curves import histogram

TARGETS = 6
"""Of so many targets, at most, each has a histogram of residuals of its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractResidual(AbstractScore):
    """What all scores of residuals have in common."""

    window: float | None = None
    """In units of y, above 0; None: every residual counts."""

    kinds: ClassVar[tuple[Kind, ...]] = ("regression",)
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self):
        if self.window is not None and not 0 < self.window < math.inf:
            raise ScoreError(f"window is {self.window}; a finite number above 0 is needed")

    @property
    def shares(self):
        return () if self.window is None else ("outliers",)

    def within(self, window):
        return self if window is None or self.window is not None else dataclasses.replace(self, window=window)

    def loss(self, outputs, y, weight=None):
        squares = (outputs - y.reshape(outputs.shape)) ** 2
        return mean(squares, None) if weight is None else mean(_by_row(squares), weight)

    def value(self, outputs, y, weight=None):
        residual = outputs - y.reshape(outputs.shape)
        if self.window is None:
            return jnp.sqrt(jnp.mean(residual**2) if weight is None else average(_by_row(residual**2), weight))
        inside = (jnp.abs(residual) < self.window).astype(jnp.float32)
        kept = jnp.where(inside > 0, residual, 0.0) ** 2
        if weight is not None:
            scaled = weight.reshape(-1, *[1] * (outputs.ndim - 1))
            inside, kept = inside * scaled, kept * scaled
        count = jnp.sum(inside)
        return jnp.where(count > 0, jnp.sqrt(jnp.sum(kept) / (jnp.maximum(count, 1.0) if weight is None else count)), self.window)

    def further(self, outputs, y, weight=None):
        if self.window is None:
            return {}
        inside = (jnp.abs(outputs - y.reshape(outputs.shape)) < self.window).astype(jnp.float32)
        return {"outliers": 1.0 - (jnp.mean(inside) if weight is None else average(_by_row(inside), weight))}

    def measure(self, outputs, y, weight=None):
        residual = outputs.reshape(len(y), -1) - y.reshape(len(y), -1)
        if self.window is None:
            return _resolution(residual, np.ones(residual.shape, bool), weight)
        inside = np.abs(residual) < self.window
        counted = inside if weight is None else inside & (weight > 0)[:, None]
        found = _resolution(residual, inside, weight) if counted.any() else {"score": self.window, "error": math.nan}
        outside = float(np.mean(~inside)) if weight is None else float(np.average(np.mean(~inside, axis=1), weights=weight))
        return found | {"outliers": outside}

    def curves(self, outputs, y, weight=None, names=()):
        residuals = outputs.reshape(len(y), -1) - y.reshape(len(y), -1)
        if residuals.shape[1] > TARGETS:  # of a whole row, as an autoencoder gives
            repeated = None if weight is None else np.repeat(weight, residuals.shape[1])
            return {"residuals": [histogram("all targets", residuals.ravel(), repeated, self.window)]}
        names = names if len(names) == residuals.shape[1] else [f"y{n}" for n in range(residuals.shape[1])]
        return {"residuals": [histogram(name, residuals[:, n], weight, self.window) for n, name in enumerate(names)]}

    def share_label(self, name, unit=""):
        return f"outliers ({f'{self.window:g} {unit}'.rstrip()} and more)"

    def explained(self, unit=""):
        edge = "" if self.window is None else f" below {f'{self.window:g} {unit}'.rstrip()}"
        others = "" if self.window is None else "Outliers are the other residuals. "
        return (
            f"The {self.name} is the root mean square of the residuals{edge}; less is better. {others}"
            f"The error of a {self.name} is the standard error of the squares of the residuals, over twice the {self.name}. "
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolution(AbstractResidual):
    r"""Root mean square of the residuals, those within the window, in the unit of y; less is better. Loss: mean squared error of all.

    Residuals of the window's size and more, and those that are no number, are outliers: their share is counted apart. Where no residual is
    in the window the resolution is the window. Of several targets the residuals of all are taken together, so they should have one unit.

    The statistical error of a resolution r on n residuals is the standard error of their squares over 2 r, whatever their distribution;
    that of several targets has a row as its unit, as residuals of one row depend on each other. It is unknown of fewer than two.

    >>> Resolution(window=30.0).text({"score": 1.9, "error": 0.02, "outliers": 0.001}, unit="mrad")
    'resolution 1.9 +- 0.02 mrad, outliers 0.10 %'
    """

    name: ClassVar[str] = "resolution"
    plural: ClassVar[str] = "resolutions"


def _by_row(values):
    return jnp.mean(values.reshape(len(values), -1), axis=1)


def _resolution(residuals: np.ndarray, inside: np.ndarray, weight: np.ndarray | None) -> dict[str, float]:
    """Of the residuals (rows, targets) that are `inside`."""
    if weight is None and residuals.shape[1] == 1:
        squares = residuals[inside].astype(np.float64) ** 2
        resolution = float(np.sqrt(np.mean(squares)))
        spread = float(np.std(squares)) if len(squares) > 1 else math.nan
        return {"score": resolution, "error": spread / (2 * resolution * len(squares) ** 0.5) if resolution else 0.0}
    weight = np.ones(len(residuals)) if weight is None else weight.astype(np.float64)
    counts = weight * inside.sum(axis=1)  # of each row, whose residuals belong together
    sums = weight * np.sum(np.where(inside, residuals.astype(np.float64), 0.0) ** 2, axis=1)
    square = float(np.sum(sums) / np.sum(counts))
    if np.count_nonzero(counts) < 2:
        return {"score": square**0.5, "error": math.nan}
    error = float(np.sqrt(np.sum((sums - square * counts) ** 2)) / np.sum(counts))
    return {"score": square**0.5, "error": error / (2 * square**0.5) if square else 0.0}
