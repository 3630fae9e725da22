"""The contract of a quantizer, written once."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from hgqjax import fixed_point
from hgqjax import ranges as ranges_
from hgqjax.quantizers.allocation import AbstractAllocation

Widths = dict[str, Float[Array, "..."]]


class Format(NamedTuple):
    """Fixed-point formats: sign bit, integer bits without the sign, fractional bits; whole numbers that broadcast to the data."""

    k: Float[Array | np.ndarray, "..."]
    i: Float[Array | np.ndarray, "..."]
    f: Float[Array | np.ndarray, "..."]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractQuantizer(abc.ABC):
    """Static choices of a quantizer; its trained numbers are the `params` that `init` makes. Hashable, printable, JSON by its fields.

    Derive from `FixedPoint` a method that rounds to one fixed-point grid for each element: it writes `limits`, `init` and `format`. Derive
    from this class a method with other levels, for weights: it writes `quantize` too, and hardware sees each value's own format.
    """

    rounding = "RND"  # without annotation: of the class, and a field only where a leaf makes it one
    overflow = "SAT_SYM"
    allocation = cast(AbstractAllocation | None, None)  # as `rounding`
    """What decides the widths of all tensors whose quantizers have an equal one, together."""
    choices = cast(tuple[int, ...], ())  # as `rounding`
    """Bits that `with_bits` takes; none: a search leaves it alone."""
    format_of_each_value: ClassVar[bool] = False
    """True: the `ranges` given to `format` are those of each value by itself, and so is the format."""
    samples: ClassVar[bool] = False
    """True: it is one of several grids while it trains: layers then train with `sample` and `expected_format`."""
    untrained: ClassVar[frozenset[str]] = frozenset()
    """Parameters without gradients: `init` and `reassign` alone set them."""

    def __post_init__(self):
        for name, bounds in self.limits().items():
            pair = isinstance(bounds, tuple) and len(bounds) == 2 and all(isinstance(b, int | float) for b in bounds)
            if not (pair and -60 <= bounds[0] <= bounds[1] <= 60):
                raise ValueError(f"{name}_limits is {bounds}; a pair (least, greatest) within -60..60 is needed")

    @abc.abstractmethod
    def limits(self) -> dict[str, tuple[float, float]]:
        """Least and greatest value of each parameter."""

    @abc.abstractmethod
    def init(self, shape: tuple[int, ...], key: Array | None = None, sample: Float[Array, "..."] | None = None) -> Widths:
        """Trainable widths of `shape`: rank of the data, 1 on shared axes. With `sample` the widths start from its magnitude."""

    @abc.abstractmethod
    def format(self, params: Widths, ranges: ranges_.Range | None = None) -> Format:
        """Whole-numbered format in force, on whose grid every quantized value lies; gradients pass straight through the rounding."""

    @abc.abstractmethod
    def quantize(self, x: ArrayLike, params: Widths, *, ranges: ranges_.Range | None = None, key: Array | None = None) -> Array:
        """Bit-exact value, differentiable in `x` and `params`."""

    def quantize_unwrapped(self, x: ArrayLike, params: Widths, *, ranges: ranges_.Range | None = None, key: Array | None = None) -> Array:
        """As `quantize`, with WRAP left out: what a layer trains with."""
        return self.quantize(x, params, ranges=ranges, key=key)

    def sample(self, x, params: Widths, *, key: Array, temperature: Float[Array, ""], ranges: ranges_.Range | None = None):
        """Of a method that `samples`: values of a random mixture of grids, drawn by `key`, sharper at a lower `temperature`.

        The layers call it in each training step; validation, calibration and export use `quantize` and `format`.
        """
        raise NotImplementedError(f"{type(self).__name__} has one grid; it trains with quantize_unwrapped")

    def expected_format(self, params: Widths, ranges: ranges_.Range | None = None, temperature: Float[Array, ""] | None = None) -> Format:
        """The format on average over the mixture, smooth in `params`: what a cost reads while training. One grid has but its `format`.

        Args:
          temperature: that of the step, for mixtures whose shares depend on it.
        """
        return self.format(params, ranges)

    def temperature(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        """Of `sample`, when the share `progress` of the run is over, in [0, 1)."""
        return jnp.ones(())

    def reassigns(self, epoch: Array, epochs: int) -> Array | bool:
        """Whether `reassign` is called before epoch number `epoch` (from 0) of a run of `epochs`; False: never."""
        return False

    def reassign(
        self, params: Widths, x: Float[Array, "..."] | None, *, progress: Float[Array, ""], curvature: Callable[[], Array]
    ) -> Widths:
        """Parameters that no gradient finds: which grid a row has, which weights are left, a choice made for good.

        Args:
          x: the weight that is quantized, None for activations. progress: share of the run that is over. curvature: gives, of a weight, the
            largest eigenvalue of the loss's Hessian in each slice along its last axis (each output row), in the shape (1, ..., 1, rows).
        """
        return params

    def of_format(self, fmt: Format) -> Widths | None:
        """Parameters whose `format` is `fmt`, as far as their limits allow: of a network to start from. None: they start from the data."""
        return None

    def with_bits(self, params: Widths, bits: ArrayLike) -> Widths:
        """Parameters of a tensor with so many `bits`, one of `choices`, a sign bit included where there is one; what a search tries."""
        raise NotImplementedError(f"{type(self).__name__} has no bits to be searched")

    def narrowest(self, params: Widths) -> Widths:
        """Parameters of the lowest cost that training can reach; those of the lower `limits`."""
        return {name: jnp.full_like(value, self.limits()[name][0]) for name, value in params.items()}

    def clip(self, params: Widths) -> Widths:
        """Parameters brought into their `limits`; the training step calls it after each update."""
        return {name: jnp.clip(params[name], *bounds) for name, bounds in self.limits().items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedPoint(AbstractQuantizer):
    """A quantizer whose values are all those of its format: `hgqjax.fixed_point.quantize` with `rounding` and `overflow`.

    With overflow WRAP and given `ranges`, integer and sign bits are the fewest that hold the observed range; else the trained ones.
    """

    keep_negative: bool = True
    """False: the data is never negative, k = 0."""
    rounding: fixed_point.Rounding = "RND"

    def __post_init__(self):
        if not isinstance(self.keep_negative, bool):
            raise ValueError(f"keep_negative is {self.keep_negative!r}; True or False is needed")
        fixed_point.check_modes(self.rounding, self.overflow)
        super().__post_init__()

    def quantize(self, x, params, *, ranges=None, key=None):
        return fixed_point.quantize(x, *self.format(params, ranges), *self._modes(), key=key)

    def quantize_unwrapped(self, x, params, *, ranges=None, key=None):
        return fixed_point.quantize_unwrapped(x, *self.format(params, ranges), *self._modes(), key=key)

    def _modes(self) -> tuple[fixed_point.Rounding, fixed_point.Overflow]:
        return self.rounding, cast(fixed_point.Overflow, self.overflow)

    def _sign(self, i):
        return jnp.full_like(i, float(self.keep_negative))

    def _sign_and_integer_bits(self, i, f, ranges):
        """(k, i) with WRAP's observed range where there is one."""
        if self.overflow != "WRAP" or ranges is None:
            return self._sign(i), i
        low, high = as_float32(ranges)
        return ranges_.integer_bits(ranges_.Range(low if self.keep_negative else jnp.zeros_like(low), high), f, self.rounding)


def sample_exponent(sample: Float[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Integer bits of the largest magnitude in each group; a group of zeros gets those of the largest of all."""
    largest = largest_magnitude(sample, shape)
    return fixed_point.exponent(jnp.where(largest > 0, largest, jnp.max(largest, initial=0.0)))


def largest_magnitude(sample: Float[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Greatest magnitude in each group, float32."""
    low, high = as_float32(ranges_.observe(sample, shape))
    return jnp.maximum(-low, high)


def nearest_exponent(magnitude: Float[Array, "..."]) -> Float[Array, "..."]:
    """Whole `n` of the power of two ``2**n`` nearest to each `magnitude`, ties up; -1 for 0. No gradient.

    >>> nearest_exponent(jnp.array([1.0, 1.4, 1.5, 0.7])).tolist()
    [0.0, 0.0, 1.0, -1.0]
    """
    below = fixed_point.exponent(magnitude) - 1.0
    return below + (magnitude >= 1.5 * fixed_point.pow2(below)).astype(below.dtype)


def rounded_exponent(largest: Float[Array, "..."], bits) -> Float[Array, "..."]:
    """Fewest integer bits whose grid of `bits` magnitude bits has a level for each magnitude, rounded to nearest."""
    i = fixed_point.exponent(largest)
    return i + (largest > fixed_point.pow2(i) * (1.0 - fixed_point.pow2(-bits - 1.0))).astype(i.dtype)


def group_mean(values: Float[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Mean of `values` over the axes where `shape`, of the same rank, is 1; 0 of none."""
    axes = ranges_.shared_axes(values, shape)
    count = max(math.prod(values.shape[a] for a in axes), 1)
    return jnp.sum(values, axes, keepdims=True) / count


def as_float32(tree):
    """The same arrays, or tuple of arrays, in float32, the type of all parameters."""
    return jax.tree.map(lambda a: jnp.asarray(a).astype(jnp.float32), tree)


def rounded_width(params: Widths, name: str, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """A parameter as a whole number that broadcasts against `x`, gradient straight through; raises ValueError where it does not fit."""
    width = fixed_point.aligned(x, name, params[name])
    if not isinstance(width, Tracer) and not np.all(np.isfinite(width)):
        raise ValueError(f"{name} is NaN or infinite; whole numbers of bits are needed")
    return fixed_point.round_ste(jnp.asarray(width).astype(x.dtype))


def check_bits(name: str, value) -> None:
    """Raises ValueError unless `value` is a sensible number of bits to start with."""
    if not (isinstance(value, int | float) and math.isfinite(value) and -60 <= value <= 60):
        raise ValueError(f"{name} is {value!r}; a number of bits within -60..60 is needed")
