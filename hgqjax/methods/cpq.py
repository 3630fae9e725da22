"""CPQ with DropBits: the highest bits are dropped at random, and those that are rarely there go for good."""

import dataclasses
from typing import Literal

from hgqjax import quantizers as q
from hgqjax.methods._base import AbstractMethod, uniform
from hgqjax.methods.allocation.dropping import Dropping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cpq(AbstractMethod):
    """Bits dropped at random, and levels with a distribution (after CPQ + DropBits, arXiv:2109.02100; `hgqjax.quantizers.Cpq`).

    Betas make its front; so does one of ``points_at`` for each member, with the penalty schedule Target or Budget. The bits that are taken
    for good (`hgqjax.methods.allocation.dropping`) are within that cost.
    """

    granularity: Literal["tensor", "channel"] = "tensor"
    """Which weights drop bits together: all of a layer, as in the paper, or those of a neuron."""
    weight_bits: tuple[int, int] = (2, 8)
    """Fewest and most bits of weights, sign included."""
    activation_bits: tuple[int, int] = (1, 8)
    """Fewest and most magnitude bits of the activations of a layer."""
    search: float = 0.6
    """Share of the run after which bits that are likelier dropped than not, or beyond the target, are gone; the rest tunes the weights."""

    def __post_init__(self):
        for name in ("weight_bits", "activation_bits"):
            least, most = getattr(self, name)
            fewest = 2 if name == "weight_bits" else 1
            if not fewest <= least < most <= 15 + fewest:
                raise ValueError(f"{name} is {(least, most)}; fewest and more bits within {fewest}..{15 + fewest} are needed")
        self.weights()  # whose quantizers refuse what is not legal
        self.activations()

    def weights(self):
        least, most = self.weight_bits
        return q.Cpq(least=least - 1, most=most - 1, allocation=Dropping(after=self.search)), self.granularity

    def activations(self):
        least, most = self.activation_bits
        return q.Cpq(least=least, most=most, allocation=Dropping(after=self.search)), "tensor"

    def biases(self):
        return uniform(7)
