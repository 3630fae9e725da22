"""Data sets by name or by path: loaded, checked, split and scaled in one call."""

import contextlib
import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np

from hgqjax import scratch
from hgqjax.archives import ArchiveError, available_memory, check_memory, fits, limited
from hgqjax.data.columns import Columns
from hgqjax.data.dataset import PARTS, DataError, Dataset, Kind, Scaler, split, split_blocks
from hgqjax.data.rows import Rows, class_names
from hgqjax.data.sources import NAMES, absolute, as_labelled, check, name_and_checksum, read

__all__ = [
    "NAMES",
    "Columns",
    "DataError",
    "Dataset",
    "Examples",
    "Kind",
    "Scaler",
    "absolute",
    "check",
    "load",
    "load_rows",
    "origin",
    "read",
]
__all__ += ["split", "split_blocks"]


class Examples(NamedTuple):
    """Rows as a model trained elsewhere must see them."""

    x: np.ndarray
    """(rows, *shape), float32, scaled."""
    y: np.ndarray
    """As in :class:`Dataset`; labels index the model's classes."""
    weight: np.ndarray | None
    """(rows,), float32; None where each row counts alike."""


def load(
    name: str | os.PathLike[str],
    columns: Columns = Columns(),
    *,
    rows: int | None = None,
    validation_fraction: float | None = None,
    seed: int = 42,
    cache_dir: str | os.PathLike[str] | None = None,
    memory: int | None = None,
) -> Dataset:
    """One data set, split and scaled.

    Args:
      name: "jets" (176 760 re-simulated jets that come with hgqjax); "openml" (OpenML 42468, downloaded once); "svhn" and "svhn_extra"
        (SVHN, downloaded once; extra digits to train on), "svhn:PATH" and "svhn_extra:PATH" (SVHN in a folder or file that lies here,
        :mod:`hgqjax.data.svhn`), or the path of one of its .mat files; "muon" (400 000 simulated muon tracks, a regression,
        :mod:`hgqjax.data.muon`); "particles:16", "particles:32" (the hardest constituents of 53 000 re-simulated jets,
        :mod:`hgqjax.data.particles`); "particles150:16x3", "particles150:16x3:FOLDER" (constituents and features of the public jets of
        150 particles, downloaded once, or in a folder, :mod:`hgqjax.data.particles150`); or the path of a file with rows
        (:mod:`hgqjax.data.arrays`).
      columns: which columns of a file are features, targets, weights and parts.
      rows: take only the first so many, before splitting; None takes all. Of a set whose split is given, the first of each part, in
        proportion; of "muon", so many are simulated, up to 4 000 000.
      validation_fraction: of the rows that are not test; None is 0.1, the HGQ paper's third version (its first has 0.15), or what the
        data set says.
      seed: of the split; SVHN and muon hits are split where they lie, one part behind the other.
      cache_dir: where downloads are kept; None is ``~/.cache/hgqjax``.
      memory: bytes that rows may take; None is what is free. Where those of a .npy, .npz, .h5, .parquet or .root file, with the copies
        that are made of them, take more, they are left in files, and `Dataset.at_once` says how many are to be used at a time.

    Scaling: "jets" by mean and scale of the real training rows, 8-bit images by 256, muon hits not at all, everything else by mean and
    deviation of its own training and validation rows, of constituents over jets and constituents together.

    Raises: DataError, one sentence that names the file or the argument and what is legal.

    >>> jets = load("jets", rows=100)
    >>> jets.x_train.shape, jets.y_test.dtype.name
    ((72, 16), 'int32')
    >>> load("tops")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    hgqjax.data.dataset.DataError: unknown data set 'tops': give jets, openml, svhn, svhn_extra, muon, particles, particles:32, ...
    """
    try:
        with limited(memory):
            return _load(name, columns, rows, validation_fraction, seed, cache_dir)
    except ArchiveError as error:
        raise DataError(f"{name}: {error}") from None


def _load(name, columns: Columns, rows: int | None, validation_fraction: float | None, seed: int, cache_dir) -> Dataset:
    table = read(name, columns, cache_dir, rows)
    classes, available = class_names(table), len(table.x)
    if rows is not None and not 1 <= rows <= available:
        raise DataError(f"rows={rows} is out of range: {table.name} has 1 .. {available}")
    if table.parts is None:
        fraction = 0.1 if validation_fraction is None else validation_fraction
        parts = split(available if rows is None else rows, seed=seed, validation_fraction=fraction)
    else:
        parts = split_blocks(table.parts, rows, validation_fraction=validation_fraction, seed=seed)
    in_file = scratch.is_in_file(table.x) or not fits(12 * table.x[0].size * (rows or available), copies=1)
    if in_file and table.inputs:
        raise DataError(f"{table.where}: memory has no room for its {available} rows, and those for several inputs are not streamed")
    if in_file and table.y is None:
        last = len(range(available)[parts[2]]) if isinstance(parts[2], slice) else len(parts[2])
        check_memory(8 * last * table.x[0].size, f"what an autoencoder gives for {last} test rows", copies=3)
    scaler = Scaler.fit(table.x, _counted(available, parts)) if table.scaler is None else table.scaler
    dtype = scaler.dtype_for(table.x)
    x = [scaler(table.x, dtype, part, in_file) for part in parts]
    y = [_as_target(rows) if table.y is None else table.y[part] for rows, part in zip(x, parts, strict=True)]
    weights = [None if table.weight is None else table.weight[part] for part in parts]
    for part, weight in zip(PARTS, weights, strict=True):
        if weight is not None and not weight.any():
            raise DataError(f"{table.where}: every weight of the {part} rows is 0; at least one row of each part must count")
    return Dataset(
        name=table.name,
        source=table.source,
        sha256=table.sha256,
        **_parts("x", [*x]),
        **_parts("y", [*y]),
        **_parts("weight", weights),
        classes=classes,
        feature_names=table.feature_names,
        scaler=scaler,
        unit=table.unit or ("sigma" if table.y is None and table.scaler is None else ""),
        kind=table.kind,
        target_names=_target_names(table),
        notes=table.notes,
        files=table.files,
        inputs=table.inputs,
        at_once=available_memory() // 4 if in_file else None,
    )


def load_rows(
    path_or_name: str | os.PathLike[str],
    *,
    scaler: Scaler,
    classes: tuple[str, ...],
    columns: Columns = Columns(),
    features: tuple[str, ...] = (),
    cache_dir: str | os.PathLike[str] | None = None,
    memory: int | None = None,
) -> Examples:
    """All rows of a file as a model trained elsewhere must see them.

    Args:
      path_or_name: as in :func:`load`; a name gives every row of that set, those that a model was trained on too.
      scaler: the model's, that is of the data set that it was trained on.
      classes: the model's. Where the file names its classes, labels go by name; else by number. Other kinds have none.
      columns: those that the model was trained with; each row is taken, whatever they say of parts.
      features: names of the model's; columns of a table are taken by these where it has them, else all in their order.
      cache_dir, memory: as in :func:`load`.

    Returns: rows, targets and weights.
    Raises: DataError; also where rows do not have the shape of the scaler, a label is not among ``classes``, or one has labels and the
      other numbers.

    >>> jets = load("jets", rows=100)
    >>> x, y, weight = load_rows("jets", scaler=jets.scaler, classes=jets.classes)
    >>> x.shape, [jets.classes[label] for label in y[:5]], weight
    ((176760, 16), ['z', 'w', 'w', 'q', 'z'], None)
    """
    try:
        with limited(memory):
            return _load_rows(path_or_name, scaler, classes, columns, features, cache_dir)
    except ArchiveError as error:
        raise DataError(f"{path_or_name}: {error}") from None


def _load_rows(path_or_name, scaler: Scaler, classes: tuple[str, ...], columns: Columns, features: tuple[str, ...], cache_dir) -> Examples:
    table = _read_rows(path_or_name, columns.of_rows(), features, cache_dir)
    if table.x.shape[1:] != scaler.mean.shape:
        raise DataError(f"{path_or_name}: rows have shape {table.x.shape[1:]}, but the model takes {scaler.mean.shape}")
    if (table.kind == "classes") != bool(classes):
        kinds = ("numbers of a regression", "labels") if classes else ("labels", "numbers of a regression")
        raise DataError(f"{path_or_name}: holds {kinds[0]}, but the model was trained on {kinds[1]}")
    x = scaler(table.x)
    if table.y is None:
        return Examples(x, _as_target(x), table.weight)
    return Examples(x, as_labelled(table, classes, "the model") if classes else table.y, table.weight)


def _read_rows(name: str | os.PathLike[str], columns: Columns, features: tuple[str, ...], cache_dir) -> Rows:
    if features and not columns.features and not columns.inputs:
        with contextlib.suppress(DataError):  # the file has not these columns, or no columns at all
            return read(name, dataclasses.replace(columns, features=features), cache_dir)
    return read(name, columns, cache_dir)


def origin(name: str | os.PathLike[str], columns: Columns = Columns()) -> tuple[str, str]:
    """Name and checksum of all rows of a data set or file, as :func:`load` gives them. Raises: as :func:`load`.

    >>> origin("jets")[0]
    'jets (re-simulated)'
    """
    return name_and_checksum(name, columns)


def _counted(rows: int, parts: tuple) -> np.ndarray:
    """Which rows are for training or validation."""
    counted = np.zeros(rows, bool)
    for part in parts[:2]:
        counted[part] = True
    return counted


def _as_target(x: np.ndarray) -> np.ndarray:
    """What an autoencoder is to give back: the scaled rows, flat."""
    flat = x.reshape(len(x), -1)
    return flat if x.dtype == np.float32 else scratch.filled(flat.shape, np.float32, lambda rows: flat[rows], scratch.is_in_file(x))


def _target_names(table: Rows) -> tuple[str, ...]:
    if table.y is not None:
        return table.target_names
    return table.feature_names if table.x.ndim == 2 else tuple(f"x{n}" for n in range(table.x[0].size))


def _parts(letter: str, arrays: list[np.ndarray | None]) -> dict[str, Any]:
    return {f"{letter}_{part}": array for part, array in zip(PARTS, arrays, strict=True)}
