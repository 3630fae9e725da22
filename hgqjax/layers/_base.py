"""What every layer is: an nnx module that computes, names its operations, and describes itself for hardware."""

import abc
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer

from hgqjax.layers._arguments import checked
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.mode import Mode


class Variable(nnx.Variable):
    """A variable whose ``[...] = value`` takes a traced value of its shape and type as it is.

    Flax 0.12 compares shardings first. A traced value has none, and in JAX 0.10 it searches the whole trace so far for what to say about
    that (jax-ml/jax, pull request 40041): to trace a network would take a time that grows with the square of its size.
    """

    def set_value(self, value, **where):
        """Takes `value`; `where` has flax's `index`."""
        if where.get("index") is ... and isinstance(value, Tracer):
            own = self.get_value()
            where = {} if (value.shape, value.dtype) == (own.shape, own.dtype) else where
        super().set_value(value, **where)


class BitWidth(Variable):
    """A trained bit-width; not a subclass of nnx.Param, so that the two can be told apart."""


class Observed(Variable):
    """An extremum seen by a quantizer; changed by calls while the model observes, never by gradients."""


class Uses(Variable):
    """How often one call of the model calls a layer, which stands in hardware as often; `hgqjax.layers.adapt` counts."""


class Statistic(Variable, nnx.BatchStat):
    """A number that a layer keeps from call to call while it trains, such as a running average of a batch norm."""


class Draw(Variable):
    """Seed, step or temperature of a quantizer that samples while it trains; `hgqjax.layers.begin_step` sets them."""


Value = TypeVar("Value", jax.Array, Symbol)
"""Rows, or a layer's result while a model is described."""


class Module(nnx.Module):
    """Base of quantized models, free-form ones too: subclass it, hold layers as attributes (lists as `nnx.List`), call them in `__call__`.

    `mode` says how it runs (`Mode`, which lists them); `set_mode` sets it for the whole model. A new model is in `train`.
    """

    mode: Mode = Mode.TRAIN

    if TYPE_CHECKING:
        __call__: Callable[..., Any]

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "__init__" in vars(cls):
            cls.__init__ = checked(_counting(cls.__init__))  # pyright: ignore[reportAttributeAccessIssue] a constructor with the same arguments

    def set_mode(self, mode: Mode | str) -> None:
        """Sets `mode` in all modules of the model; in those of flax, too, what corresponds to it (dropout, its own batch norm)."""
        mode = Mode(mode)
        self.set_attributes(deterministic=not mode.trains, use_running_average=not mode.batch_statistics, raise_if_not_found=False)
        self.set_attributes(Module, mode=mode)
        if mode.trains:
            for _, layer in self.named(Layer):
                layer.thaw()

    def train(self, **attributes: Any) -> None:
        """``set_mode("train")``, under the name that it has in flax."""
        self.set_mode(Mode.TRAIN)
        self.set_attributes(**attributes)

    def eval(self, **attributes: Any) -> None:
        """``set_mode("evaluate")``, under the name that it has in flax."""
        self.set_mode(Mode.EVALUATE)
        self.set_attributes(**attributes)

    def named(self, kind: type) -> Iterator[tuple[str, Any]]:
        """(name, module) for each submodule of class `kind`; the name is the attribute path joined by underscores."""
        found = [item for item in nnx.iter_graph(self) if isinstance(item[1], kind)]
        for path, node in sorted(found, key=lambda item: tuple(map(_order, item[0]))):
            yield "_".join(map(str, path)) or "model", node

    def operations_cost(self) -> dict[str, Any]:
        """Multiplying operations of each layer with the formats in force; what `hgqjax.resources.ebops` reads."""
        costs = {}
        for name, layer in self.named(Layer):
            cost = layer.cost()
            if name in costs:
                raise ValueError(f"two layers come to the name {name!r}; rename an attribute")
            if cost is not None:
                costs[name] = cost
        return costs

    def operations_uses(self) -> dict[str, Any]:
        """How often each layer of `operations_cost` is called in one call of the model, as `adapt` has counted; its weights are shared."""
        return {name: layer.uses[...] for name, layer in self.named(Layer) if layer.counts_uses}


def _order(step: Any) -> tuple:
    """Sorts layer_2 before layer_10."""
    head, _, tail = str(step).rpartition("_")
    return (head, int(tail)) if tail.isdigit() else (str(step), -1)


def _counting(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor `init`, which also makes the count of calls of a layer that has a cost."""

    @functools.wraps(init)
    def counting(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if isinstance(self, Layer) and type(self).cost is not Layer.cost:
            self.uses = Uses(jnp.ones(()))

    return counting


class Layer(Module):
    """One operation with its quantizers. A new layer writes `forward`, `describe` and, when it multiplies, `cost`."""

    uses: Uses

    def __call__(self, x: Value) -> Value:
        self.count_use()
        return self.describe(x) if isinstance(x, Symbol) else self.forward(x)

    @property
    def counts_uses(self) -> bool:
        """Whether it has a cost, and so counts how often it is called."""
        return "uses" in vars(self)

    def count_use(self) -> None:
        """Counts a call while the model adapts; what overrides `__call__` calls this first."""
        if self.mode is Mode.ADAPT and self.counts_uses:
            self.uses[...] = self.uses[...] + 1

    @abc.abstractmethod
    def forward(self, x: jax.Array) -> jax.Array:
        """The result for rows `x` (rows, *shape)."""

    @abc.abstractmethod
    def describe(self, x: Symbol) -> Symbol:
        """Adds this layer's operations, with frozen constants and formats, to ``x.graph``."""

    def thaw(self) -> None:
        """Forgets what calibration made of the widths, as training goes on; most layers keep nothing."""

    def cost(self) -> Any | None:
        """The multiplying operation for the cost models, None when there is none."""
        return None
