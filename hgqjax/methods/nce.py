"""NCE: few bits, and the number of neurons of each hidden layer searched, with more of them offered where the largest is liked."""

import dataclasses

from hgqjax.methods._base import AbstractFewBits
from hgqjax.methods.channels.expansion import Expansion


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nce(AbstractFewBits):
    """Few bits, and a searched number of neurons in each hidden layer (after neural channel expansion, arXiv:2212.10878).

    `hgqjax.methods.channels.expansion` is the rule. From a trained network (``start``) its neurons are the first ones, the others are new.
    Betas make its front, or ``points_at`` with the penalty schedule Target.
    """

    expand: int = 2
    """Most neurons that a hidden layer may have for each of its own."""
    choices: int = 8
    """Numbers of neurons on offer up to the layer's own, at equal distances."""
    threshold: float = 0.3
    """A larger number is offered where the largest one so far has a probability above this."""
    search: float = 0.6
    """Share of the run after which the likeliest number is taken; the rest tunes the weights."""

    def __post_init__(self):
        super().__post_init__()
        self.neurons()  # which refuses what is not legal

    def neurons(self):
        return Expansion(expand=self.expand, choices=self.choices, threshold=self.threshold, search=self.search)
