"""Quantizers as modules: of activations, and inside layers of weights."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from hgqjax import fixed_point, ranges
from hgqjax import granularity as granularity_
from hgqjax.layers._base import Layer, Observed, Variable
from hgqjax.layers._symbol import FrozenWeight, Symbol
from hgqjax.layers.mode import Mode
from hgqjax.layers.ruled import Ruled
from hgqjax.quantizers import AbstractQuantizer, FixedPoint, Format, Kif
from hgqjax.resources import Signal


class Probe(Variable):
    """Zeros that are added to a tensor, or to its fractional bits, to differentiate by them."""


class Seen(Variable):
    """What reached a quantizer of activations in the last call of mode float."""


ACTIVATION = Kif(i0=2.0, f0=4.0)
WEIGHT = Kif(b0=4.0)


@fixed_point.one_program("quantizer", "shape")
def _started(sample, *, quantizer: AbstractQuantizer, shape: tuple[int, ...]):
    return quantizer.init(shape, sample=sample)


class _Quantizer(Ruled, Layer):
    """Trained widths and observed range of one tensor."""

    @property
    def rule(self) -> AbstractQuantizer:
        """Its quantizer."""
        return self.quantizer

    def _setup(self, shape, widths_shape, quantizer, sample):
        if not isinstance(quantizer, AbstractQuantizer):
            raise TypeError(f"quantizer is {quantizer!r}; one of hgqjax.quantizers is needed, such as Kif()")
        if quantizer.rounding == "S_RND":
            raise ValueError("rounding S_RND has no hardware form and needs a key per call; layers take RND, TRN or RND_CONV")
        self.shape, self.widths_shape, self.quantizer = tuple(shape), tuple(widths_shape), quantizer
        self.sharing = math.prod(self.shape) / math.prod(widths_shape)
        self.hold(_started(sample, quantizer=quantizer, shape=widths_shape))
        range_shape = self.shape if quantizer.format_of_each_value else widths_shape
        seen = ranges.empty(range_shape) if sample is None else ranges.observe(sample, range_shape)
        self.low, self.high = Observed(seen.low), Observed(seen.high)
        self.probe: Probe | None = nnx.data(None)
        self.shift: Probe | None = nnx.data(None)
        self.seen: Seen | None = nnx.data(None)

    def restart(self, sample: jax.Array) -> None:
        """Starts the trained widths, and the range, from the magnitude of `sample`, as the constructor does."""
        self.set_params(_started(sample, quantizer=self.quantizer, shape=self.widths_shape))
        self._keep(ranges.observe(sample, self.low[...].shape))

    @property
    def range(self) -> ranges.Range:
        """The range observed so far."""
        return ranges.Range(self.low[...], self.high[...])

    def _keep(self, seen: ranges.Range):
        self.low[...], self.high[...] = seen

    def forget(self) -> None:
        """The observed range begins anew."""
        self._keep(ranges.empty(self.low[...].shape))

    def format(self) -> Format:
        """Format in force; while it samples that on average."""
        if self.samples:
            fmt = self.quantizer.expected_format(self.params, self.range, self.temperature[...])
        else:
            fmt = self.quantizer.format(self.params, self.range)
        return fmt if self.shift is None else fmt._replace(f=fmt.f + self.shift[...])

    def _float(self, x):
        """`x` in mode float."""
        if self.seen is not None:
            self.seen[...] = x
        return x if self.probe is None else x + self.probe[...]

    def _trained(self, x, seen: ranges.Range):
        """What training sees."""
        if not self.samples:
            return self.quantizer.quantize_unwrapped(x, self.params, ranges=seen)
        return self.quantizer.sample(x, self.params, key=self.key, temperature=self.temperature[...], ranges=seen)


class Quantize(_Quantizer):
    r"""Quantizes activations of `shape` (no batch axis); the first of a model is its input quantizer.

    With WRAP the integer bits follow the observed range: exactly what it needs after calibration; while training its extrema shrink by
    ``2**-decay_bits`` a call, so that an outlier of early steps is forgotten.

    Args:
      shape: of one row.
      quantizer: static choices, a `hgqjax.quantizers.FixedPoint`; by default `Kif` with f = 4, RND, WRAP. `adapt` starts the widths
        from data.
      granularity: "element", "channel" (last axis) or "tensor": which values share a width.
      decay_bits: bits per training call, >= 0.

    >>> layer = Quantize((2,), Kif(f0=1.0))
    >>> layer(jnp.array([[0.3, 0.8]])).tolist()
    [[0.5, 1.0]]
    """

    def __init__(self, shape, quantizer: AbstractQuantizer = ACTIVATION, granularity: str = "element", decay_bits=0.01):
        if decay_bits < 0:
            raise ValueError(f"decay_bits is {decay_bits}; a number of bits per call, at least 0, is needed")
        if not isinstance(quantizer, FixedPoint):
            raise ValueError(f"quantizer is {quantizer!r}, which is for weights; activations need a FixedPoint, such as Kif or Ternary")
        self.decay_bits = float(decay_bits)
        shape = tuple(shape)
        self._setup(shape, (1, *granularity_.widths_shape(shape, granularity)), quantizer, None)

    def forward(self, x):
        if x.shape[1:] != self.shape:
            raise ValueError(f"x has rows of shape {x.shape[1:]}; this quantizer was made for {self.shape}")
        if self.mode is Mode.ADAPT:  # of a layer used twice: the range holds the first use
            seen = (jnp.broadcast_to(v[...], (1, *self.shape)).astype(x.dtype) for v in (self.low, self.high))
            self.set_params(self.quantizer.init(self.low[...].shape, sample=jnp.concatenate([x, *seen])))
        if self.mode is Mode.FLOAT:
            return self._float(x)
        if self.mode is Mode.EVALUATE:
            return self.quantizer.quantize(x, self.params, ranges=self.range)
        decay_bits = 0.0 if self.mode is Mode.CALIBRATE else self.decay_bits
        self._keep(ranges.update(self.range, x.astype(self.low[...].dtype), decay_bits))
        return self._trained(x, self.range)

    def signal(self) -> Signal:
        """What the cost models read."""
        rows = (v[0] if v.ndim else v for v in self.format())
        return Signal(Format(*rows), self.quantizer.overflow, self.shape, sharing=self.sharing)

    def describe(self, x: Symbol, name: str | None = None) -> Symbol:
        fmt = Format(*(jnp.broadcast_to(v, (1, *self.shape))[0] for v in self.format()))
        return x.graph.quantize(x, name or x.graph.name_of(self), fmt, self)

    def widen(self, low, high) -> None:
        """Makes the observed range hold the values `low` and `high`, arrays of the shape of one row, too."""
        for values in (low, high):
            self._keep(ranges.update(self.range, jnp.asarray(values)[None]))


class QuantizeWeight(_Quantizer):
    """Quantizes a weight of `shape`; its range is always the weight's own, so that WRAP never wraps."""

    def __init__(self, shape, quantizer: AbstractQuantizer = WEIGHT, granularity: str = "element", sample=None):
        self._setup(shape, granularity_.widths_shape(tuple(shape), granularity), quantizer, sample)

    def forward(self, x):
        if self.mode is Mode.FLOAT:
            return self._float(x)
        seen = ranges.observe(x, self.low[...].shape)
        if self.mode is not Mode.EVALUATE:
            self._keep(seen)
        return self._trained(x, seen)

    def signal(self, weight: Callable[[], Any] | None = None) -> Signal:
        """What the cost models read; `weight` gives the weight that is quantized here, for those that read its values."""

        def quantized(x: Array) -> tuple[Array, Array]:
            seen = ranges.observe(x, self.low[...].shape)
            return x, self.quantizer.quantize_unwrapped(x, self.params, ranges=seen)

        values = None if weight is None else lambda: quantized(weight())
        about = {"sharing": self.sharing, "values": values, "uniform": isinstance(self.quantizer, FixedPoint) and not self.samples}
        return Signal(self.format(), self.quantizer.overflow, self.shape, constant=True, **about)

    def frozen(self, x) -> FrozenWeight:
        """The bit-exact constant that the weight `x` becomes."""
        seen = ranges.observe(x, self.low[...].shape)
        fmt = Format(*(jnp.broadcast_to(v, self.shape) for v in self.quantizer.format(self.params, seen)))
        return FrozenWeight(self.quantizer.quantize(x, self.params, ranges=seen), fmt, self.quantizer.overflow)

    def describe(self, x: Symbol) -> Symbol:
        raise TypeError("a weight quantizer is part of its layer; it describes nothing by itself")
