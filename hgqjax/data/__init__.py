"""Data sets by name or by path: loaded, checked, split and scaled in one call."""

import os
import pathlib

import numpy as np

from hgqjax.data import arrays, jets, openml
from hgqjax.data.dataset import DataError, Dataset, Scaler, split
from hgqjax.data.rows import Rows, class_names

__all__ = ["NAMES", "DataError", "Dataset", "Scaler", "load", "load_rows", "split"]

NAMES = ("jets", "openml")


def load(
    name: str | os.PathLike[str],
    *,
    rows: int | None = None,
    validation_fraction: float = 0.1,
    seed: int = 42,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """One data set, split by :func:`split` and scaled.

    Args:
      name: "jets" (176 760 re-simulated jets that come with hgqjax), "openml" (OpenML 42468, downloaded once), or the path of an
        .arff, .csv, .npz or .parquet file (:mod:`hgqjax.data.arrays`).
      rows: take only the first so many, before splitting; None takes all.
      validation_fraction: of the rows that are not test; 0.1 is the HGQ paper's third version, 0.15 its first.
      seed: of the split.
      cache_dir: where downloads are kept; None is ``~/.cache/hgqjax``.

    Scaling: "jets" by mean and scale of the real training rows, everything else by those of its own training and validation rows.

    Raises: DataError, one sentence that names the file or the argument and what is legal.

    >>> jets = load("jets", rows=100)
    >>> jets.x_train.shape, jets.y_test.dtype.name
    ((72, 16), 'int32')
    >>> load("tops")
    Traceback (most recent call last):
    hgqjax.data.dataset.DataError: unknown data set 'tops': give jets, openml, or the path of a .arff, .csv, .npz or .parquet file
    """
    table = _read(name, cache_dir)
    classes, available = class_names(table), len(table.x)
    if rows is not None and not 1 <= rows <= available:
        raise DataError(f"rows={rows} is out of range: {table.name} has 1 .. {available}")
    train, val, test = split(available if rows is None else rows, seed=seed, validation_fraction=validation_fraction)
    scaler = Scaler.fit(table.x[np.concatenate([train, val])]) if table.scaler is None else table.scaler
    return Dataset(
        name=table.name,
        source=table.source,
        sha256=table.sha256,
        x_train=scaler(table.x[train]),
        y_train=table.y[train],
        x_val=scaler(table.x[val]),
        y_val=table.y[val],
        x_test=scaler(table.x[test]),
        y_test=table.y[test],
        classes=classes,
        feature_names=table.feature_names,
        scaler=scaler,
    )


def load_rows(
    path_or_name: str | os.PathLike[str],
    *,
    scaler: Scaler,
    classes: tuple[str, ...],
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """All rows of a file as a model trained elsewhere must see them.

    Args:
      path_or_name: as in :func:`load`; a name gives every row of that set, those that a model was trained on too.
      scaler: the model's, that is of the data set that it was trained on.
      classes: the model's. Where the file names its classes, labels go by name; else by number.
      cache_dir: as in :func:`load`.

    Returns: rows (rows, *shape), float32, scaled, and labels (rows,), int32, that index ``classes``.
    Raises: DataError; also where rows do not have the shape of the scaler, or a label is not among ``classes``.

    >>> jets = load("jets", rows=100)
    >>> x, y = load_rows("jets", scaler=jets.scaler, classes=jets.classes)
    >>> x.shape, [jets.classes[label] for label in y[:5]]
    ((176760, 16), ['z', 'w', 'w', 'q', 'z'])
    """
    table = _read(path_or_name, cache_dir)
    if table.x.shape[1:] != scaler.mean.shape:
        raise DataError(f"{path_or_name}: rows have shape {table.x.shape[1:]}, but the model takes {scaler.mean.shape}")
    if table.classes is None:
        y = np.where(table.y < len(classes), table.y, np.int32(-1))
    else:
        y = np.array([classes.index(c) if c in classes else -1 for c in table.classes], np.int32)[table.y]
    if np.any(y < 0):
        label = table.y[np.argmax(y < 0)]
        strange = label if table.classes is None else table.classes[label]
        raise DataError(f"{path_or_name}: label {strange} is unknown to the model, whose classes are {', '.join(classes)}")
    return scaler(table.x), y


def _read(name: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None) -> Rows:
    if name == "jets":
        return jets.read()
    if name == "openml":
        return openml.read(cache_dir)
    if pathlib.Path(name).suffix.lower() not in arrays.SUFFIXES:
        known = f"{', '.join(NAMES)}, or the path of a .arff, .csv, .npz or .parquet file"
        raise DataError(f"unknown data set {str(name)!r}: give {known}")
    return arrays.read(name)
