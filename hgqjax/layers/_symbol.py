"""What passes through a model while it is described: results without numbers, and what they can do without a layer."""

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from flax import nnx

from hgqjax.quantizers import Format

CONSTANT_BITS = 16
"""Most significant bits of a constant that a result is added to or multiplied with."""


class FrozenWeight(NamedTuple):
    """A constant of the hardware: float `values` on the grids of their `format`, and the `overflow` of their quantizer."""

    values: Any
    format: Format
    overflow: str


@runtime_checkable
class SymbolicGraph(Protocol):
    """What `hgqjax.description.describe` passes through the model; all but `name_of` add an operation and return its result.

    `kind` and the settings are those of the classes of `hgqjax.description.operations`; `linear` is for those with weights, `affine` for
    ``x * scale + offset`` with constants of the shape of x, `apply` for all others. The last two make a name of their own where none is
    given. `name_of` gives a layer that is called again another name each time.
    """

    def quantize(self, x: "Symbol", name: str, fmt: Format, layer: Any) -> "Symbol": ...

    def linear(
        self, kind: str, x: "Symbol", name: str, kernel: FrozenWeight, bias: FrozenWeight | None, shape: tuple[int, ...], **settings: Any
    ) -> "Symbol": ...

    def affine(self, x: "Symbol", scale: np.ndarray, offset: np.ndarray) -> "Symbol": ...

    def apply(self, kind: str, xs: tuple["Symbol", ...], shape: tuple[int, ...], name: str | None = None, **settings: Any) -> "Symbol": ...

    def name_of(self, module: nnx.Module) -> str: ...


def _refused(operation: str) -> Callable[..., Any]:
    """The method of a symbol for an `operation` that it has not."""

    def refuse(self: "Symbol", *_: Any) -> Any:
        raise TypeError(f"{operation!r} of {self.name!r}")

    return refuse


@dataclasses.dataclass(frozen=True, eq=False)
class Symbol:
    """The result of an operation while a model is described: a name and a shape without the batch axis, no numbers.

    Plain Python does what hardware has a form for: ``x + y``, ``x - y``, ``x * y`` of two results (of one rank; axes of size 1 repeat),
    ``-x``, the same with constants, ``x / c`` where 1 / c is exact, ``x**2``, and static indices, which begin with the batch axis as
    those of arrays do: ``x[:, 1:3]``, ``x[..., 0]``. All of it is exact. In training it is what JAX's arrays do.
    """

    graph: SymbolicGraph
    name: str
    shape: tuple[int, ...]
    __array_ufunc__ = None  # numpy's arrays leave arithmetic to the symbol

    def __array__(self, *_: Any, **__: Any):
        raise TypeError(f"numpy's array of {self.name!r}")

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        raise TypeError(f"{name!r} of {self.name!r}")

    def __add__(self, other: Any) -> "Symbol":
        return self._merged("add", other) if isinstance(other, Symbol) else self._affine("+", 1.0, other)

    def __radd__(self, other: Any) -> "Symbol":
        return self._affine("+", 1.0, other)

    def __sub__(self, other: Any) -> "Symbol":
        return self._merged("subtract", other) if isinstance(other, Symbol) else self._affine("-", 1.0, other, -1.0)

    def __rsub__(self, other: Any) -> "Symbol":
        return self._affine("-", -1.0, other)

    def __mul__(self, other: Any) -> "Symbol":
        return self._merged("multiply", other) if isinstance(other, Symbol) else self._affine("*", other, 0.0)

    def __rmul__(self, other: Any) -> "Symbol":
        return self._affine("*", other, 0.0)

    def __truediv__(self, other: Any) -> "Symbol":
        if isinstance(other, Symbol):
            raise TypeError(f"'/' of {self.name!r}")
        divisor = constant(self, "/", other)
        mantissa, exponent = np.frexp(divisor)
        if np.any(abs(mantissa) != 0.5):
            raise ValueError(f"{self.name!r} is divided by {_text(divisor)}, which is no power of two; multiply by a constant instead")
        return self._affine("*", np.ldexp(np.sign(mantissa), 1 - exponent), 0.0)

    def __neg__(self) -> "Symbol":
        return self._affine("-", -1.0, 0.0)

    def __pow__(self, power: Any) -> "Symbol":
        if not isinstance(power, int) or power != 2:
            raise TypeError(f"'**' of {self.name!r}")
        return self._merged("multiply", self)

    def __getitem__(self, index: Any) -> "Symbol":
        return indexed(self, index)

    __rtruediv__ = _refused("/")
    __matmul__ = __rmatmul__ = _refused("@")
    __rpow__ = _refused("**")
    __abs__ = _refused("abs")
    __iter__ = _refused("[]")
    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _refused("comparison")

    def _merged(self, kind: str, other: "Symbol") -> "Symbol":
        shape = repeated_shape((self.shape, other.shape), f"{kind} of {self.name!r} and {other.name!r}")
        return self.graph.apply(kind, (self, other), shape)

    def _affine(self, operation: str, scale: Any, offset: Any, sign: float = 1.0) -> "Symbol":
        """``self * scale + sign * offset`` with constants."""
        scale, offset = (np.broadcast_to(constant(self, operation, v), self.shape) for v in (scale, offset))
        return self.graph.affine(self, scale, sign * offset)


def repeated_shape(shapes: tuple[tuple[int, ...], ...] | list[tuple[int, ...]], name: str) -> tuple[int, ...]:
    """The shape that inputs of `shapes` have together, axes of size 1 repeated; raises ValueError, with `name`, where there is none."""
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1 or any(len({n for n in axis if n != 1}) > 1 for axis in zip(*shapes, strict=False)):
        raise ValueError(f"{name}: inputs have shapes {', '.join(map(str, shapes))}; they may differ only where one has an axis of size 1")
    return tuple(max(axis) for axis in zip(*shapes, strict=True))


# ---- constants ----


def constant(x: Symbol, operation: str, value: Any) -> np.ndarray:
    """`value` as float64 that broadcasts to a row of `x`: a number, or an array of numbers without batch axis, or with one of size 1.

    Raises: TypeError for anything else, ValueError where it does not fit or has more than `CONSTANT_BITS` significant bits.
    """
    value = value[...] if isinstance(value, nnx.Variable) else value
    if not isinstance(value, numbers.Real | np.ndarray | jax.Array):
        raise TypeError(f"{operation!r} of {x.name!r}")
    found = np.asarray(value, np.float64)
    if found.ndim == len(x.shape) + 1 and len(found) == 1:
        found = found[0]
    try:
        fits = np.broadcast_shapes(found.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{x.name!r} has rows of shape {x.shape}, and a constant of shape {found.shape} does not fit them")
    bits = np.where(np.isfinite(found), significant_bits(found), CONSTANT_BITS + 1)
    if bits.max() > CONSTANT_BITS:
        worst = float(found.ravel()[bits.argmax()])
        near = f"; {nearest(worst, 8)!r} is the nearest of 8 bits" if math.isfinite(worst) else ""
        raise ValueError(f"{x.name!r} meets the constant {worst!r}; constants of at most {CONSTANT_BITS} significant bits are exact{near}")
    return found


def significant_bits(values: np.ndarray) -> np.ndarray:
    """Bits from the first to the last that is set, of float64 numbers; 0 of 0.

    >>> significant_bits(np.array([0.0, 0.75, -12.0])).tolist()
    [0, 2, 2]
    """
    m = np.ldexp(np.frexp(np.where(np.isfinite(values), abs(values), 0.0))[0], 53).astype(np.int64)
    last = np.frexp((m & -m).astype(np.float64))[1]
    return np.where(m == 0, 0, 54 - last)


def nearest(value: float, bits: int) -> float:
    """The number of at most `bits` significant bits nearest to `value`.

    >>> nearest(1 / 3, 4)
    0.34375
    """
    mantissa, exponent = np.frexp(value)
    return float(np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits))


def _text(values: np.ndarray) -> str:
    return repr(values.item()) if values.size == 1 else f"an array of shape {values.shape}"


# ---- indices ----


def indexed(x: Symbol, index: Any) -> Symbol:
    """``x[index]`` with a static index of numpy's kind that leaves the batch axis, its first, alone.

    Raises: ValueError where it does not, or takes nothing.
    """
    size = math.prod(x.shape)
    rows = np.arange(2 * size, dtype=np.int64).reshape(2, *x.shape)
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, Symbol) for part in parts):
        raise TypeError(f"'[]' of {x.name!r}")
    try:
        taken = np.asarray(rows[tuple(part if isinstance(part, _PLAIN) else np.asarray(part) for part in parts)])
    except (IndexError, ValueError) as error:
        raise ValueError(f"index {_index_text(parts)} of {x.name!r}, whose rows have shape {x.shape}: {error}") from error
    if taken.ndim < 2 or len(taken) != 2 or not taken.size or not np.array_equal(taken[0] + size, taken[1]):
        raise ValueError(
            f"index {_index_text(parts)} of {x.name!r}, whose rows have shape {x.shape}, must leave the batch axis, which is the first, "
            "as it is, another one, and at least one element: begin with ':' or '...'"
        )
    positions = taken[0]
    if np.array_equal(positions.ravel(), np.arange(size)):
        return x if positions.shape == x.shape else x.graph.apply("reshape", (x,), positions.shape)
    cut = _slices(parts, len(x.shape))
    if cut is not None:
        return x.graph.apply("slice", (x,), positions.shape, index=cut)
    return x.graph.apply("gather", (x,), positions.shape, index=positions)


_PLAIN = (slice, int, type(None), type(...))


def _slices(parts: tuple[Any, ...], rank: int) -> tuple[Any, ...] | None:
    """The index of a `Slice`, without batch axis, where `parts` are whole numbers, slices and one ellipsis."""
    if any(isinstance(part, bool) or not isinstance(part, slice | int | type(...)) for part in parts):
        return None
    at = next((n for n, part in enumerate(parts) if part is ...), len(parts))
    missing = rank + 1 - sum(part is not ... for part in parts)
    whole = (*parts[:at], *(slice(None),) * missing, *parts[at + 1 :])
    return tuple((part.start, part.stop, part.step) if isinstance(part, slice) else int(part) for part in whole[1:])


def _index_text(parts: tuple[Any, ...]) -> str:
    def one(part: Any) -> str:
        if isinstance(part, slice):
            ends = ":".join("" if v is None else str(v) for v in (part.start, part.stop))
            return ends if part.step is None else f"{ends}:{part.step}"
        return "..." if part is ... else str(part)

    return f"[{', '.join(map(one, parts))}]"
