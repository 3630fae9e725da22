"""Norms of a row by itself, whatever the batch, as compositions of layers: sums, a table of 1 / sqrt, a product."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._base import Layer, Module, Value
from hgqjax.layers._symbol import FrozenWeight, Symbol
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.merge import Multiply, Subtract
from hgqjax.layers.quantize import ACTIVATION, WEIGHT, Quantize
from hgqjax.layers.reduce import Sum
from hgqjax.layers.shapes import reshape
from hgqjax.layers.table import Table
from hgqjax.quantizers import AbstractQuantizer, Fixed, Kif
from hgqjax.resources import Signal

SQUARES = Kif(keep_negative=False, i0=4.0, f0=4.0, overflow="SAT")
INVERSE = Kif(keep_negative=False, i0=2.0, f0=6.0, overflow="SAT")
MEAN_BITS = 10
"""Of the constant 1 / n, where n is no power of two."""


class SumOfSquares(Layer):
    """``sum(q(x)**2)`` over the last axis, which stays with size 1.

    Args: shape: of a row. input_quantizer, input_granularity: see `Quantize`.

    Cost: `hgqjax.resources.Contract`, of x with itself.

    >>> SumOfSquares((2,))(jnp.array([[3.0, -1.5]])).tolist()
    [[11.25]]
    """

    def __init__(
        self, shape: Sequence[int], *, input_quantizer: AbstractQuantizer = ACTIVATION, input_granularity: Granularity = "element"
    ):
        self.input_quantizer = Quantize(tuple(shape), input_quantizer, input_granularity)
        labels = _labels(shape)
        self.equation = f"{labels},{labels}->{labels[:-1]}"

    def forward(self, x: jax.Array) -> jax.Array:
        return jnp.sum(self.input_quantizer(x) ** 2, -1, keepdims=True)

    def cost(self) -> resources.Contract:
        signal = self.input_quantizer.signal()
        return resources.Contract((signal, signal), self.equation)

    def describe(self, x: Symbol) -> Symbol:
        name, (*lead, _) = x.graph.name_of(self), x.shape
        x = self.input_quantizer.describe(x, f"{name}_input")
        y = x.graph.apply("contract", (x, x), tuple(lead) or (1,), name=name, equation=self.equation)
        return reshape(y, (*lead, 1)) if lead else y


class Scale(AbstractLinear):
    """``activation(q(x) * q(kernel) + q(bias))``, with a kernel for each element of the last axis of x that starts at `start`."""

    def __init__(
        self,
        shape: tuple[int, ...],
        start: float,
        *,
        use_bias: bool,
        trained: bool,
        activation: str | None = None,
        batch_norm: BatchNorm | None = None,
        **settings: Any,
    ):
        labels = _labels(shape)
        self.equation = f"{labels},{labels[-1]}->{labels}"
        kernel, bias_shape = jnp.full(shape[-1:], start), (*(1 for _ in shape[:-1]), shape[-1])
        super().__init__(
            shape,
            kernel,
            bias_shape,
            activation=activation,
            use_bias=use_bias,
            batch_norm=batch_norm,
            bias_start=0.0,
            kernel_factor=1.0,
            kernel_granularity="element",
            **settings,
        )
        if not trained:
            self.kernel = nnx.Variable(kernel)

    def product(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return x * kernel.reshape((1,) * (x.ndim - 1) + kernel.shape)

    def operation(self, x: Signal, kernel: Signal, bias: Signal | None) -> resources.Einsum:
        return resources.Einsum(x, kernel, bias, self.equation)

    def symbol(self, x: Symbol, name: str, kernel: FrozenWeight, bias: FrozenWeight | None) -> Symbol:
        return x.graph.linear("einsum", x, name, kernel, bias, x.shape, equation=self.equation, parallelization=None)


class RMSNorm(Module):
    r"""``x / sqrt(mean(x**2) + epsilon)`` over the last axis, then, where `affine`, ``* gain + bias``.

    Args:
      shape: of a row. epsilon: added to the mean of the squares, > 0.
      affine: whether each feature has a trained gain and bias; not needed where a layer with weights follows, which holds both.
      input_quantizer, input_granularity: of x where it is squared, and of both factors of the product; see `Quantize`.
      squares_quantizer: of sum(x**2), the key of the table of ``1 / sqrt``, of at most 16 bits; one width for all.
      inverse_quantizer: of the entries of that table, one width for all.
      kernel_quantizer: of gain and bias.

    The parts, each with its cost: `squares` (`SumOfSquares`), `inverse` (`Table`), `product` (`Multiply`), and `affine`.
    Source: Zhang and Sennrich, arXiv:1910.07467.

    >>> layer = RMSNorm((2,))
    >>> layer(jnp.array([[1.0, -1.0]])).tolist()
    [[1.0, -1.0]]
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        epsilon: float = 1e-3,
        affine: bool = False,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        squares_quantizer: AbstractQuantizer = SQUARES,
        inverse_quantizer: AbstractQuantizer = INVERSE,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        input_granularity: Granularity = "element",
    ):
        shape, name = tuple(shape), type(self).__name__
        if not shape or min(shape) < 1 or not 0 < epsilon < math.inf:
            raise ValueError(f"{name}: shape is {shape}, epsilon {epsilon}; a feature at least and a finite number above 0 are needed")
        kept, features = (*shape[:-1], 1), shape[-1]
        inputs: dict[str, Any] = {"input_quantizer": input_quantizer, "input_granularity": input_granularity}
        self.squares = SumOfSquares(shape, **inputs)
        self.inverse = Table(
            lambda s: 1.0 / jnp.sqrt(s / features + epsilon), kept, input_quantizer=squares_quantizer, output_quantizer=inverse_quantizer
        )
        self.product = Multiply((shape, kept), **inputs)
        weights: dict[str, Any] = {"kernel_quantizer": kernel_quantizer, "bias_quantizer": kernel_quantizer}
        self.affine = Scale(shape, 1.0, use_bias=True, trained=True, **inputs, **weights) if affine else None

    def __call__(self, x: Value) -> Value:
        y = self.product(x, self.inverse(self.squares(x)))
        return y if self.affine is None else self.affine(y)


class LayerNorm(Module):
    r"""``(x - mean) / sqrt(variance + epsilon)`` over the last axis, then, where `affine`, ``* gain + bias``.

    The mean of a power of two of features is a shift of their sum; of other numbers the sum times 1 / n in 10 bits. The rest is an
    `RMSNorm` of the difference. Args: as of `RMSNorm`; `input_quantizer` is that of x in the sum and in the difference, too.

    The parts, each with its cost: `total` (`Sum`), `mean` (a product with a constant, where n is no power of two), `centred` (`Subtract`),
    `norm` (`RMSNorm`). Source: Ba et al., arXiv:1607.06450.

    >>> layer = LayerNorm((2,))
    >>> layer(jnp.array([[3.0, 1.0]])).tolist()
    [[1.0, -1.0]]
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        epsilon: float = 1e-3,
        affine: bool = False,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        squares_quantizer: AbstractQuantizer = SQUARES,
        inverse_quantizer: AbstractQuantizer = INVERSE,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        input_granularity: Granularity = "element",
    ):
        shape = tuple(shape)
        if not shape or shape[-1] < 2:
            raise ValueError(f"LayerNorm: shape is {shape}; two features at least are needed")
        inputs: dict[str, Any] = {"input_quantizer": input_quantizer, "input_granularity": input_granularity}
        kept, exponent = (*shape[:-1], 1), shape[-1].bit_length() - 1
        exact = shape[-1] == 2**exponent
        self.total = Sum(shape, (-1,), shift=exponent if exact else 0, keepdims=True, **inputs)
        constant = Fixed(keep_negative=False, i=-exponent, f=exponent + MEAN_BITS)
        weights: dict[str, Any] = {"kernel_quantizer": constant, "bias_quantizer": constant}
        self.mean = None if exact else Scale(kept, 1 / shape[-1], use_bias=False, trained=False, **inputs, **weights)
        self.centred = Subtract((shape, kept), **inputs)
        self.norm = RMSNorm(
            shape,
            epsilon=epsilon,
            affine=affine,
            squares_quantizer=squares_quantizer,
            inverse_quantizer=inverse_quantizer,
            kernel_quantizer=kernel_quantizer,
            **inputs,
        )

    def __call__(self, x: Value) -> Value:
        mean = self.total(x)
        return self.norm(self.centred(x, mean if self.mean is None else self.mean(mean)))


def _labels(shape: Sequence[int]) -> str:
    return "abcdefghijklm"[: len(shape)]
