"""Dense layers: input quantizer, quantized kernel and bias, activation; plain, and with batch norm folded into the kernel."""

import jax
import jax.numpy as jnp
from flax import nnx

from hgqjax import fixed_point, resources
from hgqjax.layers._base import Layer, Symbol
from hgqjax.layers.activation import activation as activation_
from hgqjax.layers.quantize import ACTIVATION, WEIGHT, Quantize, QuantizeWeight
from hgqjax.quantizers import AbstractQuantizer


class Dense(Layer):
    r"""``activation(q(x) @ q(kernel) + q(bias))``: every input, weight and bias has its own width.

    Args:
      n_in, n_out: features; x is (rows, ..., n_in), the widths of the input are those of `input_shape`, by default (n_in,).
      rngs: flax random streams; `rngs.params` draws the kernel, He-normal. The bias starts at 0.
      activation: None or "relu".
      use_bias: whether there is a bias.
      input_quantizer, kernel_quantizer, bias_quantizer: static choices. By default `Kif` with WRAP; each weight starts with 4 magnitude
        bits of its own, so that none starts dead.
      input_granularity, kernel_granularity: which values share a width.

    Cost: `hgqjax.resources.Dense`. Source: Sun et al. (HGQ), arXiv:2405.00645.

    >>> layer = Dense(3, 2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        rngs: nnx.Rngs,
        activation: str | None = None,
        use_bias: bool = True,
        input_shape: tuple[int, ...] | None = None,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        bias_quantizer: AbstractQuantizer = WEIGHT,
        input_granularity: str = "element",
        kernel_granularity: str = "element",
    ):
        input_shape = (n_in,) if input_shape is None else tuple(input_shape)
        if n_in < 1 or n_out < 1 or input_shape[-1] != n_in:
            raise ValueError(
                f"n_in is {n_in}, n_out {n_out}, input_shape {input_shape}; positive sizes are needed and input_shape ends in n_in"
            )
        activation_(activation)
        self.activation = activation
        self.input_quantizer = Quantize(input_shape, input_quantizer, input_granularity)
        kernel = nnx.initializers.he_normal()(rngs.params(), (n_in, n_out), jnp.float32)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(jnp.zeros((n_out,))) if use_bias else None
        self.kernel_quantizer = QuantizeWeight(kernel.shape, kernel_quantizer, kernel_granularity, sample=kernel)
        # a bias starts at 0 and has no magnitude yet: it starts on the grid of a value of 1
        self.bias_quantizer = QuantizeWeight((n_out,), bias_quantizer, sample=jnp.ones((n_out,))) if use_bias else None

    def _weights(self, x: jax.Array | None):
        """(kernel, bias) to be quantized; `x` are the quantized rows while training, None when frozen."""
        return self.kernel[...], None if self.bias is None else self.bias[...]

    def forward(self, x):
        x = self.input_quantizer(x)
        kernel, bias = self._weights(x)
        y = x @ self.kernel_quantizer(kernel).astype(x.dtype)
        if bias is not None:
            bias = fixed_point.once(self.bias_quantizer(bias)).astype(x.dtype)
            y = y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)
        return activation_(self.activation)(y)

    def cost(self):
        bias = None if self.bias_quantizer is None else self.bias_quantizer.signal()
        return resources.Dense(self.input_quantizer.signal(), self.kernel_quantizer.signal(), bias)

    def describe(self, x: Symbol) -> Symbol:
        name = x.graph.name_of(self)
        x = self.input_quantizer.describe(x, f"{name}_input")
        kernel, bias = self._weights(None)
        bias = None if bias is None else self.bias_quantizer.frozen(bias)
        return activation_(self.activation)(x.graph.dense(x, name, self.kernel_quantizer.frozen(kernel), bias))


class BatchNormDense(Dense):
    r"""`Dense` followed by batch norm, folded into the kernel and bias *before* these are quantized.

    .. math:: s = \gamma / \sqrt{\sigma^2 + \epsilon}, \quad y = q(x)\, q(W s) + q(\beta - \mu s)

    with the mean and variance of ``q(x) @ W`` over the batch while training (gradients flow through them: a true batch norm) and their
    running averages when frozen; so hardware sees a plain dense layer. The running averages move by ``1 - momentum`` a call, and by all
    at the first one. `freeze_statistics` keeps them, and uses them, while training goes on: a weight of few bits that sits near a
    rounding threshold is flipped by the noise of batch statistics, and would not be what the frozen network has.

    Args: as `Dense` (the bias is always there), and
      momentum: of the running averages, in [0, 1). epsilon: added to the variance, > 0.

    >>> layer = BatchNormDense(3, 2, rngs=nnx.Rngs(0), activation="relu")
    >>> layer(jax.random.normal(jax.random.key(0), (8, 3))).shape
    (8, 2)
    """

    def __init__(self, n_in: int, n_out: int, *, rngs: nnx.Rngs, momentum: float = 0.97, epsilon: float = 1e-5, **dense):
        if not (0 <= momentum < 1 and epsilon > 0):
            raise ValueError(f"momentum is {momentum}, epsilon {epsilon}; 0 <= momentum < 1 and epsilon > 0 are needed")
        super().__init__(n_in, n_out, rngs=rngs, **dense)
        self.momentum, self.epsilon = momentum, epsilon
        self.scale = nnx.Param(jnp.ones((n_out,)))
        self.mean = nnx.BatchStat(jnp.zeros((n_out,)))
        self.variance = nnx.BatchStat(jnp.zeros((n_out,)))
        self.calls = nnx.BatchStat(jnp.zeros(()))
        self.use_running_average = False

    def _weights(self, x):
        if x is None or self.use_running_average:
            mean, variance = self.mean[...], self.variance[...]
        else:
            z = x @ self.kernel[...]
            axes = tuple(range(z.ndim - 1))
            mean, variance = jnp.mean(z, axes), jnp.var(z, axes)
            self._track(jax.lax.stop_gradient(mean), jax.lax.stop_gradient(variance))
        scale = self.scale[...] / jnp.sqrt(variance + self.epsilon)
        return self.kernel[...] * scale[None, :], self.bias[...] - mean * scale

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
