"""The contract of an allocation: widths of all tensors of a network decided together, at an epoch's boundary of the compiled run."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from hgqjax import ranges as ranges_

Role = Literal["kernel", "bias", "activation"]


class Slot(NamedTuple):
    """What an allocation may know of a tensor. Callables are lazy: what an allocation does not call is not compiled."""

    name: str
    """Of its quantizer in the model."""
    layer: str
    """Name, in the objective's cost, of the layer that it belongs to; "" where that has none."""
    role: Role
    quantizer: Any
    params: dict[str, Float[Array, "..."]]
    range: ranges_.Range
    """Seen so far, of each group of values that share a width."""
    values: Callable[[], Float[Array, "..."]]
    """A weight, batch norm folded in; of activations what reaches the quantizer, (rows, *shape). Not quantized."""
    fisher: Callable[[], Float[Array, "..."]]
    """Mean over rows of the squared gradient of the row's loss in each value of the float network; a weight's shape, or (1, *shape)."""

    def largest(self) -> Float[Array, "..."]:
        """Greatest magnitude of each group of values that share a width."""
        return jnp.maximum(-self.range.low, self.range.high)

    def of_groups(self, values: Float[Array, "..."]) -> Float[Array, "..."]:
        """`values`, of each value, summed over those that share a width."""
        axes = ranges_.shared_axes(values, next(iter(self.params.values())).shape)
        return jnp.sum(values, axes, keepdims=True)


class Moment(NamedTuple):
    """When an allocation is called, and what it may ask; `widths` has the parameters of every slot, in order."""

    progress: Float[Array, ""]
    """Share of the run that is over, in [0, 1]."""
    key: Array
    """Random key of this member at this epoch."""
    budget: Float[Array, ""]
    """The member's, in units of the objective's cost; 0 without one."""
    loss: Callable[[Sequence[dict[str, Array]]], Float[Array, ""]]
    """Of the task with these widths, on the first 256 training rows."""
    cost: Callable[[Sequence[dict[str, Array]]], Float[Array, ""]]
    """The objective's, in total."""
    costs: Callable[[Sequence[dict[str, Array]]], dict[str, Float[Array, ""]]]
    """The same by layer."""
    marginal: Callable[[Sequence[dict[str, Array]]], list[Float[Array, "..."]]]
    """What a fractional bit more costs, at these widths, for each width of each slot."""
    divergences: Callable[[Mapping[int, dict[str, Array]]], Float[Array, "slots options"]]
    """How far outputs move from the float network's when one slot alone has one of its options, mean over the rows. Of each slot, by its
    number, the parameters of its options, (options, *shape): as many for each slot. One pass is compiled for all of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractAllocation(abc.ABC):
    """Static choices of a method that decides the widths of all tensors at once. Hashable, printable, JSON by its fields.

    Quantizers with an equal `allocation` are allocated together: training calls `allocate` with all of them before the epochs that
    `allocates` names. Both are pure, of fixed shapes, and safe under jit and vmap; the budget is an argument, so that one compiled program
    has a front.
    """

    needs_budget: ClassVar[bool] = False
    """True: the allocation is nothing without a budget, and a sweep without one is refused."""

    @property
    def memory(self) -> int:
        """Numbers that each width of a tensor keeps from one call to the next, as the parameter `memory` of `Allocated`."""
        return 0

    @abc.abstractmethod
    def allocates(self, epoch: Array, epochs: int) -> Array | bool:
        """Whether `allocate` is called before epoch number `epoch` (from 0) of a run of `epochs`; number `epochs` is after the last."""

    @abc.abstractmethod
    def allocate(self, slots: Sequence[Slot], moment: Moment) -> list[dict[str, Float[Array, "..."]]]:
        """New parameters of each slot, all of the names and shapes that it has."""


def is_after(share: float, epoch: Array, epochs: int) -> Array:
    """Whether `epoch` is the one before which the `share` of a run of `epochs` is over; of share 1: after the last one.

    >>> [bool(is_after(0.6, jnp.int32(n), 10)) for n in (5, 6, 7)], bool(is_after(1.0, jnp.int32(10), 10))
    ([False, True, False], True)
    """
    return epoch == min(-int(-round(share * epochs, 6) // 1), epochs)
