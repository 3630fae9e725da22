"""Activation functions that hardware has without a table."""

import jax

from hgqjax.layers._base import Value
from hgqjax.layers._symbol import Symbol


def relu(x: Value) -> Value:
    """``max(x, 0)``; gradient 0 at 0. Of an array, or of a layer's result while a model is described.

    >>> import jax.numpy as jnp
    >>> relu(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return x.graph.apply("relu", (x,), x.shape) if isinstance(x, Symbol) else jax.nn.relu(x)


ACTIVATIONS = {None: lambda x: x, "relu": relu}


def activation(name: str | None):
    """The activation called `name`; raises ValueError, naming the legal ones."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is {name!r}; legal are None and 'relu'")
    return ACTIVATIONS[name]
