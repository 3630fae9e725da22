"""Widening and Squeezing: more neurons of few bits, of which those with small factors are removed."""

import dataclasses

from hgqjax.methods._base import AbstractMethod, check_few_bits, uniform
from hgqjax.methods.channels.scales import Scales


@dataclasses.dataclass(frozen=True, kw_only=True)
class Squeeze(AbstractMethod):
    """Few bits, wider hidden layers, neurons removed while it trains (after Widening and Squeezing, arXiv:2002.00555).

    `hgqjax.methods.channels.scales` is the rule. From a trained network (``start``) each neuron is copied, and its outgoing weights are
    divided, so that the wide network is the same function. Betas make its front, or ``points_at`` with the penalty schedule Target.
    """

    bits: int = 4
    """Magnitude bits of activations."""
    weight_bits: int = 4
    """Bits of weights, their sign included."""
    expand: int = 2
    """Neurons that a hidden layer starts with for each of its own; a power of two."""
    threshold: float = 0.05
    """Neurons are removed whose factor is below this share of the layer's largest."""
    search: float = 0.6
    """Share of the run in which neurons are removed; the rest tunes the weights."""

    def __post_init__(self):
        check_few_bits(self.bits, self.weight_bits)
        self.neurons()  # which refuses what is not legal

    def neurons(self):
        return Scales(expand=self.expand, threshold=self.threshold, search=self.search)

    def weights(self):
        return uniform(self.weight_bits - 1), "tensor"

    def activations(self):
        return uniform(self.bits), "tensor"

    def biases(self):
        return uniform(7)
