"""Layers one after the other."""

from collections.abc import Callable, Sequence

from flax import nnx

from hgqjax.layers._base import Module
from hgqjax.layers.dense import BatchNormDense, Dense


class Sequential(Module):
    """Calls `layers` (modules, or functions such as `relu`) one after the other; modules are its attributes layer_0, layer_1, ...

    >>> model = Sequential(Dense(4, 3, rngs=nnx.Rngs(0), activation="relu"), Dense(3, 2, rngs=nnx.Rngs(1)))
    >>> [name for name, _ in model.named(Dense)]
    ['layer_0', 'layer_1']
    """

    def __init__(self, *layers: Module | Callable):
        if not layers:
            raise ValueError("Sequential needs at least one layer")
        self.length = len(layers)
        for n, layer in enumerate(layers):
            setattr(self, f"layer_{n}", layer)

    def __call__(self, x):
        for n in range(self.length):
            x = getattr(self, f"layer_{n}")(x)
        return x


def mlp(sizes: Sequence[int], *, rngs: nnx.Rngs, batch_norm: bool = True, **dense) -> Sequential:
    """A multilayer perceptron: ``sizes = (n_in, hidden..., n_out)``, relu after each hidden layer, none after the last.

    `batch_norm` picks `BatchNormDense` for every layer, else `Dense`; `dense` are further arguments of these. The last layer's exact
    sums are the outputs: no quantizer follows them.

    >>> mlp((16, 8, 5), rngs=nnx.Rngs(0)).length
    2
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes is {tuple(sizes)}; at least the input and output sizes are needed")
    kind = BatchNormDense if batch_norm else Dense
    last = len(sizes) - 2
    return Sequential(
        *(
            kind(n, m, rngs=rngs, activation=None if index == last else "relu", **dense)
            for index, (n, m) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
        )
    )
