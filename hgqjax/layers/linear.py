"""What layers with weights share: input quantizer, quantized kernel and bias, activation, and batch norm folded into the kernel."""

import abc
import math

import jax
import jax.numpy as jnp
from flax import nnx

from hgqjax import fixed_point
from hgqjax.layers._base import Layer, Symbol
from hgqjax.layers.activation import activation as activation_
from hgqjax.layers.quantize import ACTIVATION, WEIGHT, Quantize, QuantizeWeight
from hgqjax.quantizers import AbstractQuantizer


class Linear(Layer):
    """Base of the layers with a kernel: ``activation(product(q(x), q(kernel)) + q(bias))``.

    A new one makes its shapes, calls `_setup`, and writes `product`, `operation` and `symbol`. The last axis of its result is that of the
    neurons, or filters, and one axis of its kernel, `neuron_axis`.

    Arguments that all have:
      rngs: flax random streams; `rngs.params` draws the kernel, He-normal times `kernel_factor` (1). The bias starts at
        `bias_start` (0).
      activation: None or "relu".
      use_bias: whether there is a bias.
      input_quantizer, kernel_quantizer, bias_quantizer: static choices. By default `Kif` with WRAP; each weight starts with 4 magnitude
        bits of its own, so that none starts dead.
      input_granularity, kernel_granularity: which values share a width: "element", "channel" (last axis) or "tensor".
    """

    neuron_axis: int | None = -1
    """Axis of the kernel that is the last of the result; None where it has none."""

    def _setup(
        self,
        input_shape: tuple[int, ...],
        kernel: jax.Array,
        bias_shape: tuple[int, ...],
        *,
        activation: str | None = None,
        use_bias: bool = True,
        bias_start: float = 0.0,
        kernel_factor: float = 1.0,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        bias_quantizer: AbstractQuantizer = WEIGHT,
        input_granularity: str = "element",
        kernel_granularity: str = "element",
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

    @abc.abstractmethod
    def product(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """Rows `x` with the kernel, without bias."""

    @abc.abstractmethod
    def operation(self, x, kernel, bias):
        """The operation of `hgqjax.resources` with these signals."""

    @abc.abstractmethod
    def symbol(self, x: Symbol, name: str, kernel, bias) -> Symbol:
        """Adds the product of `x` and the frozen weights to ``x.graph``."""

    def _weights(self, x: jax.Array | None):
        """(kernel, bias) to be quantized; `x` are the quantized rows while training, None when frozen."""
        return self._kernel(), None if self.bias is None else self.bias[...]

    def _kernel(self) -> jax.Array:
        return self.kernel[...]

    def _present(self, kernel: jax.Array) -> jax.Array:
        """Quantized weights, 0 where there is none."""
        return kernel

    def forward(self, x):
        x = self.input_quantizer(x)
        kernel, bias = self._weights(x)
        y = self.product(x, self._present(self.kernel_quantizer(kernel)).astype(x.dtype))
        if bias is not None:
            bias = fixed_point.materialized(self.bias_quantizer(bias)).astype(x.dtype)
            y = y + bias.reshape((1,) * (y.ndim - bias.ndim) + bias.shape)
        return activation_(self.activation)(y)

    def cost(self):
        bias = None if self.bias_quantizer is None else self.bias_quantizer.signal(lambda: self._weights(None)[1])
        kernel = self.kernel_quantizer.signal(lambda: self._weights(None)[0])
        return self.operation(self.input_quantizer.signal(), kernel, bias)

    def describe(self, x: Symbol) -> Symbol:
        name = x.graph.name_of(self)
        x = self.input_quantizer.describe(x, f"{name}_input")
        kernel, bias = self._weights(None)
        bias = None if bias is None else self.bias_quantizer.frozen(bias)
        return activation_(self.activation)(self.symbol(x, name, self.kernel_quantizer.frozen(kernel), bias))


class BatchNorm(Linear):
    r"""A linear layer followed by batch norm, folded into the kernel and bias *before* these are quantized.

    .. math:: s = \gamma / \sqrt{\sigma^2 + \epsilon}, \quad y = q(x)\, q(W s) + q(\beta - \mu s)

    with the mean and variance of ``q(x) W`` over the batch (and all positions) while training (gradients flow through them: a true batch
    norm) and their running averages when frozen; so hardware sees a plain layer. The running averages move by ``1 - momentum`` a call, and
    by all at the first one. Training in which they are kept, and used, is `Module.observing`: a weight of few bits that sits near a
    rounding threshold is flipped by the noise of batch statistics, and would not be what the frozen network has.

    Derive a layer from this class and a linear one, in this order. Further arguments:
      momentum: of the running averages, in [0, 1). epsilon: added to the variance, > 0.
    There always is a bias. A layer that was never called in training has variance 0, and kernels 300 times too large.
    """

    def __init__(self, *args, momentum: float = 0.97, epsilon: float = 1e-5, **linear):
        if not (0 <= momentum < 1 and epsilon > 0):
            raise ValueError(f"momentum is {momentum}, epsilon {epsilon}; 0 <= momentum < 1 and epsilon > 0 are needed")
        if not linear.get("use_bias", True):
            raise ValueError("use_bias is False; batch norm folds into a bias, which is always there")
        super().__init__(*args, **linear)
        self.momentum, self.epsilon = momentum, epsilon
        neurons = 0 if self.neuron_axis is None else self.kernel[...].shape[self.neuron_axis]
        if math.prod(self.bias[...].shape) != neurons:
            raise ValueError("batch norm needs a kernel with the last axis of the result, and one bias for each element of that axis")
        self.scale = nnx.Param(jnp.ones((neurons,)))
        self.mean = nnx.BatchStat(jnp.zeros((neurons,)))
        self.variance = nnx.BatchStat(jnp.zeros((neurons,)))
        self.calls = nnx.BatchStat(jnp.zeros(()))
        self.use_running_average = False

    def _weights(self, x):
        kernel = self._kernel()
        if x is None or self.use_running_average:
            mean, variance = self.mean[...], self.variance[...]
        else:
            z = self.product(x, kernel)
            axes = tuple(range(z.ndim - 1))
            mean, variance = jnp.mean(z, axes), jnp.var(z, axes)
            self._track(jax.lax.stop_gradient(mean), jax.lax.stop_gradient(variance))
        scale = self.scale[...] / jnp.sqrt(variance + self.epsilon)
        along = [1] * kernel.ndim
        along[self.neuron_axis] = scale.size
        bias = self.bias[...]
        return kernel * scale.reshape(along), bias - (mean * scale).reshape(bias.shape)

    def fold(self) -> None:
        """Puts the batch norm, by its running averages, into kernel and bias, once and for all: what is left of it is an exact identity.

        So eager and compiled calls, which may differ by an ulp in the folding, quantize the very same weights.
        """
        kernel, bias = self._weights(None)
        self.kernel[...], self.bias[...] = kernel, bias
        self.scale[...] = jnp.ones_like(self.scale[...])
        self.mean[...], self.variance[...] = jnp.zeros_like(self.mean[...]), jnp.zeros_like(self.variance[...])
        self.epsilon = 1.0

    def _track(self, mean, variance):
        step = jnp.where(self.calls[...] == 0, 1.0, 1.0 - self.momentum)
        self.mean[...] = self.mean[...] + step * (mean - self.mean[...])
        self.variance[...] = self.variance[...] + step * (variance - self.variance[...])
        self.calls[...] = self.calls[...] + 1.0
