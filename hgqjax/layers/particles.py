"""Blocks for sets of particles whose cost grows with their number only: JEDI-linear, and the mixer of perceptrons."""

import math
from typing import Any

from flax import nnx

from hgqjax.granularity import Granularity
from hgqjax.layers._base import Module, Value
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.dense import Dense, EinsumDense
from hgqjax.layers.merge import Add
from hgqjax.layers.quantize import ACTIVATION, WEIGHT
from hgqjax.layers.reduce import Sum
from hgqjax.quantizers import AbstractQuantizer


class JediLinear(Module):
    r"""Each particle, and all together: :math:`y_n = relu(W x_n + b) + relu(V m + c)`, m the sum of all :math:`x_n` over :math:`2^s`.

    An interaction network whose edges act linearly: the sum over the neighbours is then one sum for all, so that hardware grows with the
    number of particles and not with that of pairs.

    Args:
      particles, features: shape of a row. units: features of the result, (rows, particles, units).
      batch_norm: of both parts, or None; quantizers and granularities: of all parts; see `AbstractLinear`. With input_granularity
        "channel" all particles share their formats, and their order makes no difference; "element" is cheaper where they are sorted.

    The parts, each with its cost: `own`, `common` (`Dense`), `mean` (`Sum`, s the nearest whole number to log2 of the particles), `add`.
    Source: Que et al. (JEDI-linear), arXiv:2508.15468.

    >>> import jax.numpy as jnp
    >>> layer = JediLinear(4, 3, 5, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 4, 3))).shape
    (8, 4, 5)
    """

    def __init__(
        self,
        particles: int,
        features: int,
        units: int,
        *,
        rngs: nnx.Rngs,
        batch_norm: BatchNorm | None = None,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        bias_quantizer: AbstractQuantizer = WEIGHT,
        input_granularity: Granularity = "element",
        kernel_granularity: Granularity = "element",
    ):
        _check("JediLinear", particles=particles, features=features, units=units)
        activations: dict[str, Any] = {"input_quantizer": input_quantizer, "input_granularity": input_granularity}
        weights = {"kernel_quantizer": kernel_quantizer, "bias_quantizer": bias_quantizer, "kernel_granularity": kernel_granularity}
        settings: dict[str, Any] = {"rngs": rngs, "activation": "relu", "batch_norm": batch_norm} | activations | weights
        self.own = Dense(features, units, input_shape=(particles, features), **settings)
        self.mean = Sum((particles, features), (0,), shift=round(math.log2(particles)), keepdims=True, **activations)
        self.common = Dense(features, units, input_shape=(1, features), **settings)
        self.add = Add(((particles, units), (1, units)), **activations)

    def __call__(self, x: Value) -> Value:
        return self.add(self.own(x), self.common(self.mean(x)))


class MlpMixer(Module):
    r"""Two perceptrons with a bypass: one over the particles, one over the features, :math:`u = x + f(x^T)^T`, :math:`y = u + g(u)`.

    Args:
      particles, features: shape of a row, and of the result.
      particle_units, feature_units: hidden neurons of f and of g, each one hidden layer with relu.
      batch_norm: of the hidden layers, or None; quantizers and granularities: of all parts; see `AbstractLinear`.

    The parts, each with its cost: `particles_in`, `particles_out` (`EinsumDense`), `features_in`, `features_out` (`Dense`), `first`,
    `second` (`Add`).
    Source: Tolstikhin et al., arXiv:2105.01601; of jets: Sun et al., arXiv:2503.03103.

    >>> import jax.numpy as jnp
    >>> layer = MlpMixer(4, 3, particle_units=5, feature_units=6, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((8, 4, 3))).shape
    (8, 4, 3)
    """

    def __init__(
        self,
        particles: int,
        features: int,
        *,
        particle_units: int,
        feature_units: int,
        rngs: nnx.Rngs,
        batch_norm: BatchNorm | None = None,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        bias_quantizer: AbstractQuantizer = WEIGHT,
        input_granularity: Granularity = "element",
        kernel_granularity: Granularity = "element",
    ):
        _check("MlpMixer", particles=particles, features=features, particle_units=particle_units, feature_units=feature_units)
        activations: dict[str, Any] = {"input_quantizer": input_quantizer, "input_granularity": input_granularity}
        weights = {"kernel_quantizer": kernel_quantizer, "bias_quantizer": bias_quantizer, "kernel_granularity": kernel_granularity}
        last: dict[str, Any] = {"rngs": rngs} | activations | weights
        hidden = last | {"activation": "relu", "batch_norm": batch_norm}
        shape, turned = (particles, features), (features, particle_units)
        self.particles_in = EinsumDense("nc,nm->cm", shape, turned, **hidden)
        self.particles_out = EinsumDense("cm,mn->nc", turned, shape, bias_axes="n", **last)
        self.first = Add(shape, **activations)
        self.features_in = Dense(features, feature_units, input_shape=shape, **hidden)
        self.features_out = Dense(feature_units, features, input_shape=(particles, feature_units), **last)
        self.second = Add(shape, **activations)

    def __call__(self, x: Value) -> Value:
        x = self.first(x, self.particles_out(self.particles_in(x)))
        return self.second(x, self.features_out(self.features_in(x)))


def _check(name: str, **sizes: int) -> None:
    for what, n in sizes.items():
        if n < 1:
            raise ValueError(f"{name}: {what} is {n}; at least 1 is needed")
