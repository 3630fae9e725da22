"""HGQ: widths learned by gradient descent."""

import dataclasses

from hgqjax import fixed_point
from hgqjax import quantizers as q
from hgqjax.granularity import Granularity
from hgqjax.methods._base import AbstractMethod


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hgq(AbstractMethod):
    """Widths learned by gradient descent, of every value or shared (Sun et al., arXiv:2405.00645); the penalty makes the front.

    With both granularities "tensor": learned widths of layers.
    """

    weight_bits: float = 3.0
    """Magnitude bits that each weight starts with."""
    activation_fraction_bits: float = 3.0
    """Fractional bits that each activation starts with."""
    weight_overflow: fixed_point.Overflow = "WRAP"
    """WRAP: integer bits follow each weight's magnitude; SAT, SAT_SYM: they are trained."""
    activation_overflow: fixed_point.Overflow = "WRAP"
    """WRAP: integer bits follow the observed range; SAT, SAT_SYM: they are trained, and the hardware clips."""
    weight_granularity: Granularity = "element"
    """Which weights share a width: element (none), channel (those of a neuron), tensor (all of a layer)."""
    activation_granularity: Granularity = "element"
    """Which activations share a width."""

    def weights(self):
        return q.Kif(b0=self.weight_bits, overflow=self.weight_overflow), self.weight_granularity

    def activations(self):
        return q.Kif(f0=self.activation_fraction_bits, overflow=self.activation_overflow), self.activation_granularity

    def clipped(self):
        f0 = self.activation_fraction_bits
        return q.Kif(i0=0.0, i_limits=(0.0, 0.0), f0=f0, overflow="SAT"), self.activation_granularity

    def tables(self):
        return q.Kif(f0=4.0)
