"""Model description to an adder graph of alkaid: every operation on symbols, bit for bit what the evaluator computes.

The input quantizers are part of the hardware. A port has the fewest bits with which they see no difference from the float that was fed in
(`input_ports`); what brings a row to words of the port is `port_words`. alkaid is LGPL and optional: it is called, nothing of it is here.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hgqjax.export import integers as exact
from hgqjax.export.gate import ExportError
from hgqjax.export.model import ModelDescription
from hgqjax.export.operations import (
    Add,
    AveragePool,
    Concatenate,
    Conv,
    Dense,
    Einsum,
    Grid,
    Input,
    Linear,
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

CONSTANT_BITS = 24
"""Significant bits of a constant: alkaid finds the lowest bit of weights, offsets, limits and table words in float32."""
KERNEL_BITS = 22
"""Bits of the weights of one matrix together, for alkaid's solver, which adds and subtracts columns in float32; others are split."""
WORD_BITS = 53
"""Widest value: alkaid keeps limits as float64."""
HARD_DC = 2
"""Adder levels that a matrix may have beyond the least possible; -1 for any number."""


class Port(NamedTuple):
    """Formats of the flattened elements of one input: `k`, `i`, `f` (int64; all 0: no bits), whether words wrap or are clipped, and
    whether the last bit collects what is cut off (`sticky`, for ties of RND_CONV)."""

    k: np.ndarray
    i: np.ndarray
    f: np.ndarray
    wraps: bool
    sticky: np.ndarray


def check_alkaid() -> None:
    """Raises ExportError where alkaid is missing."""
    import importlib.util

    if importlib.util.find_spec("alkaid") is None:
        raise ExportError("alkaid is not installed; pip install 'hgqjax[rtl]'")


# ---- ports ----


def input_ports(description: ModelDescription) -> tuple[Port, ...]:
    """The port of each input.

    Each element has the largest k, i and f of the formats of the quantizers that read it, one fractional bit more where one rounds (RND),
    and two where ties go to even (RND_CONV); the last of these is set where anything finer was cut off. Rows beyond the range wrap where
    the quantizers wrap, and are clipped where they saturate.
    """
    return tuple(_port(op, [r for r in description.operations if op.name in r.inputs]) for op in description.inputs)


def _port(op: Input, readers: list[Quantize]) -> Port:
    if not readers:
        zero = np.zeros(math.prod(op.shape), np.int64)
        return Port(zero, zero, zero, True, zero > 0)
    wraps = {reader.overflow == "WRAP" for reader in readers}
    if len(wraps) > 1:
        raise ExportError(f"input {op.name!r} feeds a quantizer that wraps and one that saturates; one port cannot do both")
    live = np.stack([reader.bits.ravel() > 0 for reader in readers])
    sticky = np.any([alive & (reader.rounding == "RND_CONV") for reader, alive in zip(readers, live, strict=True)], 0)
    more = [np.where(sticky, 2, int(reader.rounding == "RND")) for reader in readers]
    least = np.iinfo(np.int64).min
    k, i, f = (np.stack([getattr(reader, name).ravel() for reader in readers]) for name in "kif")
    k, i, f = (np.where(live, v, least).max(0) for v in (k, i, f + np.stack(more)))
    dead = ~live.any(0)
    return Port(*(np.where(dead, 0, v) for v in (k, i, f)), wraps.pop(), sticky)


def port_values(port: Port, x: np.ndarray) -> np.ndarray:
    """Rows `x` (rows, *shape) as values of the port, float64 (rows, elements), exact."""
    v = np.ldexp(x.reshape(len(x), -1).astype(np.float64), port.f)
    floor = np.floor(v)
    words = np.where(port.sticky & (v != floor) & (np.mod(floor, 2) == 0), floor + 1, floor)
    span = np.ldexp(1.0, port.i + port.f)
    low, high = np.where(port.k > 0, -span, 0), span - 1
    if port.wraps:
        words = np.mod(words - low, high - low + 1) + low
    else:
        words = np.clip(words, low, high)
    return np.ldexp(np.where(port.k + port.i + port.f > 0, words, 0), -port.f)


# ---- symbols ----


def trace(description: ModelDescription, *, hard_dc: int = HARD_DC):
    """The adder graph (`alkaid.types.CombLogic`) of `description`: inputs and outputs flattened, one after the other.

    Raises: ExportError, naming the layer, where alkaid has no exact counterpart.
    """
    check_alkaid()
    from alkaid.trace import trace as finish
    from alkaid.trace.passes import optimize

    check_words(description)
    symbols = [_symbols(port, hard_dc) for port in input_ports(description)]
    inputs = {op.name: s.reshape(op.shape) for op, s in zip(description.inputs, symbols, strict=True)}
    outputs = apply(description, inputs, {"hard_dc": hard_dc})
    graph = finish(np.concatenate(symbols), np.concatenate([outputs[name].ravel() for name in description.outputs]), optimize=False)
    # alkaid's second trace narrows the key of a multiplexer, of which it then takes another bit for the sign; it saved nothing anywhere
    graph = optimize(graph, retrace=False)
    if not graph.inp_kifs.sum() or not graph.out_kifs.sum():
        raise ExportError(f"model {description.name!r} gives the same words for all rows, or reads none of its inputs; no hardware is left")
    return graph


def _symbols(port: Port, hard_dc: int) -> np.ndarray:
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
            except _WideConstant as error:
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
        if isinstance(op, Input):
            continue
        grid = description.grids[op.name]
        bits = max((int(v).bit_length() for v in [*abs(grid.low).ravel(), *abs(grid.high).ravel()]), default=0)
        if isinstance(op, Linear):
            bits = max(bits, int(op.accumulator_bits(description.grids[op.inputs[0]]).max(initial=0)))
        if bits > WORD_BITS:
            raise ExportError(f"layer {op.name!r} has values of {bits} bits, more than the {WORD_BITS} that the RTL export can carry")


def _each(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Elementwise on arrays of one shape; numpy must not look into the symbols."""
    out = np.empty(arrays[0].shape, object)
    for n in np.ndindex(out.shape):
        out[n] = function(*(a[n] for a in arrays))
    return out


class _WideConstant(ValueError):
    """A constant of so many significant bits."""


def _narrow(value: float) -> float:
    """`value`, where alkaid can carry it."""
    lowest, above = _exponents(value) if value else (0, 0)
    if above - lowest > CONSTANT_BITS:
        raise _WideConstant(above - lowest)
    return float(value)


def _exponents(value: float) -> tuple[int, int]:
    """Exponents of the lowest and of one above the highest bit that is set in a value that is not 0."""
    mantissa, exponent = np.frexp(abs(value))
    digits = int(np.ldexp(mantissa, 53))
    return int(exponent) - 53 + (digits & -digits).bit_length() - 1, int(exponent)


def _constant(value: float):
    from alkaid.trace import FVariable, HWConfig

    return FVariable.from_const(_narrow(value), HWConfig(1, 1, -1))


def _fixed(v) -> bool:
    return v.low == v.high


def _quantize(op: Quantize, values, grids, solver):
    def one(v, k, i, f, bits):
        return _to_format(v, int(k), int(i), int(f), op.rounding, op.overflow) if bits else _constant(0.0)

    return _each(one, values[0], op.k, op.i, op.f, op.bits)


def _to_format(v, k: int, i: int, f: int, rounding: str, overflow: str):
    """`v` in the format, bit for bit; RND_CONV is made of the other operations.

    alkaid 0.8.2 takes the cut bits of RND_CONV from the wrong end where its interval arithmetic knows that the last ones are zero, and
    wraps constants into unsigned formats modulo twice their range.
    """
    if _fixed(v):
        return _constant(_quantized(v.low, k, i, f, rounding, overflow))
    exactly = v.step >= 2.0**-f
    if not exactly and rounding == "RND":
        v = _alone(v, f + 1)
    if overflow != "WRAP":
        (k_v, i_v, _), cut = v.kif, f + (rounding == "RND")
        if not exactly and rounding != "RND_CONV" and k_v + i_v + cut > 0:
            v = v.quantize(k_v, i_v, cut, "WRAP", "TRN")  # what rounding does not see need not be compared with the limits
        high = 2.0**i - 2.0**-f
        low = -k * (high if overflow == "SAT_SYM" else 2.0**i)
        v = v.max_of(_narrow(low)) if v.low < low else v
        v = v.min_of(_narrow(high)) if v.high > high else v
    if rounding != "RND_CONV" or exactly or _fixed(v) or v.step >= 2.0**-f:
        return _wrap(v, k, i, f, rounding)
    odd = _wrap(v, 0, 1 - f, f, "TRN")  # half up, but a tie is one step below where the last bit that stays is 0
    v = _total([v, _constant(2.0 ** (-f - 1) - v.step), odd * (v.step * 2.0**f)])
    return _wrap(v, k, i, f, "TRN")


def _alone(v, f: int):
    """`v`, to which 2**-f will be added: cut there first, where alkaid would merge that with an offset to too wide a constant."""
    if v.opr != "cadd":
        return v
    offset, shift = (((v._data >> n & 0xFFFFFFFF) + 2**31) % 2**32 - 2**31 for n in (0, 32))
    total = offset * 2.0**-shift * v._factor + 2.0**-f
    lowest, above = _exponents(total) if total else (0, 0)
    k_v, i_v, _ = v.kif
    return v if above - lowest <= CONSTANT_BITS or k_v + i_v + f <= 0 else v.quantize(k_v, i_v, f, "WRAP", "TRN")


def _wrap(v, k: int, i: int, f: int, rounding: str):
    """`v` in a format that wraps.

    alkaid 0.8.2 takes one bit of a value scaled by 2**n for its most significant one where it is n below (canonicalize_msb_wraps);
    with the bit above it, as a signed number, it is left alone.
    """
    if _fixed(v):
        return _constant(_quantized(v.low, k, i, f, rounding, "WRAP"))
    f = min(f, _fraction(v))
    if k == 0 and i + f == 1:
        if rounding == "RND" and v.step < 2.0**-f:
            v = v + 2.0 ** (-f - 1)
        v, rounding = v if _fixed(v) else v.quantize(1, i, f, "WRAP", "TRN"), "TRN"
    return _constant(_quantized(v.low, k, i, f, rounding, "WRAP")) if _fixed(v) else v.quantize(k, i, f, "WRAP", rounding)


def _fraction(v) -> int:
    """Fractional bits of a value that is not constant."""
    return 1 - int(np.frexp(v.step)[1])


def _quantized(value: float, k: int, i: int, f: int, rounding: str, overflow: str) -> float:
    magnitude = 2 ** (i + f)
    low, high = np.array([-k * (magnitude - (overflow == "SAT_SYM"))], object), np.array([magnitude - 1], object)
    (word,) = exact.quantize_floats(np.array([value]), np.array([f]), rounding, overflow, low, high)
    return float(np.ldexp(float(word), -f))


def _relu(op: Relu, values, grids, solver):
    return _each(lambda v: _constant(max(v.low, 0.0)) if _fixed(v) else v.relu(), values[0])


def _table(op: Table, values, grids, solver):
    words = op.table[op.table != 0]
    lowest = int(min(np.frexp((words & -words).astype(np.float64))[1], default=1)) - 1
    if int(abs(op.table).max(initial=0)) >> lowest >= 2**CONSTANT_BITS:
        raise ExportError(f"layer {op.name!r} has a table of words with more than {CONSTANT_BITS} bits, too many for the RTL export")
    table = np.ldexp(op.table.astype(np.float64), -op.f)

    def one(v):
        first = int(np.ldexp(v.low, op.f_in)) - op.low
        if _fixed(v):
            return _constant(table[first])
        stride, count = int(np.ldexp(v.step, op.f_in)), round((v.high - v.low) / v.step) + 1
        index = first + stride * np.arange(count)
        # alkaid's interval may be wider than the exact one; what never occurs may be anything
        return v.lookup(np.where((index >= 0) & (index < len(table)), table[np.clip(index, 0, len(table) - 1)], 0.0))

    return _each(one, values[0])


# ---- linear operations ----


def _linear(op: Linear, values, grids, solver):
    (x,) = values
    bias = np.zeros(op.shape) if op.bias is None else np.broadcast_to(op.bias.values, op.shape)
    where = op.arrange(np.arange(1, x.size + 1).reshape(1, *x.shape), 0)[0]  # groups, positions, terms; 0 for the padding
    arranged = np.array([_constant(0.0), *x.ravel()], object)[where]
    for value in op.kernel.values.ravel():
        _narrow(value)
    kernels = op.arrange_kernel(op.kernel.values)  # groups, terms, outputs
    out = np.empty((1, *arranged.shape[:2], kernels.shape[-1]), object)
    for group, position in np.ndindex(arranged.shape[:2]):
        out[0, group, position] = _product(arranged[group, position], kernels[group], solver)
    return _each(lambda v, b: _fresh(_add_constant(v, b)), op.result(out)[0].reshape(op.shape), bias)


def _product(x: np.ndarray, kernel: np.ndarray, solver: dict[str, Any]) -> np.ndarray:
    """``x @ kernel`` for one vector of symbols; constants among them are multiplied here, exactly."""
    from alkaid.trace import FVArray

    fixed = np.array([_fixed(v) for v in x])
    offset = np.array([v.low if c else 0.0 for v, c in zip(x, fixed, strict=True)]) @ kernel
    live = ~fixed & kernel.any(1)
    out = np.empty(kernel.shape[1], object)
    out[:] = [_constant(v) for v in offset]
    if live.any():
        # alkaid 0.8.2 looks sums of one-bit values up in tables, and fails where such a value is 0 or negative: it gets the opposite
        negative = np.array([v.high == 0 and v.low == -v.step for v in x[live]])
        vector = _each(lambda v, n: _opposite_bit(v) if n else v, x[live], negative)
        for part in _parts(kernel[live] * np.where(negative, -1.0, 1.0)[:, None]):
            done = np.asarray(FVArray(vector, solver)[None] @ part)[0]
            out = _each(lambda a, b: b + a, out, done)
    return out


def _opposite_bit(v):
    """-v of a value that is 0 or -2**-f: the same bit, read as a positive number."""
    f = _fraction(v)
    return v.quantize(0, 1 - f, f, "WRAP", "TRN")


def _parts(kernel: np.ndarray) -> list[np.ndarray]:
    """Matrices whose sum is `kernel`, each of whole numbers below 2**KERNEL_BITS in units of its own."""
    lowest = min((_exponents(v)[0] for v in kernel.ravel() if v), default=0)
    span = np.ldexp(1.0, lowest + KERNEL_BITS)
    fine = np.fmod(kernel, span)
    return [fine] if np.array_equal(fine, kernel) else [fine, *_parts(kernel - fine)]


def _add_constant(v, b: float):
    if b == 0:
        return v
    return _constant(v.low + b) if _fixed(v) else v + _narrow(b)


def _fresh(v):
    """The same value as a new unknown of alkaid's interval arithmetic, whose coefficients would grow from matrix to matrix."""
    from alkaid.trace.affine_interval import AffineInterval

    return v if _fixed(v) else v._with(renew_id=False, _affine=AffineInterval.new(v.qint))


# ---- merges, pools, shapes ----


def _total(terms: Sequence[Any]):
    """The sum; constants first, the rest in alkaid's own order (least latency first)."""
    from alkaid.trace import FVArray

    constant, live = sum(v.low for v in terms if _fixed(v)), [v for v in terms if not _fixed(v)]
    if not live:
        return _constant(constant)
    array = np.empty(len(live), object)
    array[:] = live
    total = live[0] if len(live) == 1 else np.sum(FVArray(array))
    total = np.asarray(total).item() if isinstance(total, np.ndarray) else total
    return total + constant if constant else total


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
    return _total([a, -b])


def _add(op: Add, values, grids, solver):
    return _each(lambda *terms: _total(terms), *values)


def _concatenate(op: Concatenate, values, grids, solver):
    return np.concatenate(values, op.axis)


def _rearrange(op, values, grids, solver):
    batch = np.empty((1, *values[0].shape), object)
    batch[0] = values[0]
    return op.move(batch).reshape(op.shape)


def _sum(op: Sum, values, grids, solver):
    (x,) = values
    rest = [n for n in range(x.ndim) if n not in op.axes]
    terms = x.transpose(*rest, *op.axes).reshape(math.prod(op.shape), -1)
    out = np.empty(len(terms), object)
    out[:] = [_total(list(row)) * 2.0**-op.shift for row in terms]
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
            out[position, channel] = _total(inside) * (1.0 / math.prod(op.size))
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
}
