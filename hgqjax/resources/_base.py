"""The contract of a cost model, written once."""

import abc
import dataclasses
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float

Definition = Literal["hgq2", "paper_v1"]
"""What counts as the width of an operand; see `hgqjax.resources.Ebops`."""
Values = jax.Array | np.ndarray
"""NumPy's arrays of a description, exact, or JAX's of a model in training."""
Cost = Float[Values, ""] | np.floating | float
"""A cost: one number, of whichever array library made it."""


@runtime_checkable
class Costed(Protocol):
    """A model (`hgqjax.layers.Module`) or a model description."""

    def operations_cost(self) -> dict[str, Any]:
        """The operations of `hgqjax.resources` that it computes, by layer name."""
        ...

    def operations_uses(self) -> dict[str, Any]:
        """How often each stands in hardware; of those that are not here once."""
        ...


class Costs(dict):
    """Cost by layer name; `total` is their sum."""

    @property
    def total(self) -> Cost:
        """Over all layers."""
        return sum(self.values(), start=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractCost(abc.ABC):
    """Static choices of a cost model; called with a model it gives the `Costs`: pure, differentiable in every width.

    A new one writes `operation`. Of a model in training the formats are those in force, with the ranges observed so far: an estimate. Of a
    model description they are exact.
    """

    unit: ClassVar[str] = "cost"
    """What it counts, for figures and progress."""

    @abc.abstractmethod
    def operation(self, op: Any) -> Cost:
        """Cost of one operation of `hgqjax.resources` (`Dense`, `Conv`, `Add`, ...): a number from the widths of its signals."""

    def __call__(self, model: Costed) -> Costs:
        uses = model.operations_uses()
        costs = {name: self.operation(op) for name, op in model.operations_cost().items()}
        return Costs({name: cost * uses[name] if name in uses else cost for name, cost in costs.items()})
