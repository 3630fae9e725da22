"""What a score is: the contract that training, evaluation, reports and the command read, and nothing else of a task."""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from hgqjax.data import Kind


class ScoreError(ValueError):
    """Rows, outputs or an option that do not fit a score; one sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractScore(abc.ABC):
    """How well a network does its task: its loss, its score while training and on frozen models, and how people read that.

    A score is a number in its natural sense (an accuracy 0 .. 1, a resolution above 0); `higher_is_better` says in which direction it is
    good, and `merit` turns it so that greater is better. People read `factor` times the score, in `unit_of`.

    A new one derives from this and writes `loss`, `value` and `measure`; docs/extend.md has an example. Instances are hashable, compare by
    value, and are written into configurations as JSON.
    """

    name: ClassVar[str]
    """What the score is called, of a single model: "accuracy"."""
    plural: ClassVar[str]
    """The same of several models."""
    kinds: ClassVar[tuple[Kind, ...]]
    """Which rows it is for, as `hgqjax.data.Dataset.kind` says."""
    higher_is_better: ClassVar[bool] = True
    factor: ClassVar[float] = 1.0
    """What people read is so many times the score: 100 of what they read in percent."""
    unit: ClassVar[str | None] = None
    """Of what people read; None: the unit of y."""
    digits: ClassVar[int] = 3
    """Behind the point, in tables."""
    window = cast(float | None, None)  # without annotation: of the class, and a field only where a score makes it one
    """Residuals of this size and more are outliers; None where there is none. A field of scores that can have one."""

    @property
    def shares(self) -> tuple[str, ...]:
        """Names of the further numbers that `further` and `measure` give: shares, 0 .. 1."""
        return ()

    @abc.abstractmethod
    def loss(self, outputs: Float[Array, "rows n"], y: Shaped[Array, "rows ..."], weight: Array | None = None) -> Float[Array, ""]:
        """What training minimises: the mean over rows, each times its `weight` where rows have weights. Differentiable in `outputs`."""

    @abc.abstractmethod
    def value(self, outputs: Float[Array, "rows n"], y: Shaped[Array, "rows ..."], weight: Array | None = None) -> Float[Array, ""]:
        """The score of `outputs`, within compiled code."""

    def divergence(self, outputs: Float[Array, "rows n"], reference: Float[Array, "rows n"]) -> Float[Array, ""]:
        """How far outputs are from those of another network, mean over rows, >= 0: the Kullback-Leibler divergence of what they stand for.

        By default normal distributions of variance 1: half the squared difference, summed over the outputs.
        """
        return jnp.mean(jnp.sum((outputs - reference).reshape(len(outputs), -1) ** 2, axis=-1)) / 2

    def further(self, outputs: Array, y: Array, weight: Array | None = None) -> dict[str, Array]:
        """The numbers that `shares` names, within compiled code."""
        return {}

    @abc.abstractmethod
    def measure(self, outputs: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> dict[str, float]:
        """Of the exact outputs of a frozen model, in float64: ``score``; ``error``, unless `error` can tell it; what `shares` names."""

    def curves(self, outputs: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None, names: tuple[str, ...] = ()) -> dict[str, Any]:
        """What a report draws of exact outputs, as `hgqjax.scores.curves` makes it: ``confusion`` with ``classes``, ``roc``, ``residuals``.

        Args:
          names: of the classes, or of the targets.
        """
        return {}

    def guess(self, outputs: np.ndarray) -> np.ndarray:
        """The number of the class that each row of outputs (..., outputs) is taken for: that of the greatest, of equal ones the first."""
        return np.asarray(np.argmax(outputs, axis=-1))

    def error(self, found: Mapping[str, float | None], rows: int | float | None) -> float | None:
        """Statistical error of ``found["score"]``, in its units, as it was measured on so many rows; None where it is not known."""
        error = found.get("error")
        return None if error is None or math.isnan(error) else error

    def outputs(self, classes: int, targets: int) -> int:
        """How many outputs a network needs for rows of so many classes, or columns of y."""
        return classes or targets

    def check(self, outputs: tuple[int, ...], y: np.ndarray | Array, what: str = "y") -> None:
        """Refuses rows that a network cannot be trained or measured on.

        Args:
          outputs: shape of what it gives for one row. y: targets of rows; only its shape and type are looked at where it is traced.
          what: a name of the rows, for the error.

        Raises: ScoreError.
        """
        width = math.prod(y.shape[1:])
        if y.dtype.kind not in "fiu" or math.prod(outputs) != width:
            raise ScoreError(
                f"{what} has {_numbers(width)} of type {y.dtype} for each row, but the network has {_outputs(outputs)}; "
                f"for {self.plural} give it as many outputs as there are targets"
            )

    def within(self, window: float | None) -> "AbstractScore":
        """This score with that window, where it can have one and has none."""
        return self

    def merit(self, score):
        """The score, or an array of them, as the larger the better: what fronts are made of."""
        return score if self.higher_is_better else -score

    def shown(self, score):
        """A score, an error, or an array of them, as people read it."""
        return self.factor * score

    def unit_of(self, unit: str = "") -> str:
        """The unit of what people read, where that of y is `unit`."""
        return unit if self.unit is None else self.unit

    def unit_of_differences(self, unit: str = "") -> str:
        """The unit of a difference of two scores: points, of percents."""
        found = self.unit_of(unit)
        return {"%": "points", "": "units"}.get(found, found)

    def label(self, unit: str = "") -> str:
        """Heads of columns, names of axes: the name with the unit."""
        return f"{self.name} ({found})" if (found := self.unit_of(unit)) else self.name

    def brief(self, score: float) -> str:
        """A few characters, for a progress bar."""
        return f"{score:.1%}" if self.unit == "%" else f"{self.shown(score):.3g}"

    def plain(self, score: float) -> str:
        """`shown`, as sentences have it: of percents so many digits behind the point, else four digits in all."""
        return f"{self.shown(score):.{self.digits}f}" if self.unit == "%" else f"{self.shown(score):.4g}"

    def cell(self, score: float, error: float | None = None, sign: str = "±") -> str:
        """`shown` with the digits of a table, and its error."""
        return f"{self.shown(score):.{self.digits}f}" + ("" if error is None else f" {sign} {self.shown(error):.{self.digits}f}")

    def number(self, score: float, unit: str = "") -> str:
        """`plain` with the unit."""
        return f"{self.plain(score)} {self.unit_of(unit)}".rstrip()

    def text(self, found: Mapping[str, float | None], rows: int | None = None, unit: str = "") -> str:
        """What `measure` has `found` on so many rows, for people: name, score, error, unit and further shares."""
        error = self.error(found, rows)
        score = found["score"]
        assert score is not None, "a model that was measured has a score"
        words = f"{self.name} {self.plain(score)}" + ("" if error is None else f" +- {self._error_text(error)}")
        return ", ".join([f"{words} {self.unit_of(unit)}".rstrip(), *self.share_texts(found)])

    def share_texts(self, found: Mapping[str, float | None]) -> list[str]:
        """Each further share that is there, with its name, in percent."""
        return [f"{name} {100 * share:.2f} %" for name in self.shares if (share := found.get(name)) is not None]

    def share_label(self, name: str, unit: str = "") -> str:
        """What a share is, for a legend."""
        return name

    def explained(self, unit: str = "") -> str:
        """Sentences for the foot of a table: what the score is, and its error."""
        better = "more" if self.higher_is_better else "less"
        return f"Of the {self.name} {better} is better. "

    def margin(self, worst: float) -> float:
        """A small step of merit, where all scores are `worst`: a point of a share, else a tenth."""
        return 1 / self.factor if self.factor != 1 else abs(worst) / 10

    def _error_text(self, error: float) -> str:
        return f"{self.shown(error):.{self.digits}f}" if self.unit == "%" else f"{self.shown(error):.2g}"


def mean(values: Array, weight: Array | None) -> Array:
    """Mean of one number for each row; with weights the sum of products over the number of rows, as a loss has it."""
    return jnp.mean(values) if weight is None else jnp.mean(weight * values)


def average(values: Array, weight: Array | None) -> Array:
    """Mean of one number for each row; with weights the weighted mean, 0 where there is no weight, as a score has it."""
    if weight is None:
        return jnp.mean(values)
    total = jnp.sum(weight)
    return jnp.where(total > 0, jnp.sum(weight * values) / jnp.where(total > 0, total, 1.0), 0.0)


def bernoulli_divergence(outputs: Array, reference: Array) -> Array:
    """Kullback-Leibler divergence of the shares that logits stand for, summed over the outputs, mean over rows.

    >>> float(bernoulli_divergence(jnp.zeros((2, 1)), jnp.zeros((2, 1))))
    0.0
    """
    wanted, found = jax.nn.log_sigmoid(jnp.stack([reference, -reference])), jax.nn.log_sigmoid(jnp.stack([outputs, -outputs]))
    return jnp.sum(jnp.exp(wanted) * (wanted - found)) / len(outputs)


def _numbers(width: int) -> str:
    return "one number" if width == 1 else f"{width} numbers"


def _outputs(shape: tuple[int, ...]) -> str:
    count = math.prod(shape)
    return "1 output" if count == 1 else f"{count} outputs"


def described(outputs: tuple[int, ...]) -> str:
    """How many outputs there are, in words."""
    return _outputs(outputs)
