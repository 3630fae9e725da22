"""Batch norm, folded into the kernel and bias of a layer before these are quantized."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from hgqjax.layers._base import Statistic


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNorm:
    r"""``batch_norm=`` of a layer with weights: a norm of its result that is folded into kernel and bias *before* these are quantized.

    .. math:: s = \gamma / \sqrt{\sigma^2 + \epsilon}, \quad y = q(x)\, q(W s) + q(\beta - \mu s)

    with the mean and variance of ``q(x) W`` over the batch (and all positions) while training (gradients flow through them: a true batch
    norm) and their running averages when frozen; so hardware sees a plain layer. The running averages move by ``1 - momentum`` a call, and
    by all at the first one. Training in which they are kept, and used, is the mode `settle`: a weight of few bits that sits near a
    rounding threshold is flipped by the noise of batch statistics, and would not be what the frozen network has.

    The layer has a bias, always. One that was never called in training has variance 0, and kernels 300 times too large.

    Raises: ValueError where `momentum` is not within [0, 1), or `epsilon` not above 0.
    """

    momentum: float = 0.97
    """Of the running averages, in [0, 1)."""
    epsilon: float = 1e-5
    """Added to the variance, > 0."""

    def __post_init__(self):
        if not (0 <= self.momentum < 1 and self.epsilon > 0):
            raise ValueError(f"momentum is {self.momentum}, epsilon {self.epsilon}; 0 <= momentum < 1 and epsilon > 0 are needed")


class Norm(nnx.Module):
    """The trained scale and the running statistics of a `BatchNorm` of `neurons`."""

    def __init__(self, config: BatchNorm, neurons: int):
        self.momentum, self.epsilon = config.momentum, config.epsilon
        self.scale = nnx.Param(jnp.ones((neurons,)))
        self.mean = Statistic(jnp.zeros((neurons,)))
        self.variance = Statistic(jnp.zeros((neurons,)))
        self.calls = Statistic(jnp.zeros(()))
        self.begins = False  # whether the next batch makes it what changes nothing there; see `begin`

    def running(self) -> tuple[jax.Array, jax.Array]:
        """(mean, variance), the running averages."""
        return self.mean[...], self.variance[...]

    def of_batch(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(mean, variance) of the results `z`, which the running averages follow."""
        axes = tuple(range(z.ndim - 1))
        mean, variance = jnp.mean(z, axes), jnp.var(z, axes)
        self._track(jax.lax.stop_gradient(mean), jax.lax.stop_gradient(variance))
        return mean, variance

    def folded(self, kernel: jax.Array, bias: jax.Array, axis: int, statistics: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """(kernel, bias) with the norm in them; `axis` is that of the neurons in the kernel."""
        mean, variance = statistics
        scale = self.scale[...] / jnp.sqrt(variance + self.epsilon)
        along = [1] * kernel.ndim
        along[axis] = scale.size
        return kernel * scale.reshape(along), bias - (mean * scale).reshape(bias.shape)

    def load(self, scale: ArrayLike, mean: ArrayLike, variance: ArrayLike) -> None:
        """Takes trained values, each (neurons,), as if it had been called often; raises ValueError where a shape is another."""
        for name, own, value in (("scale", self.scale, scale), ("mean", self.mean, mean), ("variance", self.variance, variance)):
            value = jnp.asarray(value, jnp.float32)
            if value.shape != own[...].shape:
                raise ValueError(f"{name} of a batch norm has shape {value.shape}; {own[...].shape} is needed")
            own[...] = value
        self.calls[...] = jnp.ones(())

    def begin(self, statistics: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Takes the scale that changes nothing in a batch of these (mean, variance); returns what the bias has to gain for that."""
        mean, variance = (jax.lax.stop_gradient(part) for part in statistics)
        self.scale[...] = jnp.sqrt(variance + self.epsilon)
        return mean

    def make_identity(self) -> None:
        """What is left of it once it is folded into the weights: an exact identity."""
        self.scale[...] = jnp.ones_like(self.scale[...])
        self.mean[...], self.variance[...] = jnp.zeros_like(self.mean[...]), jnp.zeros_like(self.variance[...])
        self.epsilon = 1.0

    def _track(self, mean: jax.Array, variance: jax.Array) -> None:
        step = jnp.where(self.calls[...] == 0, 1.0, 1.0 - self.momentum)
        self.mean[...] = self.mean[...] + step * (mean - self.mean[...])
        self.variance[...] = self.variance[...] + step * (variance - self.variance[...])
        self.calls[...] = self.calls[...] + 1.0
