"""A trained network in a wider one with gates: its neurons copied so that the function stays the same, or the first of more."""

from typing import NamedTuple

import numpy as np

from hgqjax.layers.gates import Gate
from hgqjax.layers.linear import AbstractLinear
from hgqjax.quantizers import Format


class Values(NamedTuple):
    """A weight, and the format of each of its values where it has one."""

    values: np.ndarray
    format: Format | None = None


def narrow(gate: Gate | None, n: int) -> int:
    """How many an axis of n has in the network without the gate."""
    return n if gate is None else n // gate.gate.expand


def origins(gate: Gate | None, n: int) -> np.ndarray:
    """For each of the n elements of an axis of the wide network that of the narrow one which it comes from; -1: it is new.

    Where rows were flattened, n is a multiple of the gate's neurons.
    """
    if gate is None:
        return np.arange(n)
    own = gate.gate.origins(gate.n)
    blocks = np.arange(n // gate.n)[:, None] * narrow(gate, gate.n)
    return np.where(own < 0, -1, own + blocks).ravel()


def fits(layer: AbstractLinear, kernel: np.ndarray) -> bool:
    """Whether `kernel` is that of the narrow network: of another shape than the layer's, which its gates explain."""
    if layer.present is None and layer.neurons is None:
        return False
    *rest, n_in, n_out = layer.kernel[...].shape
    shape = (*rest, narrow(layer.present, n_in), narrow(layer.neurons, n_out))
    return kernel.shape == shape != layer.kernel[...].shape


def kernel(layer: AbstractLinear, trained: Values) -> Values:
    r"""The wide kernel. Of c copies of an input neuron each has :math:`w / c`, half of them a step more and half a step less.

    With c a power of two these lie on a grid of log2 c more fractional bits, and their sum is w: the very same function in fixed point. The
    step, :math:`\pm 2^{-f} / c` by the parity of the element, makes copies learn different things; it is left out where a weight is 0, or
    would exceed the largest of its neuron. New neurons have the layer's own weights.
    """
    n_in, n_out = layer.kernel[...].shape[-2:]
    rows, columns = origins(layer.present, n_in), origins(layer.neurons, n_out)
    copies = layer.present.gate.expand if layer.present is not None and layer.present.gate.copies else 1

    def moved(values):
        return np.asarray(values, np.float32)[..., rows, :][..., columns]

    values = moved(trained.values) / np.float32(copies)
    fmt = None if trained.format is None else Format(*(moved(np.broadcast_to(v, trained.values.shape)) for v in trained.format))
    if layer.present is not None and copies > 1:
        step = np.ldexp(abs(values), -2) if fmt is None else np.ldexp(1.0 / np.float32(copies), -fmt.f.astype(int))
        parity = np.where((rows[:, None] + columns) % 2, 1.0, -1.0) * _turns(layer.present, n_in)[:, None]
        changed = values + parity.astype(np.float32) * step.astype(np.float32)
        largest = abs(values).max(tuple(range(values.ndim - 1)), keepdims=True)
        # all copies of a weight move, or none: their sum is the same
        small = (values != 0) & (abs(values) + step <= largest)
        values = np.where(small, changed, values)
        if fmt is not None:
            f = fmt.f + np.log2(copies)
            needed = np.frexp(abs(values))[1]
            fmt = Format(fmt.k, np.where(fmt.i + fmt.f > 0, np.maximum(fmt.i - np.log2(copies), needed), -f), f)
    new = (rows < 0)[:, None] | (columns < 0)
    own = Values(np.asarray(layer.kernel[...]))
    values = np.where(new, own.values, values)
    if fmt is not None:
        theirs = (np.broadcast_to(v, values.shape) for v in layer.kernel_quantizer.format())
        fmt = Format(*(np.where(new, v, mine) for v, mine in zip(theirs, fmt, strict=True)))
    return Values(values, fmt)


def _turns(gate: Gate, n: int) -> np.ndarray:
    """1 for every other copy of a neuron, -1 for those between."""
    number = np.arange(n) % gate.n // narrow(gate, gate.n)
    return np.where(number % 2, -1.0, 1.0)


def neurons(layer: AbstractLinear, trained: np.ndarray, own: np.ndarray | float) -> np.ndarray:
    """What each neuron has, such as a bias: that of the neuron which it comes from, or its `own`."""
    found = origins(layer.neurons, layer.kernel[...].shape[-1])
    return np.where(found < 0, own, np.asarray(trained)[found])


def activations(layer: AbstractLinear, fmt: Format) -> Format:
    """Formats of what comes in, of the neurons that each comes from; those of new ones are the widest of the others."""
    found = origins(layer.present, layer.input_quantizer.shape[-1])
    return Format(*(np.where(found < 0, np.max(v, -1, keepdims=True), np.asarray(v)[..., found]) for v in fmt))
