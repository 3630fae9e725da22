"""Data sets by name or by path: loaded, checked, split and scaled in one call."""

import os
import pathlib

import numpy as np

from hgqjax.data import arrays, jets, muon, openml, svhn
from hgqjax.data.dataset import DataError, Dataset, Scaler, split, split_blocks
from hgqjax.data.rows import Rows, class_names

__all__ = ["NAMES", "DataError", "Dataset", "Scaler", "absolute", "check", "load", "load_rows", "origin", "split", "split_blocks"]

NAMES = ("jets", "openml", "svhn", "svhn_extra", "muon")
KNOWN = f"{', '.join(NAMES)}, svhn:PATH, or the path of a .arff, .csv, .npz, .parquet, .mat or .h5 file"


def load(
    name: str | os.PathLike[str],
    *,
    rows: int | None = None,
    validation_fraction: float | None = None,
    seed: int = 42,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """One data set, split and scaled.

    Args:
      name: "jets" (176 760 re-simulated jets that come with hgqjax); "openml" (OpenML 42468, downloaded once); "svhn" and "svhn_extra"
        (SVHN, downloaded once; extra digits to train on), "svhn:PATH" and "svhn_extra:PATH" (SVHN in a folder or file that lies here,
        :mod:`hgqjax.data.svhn`), or the path of one of its .mat files; "muon" (400 000 simulated muon tracks, a regression,
        :mod:`hgqjax.data.muon`), or the path of an .h5 file of muon hits; or the path of an .arff, .csv, .npz or .parquet file
        (:mod:`hgqjax.data.arrays`).
      rows: take only the first so many, before splitting; None takes all. Of a set whose split is given, the first of each part, in
        proportion; of "muon", so many are simulated, up to 4 000 000.
      validation_fraction: of the rows that are not test; None is 0.1, the HGQ paper's third version (its first has 0.15), or what the
        data set says.
      seed: of the split; SVHN and muon hits are split where they lie, one part behind the other.
      cache_dir: where downloads are kept; None is ``~/.cache/hgqjax``.

    Scaling: "jets" by mean and scale of the real training rows, 8-bit images by 256, muon hits not at all, everything else by mean and
    deviation of its own training and validation rows.

    Raises: DataError, one sentence that names the file or the argument and what is legal.

    >>> jets = load("jets", rows=100)
    >>> jets.x_train.shape, jets.y_test.dtype.name
    ((72, 16), 'int32')
    >>> load("tops")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    hgqjax.data.dataset.DataError: unknown data set 'tops': give jets, openml, svhn, svhn_extra, muon, svhn:PATH, or the path of ...
    """
    table = _read(name, cache_dir, rows)
    classes, available = class_names(table), len(table.x)
    if rows is not None and not 1 <= rows <= available:
        raise DataError(f"rows={rows} is out of range: {table.name} has 1 .. {available}")
    if table.parts is None:
        fraction = 0.1 if validation_fraction is None else validation_fraction
        train, val, test = split(available if rows is None else rows, seed=seed, validation_fraction=fraction)
    else:
        train, val, test = split_blocks(table.parts, rows, validation_fraction=validation_fraction)
    scaler = Scaler.fit(np.concatenate([table.x[train], table.x[val]])) if table.scaler is None else table.scaler
    dtype = scaler.dtype_for(table.x)
    return Dataset(
        name=table.name,
        source=table.source,
        sha256=table.sha256,
        x_train=scaler(table.x[train], dtype),
        y_train=table.y[train],
        x_val=scaler(table.x[val], dtype),
        y_val=table.y[val],
        x_test=scaler(table.x[test], dtype),
        y_test=table.y[test],
        classes=classes,
        feature_names=table.feature_names,
        scaler=scaler,
        unit=table.unit or "",
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
      classes: the model's. Where the file names its classes, labels go by name; else by number. A regression has none.
      cache_dir: as in :func:`load`.

    Returns: rows (rows, *shape), float32, scaled, and labels (rows,), int32, that index ``classes``, or numbers, float32.
    Raises: DataError; also where rows do not have the shape of the scaler, a label is not among ``classes``, or one has labels and the
      other numbers.

    >>> jets = load("jets", rows=100)
    >>> x, y = load_rows("jets", scaler=jets.scaler, classes=jets.classes)
    >>> x.shape, [jets.classes[label] for label in y[:5]]
    ((176760, 16), ['z', 'w', 'w', 'q', 'z'])
    """
    table = _read(path_or_name, cache_dir)
    if table.x.shape[1:] != scaler.mean.shape:
        raise DataError(f"{path_or_name}: rows have shape {table.x.shape[1:]}, but the model takes {scaler.mean.shape}")
    if (table.unit is None) != bool(classes):
        kinds = ("numbers of a regression", "labels") if classes else ("labels", "numbers of a regression")
        raise DataError(f"{path_or_name}: holds {kinds[0]}, but the model was trained on {kinds[1]}")
    if not classes:
        return scaler(table.x), table.y
    if table.classes is None:
        y = np.where(table.y < len(classes), table.y, np.int32(-1))
    else:
        y = np.array([classes.index(c) if c in classes else -1 for c in table.classes], np.int32)[table.y]
    if np.any(y < 0):
        label = table.y[np.argmax(y < 0)]
        strange = label if table.classes is None else table.classes[label]
        raise DataError(f"{path_or_name}: label {strange} is unknown to the model, whose classes are {', '.join(classes)}")
    return scaler(table.x), y


def check(name: str | os.PathLike[str]) -> None:
    """Raises DataError where ``name`` is neither that of a data set nor a file that :func:`load` takes and that is there; reads nothing."""
    kind, path = _kind_and_path(name)
    if name not in NAMES and not kind and pathlib.Path(path).suffix.lower() not in (*arrays.SUFFIXES, *muon.SUFFIXES, ".mat"):
        raise DataError(f"unknown data set {str(name)!r}: give {KNOWN}")
    if name not in NAMES and not pathlib.Path(path).exists():
        raise DataError(f"{path}: there is no such file or folder")


def origin(name: str | os.PathLike[str]) -> tuple[str, str]:
    """Name and checksum of all rows of a data set or file, as :func:`load` gives them. Raises: as :func:`load`.

    >>> origin("jets")[0]
    'jets (re-simulated)'
    """
    table = _read(name, None)
    return table.name, table.sha256


def absolute(name: str) -> str:
    """``name`` as :func:`load` takes it, with the whole of its path, so that it means the same from every folder.

    >>> absolute("jets"), absolute("svhn:/digits")
    ('jets', 'svhn:/digits')
    """
    if name in NAMES:
        return name
    kind, path = _kind_and_path(name)
    return f"{kind}:{pathlib.Path(path).absolute()}" if kind else str(pathlib.Path(path).absolute())


def _kind_and_path(name: str | os.PathLike[str]) -> tuple[str, str]:
    """("svhn", "digits") of "svhn:digits"; ("", name) of everything else."""
    kind, colon, path = str(name).partition(":")
    return (kind, path) if colon and kind in ("svhn", "svhn_extra") else ("", str(name))


def _read(name: str | os.PathLike[str], cache_dir: str | os.PathLike[str] | None, rows: int | None = None) -> Rows:
    check(name)
    if name == "jets":
        return jets.read()
    if name == "openml":
        return openml.read(cache_dir)
    if name == "muon":
        return muon.read(rows)
    if name in ("svhn", "svhn_extra"):
        return svhn.read(cache_dir, extra=name == "svhn_extra")
    kind, path = _kind_and_path(name)
    suffix = pathlib.Path(path).suffix.lower()
    if kind or suffix == ".mat":
        return svhn.read_path(path, extra=kind == "svhn_extra")
    return muon.read_h5(path) if suffix in muon.SUFFIXES else arrays.read(path)
