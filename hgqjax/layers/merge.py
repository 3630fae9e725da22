"""Layers of several inputs: sum, difference, product; each input has a quantizer, and axes of size 1 repeat."""

import abc
import functools
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from hgqjax import fixed_point, resources
from hgqjax.granularity import Granularity
from hgqjax.layers._symbol import Symbol, repeated_shape
from hgqjax.layers.quantize import ACTIVATION, Quantize
from hgqjax.layers.several import AbstractSeveral
from hgqjax.quantizers import AbstractQuantizer


class _Merge(AbstractSeveral):
    """``op(q(x0), q(x1), ...)``.

    Args:
      shape: of a row of each input, and of the result; or a shape for each input, of one rank, where axes of size 1 repeat.
      inputs: how many there are where all have one shape, at least 2.
      input_quantizer, input_granularity: of each of them; see `Quantize`.
    """

    kind: str
    most = 64

    def __init__(
        self,
        shape: Sequence[int] | Sequence[Sequence[int]],
        inputs: int | None = None,
        *,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        input_granularity: Granularity = "element",
    ):
        shapes, name = _shapes(shape, inputs), type(self).__name__
        if not 2 <= len(shapes) <= self.most:
            raise ValueError(f"{name}: inputs is {len(shapes)}; 2 .. {self.most} are legal")
        if inputs not in (None, len(shapes)):
            raise ValueError(f"{name}: inputs is {inputs}, but {len(shapes)} shapes are given; leave inputs out")
        self.output_shape = repeated_shape(shapes, name)
        self.input_quantizer = nnx.List([Quantize(one, input_quantizer, input_granularity) for one in shapes])

    @staticmethod
    @abc.abstractmethod
    def combine(x: jax.Array, y: jax.Array, /) -> jax.Array:
        """The result for two inputs."""

    def forward(self, *xs: jax.Array) -> jax.Array:
        return functools.reduce(self.combine, self.quantized(xs))

    @abc.abstractmethod
    def operation(self, inputs: tuple[resources.Signal, ...]) -> Any:
        """The operation of `hgqjax.resources` with these signals."""

    def cost(self) -> Any:
        return self.operation(tuple(quantizer.signal() for quantizer in self.input_quantizer))

    def describe(self, *xs: Symbol) -> Symbol:
        name, quantized = self.described(xs)
        return xs[0].graph.apply(self.kind, quantized, self.output_shape, name=name)


def _shapes(shape: Sequence[int] | Sequence[Sequence[int]], inputs: int | None) -> list[tuple[int, ...]]:
    """A shape for each input."""
    several = [tuple(part) for part in shape if isinstance(part, Sequence)]
    return several or [tuple(n for n in shape if isinstance(n, int))] * (2 if inputs is None else inputs)


class Add(_Merge):
    """``q(x0) + q(x1) + ...``. Args: shape, inputs, input_quantizer, input_granularity. Cost: `hgqjax.resources.Add`.

    >>> Add((3,))(jax.numpy.ones((5, 3)), jax.numpy.ones((5, 3)))[0].tolist()
    [2.0, 2.0, 2.0]
    >>> Add(((2, 3), (1, 3)))(jax.numpy.ones((5, 2, 3)), jax.numpy.ones((5, 1, 3))).shape
    (5, 2, 3)
    """

    kind = "add"

    @staticmethod
    def combine(x: jax.Array, y: jax.Array, /) -> jax.Array:
        return x + y

    def operation(self, inputs: tuple[resources.Signal, ...]) -> resources.Add:
        return resources.Add(inputs)


class Subtract(_Merge):
    """``q(x0) - q(x1)``. Args as `Add`, two inputs. Cost: `hgqjax.resources.Subtract`.

    >>> Subtract((3,))(jax.numpy.ones((5, 3)), jax.numpy.ones((5, 3)))[0].tolist()
    [0.0, 0.0, 0.0]
    """

    kind, most = "subtract", 2

    @staticmethod
    def combine(x: jax.Array, y: jax.Array, /) -> jax.Array:
        return x - y

    def operation(self, inputs: tuple[resources.Signal, ...]) -> resources.Subtract:
        return resources.Subtract(inputs)


class Multiply(_Merge):
    """``q(x0) * q(x1) * ...``, element by element. Args as `Add`. Cost: `hgqjax.resources.Multiply`.

    >>> Multiply((2,))(jax.numpy.full((5, 2), 2.0), jax.numpy.full((5, 2), 3.0))[0].tolist()
    [6.0, 6.0]
    """

    kind = "multiply"

    @staticmethod
    def combine(x: jax.Array, y: jax.Array, /) -> jax.Array:
        return fixed_point.product(x, y)

    def operation(self, inputs: tuple[resources.Signal, ...]) -> resources.Multiply:
        return resources.Multiply(inputs)
