"""Salience: bits where the squared gradient is large and hardware cheap; the limit of SFMP in which each value is a block."""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hgqjax import fixed_point, ranges
from hgqjax.quantizers import AbstractAllocation, Allocated, Moment, Slot
from hgqjax.quantizers.allocation import is_after

HALVINGS = 40
"""Of the interval that holds log2 of the multiplier."""
REACH = 320.0
"""Its ends, beyond any ratio of two positive float32 numbers and any width."""
TINY = 1e-30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Salience(AbstractAllocation):
    r"""Fractional bits of least expected error within the member's budget, of every width of weights and activations.

    A value with f fractional bits has the error :math:`s\,4^{-f} / 12`, s its salience, the mean squared gradient of a row's loss
    (`Slot.fisher`), summed over the values that share the width; a bit more costs c (`Moment.marginal`, of any cost model). For a
    multiplier :math:`\lambda` the least of error and cost together is at

    .. math:: f = round(\tfrac12 \log_2 \frac{s}{\lambda c})

    within the bits that the quantizer may have; where that is below half a step of the value itself, it is pruned. Bisection of
    :math:`\log_2 \lambda` (40 halvings) finds the least :math:`\lambda` whose cost is within the budget. As c of a weight hangs on the bits
    of its input and the other way round, this is done `rounds` times, from the most bits on. Weights and activations have one
    :math:`\lambda`.

    Args:
      after: share of the run before it; 1: after the last step, with no gradient step behind it.

    Raises: ValueError for a share outside 0..1, and for no round.
    Source: the salience of SFMP, arXiv:2602.01027, with one value as a block and the cost of hardware; the limit is ours.
    """

    needs_budget = True
    after: float = 1.0
    rounds: int = 3

    def __post_init__(self):
        if not 0 < self.after <= 1 or self.rounds < 1:
            raise ValueError(f"after is {self.after}, rounds {self.rounds}; a share of the run within 0..1 and at least 1 are needed")

    def allocates(self, epoch, epochs):
        return is_after(self.after, epoch, epochs)

    def allocate(self, slots: Sequence[Slot], moment: Moment):
        gains = [jnp.log2(jnp.maximum(slot.of_groups(slot.fisher()), TINY)) for slot in slots]
        integers = [integer_bits(slot) for slot in slots]
        most = [_given(slot, jnp.full_like(i, 60.0), i) for slot, i in zip(slots, integers, strict=True)]
        widths = most
        for _ in range(self.rounds):
            costs = self._marginal(slots, moment, widths, most)
            wanted = [gain - jnp.log2(jnp.maximum(cost, TINY)) for gain, cost in zip(gains, costs, strict=True)]

            def of(multiplier, wanted=wanted):
                return [_given(slot, jnp.round((want - multiplier) / 2), i) for slot, want, i in zip(slots, wanted, integers, strict=True)]

            widths = of(least_multiplier(lambda multiplier, of=of: moment.cost(of(multiplier)), moment.budget))
        return widths

    @staticmethod
    def _marginal(slots: Sequence[Slot], moment: Moment, widths: list, most: list) -> list[Float[Array, "..."]]:
        """Cost of a bit: of weights that are all there, with the activations of `widths`, and the other way round."""
        found: list = [None] * len(slots)
        for moved in (False, True):
            mixed = [m if (s.role == "activation") == moved else w for s, m, w in zip(slots, most, widths, strict=True)]
            slopes = moment.marginal(mixed)
            found = [slope if (s.role == "activation") == moved else old for s, slope, old in zip(slots, slopes, found, strict=True)]
        return found


def integer_bits(slot: Slot) -> Float[Array, "..."]:
    """Bits left of the point that hold the largest value of each group; of weights as they are now, of activations as they were seen."""
    if slot.role == "activation":
        return fixed_point.exponent(slot.largest())
    weight = abs(slot.values())
    shape = next(iter(slot.params.values())).shape
    axes = tuple(a for a, n in enumerate(shape) if n == 1)
    return fixed_point.exponent(jnp.max(weight, axes, keepdims=True, initial=0.0))


def least_multiplier(cost: Callable[[Array], Array], budget: Array) -> Float[Array, ""]:
    """log2 of the least multiplier whose cost is within the budget, to 1e-9; the greatest there is, where no cost is.

    >>> float(least_multiplier(lambda m: jnp.round(-m), jnp.float32(3.0))) > -3.6
    True
    """

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        within = cost(middle) <= budget
        return jnp.where(within, low, middle), jnp.where(within, middle, high)

    return lax.fori_loop(0, HALVINGS, halve, (jnp.float32(-REACH), jnp.float32(REACH)))[1]


def _given(slot: Slot, f: Array, i: Array) -> dict[str, Array]:
    assert isinstance(slot.quantizer, Allocated), "this allocation is for Allocated"
    widths = slot.quantizer.given(slot.params, f, i)
    _, rounded_up = ranges.integer_bits(slot.range, widths["f"], slot.quantizer.rounding)  # which may need a bit more
    return slot.quantizer.clip(widths | {"i": rounded_up})
