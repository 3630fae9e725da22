"""Layers of several inputs: sum, difference, product; each input has a quantizer."""

import abc
import functools
import operator
from collections.abc import Sequence

import jax
from flax import nnx

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._base import Layer, Symbol, Value
from hgqjax.layers.quantize import ACTIVATION, Quantize
from hgqjax.quantizers import AbstractQuantizer


class _Merge(Layer):
    """``op(q(x0), q(x1), ...)`` of inputs of one shape.

    Args:
      shape: of a row of each input, and of the result.
      inputs: how many there are, at least 2.
      input_quantizer, input_granularity: of each of them; see `Quantize`.
    """

    kind: str
    most = 64

    def __init__(
        self,
        shape: Sequence[int],
        inputs: int = 2,
        *,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        input_granularity: Granularity = "element",
    ):
        if not 2 <= inputs <= self.most:
            raise ValueError(f"{type(self).__name__}: inputs is {inputs}; 2 .. {self.most} are legal")
        self.inputs = inputs
        self.input_quantizer = nnx.List([Quantize(tuple(shape), input_quantizer, input_granularity) for _ in range(inputs)])

    def __call__(self, *xs: Value) -> Value:
        if len(xs) != self.inputs:
            raise ValueError(f"{type(self).__name__} was made for {self.inputs} inputs and is given {len(xs)}")
        return self.describe(*xs) if isinstance(xs[0], Symbol) else self.forward(*xs)

    @staticmethod
    @abc.abstractmethod
    def combine(x: jax.Array, y: jax.Array) -> jax.Array:
        """The result for two inputs."""

    def forward(self, *xs):
        return functools.reduce(self.combine, (quantizer(x) for quantizer, x in zip(self.input_quantizer, xs, strict=True)))

    @abc.abstractmethod
    def operation(self, inputs: tuple[resources.Signal, ...]):
        """The operation of `hgqjax.resources` with these signals."""

    def cost(self):
        return self.operation(tuple(quantizer.signal() for quantizer in self.input_quantizer))

    def describe(self, *xs: Symbol) -> Symbol:
        graph, name = xs[0].graph, xs[0].graph.name_of(self)
        xs = tuple(q.describe(x, f"{name}_input{n}") for n, (q, x) in enumerate(zip(self.input_quantizer, xs, strict=True)))
        return graph.apply(self.kind, xs, xs[0].shape, name=name)


class Add(_Merge):
    """``q(x0) + q(x1) + ...``. Args: shape, inputs, input_quantizer, input_granularity. Cost: `hgqjax.resources.Add`.

    >>> Add((3,))(jax.numpy.ones((5, 3)), jax.numpy.ones((5, 3)))[0].tolist()
    [2.0, 2.0, 2.0]
    """

    kind = "add"
    combine = staticmethod(operator.add)

    def operation(self, inputs):
        return resources.Add(inputs)


class Subtract(_Merge):
    """``q(x0) - q(x1)``. Args as `Add`, two inputs. Cost: `hgqjax.resources.Subtract`.

    >>> Subtract((3,))(jax.numpy.ones((5, 3)), jax.numpy.ones((5, 3)))[0].tolist()
    [0.0, 0.0, 0.0]
    """

    kind, most = "subtract", 2
    combine = staticmethod(operator.sub)

    def operation(self, inputs):
        return resources.Subtract(inputs)


class Multiply(_Merge):
    """``q(x0) * q(x1) * ...``, element by element. Args as `Add`. Cost: `hgqjax.resources.Multiply`.

    >>> Multiply((2,))(jax.numpy.full((5, 2), 2.0), jax.numpy.full((5, 2), 3.0))[0].tolist()
    [6.0, 6.0]
    """

    kind = "multiply"
    combine = staticmethod(operator.mul)

    def operation(self, inputs):
        return resources.Multiply(inputs)
