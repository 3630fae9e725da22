"""Widening and Squeezing: more neurons of few bits, of which those with small factors are removed."""

import dataclasses

from hgqjax.methods._base import AbstractFewBits
from hgqjax.methods.channels.scales import Scales


@dataclasses.dataclass(frozen=True, kw_only=True)
class Squeeze(AbstractFewBits):
    """Few bits, wider hidden layers, neurons removed while it trains (after Widening and Squeezing, arXiv:2002.00555).

    `hgqjax.methods.channels.scales` is the rule. From a trained network (``start``) each neuron is copied, and its outgoing weights are
    divided, so that the wide network is the same function. Betas make its front, or ``points_at`` with the penalty schedule Target.
    """

    expand: int = 2
    """Neurons that a hidden layer starts with for each of its own; a power of two."""
    threshold: float = 0.05
    """Neurons are removed whose factor is below this share of the layer's largest."""
    search: float = 0.6
    """Share of the run in which neurons are removed; the rest tunes the weights."""

    def __post_init__(self):
        super().__post_init__()
        self.neurons()  # which refuses what is not legal

    def neurons(self):
        return Scales(expand=self.expand, threshold=self.threshold, search=self.search)
