"""Rows that lie in files: a part of them at a time goes to the devices, in the order of rows that are all there."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from hgqjax import layers, scratch
from hgqjax.training.rows import Data, rows_at_once
from hgqjax.training.train import CURVATURE_ROWS


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """Rows of which only a part is in memory; `sweep` takes it in the place of `Data`, and gives the same.

    The order of rows is that of `Data`, a new one of all rows in each epoch. A part of so many steps is read from the files in the order in
    which its rows lie there: the more rows it has, the less the files are read in leaps.
    """

    rows: Data
    """Of numpy's arrays, those of `x` mapped from files."""
    at_once: int
    """Bytes of rows, above 0, that a part has at most; two are in memory at a time."""

    @classmethod
    def of(cls, dataset) -> "Stream":
        """From a `hgqjax.data.Dataset` whose rows lie in files."""
        return cls(Data.on_host(dataset), dataset.at_once)

    @property
    def _training(self) -> tuple[Any, Any, Any]:
        return self.rows.x_train, self.rows.y_train, self.rows.weight_train

    def head(self, batch: int) -> Data:
        """The first training rows, for the start of a run."""
        first = slice(max(batch, CURVATURE_ROWS))
        x, y, weight = self._training
        return Data(_taken(x, first), y[first], _taken(x, slice(1)), y[:1], _part(weight, first), _part(weight, slice(1)))

    def training(self, order: np.ndarray) -> Data:
        """Training rows in the order (steps, batch), as rows of a part."""
        numbers = order.ravel()
        x, y, weight = self._training
        return Data(_taken(x, numbers), _taken(y, numbers), _taken(x, slice(0)), y[:0], _part(weight, numbers))

    def parts(self, steps: int, batch: int) -> list[slice]:
        """The steps of an epoch in parts, each of two or more: a loop of one is compiled to other code, with other last bits."""
        width = batch * _row_bytes(self.rows.x_train, self.rows.y_train)
        count = max(1, steps // max(2, self.at_once // (2 * width)))  # the longest part is less than twice as long as the shortest
        return [slice(*pair) for pair in itertools.pairwise([steps * n // count for n in range(count + 1)])]

    def validation(self, widest: int = 1) -> Iterator[Any]:
        """Rows of validation part by part, each as long as the pieces that `Train.outputs` computes, or several."""
        x = self.rows.x_val
        piece, count = rows_at_once(x, widest), len(layers.row_arrays(x)[0])
        step = max(1, self.at_once // (piece * _row_bytes(x))) * piece
        for start in range(0, count, step):
            yield _taken(x, slice(start, min(start + step, count)))


def _taken(x: Any, rows: Any) -> Any:
    return tuple(scratch.take(part, rows) for part in x) if isinstance(x, tuple) else scratch.take(x, rows)


def _part(weight: Any, rows: Any) -> Any:
    return None if weight is None else weight[rows]


def _row_bytes(*arrays: Any) -> int:
    leaves = jax.tree.leaves(arrays)
    return sum(leaf.dtype.itemsize * math.prod(leaf.shape[1:]) for leaf in leaves)
