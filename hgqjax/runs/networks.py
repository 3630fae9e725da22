"""The networks of the experiments as configurations: a perceptron, layers of tables, a convolutional network, the muon tracker."""

import abc
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from flax import nnx

from hgqjax import layers
from hgqjax.config import ConfigError, check_several
from hgqjax.data import muon
from hgqjax.layers.edges import EdgeName
from hgqjax.methods import Hgq, Method
from hgqjax.quantizers import Fixed, Kbi, Kif


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network(abc.ABC):
    """What every network has. A new one adds its fields and writes `build`."""

    batch_norm: bool = True
    """Fold a batch norm into every layer with weights and relu, and into a perceptron's last one."""
    method: Method = Hgq()
    """How weights and activations are quantized: learned (HGQ), or a rival method."""

    gated: ClassVar[bool] = False
    """Whether its hidden layers have gates on their neurons, for methods with such."""

    def __post_init__(self):
        if self.method.neurons() is not None and not self.gated:
            name = type(self.method).__name__.lower()
            raise ValueError(f"method {name!r} decides how many neurons hidden layers have, which {type(self).__name__} does not support")

    def norm(self) -> layers.BatchNorm | None:
        """The batch norm of its layers."""
        return layers.BatchNorm() if self.batch_norm else None

    def of_tables(self, word_bits: float) -> dict[str, Any]:
        """What a layer of tables is given: keys as the method has activations, but cut off where that is free, and words that saturate."""
        keys, _ = self.method.activations()
        keys = dataclasses.replace(keys, rounding="TRN") if isinstance(keys, Kif) else keys
        return {"input_quantizer": keys, "output_quantizer": Kbi(b0=word_bits, overflow="SAT_SYM")}

    @abc.abstractmethod
    def build(self, input_shape: tuple[Any, ...], n_out: int) -> Callable[[nnx.Rngs], layers.Module]:
        """The function that makes the model, of rows of `input_shape` (a shape for each of several inputs), from flax random streams."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mlp(Network):
    """A multilayer perceptron with relu and learned bit-widths; rows of several axes are flattened, several inputs joined."""

    gated: ClassVar[bool] = True
    hidden: tuple[int, ...] = (64, 32, 32)
    """Neurons of each hidden layer."""

    def __post_init__(self):
        super().__post_init__()
        check_several(self, "hidden")
        if any(n < 1 for n in self.hidden):
            raise ValueError(f"hidden is {self.hidden}; positive numbers of neurons are needed")

    def build(self, input_shape, n_out):
        if several(input_shape):
            size = sum(math.prod(shape) for shape in input_shape)
            return lambda rngs: _Joined(input_shape, self._perceptron((size,), n_out)(rngs), **self.method.of_inputs())
        if len(input_shape) != 1:
            return lambda rngs: _Flat(input_shape, self._perceptron(input_shape, n_out)(rngs), **self.method.of_inputs())
        return self._perceptron(input_shape, n_out)

    def _perceptron(self, input_shape, n_out):
        sizes = (functools.reduce(int.__mul__, input_shape), *self.hidden, n_out)
        settings = {"batch_norm": self.norm(), "neurons": self.method.neurons()} | self.method.of_layers()
        return lambda rngs: layers.mlp(sizes, rngs=rngs, **settings)


def several(input_shape: tuple) -> bool:
    """Whether a shape is the shapes of several inputs."""
    return any(isinstance(part, tuple) for part in input_shape)


class _Joined(layers.Module):
    """A perceptron of several inputs, flattened, one behind the other."""

    def __init__(self, shapes, perceptron, input_quantizer, input_granularity):
        self.quantize = nnx.List([layers.Quantize(shape, input_quantizer, input_granularity) for shape in shapes])
        self.perceptron = perceptron

    def __call__(self, *xs):
        return self.perceptron(layers.concatenate([layers.flatten(q(x)) for q, x in zip(self.quantize, xs, strict=True)]))


class _Flat(layers.Module):
    """A perceptron of flattened rows."""

    def __init__(self, input_shape, perceptron, input_quantizer, input_granularity):
        self.quantize = layers.Quantize(input_shape, input_quantizer, input_granularity)
        self.perceptron = perceptron

    def __call__(self, x):
        return self.perceptron(layers.flatten(self.quantize(x)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lut(Network):
    """Layers of tables (HGQ-LUT, or by splines a Kolmogorov-Arnold network); rows of several axes are flattened."""

    hidden: tuple[int, ...] = (20,)
    """Neurons of each hidden layer."""
    function: EdgeName = "mlp"
    """Of each edge while it trains: a small perceptron, a spline, or the words of its table themselves."""
    word_bits: float = 6.0
    """Magnitude bits that each word starts with."""

    def __post_init__(self):
        super().__post_init__()
        if any(n < 1 for n in self.hidden):
            raise ValueError(f"hidden is {self.hidden}; positive numbers of neurons are needed")

    def build(self, input_shape, n_out):
        sizes = (functools.reduce(int.__mul__, input_shape), *self.hidden, n_out)
        settings = self.of_tables(self.word_bits)

        def tables(rngs):
            pairs = list(itertools.pairwise(sizes))
            norms = [self.norm()] * (len(pairs) - 1) + [None]
            parts = [
                layers.LutDense(*pair, rngs=rngs, function=self.function, batch_norm=norm, **settings)
                for pair, norm in zip(pairs, norms, strict=True)
            ]
            return layers.Sequential(*([] if len(input_shape) == 1 else [layers.flatten]), *parts)

        return tables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cnn(Network):
    """Convolutions, each with relu and max pooling, then dense layers: the SVHN network of the HGQ paper.

    In io_stream hardware computes one position of a convolution at a time, for which all values of a layer need one width.
    """

    gated: ClassVar[bool] = True
    filters: tuple[int, ...] = (16, 16, 24)
    """Filters of each convolution."""
    size: int = 3
    """Height and width of the windows."""
    pool: int = 2
    """Height and width of the pooling windows."""
    hidden: tuple[int, ...] = (42, 64)
    """Neurons of each hidden dense layer."""
    parallelization: int | None = 1
    """Positions of a convolution that hardware computes at a time; None: all."""
    method: Method = Hgq(activation_granularity="tensor")
    """As of every network; the default's activations share a width in a layer."""

    def __post_init__(self):
        super().__post_init__()
        if not self.filters or min((*self.filters, *self.hidden, self.size, self.pool)) < 1:
            sizes = f"filters is {self.filters}, size {self.size}, pool {self.pool}, hidden {self.hidden}"
            raise ValueError(f"{sizes}; positive numbers are needed")
        if self.parallelization is not None and self.parallelization < 1:
            raise ValueError(f"parallelization is {self.parallelization}; at least 1, or None for all positions, is needed")

    def build(self, input_shape, n_out):
        if len(input_shape) != 3 or several(input_shape):
            raise ConfigError(f"rows have shape {input_shape}; a Cnn takes images (height, width, channels)")
        left = input_shape[:2]
        for _ in self.filters:
            left = tuple((n - self.size + 1) // self.pool for n in left)
            if min(left) < 1:
                raise ConfigError(f"images of {input_shape} are too small for {len(self.filters)} convolutions with pooling")
        return lambda rngs: _Convolutional(self, input_shape, n_out, rngs)


class _Convolutional(layers.Module):
    def __init__(self, config: Cnn, shape, n_out, rngs):
        self.pool, self.conv = config.pool, nnx.List()
        gate, present = config.method.neurons(), None
        for filters in config.filters:
            filters = filters if gate is None else gate.allocated(filters)
            settings = {"activation": "relu", "parallelization": config.parallelization} | config.method.of_layers()
            gates = {"neurons": gate, "present": present}
            layer = layers.Conv2D(shape, filters, config.size, rngs=rngs, batch_norm=config.norm(), **gates, **settings)
            present = layer.neurons
            self.conv.append(layer)
            height, width, _ = layer.output_shape
            shape = (height // config.pool, width // config.pool, filters)
        sizes = (shape[0] * shape[1] * shape[2], *config.hidden, n_out)
        gates = {"neurons": gate, "present": present}
        self.head = layers.mlp(sizes, rngs=rngs, batch_norm=config.norm(), **gates, **config.method.of_layers())

    def __call__(self, x):
        for conv in self.conv:
            x = layers.max_pool(conv(x), self.pool)
        return self.head(layers.flatten(x))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracker(Network):
    """The muon network of the HGQ paper. It has three inputs, the hits of each station: these become segments, segments are mapped from
    station to station, then an angle.

    Segments: a convolution over the channels of a station. Maps: dense layers that see only pairs of channels which tracks connect
    (`hgqjax.data.muon.station_masks`). Hits have one bit.
    """

    hidden: tuple[int, ...] = (28, 14, 8)
    """Neurons of each layer behind the maps."""
    head: Literal["dense", "tables"] = "dense"
    """What these layers are: dense with relu, or layers of tables, as in HGQ-LUT's hybrid."""
    word_bits: float = 6.0
    """Magnitude bits that each word of the head's tables starts with."""
    squash: Literal["hard_tanh", "tanh"] = "hard_tanh"
    """After each map: "tanh" by tables, as in the paper's first version, or "hard_tanh" by quantizers that clip, as in its third."""
    start: float = 229.0
    """Angle that training starts from, mrad: the bias of the output."""
    spread: float = 32.0
    """How far outputs spread around it at the start, mrad."""

    def __post_init__(self):
        super().__post_init__()
        if not self.hidden or min(self.hidden) < 1 or not self.spread > 0:
            raise ValueError(f"hidden is {self.hidden}, spread {self.spread}; one layer or more, sizes and a spread above 0 are needed")
        table = self.method.tables()
        if self.squash == "tanh" and isinstance(table, Kbi) and table.b0 > 15:
            raise ValueError(f"squash is 'tanh' with tables of {table.b0:g} bits; at most 15 and a sign are legal, or squash 'hard_tanh'")

    def build(self, input_shape, n_out):
        if tuple(input_shape) != tuple(part.shape for part in muon.INPUTS) or n_out != 1:
            legal = "the hits of three stations, (50, 3), (50, 2) and (50, 2), and one angle"
            raise ConfigError(f"rows have shape {tuple(input_shape)} and {n_out} targets; the tracker takes {legal}")
        return lambda rngs: _Tracker(self, rngs)


@functools.lru_cache(maxsize=1)
def _station_masks():
    return muon.station_masks()


class _Tracker(layers.Module):
    def __init__(self, config: Tracker, rngs):
        shape, (mask12, mask13, mask23) = (50,), _station_masks()
        settings, inputs = config.method.of_layers(), config.method.of_inputs()
        squashed = dict(settings)
        if config.squash == "hard_tanh":
            squashed["input_quantizer"], squashed["input_granularity"] = config.method.clipped()
        stations = [part.shape for part in muon.INPUTS]
        self.hits = nnx.List([layers.Quantize(station, Fixed(keep_negative=False, i=1, f=0), "tensor") for station in stations])
        self.segments = nnx.List(
            [layers.Conv1D(station, 1, 3, rngs=rngs, padding="SAME", use_bias=False, **settings) for station in stations]
        )
        self.map12 = layers.Dense(50, 50, rngs=rngs, mask=mask12, use_bias=False, **squashed)
        self.map13 = layers.Dense(50, 50, rngs=rngs, mask=mask13, use_bias=False, **squashed)
        self.map23 = layers.Dense(50, 50, rngs=rngs, mask=mask23, use_bias=False, **squashed)
        self.add2, self.add3 = layers.Add(shape, **inputs), layers.Add(shape, 3, **inputs)
        tables = 3 if config.squash == "tanh" else 0
        self.tanh = nnx.List([layers.Table("tanh", shape, input_quantizer=config.method.tables()) for _ in range(tables)])
        self.dense = nnx.List()
        for n, (n_in, n_out) in enumerate(itertools.pairwise((50, *config.hidden))):
            if config.head == "tables":
                self.dense.append(layers.LutDense(n_in, n_out, rngs=rngs, batch_norm=config.norm(), **config.of_tables(config.word_bits)))
                continue
            inputs = settings if n else squashed
            self.dense.append(layers.Dense(n_in, n_out, rngs=rngs, activation="relu", batch_norm=config.norm(), **inputs))
        self.angle = layers.Dense(config.hidden[-1], 1, rngs=rngs, bias_start=config.start, kernel_factor=config.spread, **settings)

    def _squash(self, n, x):
        return self.tanh[n](x) if self.tanh else x

    def __call__(self, station1, station2, station3):
        hits = (quantizer(x) for quantizer, x in zip(self.hits, (station1, station2, station3), strict=True))
        one, two, three = (layers.flatten(segments(x)) for segments, x in zip(self.segments, hits, strict=True))
        one = self._squash(0, one)
        two = self._squash(1, self.add2(self.map12(one), two))
        x = self._squash(2, self.add3(self.map23(two), self.map13(one), three))
        for dense in self.dense:
            x = dense(x)
        return self.angle(x)


NETWORKS: dict[str, type[Network]] = {"mlp": Mlp, "lut": Lut, "cnn": Cnn, "tracker": Tracker}
"""By the word that chooses one: ``hgqjax sweep model:lut``."""
