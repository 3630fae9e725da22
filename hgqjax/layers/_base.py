"""What every layer is: an nnx module that computes, names its operations, and describes itself for hardware."""

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
from flax import nnx

from hgqjax.layers._arguments import checked
from hgqjax.layers.mode import Mode
from hgqjax.quantizers import Format


class BitWidth(nnx.Variable):
    """A trained bit-width; not a subclass of nnx.Param, so that the two can be told apart."""


class Observed(nnx.Variable):
    """An extremum seen by a quantizer; changed by calls while the model observes, never by gradients."""


class Draw(nnx.Variable):
    """Seed, step or temperature of a quantizer that samples while it trains; `hgqjax.layers.begin_step` sets them."""


class FrozenWeight(NamedTuple):
    """A constant of the hardware: float `values` on the grids of their `format`, and the `overflow` of their quantizer."""

    values: Any
    format: Format
    overflow: str


@runtime_checkable
class SymbolicGraph(Protocol):
    """What `hgqjax.description.describe` passes through the model; all but `name_of` add an operation and return its result.

    `kind` and the settings are those of the classes of `hgqjax.description.operations`; `linear` is for those with weights, `apply` for all
    others, which make a name of their own where none is given.
    """

    def quantize(self, x: "Symbol", name: str, fmt: Format, layer: Any) -> "Symbol": ...

    def linear(
        self, kind: str, x: "Symbol", name: str, kernel: FrozenWeight, bias: FrozenWeight | None, shape: tuple[int, ...], **settings: Any
    ) -> "Symbol": ...

    def apply(self, kind: str, xs: tuple["Symbol", ...], shape: tuple[int, ...], name: str | None = None, **settings: Any) -> "Symbol": ...

    def name_of(self, module: nnx.Module) -> str: ...


def _refused(operation: str) -> Callable[..., Any]:
    """The method of a symbol for an `operation` that it has not."""

    def refuse(self: "Symbol", *_: Any) -> Any:
        raise TypeError(f"{operation!r} of {self.name!r}")

    return refuse


@dataclasses.dataclass(frozen=True, eq=False)
class Symbol:
    """The result of an operation while a model is described: a name and a shape without the batch axis, no numbers."""

    graph: SymbolicGraph
    name: str
    shape: tuple[int, ...]

    def __array__(self, *_: Any, **__: Any):
        raise TypeError(f"numpy's array of {self.name!r}")

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise TypeError(f"{name!r} of {self.name!r}")

    __add__ = __radd__ = _refused("+")
    __sub__ = __rsub__ = _refused("-")
    __mul__ = __rmul__ = _refused("*")
    __truediv__ = __rtruediv__ = _refused("/")
    __matmul__ = __rmatmul__ = _refused("@")
    __pow__ = _refused("**")
    __neg__ = _refused("-x")
    __abs__ = _refused("abs")
    __getitem__ = __iter__ = _refused("[]")
    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _refused("comparison")


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
            cls.__init__ = checked(cls.__init__)  # pyright: ignore[reportAttributeAccessIssue] a constructor with the same arguments

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
        for path, node in sorted(nnx.iter_graph(self), key=lambda item: tuple(map(_order, item[0]))):
            if isinstance(node, kind):
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


def _order(step: Any) -> tuple:
    """Sorts layer_2 before layer_10."""
    head, _, tail = str(step).rpartition("_")
    return (head, int(tail)) if tail.isdigit() else (str(step), -1)


class Layer(Module):
    """One operation with its quantizers. A new layer writes `forward`, `describe` and, when it multiplies, `cost`."""

    def __call__(self, x: Value) -> Value:
        return self.describe(x) if isinstance(x, Symbol) else self.forward(x)

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
