"""Gates on the neurons of a layer: which of those that it was made with exist."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgqjax.layers._symbol import FrozenWeight, Symbol
from hgqjax.layers.quantize import Quantize
from hgqjax.layers.ruled import Ruled
from hgqjax.quantizers import AbstractGate, Format


class Gate(Ruled):
    """What a `hgqjax.quantizers.AbstractGate` trains for a layer of `n` neurons.

    The layer multiplies with `factor` before and `mask` after its product. The layer behind it holds the same object, as `present`: it
    has no weights for what does not exist.

    Raises: ValueError where n is no multiple of the gate's `expand`.
    """

    def __init__(self, gate: AbstractGate, n: int):
        if n < 1 or n % gate.expand:
            raise ValueError(f"Gate: n is {n}; a multiple of expand, {gate.expand}, is needed")
        self.gate, self.n = gate, n
        self.hold(gate.init(n))

    @property
    def rule(self) -> AbstractGate:
        """The static choices."""
        return self.gate

    def there(self) -> jax.Array:
        """Which neurons may be used now, (n,) of True and False."""
        of = self.gate.alive if self.mode.trains else self.gate.keep
        return of(self.params, self.n)

    def factor(self) -> jax.Array:
        """What the weights of each neuron are multiplied with, 0 of one that is not there."""
        return jnp.where(self.there(), self.gate.factor(self.params, self.n), 0.0)

    def mask(self) -> jax.Array | None:
        """What results are multiplied with; None where nothing is sampled, as weights are 0 then."""
        if not self.samples:
            return None
        return self.gate.sample(self.params, self.n, key=self.key, temperature=self.temperature[...])

    def share(self) -> jax.Array:
        """What a cost counts of each neuron."""
        return self.gate.expected(self.params, self.n) if self.mode.trains else self.there().astype(jnp.float32)

    def kept(self) -> np.ndarray:
        """Numbers of the neurons that the exported network has."""
        return np.flatnonzero(np.asarray(self.gate.keep(self.params, self.n)))

    def settle(self) -> None:
        """After the factor was folded into the weights."""
        self.set_params(self.gate.unit(self.params))


def along(values: jax.Array, axis: int, kernel: Sequence[int]) -> jax.Array:
    """`values`, of neurons, as an array that broadcasts to the shape `kernel`; repeated where it is longer, as rows were flattened."""
    shape = [1] * len(kernel)
    shape[axis] = kernel[axis]
    return jnp.tile(values, kernel[axis] // values.size).reshape(shape)


def at(kept: np.ndarray, n: int, size: int) -> np.ndarray:
    """Numbers in an axis of `size` that the neurons `kept`, of n, have there, whose rows were flattened where it is longer.

    >>> at(np.array([0, 2]), 3, 6).tolist()
    [0, 2, 3, 5]
    """
    return (np.arange(0, size, n)[:, None] + kept).ravel()


class Narrow:
    """A quantizer of activations as hardware has it: of the elements `kept` of its last axis alone."""

    def __init__(self, layer: Quantize, kept: np.ndarray):
        self.layer, self.kept, self.quantizer = layer, kept, layer.quantizer

    def describe(self, x: Symbol, name: str) -> Symbol:
        """As `Quantize.describe`."""
        fmt = Format(*(jnp.broadcast_to(v, (1, *self.layer.shape))[0][..., self.kept] for v in self.layer.format()))
        return x.graph.quantize(x, name, fmt, self)

    def widen(self, low: Any, high: Any) -> None:
        """As `Quantize.widen`."""
        for values in (low, high):  # what is not there is 0, which every range holds
            whole = jnp.zeros(self.layer.shape).at[..., self.kept].set(jnp.asarray(values))
            self.layer.widen(whole, whole)


def narrowed(weight: FrozenWeight, axis: int, kept: np.ndarray) -> FrozenWeight:
    """`weight` of the elements `kept` of an axis alone."""
    shape = np.shape(weight.values)
    values, *fmt = (jnp.take(jnp.broadcast_to(v, shape), kept, axis) for v in (weight.values, *weight.format))
    return weight._replace(values=values, format=Format(*fmt))
