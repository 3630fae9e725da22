"""Layerwise: bits of each layer's weights and inputs by an integer program: least divergence of the outputs within a budget (OHQ)."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from hgqjax.methods.allocation import clipping
from hgqjax.quantizers import AbstractAllocation, Moment, Slot
from hgqjax.quantizers.allocation import is_after

CELLS = 4096
"""Equal parts of the budget, in which costs are counted, rounded up."""
HALVINGS = 12
"""Of the interval that holds the largest share of the budget that may be spent, for networks whose cost is not a sum over these layers."""


def integer_program(loss: Float[Array, "layers options"], cost: Float[Array, "layers options"], budget: Array) -> Int[Array, "layers"]:
    r"""One option for each layer: the least sum of `loss` of all choices whose sum of `cost` is within the budget.

    Dynamic programming over layers and `CELLS` parts of the budget. A cost is rounded up to whole parts, so a choice is never above the
    budget. No choice within :math:`(1 - layers / CELLS)` of the budget has less loss, and of costs that are whole parts none at all. Of
    equal losses the least cost is taken, in parts. Where no choice is within the budget, each layer has its cheapest option.

    >>> loss, cost = jnp.array([[5.0, 1.0], [9.0, 0.0]]), jnp.array([[0.0, 2.0], [0.0, 2.0]])
    >>> [integer_program(loss, cost, jnp.float32(b)).tolist() for b in (0, 2, 4)]
    [[0, 0], [0, 1], [1, 1]]
    """
    parts = jnp.where(budget > 0, cost * (CELLS / jnp.maximum(budget, 1e-30)), jnp.where(cost > 0, jnp.inf, 0.0))
    sizes = jnp.clip(jnp.ceil(parts), 0, CELLS + 1).astype(jnp.int32)
    cells = jnp.arange(CELLS + 1)

    def add(least, layer):
        loss, sizes = layer
        before = cells[None] - sizes[:, None]
        sums = jnp.where(before >= 0, least[jnp.maximum(before, 0)] + loss[:, None], jnp.inf)
        return jnp.min(sums, 0), jnp.argmin(sums, 0)

    least, choices = lax.scan(add, jnp.where(cells == 0, 0.0, jnp.inf), (loss, sizes))
    end = jnp.argmin(least)  # the first of equals

    def trace(cell, layer):
        choices, sizes = layer
        choice = choices[cell]
        return jnp.maximum(cell - sizes[choice], 0), choice

    _, found = lax.scan(trace, end, (choices, sizes), reverse=True)
    return jnp.where(jnp.isfinite(least[end]), found, jnp.argmin(cost, 1))


class Options:
    """Parameters of each of `slots` for each of several magnitude bits, chosen layer by layer; a slot of no layer is one by itself."""

    def __init__(self, slots: Sequence[Slot], bits: Sequence[int]):
        self._slots, self.layers = slots, sorted({slot.layer or slot.name for slot in slots})
        choices = [[clipping.of_magnitude_bits(slot, b) for b in bits] for slot in slots]
        self.stacks = [{name: jnp.stack([params[name] for params in choice]) for name in choice[0]} for choice in choices]

    def layer(self, slot: Slot) -> int:
        """Number of the layer of `slot`."""
        return self.layers.index(slot.layer or slot.name)

    def first(self, layer: str) -> Slot:
        """The first slot of `layer`."""
        return next(slot for slot in self._slots if (slot.layer or slot.name) == layer)

    def of(self, weights: Int[Array, "layers"], inputs: Int[Array, "layers"]) -> list[dict[str, Array]]:
        """Parameters of all slots, by the number of each layer's option for its weights, and for its inputs."""
        numbers = [(inputs if slot.role == "activation" else weights)[self.layer(slot)] for slot in self._slots]
        return [{name: v[number] for name, v in stack.items()} for stack, number in zip(self.stacks, numbers, strict=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layerwise(AbstractAllocation):
    r"""Magnitude bits w of the weights and a of the inputs of each layer, by an integer program within the member's budget.

    .. math:: \min \sum_l \Omega_l(w_l) + \Omega_l(a_l) \quad\text{with}\quad \sum_l C_l(w_l, a_l) \le budget

    :math:`\Omega` is the divergence of the outputs from the float network's when that tensor alone has so many bits
    (`Moment.divergences`; of classes the Kullback-Leibler divergence), mean over the rows. :math:`C_l(w, a)` is the layer's cost with
    these bits, by the objective's cost model, whichever it is. Steps are powers of two that fit the deviation of each group
    (`clipping.of_magnitude_bits`). `integer_program` solves it. A part of the cost that is of no such layer, and may hang on several, is
    taken from the budget; where the cost of the choice is above the budget nevertheless, less is given to the layers, by bisection.

    Args:
      bits: fewest and most magnitude bits; a sign comes on top where there is one.
      after: share of the run before it; 1: after the last step, with no gradient step behind it.

    Raises: ValueError for bits outside 1..12 or that do not rise, or a share outside 0..1.
    Source: after Huang et al. (OHQ), arXiv:2309.01945: sensitivity by a Kullback-Leibler divergence, costs of each operator and width, an
    integer program. How its masks are made and its terms are weighted is not public. Ours: the divergence as the one sensitivity, sums of
    independent losses, calibration rows (there: synthetic ones), and the solver.
    """

    needs_budget = True
    bits: tuple[int, int] = (2, 8)
    after: float = 1.0

    def __post_init__(self):
        if len(self.bits) != 2 or not 1 <= self.bits[0] <= self.bits[1] <= 12:
            raise ValueError(f"bits is {self.bits}; fewest and most magnitude bits within 1..12 are needed")
        if not 0 < self.after <= 1:
            raise ValueError(f"after is {self.after}; a share of the run within 0..1 is needed")

    def allocates(self, epoch, epochs):
        return is_after(self.after, epoch, epochs)

    def allocate(self, slots: Sequence[Slot], moment: Moment):
        options = Options(slots, range(self.bits[0], self.bits[1] + 1))
        layers, count = options.layers, self.bits[1] - self.bits[0] + 1
        w, a = (jnp.array(numbers) for numbers in zip(*itertools.product(range(count), repeat=2), strict=True))
        loss = jnp.zeros((len(layers), count, count))
        for slot, moved in zip(slots, moment.divergences(dict(enumerate(options.stacks))), strict=True):
            loss = loss.at[options.layer(slot)].add(moved[None, :] if slot.role == "activation" else moved[:, None])
        loss = loss.reshape(len(layers), len(w))

        everywhere = [jnp.broadcast_to(numbers[:, None], (len(w), len(layers))) for numbers in (w, a)]
        costs = jax.vmap(lambda w, a: dict(moment.costs(options.of(w, a))))(*everywhere)
        cost = jnp.stack([costs.get(layer, jnp.zeros(len(w))) for layer in layers])
        rest = sum((values[0] for layer, values in costs.items() if layer not in layers), jnp.zeros(()))

        def chosen(budget: Array) -> list[dict[str, Array]]:
            found = integer_program(loss, cost, budget)
            return options.of(w[found], a[found])

        return chosen(spendable(lambda budget: moment.cost(chosen(budget)), moment.budget - rest, moment.budget))


def spendable(cost: Callable[[Array], Array], most: Array, budget: Array) -> Float[Array, ""]:
    """`most`, or as much less as brings the cost of what is chosen for it within the budget; 0 where nothing does.

    >>> float(spendable(lambda spent: spent, jnp.float32(4.0), jnp.float32(4.0)))
    4.0
    >>> 2.9 < float(spendable(lambda spent: spent + 1, jnp.float32(4.0), jnp.float32(4.0))) <= 3.0
    True
    """

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        within = cost(middle) <= budget
        return jnp.where(within, middle, low), jnp.where(within, high, middle)

    most = jnp.maximum(most, 0.0)
    low = jnp.where(cost(most) <= budget, most, 0.0)
    return lax.fori_loop(0, HALVINGS, halve, (low, most))[0]
