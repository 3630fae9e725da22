"""The model description: typed integer operations, an exact evaluator that is the judge of every back end, a folder on disk.

Nothing here knows JAX. A value is a whole number times ``2**-f`` with a known `f` for every element; `Grid` carries `f` and the
exact interval of the whole numbers, so that the evaluator knows before it starts which integer type cannot overflow.
"""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hgqjax.export import integers as exact
from hgqjax.quantizers import Format
from hgqjax.resources import Dense as DenseCost
from hgqjax.resources import Signal, ebops


class DescriptionError(ValueError):
    """A model that cannot be described, or a folder that is not a sound description."""


class Grid(NamedTuple):
    """Values of one operation: whole numbers within ``[low, high]`` (Python ints, exact) in units of ``2**-f``, per element."""

    f: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """Exact constants ``integers * 2**-f``, int64 arrays of one shape, and what EBOPs count: `bits`, those of each format.

    These are magnitude bits, plus the sign where the format saturates to an asymmetric range (SAT), as HGQ2 counts.

    >>> Constant.from_values(np.array([0.75, -4.0, 0.0]), f=np.array([3, 0, 2]))
    Constant(integers=array([ 6, -4,  0]), f=array([3, 0, 2]), bits=array([3, 3, 0]))
    """

    integers: np.ndarray
    f: np.ndarray
    bits: np.ndarray

    @classmethod
    def from_values(cls, values, f, bits=None) -> "Constant":
        """Reads floats that lie on the grids ``2**-f``; `bits` is by default the fewest that hold each magnitude.

        Raises DescriptionError where a value is not finite, not on its grid, or needs more than 52 bits.
        """
        values = np.asarray(values, np.float64)
        f = np.broadcast_to(np.asarray(f, np.int64), values.shape)
        scaled = np.ldexp(values, f)
        if not np.all(np.isfinite(values)):
            raise DescriptionError("a constant is NaN or infinite; the model has diverged")
        if np.any(scaled != np.rint(scaled)) or np.any(abs(scaled) >= 2**52):
            raise DescriptionError("a constant is not on its grid, or needs more than 52 bits")
        integers = scaled.astype(np.int64)
        fewest = np.frexp(abs(scaled))[1].astype(np.int64)  # bit length
        bits = fewest if bits is None else np.array(np.broadcast_to(bits, values.shape), np.int64)
        if np.any(abs(scaled) > 2.0**bits) or np.any((integers != 0) & (bits < 1)):
            raise DescriptionError("a constant does not fit the bits of its format")
        return cls(integers, np.array(f), bits)

    @property
    def values(self) -> np.ndarray:
        """The constants as float64, exact."""
        return np.ldexp(self.integers.astype(np.float64), -self.f)

    @property
    def enclosed_bits(self) -> np.ndarray:
        """Bits from the most to the least significant non-zero one; 0 for a zero."""
        lowest = np.frexp((self.integers & -self.integers).astype(np.float64))[1]
        return np.where(self.integers == 0, 0, np.frexp(abs(self.integers).astype(np.float64))[1] - lowest + 1)

    def signal(self) -> Signal:
        """What the cost models read."""
        i = (self.bits - self.f).astype(np.float64)
        fmt = Format(np.ones_like(i), i, self.f.astype(np.float64))
        return Signal(fmt, "WRAP", self.integers.shape, True, self.enclosed_bits.astype(np.float64))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Operation(abc.ABC):
    """One step: `name` is a C identifier, `inputs` name earlier operations, `shape` is that of the result without the batch axis."""

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    kind: ClassVar[str]

    @abc.abstractmethod
    def grid(self, *inputs: Grid) -> Grid:
        """Grid of the result, from those of the inputs."""

    @abc.abstractmethod
    def evaluate(self, values: tuple[np.ndarray, ...], grids: tuple[Grid, ...], grid: Grid) -> np.ndarray:
        """Whole numbers of the result (int64, or Python ints where wider), on `grid`."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Input(Operation):
    """Rows of the user's floats, not yet on a grid; only `Quantize` may follow."""

    kind: ClassVar[str] = "input"

    def grid(self, *inputs: Grid) -> Grid:
        wide = np.full(self.shape, 2**1100, object)
        return Grid(np.full(self.shape, 1074), -wide, wide)

    def evaluate(self, values, grids, grid):
        raise NotImplementedError("the rows themselves")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Quantize(Operation):
    """To formats `k`, `i`, `f` (integer arrays of `shape`; no bits: the constant 0) with `rounding` (RND, TRN, RND_CONV) and `overflow`."""

    kind: ClassVar[str] = "quantize"
    k: np.ndarray
    i: np.ndarray
    f: np.ndarray
    rounding: str
    overflow: str

    def __post_init__(self):
        if self.rounding not in ("RND", "TRN", "RND_CONV") or self.overflow not in ("WRAP", "SAT", "SAT_SYM"):
            raise DescriptionError(
                f"layer {self.name!r} has rounding {self.rounding!r} and overflow {self.overflow!r}, which hardware has not"
            )
        if any(v.shape != self.shape for v in (self.k, self.i, self.f)):
            raise DescriptionError(f"layer {self.name!r} has formats of shape {self.f.shape} for values of shape {self.shape}")

    @property
    def bits(self) -> np.ndarray:
        """Total bits, 0 where the element is the constant 0."""
        bits = np.maximum(self.k + self.i + self.f, 0)
        return np.where((self.overflow == "SAT_SYM") & (self.i + self.f <= 0), 0, bits)

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest whole number of each element, Python ints."""
        magnitude = [2 ** max(int(b - k), 0) for b, k in zip(self.bits.ravel(), self.k.ravel(), strict=True)]
        alive = self.bits.ravel() > 0
        high = np.array([(m - 1) * bool(a) for m, a in zip(magnitude, alive, strict=True)], object).reshape(self.shape)
        low = np.array([m * bool(a) for m, a in zip(magnitude, alive, strict=True)], object).reshape(self.shape)
        return -self.k.astype(object) * (high if self.overflow == "SAT_SYM" else low), high

    def grid(self, *inputs: Grid) -> Grid:
        (source,) = inputs
        low, high = self.limits()
        lo = exact.round_to_grid(source.low, source.f, self.f, self.rounding)
        hi = exact.round_to_grid(source.high, source.f, self.f, self.rounding)
        fits = (lo >= low) & (hi <= high) | (self.overflow != "WRAP")
        inside = [np.minimum(np.maximum(v, low), high) for v in (lo, hi)]
        return Grid(self.f.astype(np.int64), np.where(fits, inside[0], low), np.where(fits, inside[1], high))

    def evaluate(self, values, grids, grid):
        (x,) = values
        low, high = self.limits()
        if np.issubdtype(x.dtype, np.floating):
            return exact.quantize_floats(x, self.f, self.rounding, self.overflow, low, high)
        m = exact.round_to_grid(x, grids[0].f, self.f, self.rounding)
        return exact.overflow(m, self.overflow, low, high)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Operation):
    """``x @ kernel + bias`` over the last axis, exact: the accumulator is as wide as it must be."""

    kind: ClassVar[str] = "dense"
    kernel: Constant
    bias: Constant | None

    def _aligned(self, grid: Grid):
        """Inputs' shift to one `f` per channel, kernel and bias as Python ints on one `f` per output: (f_in, f_out, kernel, bias)."""
        f_in = grid.f.reshape(-1, grid.f.shape[-1]).max(0)
        product = np.where(self.kernel.integers == 0, np.iinfo(np.int64).min, f_in[:, None] + self.kernel.f)
        candidates = [product.max(0)]
        if self.bias is not None:
            candidates.append(np.where(self.bias.integers == 0, np.iinfo(np.int64).min, self.bias.f))
        f_out = np.max(candidates, axis=0)
        f_out = np.where(f_out == np.iinfo(np.int64).min, 0, f_out)
        kernel = exact.shift_left(self.kernel.integers, np.where(self.kernel.integers == 0, 0, f_out - f_in[:, None] - self.kernel.f))
        bias = np.zeros(len(f_out), object)
        if self.bias is not None:
            bias = exact.shift_left(self.bias.integers, np.where(self.bias.integers == 0, 0, f_out - self.bias.f))
        return f_in, f_out, kernel, bias

    def grid(self, *inputs: Grid) -> Grid:
        (source,) = inputs
        f_in, f_out, kernel, bias = self._aligned(source)
        low, high = (exact.shift_left(v, f_in - source.f) for v in (source.low, source.high))
        positive, negative = np.maximum(kernel, 0), np.minimum(kernel, 0)
        return Grid(
            np.broadcast_to(f_out, self.shape),
            low @ positive + high @ negative + bias,
            high @ positive + low @ negative + bias,
        )

    def accumulator_bits(self, source: Grid) -> np.ndarray:
        """Bits of the largest partial sum of each output, in units of its own grid, whatever the order of summation."""
        f_in, _, kernel, bias = self._aligned(source)
        largest = exact.shift_left(np.maximum(abs(source.low), abs(source.high)), f_in - source.f)
        bound = largest @ abs(kernel) + abs(bias)
        return np.vectorize(lambda v: int(v).bit_length(), otypes=[np.int64])(bound)

    def evaluate(self, values, grids, grid):
        (x,) = values
        f_in, _, kernel, bias = self._aligned(grids[0])
        bits = int(self.accumulator_bits(grids[0]).max(initial=0))
        x = exact.shift_left(x, f_in - grids[0].f)
        if bits <= 53:  # every partial sum is exact in float64, whatever the order
            return (x.astype(np.float64) @ kernel.astype(np.float64) + bias.astype(np.float64)).astype(np.int64)
        dtype = np.int64 if bits <= 62 else object
        return x.astype(dtype) @ kernel.astype(dtype) + bias.astype(dtype)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Relu(Operation):
    """``max(x, 0)``."""

    kind: ClassVar[str] = "relu"

    def grid(self, *inputs: Grid) -> Grid:
        (source,) = inputs
        return Grid(source.f, np.maximum(source.low, 0), np.maximum(source.high, 0))

    def evaluate(self, values, grids, grid):
        return np.maximum(values[0], 0)


KINDS: dict[str, type[Operation]] = {cls.kind: cls for cls in (Input, Quantize, Dense, Relu)}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ModelDescription:
    """Everything hardware needs, in topological order; `evaluate` is the reference that back ends are compared with.

    `sample` holds rows of real input (float32), kept for the gates of the back ends; `metadata` is JSON (data set, scaler, training).
    """

    name: str
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    sample: np.ndarray | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        grids: dict[str, Grid] = {}
        kinds: dict[str, str] = {}
        for op in self.operations:
            missing = [name for name in op.inputs if name not in grids]
            if missing or op.name in grids or not op.name.isidentifier():
                why = f"reads {missing[0]!r}, which does not come before it" if missing else "needs a unique C identifier as name"
                raise DescriptionError(f"operation {op.name!r} {why}")
            if any(kinds[name] == "input" for name in op.inputs) and op.kind != "quantize":
                raise DescriptionError(f"layer {op.name!r} reads the unquantized input; put an input quantizer before it")
            grids[op.name], kinds[op.name] = op.grid(*(grids[name] for name in op.inputs)), op.kind
        lost = [name for name in self.outputs if name not in grids]
        if lost or not self.outputs:
            raise DescriptionError(f"output {lost[0]!r} is not an operation" if lost else "a model needs an output")
        object.__setattr__(self, "grids", grids)

    def __getitem__(self, name: str) -> Operation:
        return next(op for op in self.operations if op.name == name)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The input operations, in order."""
        return tuple(op for op in self.operations if isinstance(op, Input))

    def integers(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Whole numbers of every operation for rows `x` (rows, *shape); the value is ``integers * 2**-grids[name].f``."""
        (source,) = self.inputs
        x = np.asarray(x)
        if x.shape[1:] != source.shape or not np.issubdtype(x.dtype, np.floating):
            raise DescriptionError(
                f"x is {x.dtype} of shape {x.shape}; floats of shape (rows, {', '.join(map(str, source.shape))}) are needed"
            )
        if not np.all(np.isfinite(x)):
            row = int(np.argwhere(~np.isfinite(x.reshape(len(x), -1)).all(1))[0, 0])
            raise DescriptionError(f"row {row} of x has a NaN or an infinity, which hardware has no word for")
        values: dict[str, np.ndarray] = {source.name: x.astype(np.float64)}
        for op in self.operations:
            if op is not source:
                grids = tuple(self.grids[name] for name in op.inputs)
                values[op.name] = op.evaluate(tuple(values[name] for name in op.inputs), grids, self.grids[op.name])
        return values

    def evaluate(self, x: np.ndarray):
        """Exact outputs for rows `x`, as float64 (rows, *shape); a tuple when the model has several outputs.

        Raises DescriptionError where an output has more than 53 bits, which float64 could not hold; `integers` has no such limit.
        """
        values, outputs = self.integers(x), []
        for name in self.outputs:
            grid = self.grids[name]
            bits = max((int(v).bit_length() for v in [*abs(grid.low).ravel(), *abs(grid.high).ravel()]), default=0)
            if bits > 53:
                raise DescriptionError(f"output {name!r} has {bits} bits, float64 holds 53; use integers(x)")
            outputs.append(np.ldexp(values[name].astype(np.float64), -grid.f.astype(np.int64)))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def operations_cost(self) -> dict[str, DenseCost]:
        """Multiplying operations with their exact formats: what `hgqjax.resources.ebops` reads."""
        costs = {}
        for op in self.operations:
            if isinstance(op, Dense):
                costs[op.name] = DenseCost(self._signal(op.inputs[0]), op.kernel.signal(), op.bias and op.bias.signal())
        return costs

    def _signal(self, name: str) -> Signal:
        op = self[name]
        if isinstance(op, Quantize):
            alive = op.bits > 0
            return Signal(Format(*(np.where(alive, v, 0).astype(np.float64) for v in (op.k, op.i, op.f))), op.overflow, op.shape)
        grid = self.grids[name]
        bits = np.vectorize(lambda lo, hi: max(int(hi), -int(lo) - 1, 0).bit_length(), otypes=[float])(grid.low, grid.high)
        signed = (grid.low < 0).astype(np.float64)
        return Signal(Format(signed, bits - grid.f, grid.f.astype(np.float64)), "WRAP", op.shape)

    def save(self, path) -> None:
        """Writes the folder `path` (description.json, arrays.npz), which must not exist; under a temporary name first."""
        from hgqjax.export import storage

        storage.save(self, path)

    @staticmethod
    def load(path) -> "ModelDescription":
        """Reads the folder `path`; raises DescriptionError where it is not a sound description."""
        from hgqjax.export import storage

        return storage.load(path)

    def summary(self) -> str:
        """A table for people: every operation with its shape, widths, pruned share and EBOPs, and the totals by both definitions."""
        costs, v1 = ebops(self), ebops(self, "paper_v1")
        lines = [f"{self.name}", f"{'operation':<24}{'kind':<10}{'shape':<12}{'bits min/mean/max':<20}{'zero':>7}{'EBOPs':>10}"]
        for op in self.operations:
            bits, zero = "", ""
            if isinstance(op, Quantize | Dense):
                width = op.bits if isinstance(op, Quantize) else op.kernel.bits
                bits = f"{int(width.min())}/{width.mean():.2f}/{int(width.max())}"
                zero = f"{np.mean(width == 0 if isinstance(op, Quantize) else op.kernel.integers == 0):.1%}"
            cost = f"{float(costs[op.name]):.0f}" if op.name in costs else ""
            lines.append(f"{op.name:<24}{op.kind:<10}{'x'.join(map(str, op.shape)):<12}{bits:<20}{zero:>7}{cost:>10}")
        lines.append(f"EBOPs {float(costs.total):.0f} (definition hgq2), {float(v1.total):.0f} (paper_v1)")
        return "\n".join(lines)
