"""PTILMPQ: post-training bits of each channel of weights by importance, with a fine and a coarse region."""

import dataclasses

from hgqjax import quantizers as q
from hgqjax.methods._base import AbstractBitsOfLayers
from hgqjax.methods.allocation.importance import Importance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ptilmpq(AbstractBitsOfLayers):
    """Bits of each channel of weights by importance, a fine and a coarse region in each (after Ghavami et al., PTILMPQ, arXiv:2404.02947).

    The network trains in floats until the allocation (`hgqjax.methods.allocation.importance`). With ``points_at`` as many channels are
    important as each cost allows.
    """

    bits: tuple[int, int] = (3, 7)
    """Magnitude bits of the weights of most channels, and of the important ones; a sign comes on top."""
    share: float = 0.25
    """Of all channels of the network, those that are important; with costs to reach these decide instead."""
    activation_bits: int = 8
    """Magnitude bits of activations; a sign comes on top where there is one."""
    after: float = 1.0
    """Share of the run that trains in floats; the rest tunes the weights with the allocated bits. 1: post-training, no step follows."""

    def __post_init__(self):
        self._allocation()  # which refuses what is not legal

    def _allocation(self):
        return Importance(bits=self.bits, share=self.share, activation_bits=self.activation_bits, after=self.after)

    def weights(self):
        return q.Regions(allocation=self._allocation(), bits=self.bits), "channel"

    def activations(self):
        bits = (self.activation_bits, self.activation_bits)
        return q.Allocated(allocation=self._allocation(), overflow="SAT_SYM", bits=bits), "channel"
