"""What layers with weights share: input quantizer, quantized kernel and bias, activation, and batch norm folded into the kernel."""

import abc
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from hgqjax import fixed_point
from hgqjax.granularity import Granularity
from hgqjax.layers import backward
from hgqjax.layers._base import Draw, Layer
from hgqjax.layers._symbol import FrozenWeight, Symbol
from hgqjax.layers.activation import activation as activation_
from hgqjax.layers.batch_norm import BatchNorm, Norm
from hgqjax.layers.gates import Gate, Narrow, along, at, narrowed
from hgqjax.layers.quantize import Quantize, QuantizeWeight
from hgqjax.quantizers import AbstractGate, AbstractQuantizer
from hgqjax.resources import Signal


class AbstractLinear(Layer):
    """Base of the layers with a kernel: ``activation(product(q(x), q(kernel)) + q(bias))``.

    A new one makes its shapes, hands them to this constructor, and writes `product`, `operation` and `symbol`. The last axis of its
    result is that of the neurons, or filters, and one axis of its kernel, `neuron_axis`.

    Arguments that all have:
      rngs: flax random streams; `rngs.params` draws the kernel, He-normal times `kernel_factor` (1). The bias starts at
        `bias_start` (0).
      activation: None or "relu".
      use_bias: whether there is a bias.
      batch_norm: a `BatchNorm` folded into kernel and bias, or None.
      input_quantizer, kernel_quantizer, bias_quantizer: static choices. By default `Kif` with WRAP; each weight starts with 4 magnitude
        bits of its own, so that none starts dead.
      input_granularity, kernel_granularity: which values share a width: "element", "channel" (last axis) or "tensor".

    Arguments of `Dense` and convolutions:
      neurons: a gate, which decides in training which neurons exist (`hgqjax.quantizers.AbstractGate`), or None: all.
      present: the `neurons` of the layer whose results x is made of, or None. They are the last axis of x, or, where rows were flattened
        in between, repeat along it.
    """

    neuron_axis: int | None = -1
    """Axis of the kernel that is the last of the result; None where it has none."""
    gradients: backward.AbstractGradients = backward.Exact()
    """How the gradient of the product is quantized while the model trains; `quantize_gradients` sets it."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        kernel: jax.Array,
        bias_shape: tuple[int, ...],
        *,
        activation: str | None,
        use_bias: bool,
        batch_norm: BatchNorm | None,
        bias_start: float,
        kernel_factor: float,
        input_quantizer: AbstractQuantizer,
        kernel_quantizer: AbstractQuantizer,
        bias_quantizer: AbstractQuantizer,
        input_granularity: Granularity,
        kernel_granularity: Granularity,
        neurons: AbstractGate | None = None,
        present: Gate | None = None,
    ):
        activation_(activation)
        self.activation = activation
        self.input_quantizer = Quantize(input_shape, input_quantizer, input_granularity)
        kernel = kernel * kernel_factor
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(jnp.full(bias_shape, bias_start)) if use_bias else None
        self.kernel_quantizer = QuantizeWeight(kernel.shape, kernel_quantizer, kernel_granularity, sample=kernel)
        # a bias that starts at 0 has no magnitude yet: it starts on the grid of a value of 1
        sample = jnp.full(bias_shape, bias_start or 1.0)
        self.bias_quantizer = QuantizeWeight(bias_shape, bias_quantizer, sample=sample) if use_bias else None
        self.norm = None if batch_norm is None else self._norm(batch_norm, kernel.shape, bias_shape if use_bias else None)
        if present is not None and input_shape[-1] % present.n:
            raise ValueError(f"{type(self).__name__}: present has {present.n} neurons, x {input_shape[-1]} features; a multiple is needed")
        self.neurons, self.present = None if neurons is None else Gate(neurons, kernel.shape[-1]), present

    def _norm(self, config: BatchNorm, kernel_shape: tuple[int, ...], bias_shape: tuple[int, ...] | None) -> Norm:
        name = type(self).__name__
        if bias_shape is None:
            raise ValueError(f"{name}: use_bias is False; batch norm folds into a bias, which is always there")
        neurons = 0 if self.neuron_axis is None else kernel_shape[self.neuron_axis]
        if math.prod(bias_shape) != neurons:
            raise ValueError(
                f"{name}: batch norm needs a kernel with the last axis of the result, and one bias for each element of that axis"
            )
        return Norm(config, neurons)

    @abc.abstractmethod
    def product(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """Rows `x` with the kernel, without bias."""

    @abc.abstractmethod
    def operation(self, x: Signal, kernel: Signal, bias: Signal | None) -> Any:
        """The operation of `hgqjax.resources` with these signals."""

    @abc.abstractmethod
    def symbol(self, x: Symbol, name: str, kernel: FrozenWeight, bias: FrozenWeight | None) -> Symbol:
        """Adds the product of `x` and the frozen weights to ``x.graph``."""

    def weights(self, x: jax.Array | None = None) -> tuple[jax.Array, jax.Array | None]:
        """(kernel, bias) that are to be quantized, batch norm folded in; `x`: quantized rows, whose statistics count in training."""
        kernel, bias = self._folded(x)
        if self.present is not None:
            kernel = jnp.where(along(self.present.there(), -2, kernel.shape), kernel, 0.0)
        if self.neurons is not None:
            factor = self.neurons.factor()
            kernel, bias = kernel * along(factor, -1, kernel.shape), None if bias is None else bias * factor
        return kernel, bias

    def _folded(self, x: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
        kernel, bias = self._kernel(), None if self.bias is None else self.bias[...]
        if self.norm is None or bias is None or self.neuron_axis is None:
            return kernel, bias
        if x is not None and self.mode.batch_statistics:
            statistics = self.norm.of_batch(self._product(x, kernel, 1))
            if self.norm.begins and self.bias is not None:
                bias = bias + self.norm.begin(statistics).reshape(bias.shape)
                self.bias[...] = bias
        else:
            statistics = self.norm.running()
        return self.norm.folded(kernel, bias, self.neuron_axis, statistics)

    def load(self, kernel: ArrayLike, bias: ArrayLike | None, statistics: tuple[ArrayLike, ...] | None = None) -> None:
        """Takes trained weights; bits of weights start from them, as those of a new layer start from its own.

        Args:
          kernel, bias: of the layer's own shapes; None for a bias leaves the layer's own.
          statistics: of a batch norm: scale, mean and variance of the products, without bias; None leaves what is there.

        Raises: ValueError, one sentence, where a shape is another, or a value is not finite.
        """
        pairs = [("kernel", self.kernel, self.kernel_quantizer, kernel), ("bias", self.bias, self.bias_quantizer, bias)]
        for name, param, quantizer, value in pairs:
            if value is None:
                continue
            if param is None or quantizer is None:
                raise ValueError(f"{type(self).__name__} has no {name}, but weights to start from have one")
            value = np.asarray(value, np.float32)
            if value.shape != param[...].shape:
                raise ValueError(f"{name} has shape {value.shape}, but {type(self).__name__} needs {param[...].shape}")
            if not np.all(np.isfinite(value)):
                raise ValueError(f"{name} has a NaN or infinity")
            param[...] = jnp.asarray(value)
        if statistics is not None and self.norm is not None:
            self.norm.load(*statistics)
        for quantizer, weight in zip((self.kernel_quantizer, self.bias_quantizer), self.weights(), strict=True):
            if quantizer is not None and weight is not None:
                sample = jnp.where(jnp.any(weight != 0), weight, jnp.ones_like(weight))  # a bias of zeros starts on the grid of 1
                quantizer.restart(sample)

    def fold(self) -> None:
        """Puts the batch norm, by its running averages, and the factor of a gate into kernel and bias, once and for all.

        So eager and compiled calls, which may differ by an ulp in the folding, quantize the very same weights.
        """
        if self.norm is None and self.neurons is None:
            return
        kernel, bias = self.weights()
        self.kernel[...] = kernel
        if self.bias is not None and bias is not None:
            self.bias[...] = bias
        if self.norm is not None:
            self.norm.make_identity()
        if self.neurons is not None:
            self.neurons.settle()

    def _kernel(self) -> jax.Array:
        return self.kernel[...]

    def _present(self, kernel: jax.Array) -> jax.Array:
        """Quantized weights, 0 where there is none."""
        return kernel

    def forward(self, x: jax.Array) -> jax.Array:
        x = self.input_quantizer(x)
        kernel, bias = self.weights(x)
        y = self._product(x, self._present(self.kernel_quantizer(kernel)).astype(x.dtype), 0)
        if bias is not None and self.bias_quantizer is not None:
            bias = fixed_point.materialized(self.bias_quantizer(bias)).astype(x.dtype)
            y = y + bias.reshape((1,) * (y.ndim - bias.ndim) + bias.shape)
        mask = None if self.neurons is None else self.neurons.mask()
        y = y if mask is None else y * mask.astype(y.dtype).reshape((1,) * (y.ndim - 1) + mask.shape)
        return activation_(self.activation)(y)

    def quantize_gradients(self, gradients: backward.AbstractGradients) -> None:
        """From now on training quantizes the gradient of the product, with random numbers that `hgqjax.layers.seed` gives."""
        self.gradients = gradients
        self.seed, self.step = Draw(jnp.zeros((2,), jnp.uint32)), Draw(jnp.zeros((), jnp.int32))

    def _product(self, x: jax.Array, kernel: jax.Array, number: int) -> jax.Array:
        """The product, with gradients as they are to be; `number` tells the products of a call apart."""
        if isinstance(self.gradients, backward.Exact) or not self.mode.trains:
            return self.product(x, kernel)
        key = jax.random.fold_in(jax.random.wrap_key_data(self.seed[...]), 2 * self.step[...] + number)
        return backward.product(self.product, self.gradients, x, kernel, jax.random.key_data(key))

    def cost(self) -> Any:
        bias = None if self.bias_quantizer is None else self.bias_quantizer.signal(lambda: self.weights()[1])
        kernel = self.kernel_quantizer.signal(lambda: self.weights()[0])
        if self.neurons is not None:
            share = self.neurons.share()
            kernel, bias = kernel.shared(along(share, -1, kernel.shape)), bias and bias.shared(share)
        if self.present is not None:
            kernel = kernel.shared(along(self.present.share(), -2, kernel.shape))
        return self.operation(self.input_quantizer.signal(), kernel, bias)

    def describe(self, x: Symbol) -> Symbol:
        name, inputs = x.graph.name_of(self), self.input_quantizer
        kernel, bias = self.weights()
        kernel = self.kernel_quantizer.frozen(kernel)
        bias = None if bias is None or self.bias_quantizer is None else self.bias_quantizer.frozen(bias)
        if self.present is not None:
            kept = at(self.present.kept(), self.present.n, inputs.shape[-1])
            inputs, kernel = Narrow(inputs, kept), narrowed(kernel, -2, kept)
        if self.neurons is not None:
            kept = self.neurons.kept()
            kernel, bias = narrowed(kernel, -1, kept), bias and narrowed(bias, -1, kept)
        return activation_(self.activation)(self.symbol(inputs.describe(x, f"{name}_input"), name, kernel, bias))
