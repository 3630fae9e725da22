"""Input ports of a project: wider than the calibration rows need, or for raw values, with the scaling as the first layer."""

import dataclasses
import math

import numpy as np

from hgqjax.data import Scaler
from hgqjax.data.inputs import from_json
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, Einsum, Input, Lookup, Operation, Quantize, Rearrange, Table
from hgqjax.description.readers import input_readers
from hgqjax.export.gate import ExportError

MOST_HEADROOM = 16
GUARD_BITS = 3
"""Bits that the fixed-point scaling is finer than the input quantizers."""


def widened(description: ModelDescription, bits: int) -> ModelDescription:
    """The same network with `bits` more integer bits in every quantizer that wraps, at the inputs and between layers.

    On rows within the calibrated range it gives the same words; rows beyond it wrap later. A quantizer before a table stays, as its table
    has the words of the calibrated range. Raises: ExportError where `bits` is not within 0..16.
    """
    if not 0 <= bits <= MOST_HEADROOM:
        raise ExportError(f"headroom is {bits}; 0 .. {MOST_HEADROOM} bits are legal")
    looked_up = {name for op in description.operations if isinstance(op, Table | Lookup) for name in op.inputs}
    for op in reversed(description.operations):
        if op.name in looked_up and isinstance(op, Rearrange):
            looked_up |= set(op.inputs)

    def wider(op: Operation) -> Operation:
        if not isinstance(op, Quantize) or op.overflow != "WRAP" or op.name in looked_up:
            return op
        return dataclasses.replace(op, i=np.where(op.bits > 0, op.i + bits, op.i))

    about = description.metadata | ({"headroom": bits} if bits else {})
    return dataclasses.replace(description, operations=tuple(map(wider, description.operations)), metadata=about)


def with_raw_inputs(description: ModelDescription) -> ModelDescription:
    """The same network for raw rows, in the units of its data: the scaling ``(raw - mean) / scale`` is its first layer.

    Where a scale is a power of two, the mean lies on the grid of the raw values, and all readers of an element have one grid, the words are
    those of the scaled network, for all rows. Elsewhere raw values, ``1 / scale`` and ``mean / scale`` are rounded, finer than the input
    quantizers by 3 bits and more; the largest error of a scaled value, in steps of its quantizer, is kept in the metadata under
    `raw_inputs`, so that a word of an input may differ by one step near a tie.

    Raises: ExportError where the model holds no scaler.
    """
    about = description.metadata
    if "scaler" not in about:
        raise ExportError(f"model {description.name!r} holds no scaler, so there is no scaling to include; it takes its rows as they are")
    scaler = Scaler(*(np.asarray(about["scaler"][part], np.float64) for part in ("mean", "scale")))
    parts = from_json(about.get("inputs", ()))
    scalers = [Scaler(part.of_row(scaler.mean), part.of_row(scaler.scale)) for part in parts] or [scaler]
    inputs = description.inputs
    if [one.mean.shape for one in scalers] != [op.shape for op in inputs]:
        raise ExportError(f"model {description.name!r} has a scaler of shape {scaler.mean.shape}, which is not that of its inputs")
    replaced, names, errors = {}, {}, []
    for op, one in zip(inputs, scalers, strict=True):
        layers, error = _scaling(op, one, input_readers(description, op), {o.name for o in description.operations})
        replaced[op.name], names[op.name] = layers, layers[-1].name
        errors.append(error)
    operations: list[Operation] = []
    for op in description.operations:
        own = dataclasses.replace(op, inputs=tuple(names.get(name, name) for name in op.inputs))
        operations += replaced.get(op.name, [own])
    raw = {"mean": scaler.mean.tolist(), "scale": scaler.scale.tolist(), "error_steps": max(errors)}
    identity = {"mean": np.zeros_like(scaler.mean).tolist(), "scale": np.ones_like(scaler.scale).tolist()}
    sample = description.sample
    if isinstance(sample, tuple):
        sample = tuple(_raw(part, one).astype(np.float32) for part, one in zip(sample, scalers, strict=True))
    elif sample is not None:
        sample = _raw(sample, scaler).astype(np.float32)
    metadata = about | {"scaler": identity, "raw_inputs": raw}
    return dataclasses.replace(description, operations=tuple(operations), sample=sample, metadata=metadata)


def raw_rows(description: ModelDescription, rows):
    """Scaled rows of the network that `description` was made of by `with_raw_inputs`, in raw units; float64."""
    about = description.metadata["raw_inputs"]
    scaler = Scaler(np.asarray(about["mean"]), np.asarray(about["scale"]))
    if not isinstance(rows, tuple):
        return _raw(rows, scaler)
    parts = from_json(description.metadata["inputs"])
    return tuple(_raw(x, Scaler(p.of_row(scaler.mean), p.of_row(scaler.scale))) for x, p in zip(rows, parts, strict=True))


def _raw(rows: np.ndarray, scaler: Scaler) -> np.ndarray:
    return rows.astype(np.float64) * scaler.scale + scaler.mean


def _scaling(op: Input, scaler: Scaler, readers: list[Quantize], taken: set[str]) -> tuple[list[Operation], float]:
    """The input, a quantizer of raw values and the scaling; and the largest error, in steps of the readers."""
    shape, size = op.shape, math.prod(op.shape)
    mean, scale = scaler.mean.ravel(), scaler.scale.ravel()
    formats = np.zeros((3, size), np.int64)
    kernel, bias = np.zeros((2, size)), np.zeros((2, size))  # values and f
    worst = 0.0
    for n in range(size):
        own = [r for r in readers if r.bits.ravel()[n] > 0]
        if own:
            formats[:, n], kernel[:, n], bias[:, n], error = _element(own, n, float(mean[n]), float(scale[n]))
            worst = max(worst, error)
    k, i, f = (part.reshape(shape) for part in formats)
    rounding = readers[0].rounding if readers else "RND"
    names = [next(name for name in (f"{op.name}_{end}", f"{op.name}_{end}_of_rows") if name not in taken) for end in ("raw", "scaled")]
    quantize = Quantize(name=names[0], inputs=(op.name,), shape=shape, k=k, i=i, f=f, rounding=rounding, overflow="WRAP")
    letters = "abcdefgh"[: len(shape)]
    constants = [Constant.from_values(v.reshape(shape), at.reshape(shape).astype(np.int64)) for v, at in (kernel, bias)]
    equation = f"{letters},{letters}->{letters}"
    scaled = Einsum(name=names[1], inputs=(names[0],), shape=shape, kernel=constants[0], bias=constants[1], equation=equation)
    return [op, quantize, scaled], worst


def _element(readers: list[Quantize], n: int, mean: float, scale: float) -> tuple[list[int], list[float], list[float], float]:
    """Format of the raw value of element `n`, its factor and its offset with their f, and the error in steps of the finest reader."""
    k, i, f = ([int(getattr(r, name).ravel()[n]) for r in readers] for name in "kif")
    finest = max(f)
    low = min((-(2.0**b) if sign else 0.0) for sign, b in zip(k, i, strict=True)) * scale + mean
    high = max(2.0**b for b in i) * scale + mean
    mantissa, exponent = math.frexp(scale)
    power = exponent - 1
    plain = {r.rounding for r in readers} <= {"RND", "TRN"} and len({r.rounding for r in readers}) == 1
    exact = mantissa == 0.5 and len(set(f)) == 1 and plain and math.ldexp(mean, finest - power) % 1 == 0
    f_raw = finest - power if exact else finest + GUARD_BITS - power
    magnitude = max(abs(low), abs(high))
    bits = max(math.frexp(magnitude)[1], max(i) + power)  # holds the range, and wraps as the readers do
    sign = int(low < 0 or any(k))
    if exact:
        return [sign, bits, f_raw], [1 / scale, float(power)], [-mean / scale, float(finest)], 0.0
    f_kernel = finest + GUARD_BITS + math.frexp(magnitude)[1]
    f_bias = finest + GUARD_BITS + 1
    factor = math.floor(math.ldexp(1 / scale, f_kernel) + 0.5)
    offset = math.floor(math.ldexp(-mean / scale, f_bias) + 0.5)
    factor, offset = math.ldexp(factor, -f_kernel), math.ldexp(offset, -f_bias)
    error = math.ldexp(0.5, -f_raw) / scale + magnitude * abs(factor - 1 / scale) + abs(offset + mean / scale)
    return [sign, bits, f_raw], [factor, float(f_kernel)], [offset, float(f_bias)], math.ldexp(error, finest)
