"""Dropping: which bits of a network stay that has learned how likely each of them is dropped (CPQ with DropBits)."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from hgqjax.methods.allocation.importance import most_within, ranks
from hgqjax.quantizers import AbstractAllocation, Cpq, Moment, Slot
from hgqjax.quantizers.allocation import is_after


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropping(AbstractAllocation):
    r"""Takes the bits of `Cpq` for good that are likelier there than not, and within the budget.

    A bit needs all below it, so it is ranked by the least :math:`\Pi` among itself and these (`Cpq.odds`). Bits of at least 1/2 stay. Where
    their cost is above the member's budget, further bits go, in the order of the network's ranks, until it is not. Without a budget all
    of them stay.

    Args:
      after: share of the run before it; 1: after the last step.

    Raises: ValueError for a share outside 0..1.
    Source: the rule of 1/2 is that of CPQ with DropBits, arXiv:2109.02100; the order within a budget is ours.
    """

    after: float = 0.6

    def __post_init__(self):
        if not 0 < self.after <= 1:
            raise ValueError(f"after is {self.after}; a share of the run within 0..1 is needed")

    def allocates(self, epoch, epochs):
        return is_after(self.after, epoch, epochs)

    def allocate(self, slots: Sequence[Slot], moment: Moment):
        assert all(isinstance(slot.quantizer, Cpq) for slot in slots), "this allocation is for Cpq"
        odds = [slot.quantizer.odds(slot.params) for slot in slots]
        places, total = ranks(odds), sum(values.size for values in odds)

        def of(count: Array) -> list[dict[str, Array]]:
            return [slot.quantizer.taken(slot.params, place < count) for slot, place in zip(slots, places, strict=True)]

        likely = sum(jnp.sum(values >= 0) for values in odds)
        within = most_within(lambda count: moment.cost(of(count)), moment.budget, total)
        return of(jnp.where(moment.budget > 0, jnp.minimum(within, likely), likely))
