"""OHQ: bits of each layer by an integer program, within a budget of hardware cost."""

import dataclasses
from typing import Literal

from hgqjax import quantizers as q
from hgqjax.methods._base import AbstractBitsOfLayers
from hgqjax.methods.allocation.layerwise import Layerwise


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ohq(AbstractBitsOfLayers):
    """Bits of each layer's weights and inputs by an integer program within a budget (after Huang et al., OHQ, arXiv:2309.01945).

    The network trains in floats until the allocation (`hgqjax.methods.allocation.layerwise`). Give the costs as ``points_at``.
    """

    bits: tuple[int, int] = (2, 8)
    """Fewest and most magnitude bits; a sign comes on top."""
    after: float = 1.0
    """Share of the run that trains in floats; the rest tunes the weights with the allocated bits. 1: post-training, no step follows."""
    weight_granularity: Literal["channel", "tensor"] = "channel"
    """Which weights share a step; the bits are those of the layer."""
    activation_granularity: Literal["channel", "tensor"] = "channel"
    """Which activations share a step."""

    def __post_init__(self):
        self.weights()  # whose parts refuse what is not legal

    def _quantizer(self, signed: bool):
        return q.Allocated(allocation=Layerwise(bits=self.bits, after=self.after), overflow="SAT_SYM", bits=self.bits, signed=signed)

    def weights(self):
        return self._quantizer(True), self.weight_granularity

    def activations(self):
        return self._quantizer(False), self.activation_granularity
