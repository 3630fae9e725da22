"""Walk: a random walk over the bits of layers, by scores that loss and cost have earned (AMED)."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from hgqjax.methods.allocation.layerwise import Options
from hgqjax.quantizers import AbstractAllocation, Moment, Slot


def move(key: Array, scores: Float[Array, "layers options"], choice: Int[Array, "layers"], temperature: float) -> Int[Array, "layers"]:
    r"""One step of each layer: a proposal from :math:`p = softmax(S / T)`, taken with probability :math:`\min(1, p_{new} / p_{old})`.

    With fixed scores the walk is at each option with probability :math:`p^2 / \sum p^2`, which is :math:`softmax(2 S / T)`: proposals come
    from p, too.
    """
    of_proposal, of_acceptance = jax.random.split(key)
    scaled = scores / temperature
    proposal = jax.random.categorical(of_proposal, scaled)
    new, old = (jnp.take_along_axis(scaled, at[:, None], 1)[:, 0] for at in (proposal, choice))
    accepted = jnp.log(jax.random.uniform(of_acceptance, choice.shape)) < new - old
    return jnp.where(accepted, proposal, choice)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Walk(AbstractAllocation):
    r"""Magnitude bits of each layer, of its weights and its inputs alike, by a random walk while the network trains.

    It begins with the most bits, and with scores S of each layer and option drawn from 0 .. 1. Before every `every`-th epoch, until the
    share `until` of the run, the options in force are scored, and each layer takes a step (`move`):

    .. math:: \zeta = loss\_weight \cdot L + cost\_weight \cdot C / C_{most}, \quad
        S \leftarrow (1 - e) S + |e| \log_{10}(\zeta_{first} / \zeta)

    with L the loss of the task on the training rows (`Moment.loss`), C the objective's cost, both with the bits in force, and
    :math:`C_{most}` the cost with the most bits. e is `rate`; for -1 the first factor is 1: all that was earned is added up. With a budget
    layers lose an option each, from the last to the first and again, until the cost is within it. Steps are powers of two that fit the
    deviation of each group (`clipping.of_magnitude_bits`), made anew at each call.

    Args:
      bits: magnitude bits that a layer may have, rising; a sign comes on top where there is one.
      temperature: T, > 0. loss_weight, cost_weight: >= 0, not both 0. rate: e, within 0..1, or -1.
      every: epochs. until: share of the run; the rest trains with the bits that were reached.

    Raises: ValueError for illegal numbers, and for runs that are too short for one step.
    Source: AMED, arXiv:2205.15437; its code has bits 2, 3, 4, 8, T = 1, both weights 1, and e = 0.01, with which most of the score is what
    was drawn at first. Ours: e = -1; a reference that is measured at the first call (there: a loss of 2); any cost model (there: the
    latency of a simulated systolic array); power-of-two steps (there: learned ones); the budget; the end of the walk.

    >>> Walk().allocates(jnp.int32(4), 10), Walk().allocates(jnp.int32(8), 10)
    (Array(True, dtype=bool), Array(False, dtype=bool))
    """

    bits: tuple[int, ...] = (2, 3, 4, 8)
    temperature: float = 1.0
    loss_weight: float = 1.0
    cost_weight: float = 1.0
    rate: float = -1.0
    every: int = 2
    until: float = 0.6

    def __post_init__(self):
        rising = all(1 <= a < b <= 12 for a, b in zip(self.bits, self.bits[1:], strict=False))
        if len(self.bits) < 2 or not rising:
            raise ValueError(f"bits is {self.bits}; two or more magnitude bits that rise within 1..12 are needed")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}; a finite number above 0 is needed")
        weights = self.loss_weight, self.cost_weight
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ValueError(f"loss_weight is {weights[0]}, cost_weight {weights[1]}; numbers of at least 0 are needed, one above it")
        if not (0 <= self.rate <= 1 or self.rate == -1):
            raise ValueError(f"rate is {self.rate}; within 0..1 is needed, or -1")
        if self.every < 1 or not 0 < self.until <= 1:
            raise ValueError(f"every is {self.every}, until {self.until}; at least 1 epoch and a share of the run within 0..1 are needed")

    @property
    def memory(self):
        return len(self.bits) + 2

    def allocates(self, epoch, epochs):
        if self.until * epochs < self.every:
            raise ValueError(f"epochs is {epochs}; one step of this method comes after {self.every}, within {self.until:g} of the run")
        return (epoch % self.every == 0) & (epoch <= min(math.floor(self.until * epochs + 1e-6), epochs - 1))

    def allocate(self, slots: Sequence[Slot], moment: Moment):
        options, count = Options(slots, self.bits), len(self.bits)
        known = jnp.stack([options.first(layer).params["memory"].reshape(-1, self.memory)[0] for layer in options.layers])
        scores, choice, first = known[:, :count], known[:, count].astype(jnp.int32), known[0, count + 1]
        began = jnp.max(slots[0].params["allocated"]) >= 0.5
        to_draw, to_move = jax.random.split(moment.key)
        most = jnp.full(len(options.layers), count - 1)
        scores = jnp.where(began, scores, jax.random.uniform(to_draw, scores.shape))
        choice = jnp.where(began, choice, most)

        now, at_most = options.of(choice, choice), moment.cost(options.of(most, most))
        zeta = self.loss_weight * moment.loss(now) + self.cost_weight * moment.cost(now) / jnp.maximum(at_most, 1e-30)
        earned = jnp.log10(jnp.maximum(zeta, 1e-30))
        first = jnp.where(began, first, earned)
        scores = jnp.where(jax.nn.one_hot(choice, count) > 0, self.scored(scores, first - earned), scores)
        choice = jnp.where(began, move(to_move, scores, choice, self.temperature), choice)
        choice = self._within(options, moment, choice)

        kept = jnp.concatenate([scores, choice[:, None].astype(jnp.float32), jnp.full((len(choice), 1), first)], 1)
        return [
            new | {"memory": jnp.broadcast_to(kept[options.layer(slot)], slot.params["memory"].shape)}
            for slot, new in zip(slots, options.of(choice, choice), strict=True)
        ]

    def scored(self, scores: Float[Array, "..."], earned: Array) -> Float[Array, "..."]:
        """Scores of the options in force, after what they have earned.

        >>> [float(Walk(rate=e).scored(jnp.float32(0.5), jnp.float32(0.25))) for e in (-1.0, 1.0, 0.0)]
        [0.75, 0.25, 0.5]
        """
        return scores + earned if self.rate == -1 else (1 - self.rate) * scores + self.rate * earned

    def _within(self, options: Options, moment: Moment, choice: Int[Array, "layers"]) -> Int[Array, "layers"]:
        """With fewer bits, from the last layer to the first and again, until the cost is within the budget; 0 is no budget."""

        def lower(n, choice):
            above = (moment.budget > 0) & (moment.cost(options.of(choice, choice)) > moment.budget)
            at = len(options.layers) - 1 - n % len(options.layers)
            return jnp.where(above & (jnp.arange(len(choice)) == at), jnp.maximum(choice - 1, 0), choice)

        return lax.fori_loop(0, len(options.layers) * (len(self.bits) - 1), lower, choice)
