"""Model description to an adder graph of alkaid: every operation on symbols, bit for bit what the evaluator computes.

The input quantizers are part of the hardware (ports.py). alkaid is LGPL and optional: it is called, nothing of it is here.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import (
    Add,
    AveragePool,
    Concatenate,
    Contract,
    Conv,
    Dense,
    Einsum,
    Gather,
    Grid,
    Input,
    Linear,
    Lookup,
    Maximum,
    MaxPool,
    Minimum,
    Multiply,
    Operation,
    Quantize,
    Relu,
    Reshape,
    Slice,
    Subtract,
    Sum,
    Table,
    Transpose,
)
from hgqjax.export.gate import ExportError
from hgqjax.export.rtl.formats import CONSTANT_BITS, WideConstant, constant, exponents, fixed, fraction, narrow, to_format, total
from hgqjax.export.rtl.ports import Port, input_ports

KERNEL_BITS = 22
"""Bits of the weights of one matrix together, for alkaid's solver, which adds and subtracts columns in float32; others are split."""
WORD_BITS = 53
"""Widest value: alkaid keeps limits as float64."""
HARD_DC = 2
"""Adder levels that a matrix may have beyond the least possible; -1 for any number."""


def check_alkaid() -> None:
    """Raises ExportError where alkaid is missing."""
    import importlib.util

    if importlib.util.find_spec("alkaid") is None:
        raise ExportError("alkaid is not installed; pip install 'hgqjax[rtl]'")


# ---- symbols ----


def trace(description: ModelDescription, *, hard_dc: int = HARD_DC):
    """The adder graph (`alkaid.types.CombLogic`) of `description`: inputs and outputs flattened, one after the other.

    Raises: ExportError, naming the layer, where alkaid has no exact counterpart.
    """
    check_alkaid()
    from alkaid.trace import trace as finish
    from alkaid.trace.passes import optimize

    check_words(description)
    symbols = [_symbols(port) for port in input_ports(description)]
    inputs = {op.name: s.reshape(op.shape) for op, s in zip(description.inputs, symbols, strict=True)}
    outputs = apply(description, inputs, {"hard_dc": hard_dc})
    graph = finish(np.concatenate(symbols), np.concatenate([outputs[name].ravel() for name in description.outputs]), optimize=False)
    # alkaid's second trace narrows the key of a multiplexer, of which it then takes another bit for the sign; it saved nothing anywhere
    graph = optimize(graph, retrace=False)
    if not graph.inp_kifs.sum() or not graph.out_kifs.sum():
        raise ExportError(f"model {description.name!r} gives the same words for all rows, or reads none of its inputs; no hardware is left")
    return graph


def _symbols(port: Port) -> np.ndarray:
    from alkaid.trace import FVArray

    return np.asarray(FVArray.from_kif(port.k, port.i, port.f))


def apply(description: ModelDescription, inputs: dict[str, np.ndarray], solver: dict[str, Any]) -> dict[str, np.ndarray]:
    """Symbols (arrays of `alkaid.trace.FVariable`) of every operation, from those of the inputs."""
    values = dict(inputs)
    for op in description.operations:
        if not isinstance(op, Input):
            if type(op) not in _RULES:
                known = ", ".join(kind.kind for kind in _RULES)
                raise ExportError(f"layer {op.name!r} is of kind {op.kind}; the RTL export knows {known}")
            grids = tuple(description.grids[name] for name in op.inputs)
            try:
                found = _RULES[type(op)](op, tuple(values[name] for name in op.inputs), grids, solver)
            except WideConstant as error:
                raise ExportError(
                    f"layer {op.name!r} has a constant of {error} significant bits, more than the {CONSTANT_BITS} that alkaid can carry"
                ) from error
            except (AssertionError, ArithmeticError, NotImplementedError) as error:  # how alkaid says what it cannot do
                raise ExportError(f"layer {op.name!r}: alkaid cannot trace it: {error!r}") from error
            values[op.name] = found.reshape(op.shape)
    return values


def check_words(description: ModelDescription) -> None:
    """Raises ExportError naming the first layer whose values are too wide for alkaid."""
    for op in description.operations:
        if op.name in description.unquantized:
            continue
        grid = description.grids[op.name]
        bits = max((int(v).bit_length() for v in [*abs(grid.low).ravel(), *abs(grid.high).ravel()]), default=0)
        if isinstance(op, Linear | Contract):
            grids = (description.grids[name] for name in op.inputs)
            bits = max(bits, int(op.accumulator_bits(*grids).max(initial=0)))
        if bits > WORD_BITS:
            raise ExportError(f"layer {op.name!r} has values of {bits} bits, more than the {WORD_BITS} that the RTL export can carry")


def _each(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Elementwise on arrays, axes of size 1 repeated; numpy must not look into the symbols."""
    arrays = np.broadcast_arrays(*arrays)
    out = np.empty(arrays[0].shape, object)
    for n in np.ndindex(out.shape):
        out[n] = function(*(a[n] for a in arrays))
    return out


def _quantize(op: Quantize, values, grids, solver):
    def one(v, k, i, f, bits):
        return to_format(v, int(k), int(i), int(f), op.rounding, op.overflow) if bits else constant(0.0)

    return _each(one, values[0], op.k, op.i, op.f, op.bits)


def _relu(op: Relu, values, grids, solver):
    return _each(lambda v: constant(max(v.low, 0.0)) if fixed(v) else v.relu(), values[0])


def _table(op: Table, values, grids, solver):
    table = _entries(op, op.table, op.f)
    return _each(lambda v: _looked_up(v, table, op.low, op.f_in), values[0])


def _lookup(op: Lookup, values, grids, solver):
    out = np.empty(op.shape, object)
    for n, where in enumerate(np.ndindex(op.shape)):
        table = _entries(op, op.words[op.start[n] : op.start[n + 1]], int(op.f[where]))
        out[where] = _looked_up(values[0][where], table, int(op.low[where]), int(op.f_in[where]))
    return out


def _entries(op: Table | Lookup, words: np.ndarray, f: int) -> np.ndarray:
    """The words of one table as floats; ExportError where they need more bits than alkaid carries."""
    live = words[words != 0]
    lowest = int(min(np.frexp((live & -live).astype(np.float64))[1], default=1)) - 1
    if int(abs(words).max(initial=0)) >> lowest >= 2**CONSTANT_BITS:
        raise ExportError(f"layer {op.name!r} has a table of words with more than {CONSTANT_BITS} bits, too many for the RTL export")
    return np.ldexp(words.astype(np.float64), -f)


def _looked_up(v, table: np.ndarray, low: int, f_in: int):
    """The word of a table that begins at the value ``low * 2**-f_in``."""
    first = int(np.ldexp(v.low, f_in)) - low
    if fixed(v):
        return constant(table[first])
    stride, count = int(np.ldexp(v.step, f_in)), round((v.high - v.low) / v.step) + 1
    index = first + stride * np.arange(count)
    # alkaid's interval may be wider than the exact one; what never occurs may be anything
    return v.lookup(np.where((index >= 0) & (index < len(table)), table[np.clip(index, 0, len(table) - 1)], 0.0))


# ---- linear operations ----


def _linear(op: Linear, values, grids, solver):
    (x,) = values
    bias = np.zeros(op.shape) if op.bias is None else np.broadcast_to(op.bias.values, op.shape)
    where = op.arrange(np.arange(1, x.size + 1).reshape(1, *x.shape), 0)[0]  # groups, positions, terms; 0 for the padding
    arranged = np.array([constant(0.0), *x.ravel()], object)[where]
    for value in op.kernel.values.ravel():
        narrow(value)
    kernels = op.arrange_kernel(op.kernel.values)  # groups, terms, outputs
    out = np.empty((1, *arranged.shape[:2], kernels.shape[-1]), object)
    for group, position in np.ndindex(arranged.shape[:2]):
        out[0, group, position] = _product(arranged[group, position], kernels[group], solver)
    return _each(lambda v, b: _fresh(_add_constant(v, b)), op.result(out)[0].reshape(op.shape), bias)


def _product(x: np.ndarray, kernel: np.ndarray, solver: dict[str, Any]) -> np.ndarray:
    """``x @ kernel`` for one vector of symbols; constants among them are multiplied here, exactly."""
    from alkaid.trace import FVArray

    if kernel.shape == (1, 1):  # a constant times one value needs no solver
        return np.array([_product_of(x[0], constant(kernel[0, 0]))], object)
    known = np.array([fixed(v) for v in x])
    offset = np.array([v.low if c else 0.0 for v, c in zip(x, known, strict=True)]) @ kernel
    live = ~known & kernel.any(1)
    out = np.empty(kernel.shape[1], object)
    out[:] = [constant(v) for v in offset]
    if live.any():
        # alkaid 0.8.2 looks sums of one-bit values up in tables, and fails where such a value is 0 or negative: it gets the opposite
        negative = np.array([v.high == 0 and v.low == -v.step for v in x[live]])
        vector = _each(lambda v, n: _opposite_bit(v) if n else v, x[live], negative)
        for part in _parts(kernel[live] * np.where(negative, -1.0, 1.0)[:, None]):
            done = np.asarray(FVArray(vector, cast(Any, solver))[None] @ part)[0]
            out = _each(lambda a, b: b + a, out, done)
    return out


def _opposite_bit(v):
    """-v of a value that is 0 or -2**-f: the same bit, read as a positive number."""
    f = fraction(v)
    return v.quantize(0, 1 - f, f, "WRAP", "TRN")


def _parts(kernel: np.ndarray) -> list[np.ndarray]:
    """Matrices whose sum is `kernel`, each of whole numbers below 2**KERNEL_BITS in units of its own."""
    lowest = min((exponents(v)[0] for v in kernel.ravel() if v), default=0)
    span = np.ldexp(1.0, lowest + KERNEL_BITS)
    fine = np.fmod(kernel, span)
    return [fine] if np.array_equal(fine, kernel) else [fine, *_parts(kernel - fine)]


def _add_constant(v, b: float):
    if b == 0:
        return v
    return constant(v.low + b) if fixed(v) else v + narrow(b)


def _fresh(v):
    """The same value as a new unknown of alkaid's interval arithmetic, whose coefficients would grow from matrix to matrix."""
    from alkaid.trace.affine_interval import AffineInterval

    return v if fixed(v) else v._with(renew_id=False, _affine=AffineInterval.new(v.qint))


# ---- merges, pools, shapes ----


def _pairwise(combine: Callable[[Any, Any], Any]):
    def rule(op, values, grids, solver):
        return functools.reduce(lambda a, b: _each(combine, a, b), values)

    return rule


def _greatest(a, b):
    return _select(_minus(a, b), a, b, (max(a.low, b.low), max(a.high, b.high)))


def _least(a, b):
    return _select(_minus(a, b), b, a, (min(a.low, b.low), min(a.high, b.high)))


def _select(difference, positive, negative, ends: tuple[float, float]):
    """One of two by the sign of their difference. alkaid's own maximum chooses wrongly where that can only be positive."""
    if difference.low >= 0 or difference.high <= 0:
        return positive if difference.low >= 0 else negative
    return difference.msb_mux(negative, positive, (*ends, min(positive.step, negative.step)))


def _times(a, b):
    return a * b


def _minus(a, b):
    return total([a, -b])


def _add(op: Add, values, grids, solver):
    return _each(lambda *terms: total(terms), *values)


def _concatenate(op: Concatenate, values, grids, solver):
    return np.concatenate(values, op.axis)


def _rearrange(op, values, grids, solver):
    batch = np.empty((1, *values[0].shape), object)
    batch[0] = values[0]
    return op.move(batch).reshape(op.shape)


def _gather(op: Gather, values, grids, solver):
    flat = np.array([constant(0.0), *values[0].ravel()], object)
    return flat[op.index + 1]


def _contract(op: Contract, values, grids, solver):
    batches = [np.empty((1, *v.shape), object) for v in values]
    for batch, v in zip(batches, values, strict=True):
        batch[0] = v
    (a,), (b,) = op.arrange(*batches)  # groups, free, terms; groups, terms, free
    out = np.empty((1, *a.shape[:2], b.shape[2]), object)
    for group, row, column in np.ndindex(out.shape[1:]):
        out[0, group, row, column] = _fresh(total([_product_of(x, y) for x, y in zip(a[group, row], b[group, :, column], strict=True)]))
    return op.result(out)


def _product_of(a, b):
    """The product of two symbols, of which either may be constant."""
    a, b = (a, b) if fixed(b) else (b, a)
    if not fixed(b):
        return a * b
    return constant(a.low * b.low) if fixed(a) or b.low == 0 else a * narrow(b.low)


def _sum(op: Sum, values, grids, solver):
    (x,) = values
    rest = [n for n in range(x.ndim) if n not in op.axes]
    terms = x.transpose(*rest, *op.axes).reshape(math.prod(op.shape), -1)
    out = np.empty(len(terms), object)
    out[:] = [total(list(row)) * 2.0**-op.shift for row in terms]
    return out


def _pool(op: MaxPool | AveragePool, values, grids, solver):
    (x,) = values
    windows = op.windows(x.shape)
    flat = x.reshape(-1, x.shape[-1])
    out = np.empty((len(windows.index), x.shape[-1]), object)
    for position, channel in np.ndindex(out.shape):
        inside = [flat[n, channel] for n in windows.index[position] if n < len(flat)]
        if not inside:
            raise ExportError(f"layer {op.name!r} has a window with nothing but padding")
        if isinstance(op, MaxPool):
            out[position, channel] = functools.reduce(_greatest, inside)
        else:
            out[position, channel] = total(inside) * (1.0 / math.prod(op.size))
    return out


_Rule = Callable[[Any, tuple[np.ndarray, ...], tuple[Grid, ...], dict[str, Any]], np.ndarray]
_RULES: dict[type[Operation], _Rule] = {
    Quantize: _quantize,
    Relu: _relu,
    Table: _table,
    **dict.fromkeys((Dense, Einsum, Conv), _linear),
    Add: _add,
    Subtract: _pairwise(_minus),
    Multiply: _pairwise(_times),
    Maximum: _pairwise(_greatest),
    Minimum: _pairwise(_least),
    Concatenate: _concatenate,
    **dict.fromkeys((Reshape, Transpose, Slice), _rearrange),
    **dict.fromkeys((MaxPool, AveragePool), _pool),
    Sum: _sum,
    Contract: _contract,
    Gather: _gather,
    Lookup: _lookup,
}
