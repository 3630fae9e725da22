"""DAQ: given bits, with steps that follow the deviation of each channel."""

import dataclasses
from typing import Literal

from hgqjax import quantizers as q
from hgqjax.methods._base import AbstractMethod, uniform
from hgqjax.methods.allocation.clipping import Clipping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Daq(AbstractMethod):
    """Given bits, and for each channel the clipping that fits its deviation (after Hong et al., DAQ, arXiv:2012.11230): a run is one point.

    The network trains in floats until then (`hgqjax.methods.allocation.clipping`).
    """

    bits: int = 4
    """Bits of activations, a sign included where there is one."""
    weight_bits: int = 4
    """Bits of weights, their sign included."""
    after: float = 1.0
    """Share of the run that trains in floats; the rest tunes the weights on the steps found. 1: post-training, no step follows."""
    weight_granularity: Literal["channel", "tensor"] = "channel"
    """Which weights share a step: those of a neuron, or all of a layer, as published."""
    activation_granularity: Literal["channel", "tensor"] = "channel"
    """Which activations share a step."""

    def __post_init__(self):
        self._allocation()  # which refuses what is not legal

    def _allocation(self):
        return Clipping(bits=self.bits, weight_bits=self.weight_bits, after=self.after)

    def weights(self):
        bits = self.weight_bits - 1
        return q.Allocated(allocation=self._allocation(), overflow="SAT_SYM", bits=(bits, bits), signed=True), self.weight_granularity

    def activations(self):
        return q.Allocated(allocation=self._allocation(), overflow="SAT_SYM", bits=(self.bits, self.bits)), self.activation_granularity

    def clipped(self):
        bits = float(self.bits)
        return q.Kif(i0=0.0, i_limits=(0.0, 0.0), f0=bits, f_limits=(bits, bits), overflow="SAT"), "tensor"

    def tables(self):
        return uniform(self.bits)

    def biases(self):
        return uniform(7)
