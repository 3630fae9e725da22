"""Importance: more bits for the channels of weights that matter most in the network, on a fine and a coarse region each (PTILMPQ)."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from hgqjax.methods.allocation import clipping
from hgqjax.methods.allocation.salience import integer_bits
from hgqjax.quantizers import AbstractAllocation, Moment, Regions, Slot
from hgqjax.quantizers.allocation import is_after

TAILS = (0.0, 1.0, 2.0)
BELOW = (0.0, 1.0, 2.0, 3.0)
"""Binary orders that the boundary may lie below the largest weight of a channel."""


def fitted(slot: Slot, bits: int) -> dict[str, Float[Array, "..."]]:
    """Parameters of `Regions` with so many magnitude bits: of each group the boundary and the tail of least squared error.

    All pairs of `TAILS` and `BELOW` are tried, so no group has a larger error than in fixed point that holds its largest value.
    """
    quantizer, weight, most = slot.quantizer, slot.values(), integer_bits(slot)
    t, below = (jnp.asarray(v, jnp.float32) for v in zip(*itertools.product(TAILS, BELOW), strict=True))

    def tried(t: Array, below: Array) -> tuple[dict[str, Array], Array]:
        params = quantizer.given(slot.params, float(bits), most - below, t)
        return params, slot.of_groups((quantizer.quantize(weight, params) - weight) ** 2)

    choices, errors = jax.vmap(tried)(t, below)
    best = jnp.argmin(errors, 0)
    return {name: jnp.take_along_axis(values, best[None], 0)[0] for name, values in choices.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Importance(AbstractAllocation):
    r"""Many magnitude bits for important channels of weights, few for the rest; of each channel the regions of least error (`fitted`).

    The importance of channel c of layer l is :math:`D_l \sum_{w \in c} s_w (w - q(w))^2`: q the few bits, s the mean squared gradient of a
    row's loss (`Slot.fisher`), :math:`D_l` the divergence of the outputs when this layer alone has the few bits (`Moment.divergences`). The
    channels of all layers are ranked together. With a budget as many have the many bits as the cost allows; without one `share` of them.
    Where not even none are within the budget, channels have the few bits without a tail, whose words are a bit shorter.

    Args:
      bits: few and many, magnitude bits of weights. share: of channels, without a budget. activation_bits: magnitude bits of activations,
        on steps that fit the deviation of each group (`clipping.of_magnitude_bits`).
      after: share of the run before it; 1: after the last step.

    Raises: ValueError for bits that do not rise within 2..12, and for shares outside 0..1.
    Source: after Ghavami et al., arXiv:2404.02947: important layers and channels, more bits for them, two regions in a tensor. Their
    measures of importance, bit options and boundary are not public: all formulas here are ours.
    """

    bits: tuple[int, int] = (3, 7)
    share: float = 0.25
    activation_bits: int = 8
    after: float = 1.0

    def __post_init__(self):
        if len(self.bits) != 2 or not 2 <= self.bits[0] < self.bits[1] <= 12 or not 1 <= self.activation_bits <= 12:
            raise ValueError(
                f"bits is {self.bits}, activation_bits {self.activation_bits}; few and many magnitude bits within 2..12 and bits within "
                "1..12 are needed"
            )
        if not 0 < self.after <= 1 or not 0 <= self.share <= 1:
            raise ValueError(f"after is {self.after}, share {self.share}; shares within 0..1 are needed")

    def allocates(self, epoch, epochs):
        return is_after(self.after, epoch, epochs)

    def allocate(self, slots: Sequence[Slot], moment: Moment):
        widths = [clipping.of_magnitude_bits(slot, self.activation_bits) if slot.role == "activation" else {} for slot in slots]
        kernels = {n: slot for n, slot in enumerate(slots) if slot.role != "activation"}
        assert all(isinstance(slot.quantizer, Regions) for slot in kernels.values()), "this allocation is for weights in Regions"
        few, many = ({n: fitted(slot, bits) for n, slot in kernels.items()} for bits in self.bits)
        moved = moment.divergences({n: {name: value[None] for name, value in few[n].items()} for n in kernels})
        importance = [far[0] * _error(slot, few[n]) for far, (n, slot) in zip(moved, kernels.items(), strict=True)]
        rank = ranks(importance)
        total = sum(values.size for values in rank)

        def of(count: Array) -> list[dict[str, Array]]:
            found = list(widths)
            for (n, slot), place in zip(kernels.items(), rank, strict=True):
                shortest = slot.quantizer.given(slot.params, few[n]["b"], integer_bits(slot), 0.0)
                less = {name: jnp.where(count < 0, shortest[name], value) for name, value in few[n].items()}
                found[n] = {name: jnp.where(place < count, many[n][name], value) for name, value in less.items()}
            return found

        within = most_within(lambda count: moment.cost(of(count)), moment.budget, total)
        return of(jnp.where(moment.budget > 0, within, round(self.share * total)))


def ranks(values: Sequence[Float[Array, "..."]]) -> list[Int[Array, "..."]]:
    """Place of each value among all, 0 the greatest; of equals the first in order.

    >>> [place.tolist() for place in ranks([jnp.array([1.0, 5.0]), jnp.array([5.0])])]
    [[2, 0], [1]]
    """
    flat = jnp.concatenate([v.ravel() for v in values])
    place = jnp.argsort(jnp.argsort(-flat))
    found, start = [], 0
    for v in values:
        found.append(place[start : start + v.size].reshape(v.shape))
        start += v.size
    return found


def most_within(cost: Callable[[Array], Array], budget: Array, total: int) -> Int[Array, ""]:
    """The greatest of the counts 0 .. `total` whose cost, which rises with them, is within the budget; -1 where that of 0 is not.

    >>> [int(most_within(lambda n: 2 * jnp.float32(n) + 1, jnp.float32(b), 9)) for b in (0, 1, 6, 99)]
    [-1, 0, 2, 9]
    """

    def halve(_, ends):
        low, high = ends
        middle = (low + high + 1) // 2
        within = cost(middle) <= budget
        return jnp.where(within, middle, low), jnp.where(within, high, middle - 1)

    return lax.fori_loop(0, math.ceil(math.log2(total + 2)), halve, (jnp.int32(-1), jnp.int32(total)))[0]


def _error(slot: Slot, params: dict[str, Array]) -> Float[Array, "..."]:
    weight = slot.values()
    return slot.of_groups(slot.fisher() * (slot.quantizer.quantize(weight, params) - weight) ** 2)
