"""What io_stream has of the choices of elements and of the constant factors that models make: recognized by what they do."""

import math

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, Conv, Dense, Einsum, Gather, Reshape

Pads = tuple[tuple[int, int], ...]


def zeros_around(op: Gather, shape: tuple[int, ...]) -> Pads | None:
    """Zeros (before, after) each spatial axis of values of `shape`, where `op` adds these and nothing else; one or two axes."""
    if not _spatial(op, shape):
        return None
    first = np.argwhere(op.index == 0)
    if len(first) != 1:
        return None
    pads = tuple((int(at), int(n - m - at)) for at, n, m in zip(first[0], op.shape, shape, strict=True))
    if min(min(pair) for pair in pads) < 0 or pads[-1] != (0, 0):
        return None
    same = np.array_equal(np.pad(np.arange(math.prod(shape)).reshape(shape), pads, constant_values=-1), op.index)
    return pads[:-1] if same else None


def repeats(op: Gather, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """How often each element of values of `shape` stands along each spatial axis, where `op` is an up-sampling of one or two axes."""
    if not _spatial(op, shape) or any(n % m for n, m in zip(op.shape, shape, strict=True)):
        return None
    factors = tuple(n // m for n, m in zip(op.shape, shape, strict=True))
    index = np.arange(math.prod(shape)).reshape(shape)
    for axis, n in enumerate(factors):
        index = np.repeat(index, n, axis)
    return factors[:-1] if factors[-1] == 1 and np.array_equal(index, op.index) else None


def _spatial(op: Gather, shape: tuple[int, ...]) -> bool:
    return len(op.shape) == len(shape) and len(shape) in (2, 3)


def is_gathered(op: Reshape, description: ModelDescription) -> bool:
    """Whether `op` is a flatten in front of one dense layer, which collects what comes."""
    readers = [reader for reader in description.operations for name in reader.inputs if name == op.name]
    return len(op.shape) == 1 and len(readers) == 1 and isinstance(readers[0], Dense)


def factors(op: Einsum) -> bool:
    """Whether `op` is ``x * scale + offset`` with constants that only the last axis of x tells apart, of three axes at most."""
    labels, kernel, result = op.labels
    if labels != result or kernel not in (labels, labels[-1]) or len(labels) > 3:
        return False
    constants = [op.kernel] if op.bias is None else [op.kernel, op.bias]
    lead = tuple(range(len(labels) - 1))
    return all(np.all(v == v.max(lead, keepdims=True)) for c in constants for v in _whole(c, op.shape))


def scaled(op: Einsum) -> Dense | Conv:
    """An einsum with `factors` as a dense layer of a diagonal, or as a convolution that sees one element and mixes no channels."""
    rank, channels = len(op.shape) - 1, op.shape[-1]
    kernel, bias = (c and Constant(*(v.reshape(-1, channels)[0] for v in _whole(c, op.shape))) for c in (op.kernel, op.bias))
    assert isinstance(kernel, Constant)
    if rank == 0:
        diagonal = Constant(*(np.diag(v) for v in (kernel.integers, kernel.f, kernel.bits)))
        return Dense(name=op.name, inputs=op.inputs, shape=op.shape, kernel=diagonal, bias=bias)
    ones, none = (1,) * rank, ((0, 0),) * rank
    kernel = Constant(*(v.reshape(*ones, 1, channels) for v in (kernel.integers, kernel.f, kernel.bits)))
    settings = {"strides": ones, "dilation": ones, "padding": none, "groups": channels}
    return Conv(name=op.name, inputs=op.inputs, shape=op.shape, kernel=kernel, bias=bias, **settings)


def _whole(constant: Constant, shape: tuple[int, ...]) -> list[np.ndarray]:
    return [np.broadcast_to(v, shape) for v in (constant.integers, constant.f, constant.bits)]
