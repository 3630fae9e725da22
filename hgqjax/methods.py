"""Methods as configurations: which quantizer weights and activations of a network get, and which of their values share a width."""

import abc
import dataclasses
from typing import Any, Literal

import jax.numpy as jnp

from hgqjax import fixed_point
from hgqjax import quantizers as q
from hgqjax.granularity import Granularity
from hgqjax.resources import row_ratio

Choice = tuple[q.AbstractQuantizer, Granularity]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractMethod(abc.ABC):
    """How a network is quantized. A new method writes `weights` and `activations`, and is one more name in `Method`."""

    @abc.abstractmethod
    def weights(self) -> Choice:
        """Quantizer of kernels, and which of their values share a width."""

    @abc.abstractmethod
    def activations(self) -> Choice:
        """Quantizer of what enters a layer, and which values share a width."""

    def biases(self) -> q.AbstractQuantizer:
        """Quantizer of biases, each of which has a width of its own."""
        return self.weights()[0]

    def clipped(self) -> Choice:
        """As `activations`, for values that are to be clipped at -1 and 1."""
        quantizer, granularity = self.activations()
        bits = self.largest_bits(quantizer)
        return q.Kif(i0=0.0, i_limits=(0.0, 0.0), f0=bits, f_limits=(bits, bits), overflow="SAT"), granularity

    def tables(self) -> q.AbstractQuantizer:
        """Quantizer of what enters a table, of one width."""
        return uniform(int(self.largest_bits(self.activations()[0])))

    @staticmethod
    def largest_bits(quantizer: q.AbstractQuantizer) -> float:
        """Magnitude bits at the start of a quantizer of activations."""
        if isinstance(quantizer, q.Hmq):
            return float(max(quantizer.bits))
        if getattr(quantizer, "b0", None) is not None:
            return quantizer.b0
        _, i, f = quantizer.format(quantizer.init((1,)))
        return float(jnp.max(i + f))

    def of_inputs(self) -> dict[str, Any]:
        """What every layer is given for its inputs."""
        quantizer, granularity = self.activations()
        return {"input_quantizer": quantizer, "input_granularity": granularity}

    def of_layers(self) -> dict[str, Any]:
        """What every layer with weights is given."""
        quantizer, granularity = self.weights()
        weights = {"kernel_quantizer": quantizer, "kernel_granularity": granularity, "bias_quantizer": self.biases()}
        return self.of_inputs() | weights


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


def uniform(bits: int) -> q.FixedPoint:
    """A quantizer of `bits` magnitude bits, which are not trained; integer bits follow the range."""
    return q.Kbi(b0=float(bits), b_limits=(float(bits), float(bits)), overflow="WRAP")


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pruning(AbstractMethod):
    """Uniform widths, and the smallest weights of each layer set to zero (`hgqjax.quantizers.Pruned`): a run shrinks to one point."""

    bits: int = 6
    """As of `Uniform`."""
    sparsity: float = 0.5
    """Share of the weights of each layer that is gone in the end."""

    def __post_init__(self):
        self.weights()

    def weights(self):
        return q.Pruned(bits=self.bits, sparsity=self.sparsity), "element"

    def activations(self):
        return uniform(self.bits), "tensor"

    def biases(self):
        return uniform(self.bits - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hmq(AbstractMethod):
    """Bit-width and threshold searched together (Habi et al., arXiv:2007.09952; `hgqjax.quantizers.Hmq`).

    The target is one of ``budgets``, with the penalty schedule Target: EBOPs, or with the cost `weight_bits` the mean bits of a weight
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
        self.weights(), self.activations()

    def weights(self):
        draws = 1 if self.granularity == "channel" else 32  # neurons draw by themselves
        return q.Hmq(bits=self.weight_bits, search=self.search, draws=draws, signed=True), self.granularity

    def activations(self):
        return q.Hmq(bits=self.activation_bits, search=self.search, sample_axis=0), "tensor"

    def clipped(self):
        return dataclasses.replace(self.activations()[0], thresholds=1, headroom=0, i0=0.0, i_limits=(0.0, 0.0)), "tensor"

    def biases(self):
        return uniform(7)


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


Method = Hgq | Uniform | Pruning | Hmq | Ilmpq
