"""What a method is: which quantizer weights and activations of a network get, and which of their values share a width."""

import abc
import dataclasses
from typing import Any

import jax

from hgqjax import quantizers as q
from hgqjax.granularity import Granularity

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

    def searching(self) -> q.Search | None:
        """How bits are searched; None: training alone finds them, or they are given."""
        return None

    def biases(self) -> q.AbstractQuantizer:
        """Quantizer of biases, each of which has a width of its own."""
        return self.weights()[0]

    def neurons(self) -> q.AbstractGate | None:
        """The gate that decides which neurons of each hidden layer exist; None: all."""
        return None

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
        if isinstance(quantizer, q.Hmq | q.Dqa):
            return float(max(quantizer.bits))
        start = getattr(quantizer, "b0", None)
        if start is not None:
            return start
        with jax.ensure_compile_time_eval():  # networks are also built inside a trace
            _, i, f = quantizer.format(quantizer.init((1,)))
            return float((i + f).max())

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
class AbstractBitsOfLayers(AbstractMethod):
    """A method that decides the bits of weights and of what enters layers. All else has 8: clipped values, keys of tables, biases."""

    def clipped(self):
        return q.Kif(i0=0.0, i_limits=(0.0, 0.0), f0=8.0, f_limits=(8.0, 8.0), overflow="SAT"), "tensor"

    def tables(self):
        return uniform(8)

    def biases(self):
        return uniform(7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractFewBits(AbstractMethod):
    """A method that decides something else than bits, of which there are few."""

    bits: int = 4
    """Magnitude bits of activations."""
    weight_bits: int = 4
    """Bits of weights, their sign included."""

    def __post_init__(self):
        for name, value, least in (("bits", self.bits, 1), ("weight_bits", self.weight_bits, 2)):
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 16:
                raise ValueError(f"{name} is {value!r}; {least} .. 16 are legal")

    def weights(self):
        return uniform(self.weight_bits - 1), "tensor"

    def activations(self):
        return uniform(self.bits), "tensor"

    def biases(self):
        return uniform(7)


def uniform(bits: int) -> q.FixedPoint:
    """A quantizer of `bits` magnitude bits, which are not trained; integer bits follow the range."""
    return q.Kbi(b0=float(bits), b_limits=(float(bits), float(bits)), overflow="WRAP")
