"""What a run minimises: task loss + beta * cost (EBOPs) + gamma * bits; and how well a model does its task."""

import dataclasses
import math
from typing import Literal

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Shaped

from hgqjax import layers, resources

Task = Literal["classification", "regression"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    r""":math:`L = L_{task} + \beta\,\mathrm{cost} + \gamma \sum bits`.

    Source: Sun et al. (HGQ), arXiv:2405.00645.
    """

    task: Task = "classification"
    """"classification": mean softmax cross-entropy of integer labels, score is accuracy; "regression": mean squared error, score is minus
    the root mean square of the residuals."""
    window: float | None = None
    """Of a regression, in units of y: residuals of this size and more are outliers, counted apart and left out of the score. The loss has
    them all."""
    gamma: float = 2e-8
    """Loss per magnitude bit of any width; keeps bits that nothing needs from floating."""
    cost: resources.AbstractCost = resources.Ebops()
    """What beta multiplies: EBOPs as HGQ2 counts them, or any other cost model."""

    def __post_init__(self):
        if self.task not in ("classification", "regression") or self.gamma < 0:
            raise ValueError(f"task is {self.task!r}, gamma {self.gamma}; 'classification' or 'regression' and gamma >= 0 are needed")
        if self.window is not None and (self.task != "regression" or not 0 < self.window < math.inf):
            raise ValueError(f"window is {self.window}; a finite number above 0 is needed, and for a classification none")

    def task_loss(self, outputs: Float[Array, "rows n"], y: Shaped[Array, "rows ..."]) -> Float[Array, ""]:
        """Mean loss of the task."""
        if self.task == "classification":
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, y))
        return jnp.mean((outputs - y.reshape(outputs.shape)) ** 2)

    def score(self, outputs: Float[Array, "rows n"], y: Shaped[Array, "rows ..."]) -> Float[Array, ""]:
        """Greater is better: accuracy (the first of equal outputs wins), or minus the root mean square of the residuals in the window.

        Where no residual is in the window the score is minus the window.
        """
        if self.task == "classification":
            return jnp.mean((jnp.argmax(outputs, axis=-1) == y).astype(jnp.float32))
        if self.window is None:
            return -jnp.sqrt(self.task_loss(outputs, y))
        residual = outputs - y.reshape(outputs.shape)
        inside = jnp.abs(residual) < self.window
        count = jnp.sum(inside.astype(jnp.float32))
        square = jnp.sum(jnp.where(inside, residual, 0.0) ** 2) / jnp.maximum(count, 1.0)
        return jnp.where(count > 0, -jnp.sqrt(square), -self.window)

    def outliers(self, outputs: Float[Array, "rows n"], y: Shaped[Array, "rows ..."]) -> Float[Array, ""]:
        """Share of the residuals that are not in the window, 0 .. 1; those that are no number are among them."""
        if self.window is None:
            return jnp.zeros(())
        return 1.0 - jnp.mean((jnp.abs(outputs - y.reshape(outputs.shape)) < self.window).astype(jnp.float32))

    def in_words(self, score: float, unit: str = "", outliers: float | None = None) -> str:
        """A score for people; `unit` is that of y.

        >>> Objective().in_words(0.75), Objective(task="regression", window=30.0).in_words(-1.9, "mrad", 0.001)
        ('accuracy 0.7500', 'resolution 1.9 mrad, outliers 0.10 %')
        """
        if self.task == "classification":
            return f"accuracy {score:.4f}"
        share = "" if outliers is None else f", outliers {100 * outliers:.2f} %"
        return f"resolution {-score:.4g} {unit}".rstrip() + share

    def costs(self, model: layers.Module) -> resources.Costs:
        """`cost` of `model` by layer, as float32 scalars, whatever numbers the cost model gives."""
        return resources.Costs({name: jnp.asarray(value, jnp.float32) for name, value in self.cost(model).items()})

    def __call__(self, model: layers.Module, x, y, beta: Float[Array, ""]):
        """``(loss, metrics)`` of a training call of `model`; metrics: loss of the task, score, total cost."""
        outputs = model(x)
        task = self.task_loss(outputs, y)
        cost = self.costs(model).total
        loss = task + beta * cost + self.gamma * layers.regularizer_bits(model)
        return loss, {"loss": task, "score": self.score(outputs, y), "cost": cost}
