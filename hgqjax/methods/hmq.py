"""HMQ: bit-width and threshold searched together."""

import dataclasses
from typing import Literal

from hgqjax import quantizers as q
from hgqjax.methods._base import AbstractMethod, uniform


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hmq(AbstractMethod):
    """Bit-width and threshold searched together (Habi et al., arXiv:2007.09952; `hgqjax.quantizers.Hmq`).

    The target is one of ``points_at``, with the penalty schedule Target: EBOPs, or with the cost `weight_bits` the mean bits of a weight
    (32 over the compression rate of the paper).
    """

    granularity: Literal["tensor", "channel"] = "tensor"
    """Which weights share a choice: all of a layer, as in the paper, or those of a neuron."""
    weight_bits: tuple[int, ...] = (8, 7, 6, 5, 4, 3, 2)
    """Widths that weights choose from, sign included."""
    activation_bits: tuple[int, ...] = (8, 7, 6, 5, 4, 3, 2)
    """Widths that the activations of a layer choose from, a sign included where there is one; a single one is fixed."""
    search: float = 0.6
    """Share of the run after which the choice is made; the rest tunes the weights."""

    def __post_init__(self):
        self.weights()  # whose quantizers refuse what is not legal
        self.activations()

    def weights(self):
        draws = 1 if self.granularity == "channel" else 32  # neurons draw by themselves
        return q.Hmq(bits=self.weight_bits, search=self.search, draws=draws, signed=True), self.granularity

    def activations(self):
        return q.Hmq(bits=self.activation_bits, search=self.search, sample_axis=0), "tensor"

    def clipped(self):
        return dataclasses.replace(self.activations()[0], thresholds=1, headroom=0, i0=0.0, i_limits=(0.0, 0.0)), "tensor"

    def biases(self):
        return uniform(7)
