"""SFMP in the limit of one value a block: bits by squared gradients, within a budget."""

import dataclasses

from hgqjax import quantizers as q
from hgqjax.granularity import Granularity
from hgqjax.methods._base import AbstractMethod
from hgqjax.methods.allocation.salience import Salience


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sfmp(AbstractMethod):
    """Bits of every value by squared gradients and cost, within a budget (the limit of SFMP, arXiv:2602.01027, with one value a block).

    The network trains in floats until the allocation (`hgqjax.methods.allocation.salience`). Give the costs as ``points_at``.
    """

    after: float = 1.0
    """Share of the run that trains in floats; the rest tunes the weights with the allocated bits. 1: post-training, no step follows."""
    most_bits: int = 12
    """Magnitude bits that a value may have; a value of none is pruned."""
    weight_granularity: Granularity = "element"
    """Which weights share a width."""
    activation_granularity: Granularity = "element"
    """Which activations share a width."""

    def __post_init__(self):
        self.weights()  # whose parts refuse what is not legal

    def _quantizer(self):
        return q.Allocated(allocation=Salience(after=self.after), bits=(0, self.most_bits), widest=max(self.most_bits, 12))

    def weights(self):
        return self._quantizer(), self.weight_granularity

    def activations(self):
        return self._quantizer(), self.activation_granularity

    def clipped(self):
        return q.Kif(i0=0.0, i_limits=(0.0, 0.0), f0=8.0, f_limits=(8.0, 8.0), overflow="SAT"), self.activation_granularity

    def tables(self):
        return q.Kif(f0=8.0, f_limits=(8.0, 8.0))
