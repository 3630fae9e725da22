"""Values of a QONNX network while it is read: results of exact operations, and what is still to be done to them in floating point.

Scales, biases and batch norms that are no small dyadic numbers stay *steps* of the value, until a Quant makes whole numbers of them again:
from the result of an exact operation to the word of that Quant everything is monotone for each channel, so that the word is the number of
thresholds that are passed. These are found by bisection over all whole numbers that the result can have, in float64.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np

from hgqjax.description import operations as o
from hgqjax.description.operations import Constant, Grid
from hgqjax.interop.hgq2_graph import Graph
from hgqjax.interop.keras_file import InteropError
from hgqjax.interop.qonnx_file import Constant as Constants
from hgqjax.interop.qonnx_file import Node

INPUT_FORMAT = (1, 5, 10)
"""`k`, `i`, `f` of rows that a network does not quantize itself."""
SCALE_BITS, OFFSET_BITS = 12, 24
"""Significant bits of a factor, and of a number that is added, up to which they are exact hardware and no step."""
FEW = 31
"""Thresholds of an element up to which they are comparators; more are a table, where its key has few enough bits."""
MOST_WORDS = 2**22
"""Of all tables, or comparators, of one quantizer."""


@runtime_checkable
class Named(Protocol):
    """A node or a layer of a file, as messages name it."""

    @property
    def name(self) -> str:
        """What the file calls it."""
        ...

    def refuse(self, why: str) -> InteropError:
        """The error that names it; to be raised."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """``scale * x + offset``; arrays with the axes of the value (sizes 1 or its own), channels last where those of the value are."""

    scale: np.ndarray
    offset: np.ndarray


@dataclasses.dataclass(frozen=True)
class Positive:
    """``max(x, 0)``."""


Step = Affine | Positive


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """The result of the operation `name` after `steps`. `first`: in the file its channels come first, here last."""

    name: str
    first: bool = False
    steps: tuple[Step, ...] = ()


def is_dyadic(values: np.ndarray, bits: int) -> bool:
    """Whether each value has at most so many bits from its first to its last."""
    mantissa, _ = np.frexp(np.asarray(values, np.float64))
    scaled = np.ldexp(mantissa, bits)
    return bool(np.all(np.isfinite(values)) and np.all(scaled == np.rint(scaled)))


def constant(values: np.ndarray, bits: int | None = None) -> Constant:
    """Exact constants on the coarsest grids that hold them; `bits`, what costs count, are by default the fewest."""
    values = np.asarray(values, np.float64)
    mantissa, exponent = np.frexp(values)
    integers = np.ldexp(mantissa, 53).astype(np.int64)
    lowest = np.where(integers == 0, 1, integers & -integers)
    f = np.where(values == 0, 0, 53 - exponent - (np.frexp(lowest.astype(np.float64))[1] - 1)).astype(np.int64)
    found = Constant.from_values(values, f)
    return found if bits is None else dataclasses.replace(found, bits=np.maximum(found.bits, bits))


class Builder(Graph):
    """Adds operations, knows the grid of each, and brings values with steps to exact results."""

    def __init__(self):
        super().__init__()
        self.grids: dict[str, Grid] = {}
        self.raw: set[str] = set()

    def add(self, cls: type[o.Operation], name: str, inputs: tuple[str, ...], shape, **fields: Any) -> str:
        """Adds an operation; returns its name."""
        name = super().add(cls, name, inputs, shape, **fields)
        op = self.operation(name)
        self.grids[name] = op.grid(*(self.grids[source] for source in inputs))
        if cls is o.Input or (issubclass(cls, o.Rearrange) and inputs[0] in self.raw):
            self.raw.add(name)
        return name

    def replace_last(self, op: o.Operation) -> None:
        """Another one for the last operation."""
        self.operations[-1] = op
        self.grids[op.name] = op.grid(*(self.grids[source] for source in op.inputs))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a result."""
        return self.shapes[name]

    def transposed(self, name: str, axes: tuple[int, ...]) -> str:
        """A transpose, or what is behind the one that it undoes."""
        op = self.operation(name)
        if isinstance(op, o.Transpose) and tuple(op.axes[n] for n in axes) == tuple(range(len(axes))):
            return op.inputs[0]
        shape = self.shape(name)
        return self.add(o.Transpose, f"{name}_turned", (name,), [shape[n] for n in axes], axes=axes)

    def ordered(self, value: Value, first: bool) -> Value:
        """The value with channels last (`first`: of a tensor whose channels come first in the file), or as the file has them."""
        rank = len(self.shape(value.name))
        if value.first == first or rank < 2:
            return dataclasses.replace(value, first=first and rank > 1)
        axes = (*range(1, rank), 0) if first else (rank - 1, *range(rank - 1))
        steps = tuple(Affine(s.scale.transpose(axes), s.offset.transpose(axes)) if isinstance(s, Affine) else s for s in value.steps)
        return Value(self.transposed(value.name, axes), first, steps)

    def parameter(self, values: np.ndarray, value: Value) -> np.ndarray:
        """A constant of the file, with or without batch axis, that broadcasts to `value`: with all axes of that."""
        rank = len(self.shape(value.name))
        values = np.asarray(values, np.float64)
        values = values.reshape((1,) * max(rank + 1 - values.ndim, 0) + values.shape)
        values = values.reshape(values.shape[1:])
        return np.moveaxis(values, 0, -1) if value.first else values

    def used(self, results: list[str]) -> tuple[o.Operation, ...]:
        """Inputs, and what the results need."""
        needed = set(results)
        for op in reversed(self.operations):
            if op.name in needed:
                needed.update(op.inputs)
        return tuple(op for op in self.operations if op.name in needed or isinstance(op, o.Input))

    # ---- exact results ----

    def exact(self, value: Value, node: Named) -> str:
        """The operation that is the value, all steps done; refused where one is no exact hardware."""
        name = value.name
        for step in value.steps:
            if not isinstance(step, Affine):
                name = self.add(o.Relu, f"{name}_relu", (name,), self.shape(name))
            else:
                if not (is_dyadic(step.scale, SCALE_BITS) and is_dyadic(step.offset, OFFSET_BITS)):
                    raise node.refuse("reads a value with a scale or an offset in floating point; a Quant is needed before it")
                name = self._affine(name, step)
        return name

    def _affine(self, name: str, step: Affine) -> str:
        shape = self.shape(name)
        labels = "abcdefgh"[: len(shape)]
        scale = np.broadcast_to(step.scale, np.broadcast_shapes(step.scale.shape, (1,) * (len(shape) - 1) + shape[-1:]))
        bias = constant(np.broadcast_to(step.offset, shape)) if step.offset.any() else None
        if scale.size == shape[-1]:
            fields = {"equation": f"{labels},{labels[-1]}->{labels}", "kernel": constant(scale.reshape(-1))}
        else:
            fields = {"equation": f"{labels},{labels}->{labels}", "kernel": constant(np.broadcast_to(scale, shape))}
        return self.add(o.Einsum, f"{name}_affine", (name,), shape, bias=bias, **fields)

    # ---- words of a quantizer ----

    def words(self, value: Value, word: Callable[[np.ndarray], np.ndarray], limits: tuple[int, int], node: Named) -> str:
        """Whole numbers ``word(steps(x))`` within `limits`; `word` takes float64 of the shape of the value and never falls."""
        grid = self.grids[value.name]
        f = int(grid.f.max())

        def at(m: np.ndarray) -> np.ndarray:
            return word(_after(np.ldexp(m, -f), value.steps))

        ends = [np.array([int(v) << (f - int(e)) for v, e in zip(g.ravel(), grid.f.ravel(), strict=True)], object) for g in grid[1:]]
        if max(abs(v) for end in ends for v in end) >= 2**52:
            raise node.refuse("quantizes sums of more than 52 bits in floating point; fewer bits before it are needed")
        low, high = (end.astype(np.float64).reshape(grid.f.shape) for end in ends)
        rising = at(high) >= at(low)
        levels = limits[1] - limits[0]
        if levels > FEW and self._table_size(low, high) <= MOST_WORDS:
            return self._table(value, at, low, high, f)
        if levels * low.size > MOST_WORDS:
            raise node.refuse(f"has {levels} thresholds for each of {low.size} elements; {MOST_WORDS} are the most")
        return self._comparators(value, at, (low, high, rising, f), limits)

    def _table_size(self, low: np.ndarray, high: np.ndarray) -> float:
        sizes = high - low + 1
        return float(sizes.sum()) if sizes.max() <= 2**o.KEY_BITS else np.inf

    def _table(self, value: Value, at: Callable, low: np.ndarray, high: np.ndarray, f: int) -> str:
        sizes = (high - low + 1).astype(np.int64)
        words = np.zeros(int(sizes.sum()), np.int64)
        start = np.r_[0, np.cumsum(sizes.ravel())]
        for n in range(int(sizes.max())):
            inside = (n < sizes).ravel()
            words[(start[:-1] + n)[inside]] = at(low + n).ravel()[inside].astype(np.int64)
        bits = max(int(words.max()).bit_length(), int(-words.min() - 1).bit_length() + 1 if words.min() < 0 else 0, 1)
        fields = {"low": low.astype(np.int64), "f_in": np.full(low.shape, f), "f": np.zeros(low.shape, np.int64)}
        bits = np.full(low.shape, bits, np.int64)
        return self.add(o.Lookup, f"{value.name}_words", (value.name,), low.shape, words=words, start=start, bits=bits, **fields)

    def _comparators(self, value: Value, at: Callable, ends, limits: tuple[int, int]) -> str:
        """``sum(x >= t)`` over thresholds t, less as many as the least word is below 0: each comparator is a quantizer to one bit."""
        low, high, rising, f = ends
        shape, count = low.shape, limits[1] - limits[0]
        thresholds = np.empty((*shape, count))
        for n in range(count):
            thresholds[..., n] = _bisected(lambda m, n=n: at(m) > limits[0] + n, low, high, rising)
        sign = np.where(rising, 1, -1)[..., None] * np.ones(count, np.int64)
        below = np.arange(count) < -limits[0]  # these are -1 or 0, the others 0 or 1
        offset = -sign * thresholds + np.where(below, 0, 1)
        labels = "abcdefgh"[: len(shape)]
        kernel = Constant(sign, np.full(sign.shape, -f), np.ones(sign.shape, np.int64))
        kernel, equation = self._shared(kernel, labels)
        wide = (*shape, count)
        name = self.add(o.Einsum, f"{value.name}_differences", (value.name,), wide, equation=equation, kernel=kernel, bias=constant(offset))
        formats = {"k": below, "i": ~below, "f": np.zeros(count)}
        formats = {key: np.array(np.broadcast_to(v, wide), np.int64) for key, v in formats.items()}
        name = self.add(o.Quantize, f"{value.name}_comparators", (name,), wide, rounding="TRN", overflow="SAT", **formats)
        return self.add(o.Sum, f"{value.name}_words", (name,), shape, axes=(len(shape),))

    @staticmethod
    def _shared(kernel: Constant, labels: str) -> tuple[Constant, str]:
        """One kernel for all positions where they have the same signs, as channels do."""
        first = kernel.integers[(0,) * (len(labels) - 1)]
        if np.array_equal(kernel.integers, np.broadcast_to(first, kernel.integers.shape)):
            parts = (v[(0,) * (len(labels) - 1)] for v in (kernel.integers, kernel.f, kernel.bits))
            return Constant(*parts), f"{labels},{labels[-1]}z->{labels}z"
        return kernel, f"{labels},{labels}z->{labels}z"


def _after(x: np.ndarray, steps: tuple[Step, ...]) -> np.ndarray:
    for step in steps:
        x = np.maximum(x, 0) if not isinstance(step, Affine) else step.scale * x + step.offset
    return x


def _bisected(passed: Callable, low: np.ndarray, high: np.ndarray, rising: np.ndarray) -> np.ndarray:
    """The first whole number at which `passed` holds, from `low` up where `rising`, else from `high` down; one beyond where at none."""
    near, far = np.where(rising, low, high), np.where(rising, high, low)
    step = np.where(rising, 1.0, -1.0)
    outside = near - step  # not passed
    inside = far + step  # taken for passed
    while np.any(abs(inside - outside) > 1):
        middle = np.floor((outside + inside) / 2)
        middle = np.where(abs(inside - outside) > 1, middle, inside)
        holds = passed(np.clip(middle, low, high)) | (middle == inside)
        inside, outside = np.where(holds, middle, inside), np.where(holds, outside, middle)
    return inside


Tensor = Value | Constants
Reader = Callable[[Node, list[Tensor], "Reading"], Tensor]


class Reading:
    """What the readers share: the builder, the format that rows get where a network does not quantize them, and what rows go through."""

    def __init__(self, input_format: tuple[int, int, int]):
        self.build, self.input_format = Builder(), input_format
        self.scaling: dict[str, Affine] = {}
        """By input: the scale and the offset that its first Quant has, which become the scaler of the model."""
        self.assumed: list[str] = []
        """Inputs that got `input_format`."""

    def grounded(self, value: Value, node: Named) -> Value:
        """The value behind the quantizer of `input_format`, where it is still rows."""
        if value.name not in self.build.raw:
            return value
        k, i, f = self.input_format
        shape = self.build.shape(value.name)
        formats = {name: np.full(shape, v, np.int64) for name, v in (("k", k), ("i", i), ("f", f))}
        name = self.build.add(o.Quantize, f"{value.name}_rows", (value.name,), shape, rounding="RND", overflow="SAT", **formats)
        self.assumed.append(value.name)
        return dataclasses.replace(value, name=name)

    def output(self, node: Named, tensor: Tensor, scales: dict[str, list[float]]) -> str:
        """The operation of an output of the network; one positive factor and an offset of all its elements go to `scales`, by its name."""
        if not isinstance(tensor, Value):
            raise node.refuse("is a constant")
        value = self.grounded(self.build.ordered(tensor, False), node)
        if len(value.steps) == 1 and isinstance(value.steps[0], Affine):
            scale, offset = (np.unique(v) for v in (value.steps[0].scale, value.steps[0].offset))
            if scale.size == offset.size == 1 and scale[0] > 0:
                if (scale[0], offset[0]) != (1, 0):
                    scales[value.name] = [float(scale[0]), float(offset[0])]
                return value.name
        return self.build.exact(value, node)


def computed(tensor: Tensor, node: Named) -> Value:
    """`tensor`, which must be no constant."""
    if not isinstance(tensor, Value):
        raise node.refuse("reads a constant where a computed value is needed")
    return tensor


def split(node: Node, tensors: list[Tensor]) -> tuple[Value, Constants | None]:
    """The computed input and the constant one, if there is one, of a node that takes them in any order."""
    values, constants = [t for t in tensors if isinstance(t, Value)], [t for t in tensors if isinstance(t, Constants)]
    return values[0], constants[0] if constants else None
