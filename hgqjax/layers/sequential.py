"""Layers one after the other."""

import itertools
from collections.abc import Callable, Sequence

from flax import nnx

from hgqjax.granularity import Granularity
from hgqjax.layers._base import Module, Value
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.dense import Dense
from hgqjax.layers.gates import Gate
from hgqjax.layers.quantize import ACTIVATION, WEIGHT
from hgqjax.quantizers import AbstractGate, AbstractQuantizer


class Sequential(Module):
    """Calls `layers` (modules, or functions such as `relu`) one after the other; they are its list `layer`.

    >>> model = Sequential(Dense(4, 3, rngs=nnx.Rngs(0), activation="relu"), Dense(3, 2, rngs=nnx.Rngs(1)))
    >>> [name for name, _ in model.named(Dense)]
    ['layer_0', 'layer_1']
    """

    def __init__(self, *layers: Module | Callable):
        if not layers:
            raise ValueError("Sequential needs at least one layer")
        self.layer = nnx.List(layers)

    def __call__(self, x: Value) -> Value:
        for layer in self.layer:
            x = layer(x)
        return x


def mlp(
    sizes: Sequence[int],
    *,
    rngs: nnx.Rngs,
    use_bias: bool = True,
    batch_norm: BatchNorm | None = BatchNorm(),
    input_quantizer: AbstractQuantizer = ACTIVATION,
    kernel_quantizer: AbstractQuantizer = WEIGHT,
    bias_quantizer: AbstractQuantizer = WEIGHT,
    input_granularity: Granularity = "element",
    kernel_granularity: Granularity = "element",
    neurons: AbstractGate | None = None,
    present: Gate | None = None,
) -> Sequential:
    """A multilayer perceptron: ``sizes = (n_in, hidden..., n_out)``, relu after each hidden layer, none after the last.

    Further arguments are those of every `Dense` of it. The last layer's exact sums are the outputs: no quantizer follows them.
    `neurons` is a gate of each hidden layer, which then has ``neurons.allocated(n)`` neurons; `present` is that of what comes in.

    >>> len(mlp((16, 8, 5), rngs=nnx.Rngs(0)).layer)
    2
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes is {tuple(sizes)}; at least the input and output sizes are needed")
    last = len(sizes) - 2
    if neurons is not None:
        sizes = (sizes[0], *map(neurons.allocated, sizes[1:-1]), sizes[-1])
    dense: list[Dense] = []
    for index, (n, m) in enumerate(itertools.pairwise(sizes)):
        layer = Dense(
            n,
            m,
            rngs=rngs,
            activation=None if index == last else "relu",
            use_bias=use_bias,
            batch_norm=batch_norm,
            input_quantizer=input_quantizer,
            kernel_quantizer=kernel_quantizer,
            bias_quantizer=bias_quantizer,
            input_granularity=input_granularity,
            kernel_granularity=kernel_granularity,
            neurons=None if index == last else neurons,
            present=dense[-1].neurons if dense else present,
        )
        dense.append(layer)
    return Sequential(*dense)
