"""What a run minimises: loss of the task + beta * cost (predicted LUTs, EBOPs) + gamma * bits."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from hgqjax import layers, resources, scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    r""":math:`L = L_{task} + \beta\,\mathrm{cost} + \gamma \sum bits`.

    Source: Sun et al. (HGQ), arXiv:2405.00645.
    """

    score: scores.AbstractScore = scores.Accuracy()
    """The task: its loss, and how well a model does it."""
    gamma: float = 2e-8
    """Loss per magnitude bit of any width; keeps bits that nothing needs from floating."""
    cost: resources.AbstractCost = resources.Luts()
    """What beta multiplies: predicted LUTs, EBOPs as HGQ2 counts them, or any other cost model. Predicted LUTs give networks of fewer LUTs
    and fewer EBOPs at equal length (docs/results.md); the paper has EBOPs."""

    def __post_init__(self):
        if not self.gamma >= 0:
            raise ValueError(f"gamma is {self.gamma}; at least 0 is needed")

    def costs(self, model: layers.Module) -> resources.Costs:
        """`cost` of `model` by layer, as float32 scalars, whatever numbers the cost model gives."""
        return resources.Costs({name: jnp.asarray(value, jnp.float32) for name, value in self.cost(model).items()})

    def __call__(self, model: layers.Module, x, y, beta: Float[Array, ""], weight: Array | None = None):
        """``(loss, metrics)`` of a training call of `model`; metrics: loss of the task, score, total cost. `weight` is that of the rows."""
        outputs = model(*layers.row_arrays(x))
        task = self.score.loss(outputs, y, weight)
        cost = self.costs(model).total
        loss = task + beta * cost + self.gamma * layers.regularizer_bits(model)
        return loss, {"loss": task, "score": self.score.value(outputs, y, weight), "cost": cost}
