"""The inputs of a network that has several: names for parts of a row, which is read, scaled and kept as one array."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hgqjax.data.dataset import DataError


@dataclasses.dataclass(frozen=True)
class InputPart:
    """One input: its name, the shape of a row of it, and where its elements lie in a flattened row of the data set.

    >>> part = InputPart("b", (2,), (3, 1))
    >>> part.of(np.arange(8.0).reshape(2, 4)).tolist()
    [[3.0, 1.0], [7.0, 5.0]]
    """

    name: str
    shape: tuple[int, ...]
    positions: tuple[int, ...]

    def of(self, x: np.ndarray) -> np.ndarray:
        """Rows of this input, (rows, *shape), from rows `x` of the whole data set."""
        return x.reshape(len(x), -1)[:, self.positions].reshape(len(x), *self.shape)

    def of_row(self, values: np.ndarray) -> np.ndarray:
        """What belongs to this input of an array that has one value for each element of a row."""
        return self.of(np.asarray(values)[None])[0]


def side_by_side(names_and_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[InputPart, ...]:
    """Inputs that lie one behind the other in a row.

    >>> [(part.name, part.positions) for part in side_by_side([("a", (2,)), ("b", (1, 2))])]
    [('a', (0, 1)), ('b', (2, 3))]
    """
    found, start = [], 0
    for name, shape in names_and_shapes:
        end = start + int(np.prod(shape))
        found.append(InputPart(name, tuple(shape), tuple(range(start, end))))
        start = end
    return tuple(found)


def of_model(inputs: Sequence[InputPart], x: np.ndarray) -> Any:
    """Rows as a network takes them: `x` itself, or a tuple with the rows of each of several inputs."""
    return tuple(part.of(x) for part in inputs) if inputs else x


def to_json(inputs: Sequence[InputPart]) -> list[dict[str, Any]]:
    """As the metadata of a model has them."""
    return [{"name": part.name, "shape": list(part.shape), "positions": list(part.positions)} for part in inputs]


def from_json(found: Sequence[Mapping[str, Any]]) -> tuple[InputPart, ...]:
    """The inverse of :func:`to_json`. Raises: DataError where it is something else."""
    try:
        return tuple(InputPart(str(d["name"]), tuple(map(int, d["shape"])), tuple(map(int, d["positions"]))) for d in found)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the model has inputs that are none ({type(error).__name__}: {error})") from None
