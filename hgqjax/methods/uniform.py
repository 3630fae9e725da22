"""One width for each layer, none of it learned."""

import dataclasses

from hgqjax.methods._base import AbstractMethod, uniform


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform(AbstractMethod):
    """One width for each layer, none of it learned, as in QKeras (Coelho et al., arXiv:2006.10159): a run is one point."""

    bits: int = 6
    """Bits of weights, their sign included, and magnitude bits of activations. Integer bits follow the range."""

    def __post_init__(self):
        if not 2 <= self.bits <= 24:
            raise ValueError(f"bits is {self.bits}; 2 .. 24 are legal")

    def weights(self):
        return uniform(self.bits - 1), "tensor"

    def activations(self):
        return uniform(self.bits), "tensor"
