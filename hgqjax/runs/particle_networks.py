"""Networks of jets by their particles, rows (particles, features), as configurations: JEDI-linear, the mixer, the transformer."""

import abc
import dataclasses
import itertools
from typing import Any

from flax import nnx

from hgqjax import layers
from hgqjax.config import ConfigError
from hgqjax.layers.dense import Dense, EinsumDense
from hgqjax.runs.networks import Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParticleNetwork(Network):
    """What networks of particles have in common."""

    units: int = 16
    """Features of each particle inside."""
    hidden: tuple[int, ...] = (16,)
    """Neurons of each dense layer behind the particles."""

    def __post_init__(self):
        super().__post_init__()
        if self.units < 1 or min(self.hidden, default=1) < 1:
            raise ValueError(f"units is {self.units}, hidden {self.hidden}; positive numbers are needed")

    def build(self, input_shape, n_out):
        if len(input_shape) != 2:
            raise ConfigError(f"rows have shape {tuple(input_shape)}; a {type(self).__name__} takes particles (particles, features)")
        return lambda rngs: self.of_particles(*input_shape, n_out, rngs)

    @abc.abstractmethod
    def of_particles(self, particles: int, features: int, n_out: int, rngs: nnx.Rngs) -> layers.Module:
        """The model."""

    def dense(self, shape: tuple[int, ...], units: int, rngs: nnx.Rngs, relu: bool = True) -> Dense:
        """A dense layer over the last axis of rows of `shape`, with the network's method, batch norm and, mostly, relu."""
        settings: dict[str, Any] = {"batch_norm": self.norm(), "activation": "relu" if relu else None} | self.method.of_layers()
        return Dense(shape[-1], units, rngs=rngs, input_shape=shape, **settings)

    def head(self, features: int, n_out: int, rngs: nnx.Rngs) -> list[Dense]:
        """The dense layers behind the particles, and the one that gives the results."""
        sizes = (features, *self.hidden, n_out)
        last = len(sizes) - 2
        return [self.dense((a,), b, rngs, relu=n < last) for n, (a, b) in enumerate(itertools.pairwise(sizes))]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JediLinear(ParticleNetwork):
    """JEDI-linear (arXiv:2508.15468): each particle, and the mean of all, then the sum over particles, then dense layers.

    With a method whose activation_granularity is "channel", particles share their formats, and their order makes no difference.
    """

    units: int = 64
    hidden: tuple[int, ...] = (64, 32, 16)

    def of_particles(self, particles, features, n_out, rngs):
        return _JediLinear(self, particles, features, n_out, rngs)


class _JediLinear(layers.Module):
    def __init__(self, config: JediLinear, particles, features, n_out, rngs):
        shape, settings = (particles, config.units), config.method.of_layers()
        self.embed = config.dense((particles, features), config.units, rngs)
        self.linear = layers.JediLinear(*shape, config.units, rngs=rngs, batch_norm=config.norm(), **settings)
        self.node = config.dense(shape, config.units, rngs)
        self.total = layers.Sum(shape, (0,), shift=4, **config.method.of_inputs())
        self.head = nnx.List(config.head(config.units, n_out, rngs))

    def __call__(self, x):
        x = self.total(self.node(self.linear(self.embed(x))))
        for dense in self.head:
            x = dense(x)
        return x


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixer(ParticleNetwork):
    """The mixer of jets (arXiv:2503.03103) as its authors released it: features, particles with a bypass, features, then a weighted sum."""

    hidden: tuple[int, ...] = (16, 16, 16)

    def of_particles(self, particles, features, n_out, rngs):
        return _Mixer(self, particles, features, n_out, rngs)


class _Mixer(layers.Module):
    def __init__(self, config: Mixer, particles, features, n_out, rngs):
        shape, wide, settings = (particles, features), (particles, config.units), config.method.of_layers()
        self.before = nnx.List([config.dense(shape, config.units, rngs), config.dense(wide, features, rngs)])
        mixed: dict[str, Any] = {"rngs": rngs, "bias_axes": "m"} | settings
        self.mix = EinsumDense("nc,nm->mc", shape, shape, **mixed)
        self.bypass = layers.Add(shape, **config.method.of_inputs())
        self.after = nnx.List([config.dense(shape, config.units, rngs), config.dense(wide, config.units, rngs)])
        self.pool = EinsumDense("nc,n->c", wide, (config.units,), use_bias=False, rngs=rngs, **settings)
        self.head = nnx.List(config.head(config.units, n_out, rngs))

    def __call__(self, x):
        y = x
        for dense in self.before:
            y = dense(y)
        x = self.bypass(x, self.mix(y))
        for dense in self.after:
            x = dense(x)
        x = self.pool(x)
        for dense in self.head:
            x = dense(x)
        return x


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transformer(ParticleNetwork):
    """The transformer of jets (arXiv:2510.24784) as its authors released it: attention with a bypass, then perceptrons with one each."""

    heads: int = 1
    """Of the attention, each with `units` features."""
    projected_particles: int | None = None
    """How many particles keys and values are projected to (Linformer, 2 in the released ones); None: full attention."""
    blocks: int = 2
    """Perceptrons behind the attention, of twice `units` neurons each."""
    batch_norm: bool = False
    """As of every network; the released ones have none."""

    def __post_init__(self):
        super().__post_init__()
        if self.heads < 1 or self.blocks < 0 or (self.projected_particles is not None and self.projected_particles < 1):
            sizes = f"heads is {self.heads}, blocks {self.blocks}, projected_particles {self.projected_particles}"
            raise ValueError(f"{sizes}; at least 1, 0 and 1 (or None) are needed")

    def of_particles(self, particles, features, n_out, rngs):
        return _Transformer(self, particles, features, n_out, rngs)


class _Transformer(layers.Module):
    def __init__(self, config: Transformer, particles, features, n_out, rngs):
        shape, units = (particles, config.units), config.units
        inputs, (kernel, _) = config.method.of_inputs(), config.method.weights()
        self.embed = nnx.List([config.dense((particles, features), units, rngs), config.dense(shape, units, rngs)])
        attention: dict[str, Any] = {"heads": config.heads, "key_features": units, "projected_tokens": config.projected_particles}
        attention |= {"input_quantizer": inputs["input_quantizer"], "kernel_quantizer": kernel, "rngs": rngs}
        self.attention = layers.MultiHeadAttention(*shape, **attention)
        self.wide = nnx.List([config.dense(shape, 2 * units, rngs) for _ in range(config.blocks)])
        self.narrow = nnx.List([config.dense((particles, 2 * units), units, rngs) for _ in range(config.blocks)])
        self.add = nnx.List([layers.Add(shape, **inputs) for _ in range(config.blocks + 1)])
        self.head = nnx.List(config.head(particles * units, n_out, rngs))

    def __call__(self, x):
        for dense in self.embed:
            x = dense(x)
        x = self.add[0](self.attention(x), x)
        for wide, narrow, add in zip(self.wide, self.narrow, [*self.add][1:], strict=True):
            x = add(narrow(wide(x)), x)
        x = layers.flatten(x)
        for dense in self.head:
            x = dense(x)
        return x
