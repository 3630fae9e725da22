"""ILMPQ: rows of powers of two, of 4 and of 8 bits in one ratio."""

import dataclasses

from hgqjax import quantizers as q
from hgqjax.methods._base import AbstractMethod, uniform
from hgqjax.resources import row_ratio


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ilmpq(AbstractMethod):
    """Rows of powers of two, of 4 and of 8 bits in one ratio (MSP, ILMPQ, RMSMP; `hgqjax.quantizers.RowWise`): nothing makes a front."""

    ratio: tuple[float, float, float] = (0.6, 0.35, 0.05)
    """Shares of the rows of every layer: powers of two, fixed 4 bits, fixed 8 bits. The sum is 1."""
    board: str | None = None
    """Derive the ratio from the LUTs and DSPs of a board instead, e.g. XC7Z020 (`hgqjax.resources.row_ratio`)."""
    activation_bits: int = 4
    """Magnitude bits of activations."""
    every: int = 10
    """Epochs after which rows are assigned again."""

    def __post_init__(self):
        if not 1 <= self.activation_bits <= 24:
            raise ValueError(f"activation_bits is {self.activation_bits}; 1 .. 24 are legal")
        self.weights()

    def weights(self):
        ratio = self.ratio if self.board is None else row_ratio(self.board)
        return q.RowWise(ratio=ratio, every=self.every), "channel"

    def activations(self):
        return uniform(self.activation_bits), "tensor"

    def biases(self):
        return uniform(7)
