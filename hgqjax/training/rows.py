"""Rows as a run takes them: training and validation rows on the device."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hgqjax import layers
from hgqjax.training import devices

AT_ONCE = 2**22
"""Values of the validation rows that are held in one piece: of the inputs, or of the widest layer where that quantizes more."""


class Data(NamedTuple):
    """Rows on the device: training and validation. Those of type float16, which takes half the memory, are used as float32.

    Of a model of several inputs `x_train` and `x_val` are tuples of rows, one array for each.
    """

    x_train: Float[Array, "rows ..."] | tuple[Float[Array, "rows ..."], ...]
    y_train: Array
    x_val: Float[Array, "val_rows ..."] | tuple[Float[Array, "val_rows ..."], ...]
    y_val: Array
    weight_train: Float[Array, " rows"] | None = None
    """Of each row in loss and score, at least 0; their mean should be 1, so that beta means the same. None: all rows count alike."""
    weight_val: Float[Array, " val_rows"] | None = None

    @classmethod
    def of(cls, dataset) -> "Data":
        """From a `hgqjax.data.Dataset`; weights are scaled to a mean of 1, training and validation rows by themselves."""
        rows = cls.on_host(dataset)
        return cls(*devices.on_device(rows._replace(x_train=dataset.of_model(rows.x_train), x_val=dataset.of_model(rows.x_val))))

    @classmethod
    def on_host(cls, dataset) -> "Data":
        """As `of`, of numpy's arrays, those in files too; a row is one array, also of a model of several inputs."""
        given = dataset.weight_train, dataset.weight_val
        weights: Any = (None if w is None else (w / np.mean(w, dtype=np.float64)).astype(np.float32) for w in given)
        return cls(dataset.x_train, dataset.y_train, dataset.x_val, dataset.y_val, *weights)


def rows_at_once(x: Any, widest: int = 1) -> int:
    """Rows of `x` whose values are computed in one piece, by a network whose widest layer quantizes so many values."""
    return max(AT_ONCE // max(widest, sum(math.prod(part.shape[1:]) for part in layers.row_arrays(x))), 1)


def rows_at(x: Array | tuple[Array, ...], which: Array | slice) -> Array | tuple[Array, ...]:
    """The rows `which` of each input, float32."""
    return tuple(as_float32(part[which]) for part in x) if isinstance(x, tuple) else as_float32(x[which])


def weight_at(weight: Array | None, which: Array | slice) -> Array | None:
    """The weights of the rows `which`, where rows have weights."""
    return None if weight is None else weight[which]


def as_float32(rows: Array) -> Array:
    """Rows of type float16 as float32, and those of float32 as they are."""
    return rows if rows.dtype == jnp.float32 else rows.astype(jnp.float32)
