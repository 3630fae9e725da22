"""Rows of a data set as each model must see them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from hgqjax import data as data_
from hgqjax.config import from_json
from hgqjax.data import inputs as inputs_
from hgqjax.description import ModelDescription
from hgqjax.errors import first_line


class RowReader:
    """Reads each data set once for all the models that take it in the same way."""

    def __init__(self):
        self._rows: dict[Any, data_.Examples] = {}
        self._sets: dict[str, data_.Dataset] = {}
        self._origins: dict[str, tuple[str, str]] = {}

    def __call__(self, description: ModelDescription, data: str) -> tuple[Any, np.ndarray, np.ndarray | None, str]:
        """Rows scaled as the model was trained, their targets and weights, and the unit of the targets ("" of labels).

        A file of HGQ2 or QONNX holds neither scaler nor classes: those of the data set are taken that `data` names; for the rows of a
        file of jets or muon tracks, whichever fits.
        The columns of a row are divided among the inputs of a network that has several, in their order, where that is how they fit: the
        seven gaps of ``muon`` among three stations, for instance.

        Args:
          description: the model. data: as for `hgqjax.data.load`.
        Returns: x, (rows, *shape), or a tuple of such arrays where the model has several inputs; y, (rows,) or (rows, targets);
          the weight of each row, or None; the unit.
        Raises: ValueError, one sentence, where the rows are not what the model takes.
        """
        about = description.metadata
        foreign = about.get("hgq2") or ("scaler" not in about and about.get("qonnx"))
        if foreign:
            known = ("jets", "muon") if _is_path(data) else (data,)
            shapes = [op.shape for op in description.inputs]
            fitting = {name: parts for name in known if (parts := _division(shapes, self._set(name).input_shape))}
            if not fitting:
                sets = " or ".join(self._set(name).name for name in known)
                raise ValueError(f"{foreign['file']} holds no scaler and no classes, and its inputs are not those of {sets}")
            (name, parts), *_ = fitting.items()
            trained = self._set(name)
            x, y, weight = self._load(data, trained.scaler, trained.classes)
            return (x if len(parts) == 1 else tuple(x[..., part] for part in parts)), y, weight, trained.unit
        if "scaler" not in about or "classes" not in about:
            raise ValueError(f"model {description.name!r} does not hold its scaler and classes, so rows of {data} cannot be fed to it")
        try:
            scaler = data_.Scaler(*(np.asarray(about["scaler"][part], np.float64) for part in ("mean", "scale")))
            classes, features = (tuple(map(str, about.get(name, ()))) for name in ("classes", "features"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"model {description.name!r} has a scaler or classes that are none ({first_line(error)})") from None
        columns = from_json(data_.Columns, about["columns"]) if "columns" in about else data_.Columns()
        x, y, weight = self._load(data, scaler, classes, columns, features)
        return inputs_.of_model(inputs_.from_json(about.get("inputs", ())), x), y, weight, about.get("unit", "")

    def name(self, data: str) -> str:
        """What rows of `data` are called, as in the manifest of a run on them."""
        return self._origin(data)[0]

    def trained_on(self, description: ModelDescription, data: str) -> bool:
        """Whether the rows of `data` are those that the model was trained on, or have them among them; of files of HGQ2 nobody knows."""
        trained = description.metadata.get("data", {})
        if not trained:
            return False
        name, sha256 = self._origin(data)
        # the checksum of simulated rows depends on their number, but the first are the same for any
        return sha256 in (trained.get("sha256"), *trained.get("files", ())) or (data in data_.NAMES and name == trained.get("name"))

    def _origin(self, data: str) -> tuple[str, str]:
        """Name and checksum."""
        if data not in self._origins:
            self._origins[data] = data_.origin(data)
        return self._origins[data]

    def _set(self, name: str) -> data_.Dataset:
        if name not in self._sets:
            self._sets[name] = data_.load(name, rows=1000 if name == "muon" else None)  # simulated: as many tell the same
        return self._sets[name]

    def _load(self, data: str, scaler: data_.Scaler, classes, columns=data_.Columns(), features=()) -> data_.Examples:
        key = data, scaler.mean.tobytes(), scaler.scale.tobytes(), classes, columns, features
        if key not in self._rows:
            self._rows[key] = data_.load_rows(data, scaler=scaler, classes=classes, columns=columns, features=features)
        return self._rows[key]


def raw_rows(description: ModelDescription, data: str) -> np.ndarray:
    """Unscaled rows of a data set or file: the columns that a model was trained on, by their names, of all its inputs; no target is read.

    Raises: ValueError, one sentence, where the rows are not those of the model.
    """
    features = tuple(description.metadata.get("features", ()))
    inputs, about = inputs_.from_json(description.metadata.get("inputs", ())), description.metadata.get("columns", {})
    named = data_.Columns(inputs=tuple(about.get("inputs", ())) if inputs else ())
    if data in data_.NAMES or not features:
        found = data_.read(data, named)
    else:
        named = named if named.inputs else data_.Columns(features=features)
        found = data_.read(data, dataclasses.replace(named, target=("features",)))
    shapes = [op.shape for op in description.inputs]
    wanted = [part.shape for part in inputs] or [found.x.shape[1:]]
    if shapes != wanted or (inputs and [part.shape for part in found.inputs] != shapes):
        raise ValueError(
            f"rows of {data} have shape {found.x.shape[1:]}, but model {description.name!r} takes {' and '.join(map(str, shapes))}"
        )
    if features and found.feature_names and found.feature_names != features:
        raise ValueError(f"rows of {data} have the columns {', '.join(found.feature_names)}; the model takes {', '.join(features)}")
    return found.x


def _is_path(data: str) -> bool:
    """Whether `data` names a file or folder, and no data set of ours."""
    return data not in data_.NAMES and Path(data).exists()


def _division(shapes: list[tuple[int, ...]], row: tuple[int, ...]) -> list[slice] | None:
    """How the last axis of a row is divided among inputs of `shapes`; None where they do not make up the row.

    >>> _division([(50, 3), (50, 2)], (50, 5)), _division([(4,)], (5,))
    ([slice(0, 3, None), slice(3, 5, None)], None)
    """
    ends = np.cumsum([shape[-1] for shape in shapes]).tolist()
    if not ends or ends[-1] != row[-1] or any(shape[:-1] != row[:-1] for shape in shapes):
        return None
    return [slice(end - shape[-1], end) for end, shape in zip(ends, shapes, strict=True)]
