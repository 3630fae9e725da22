"""Where rows come from: data sets by name, files by path, and parts of a set in files of their own."""

import dataclasses
import hashlib
import os
import pathlib
from typing import cast

import numpy as np

from hgqjax import scratch
from hgqjax.data import arrays, jets, muon, openml, particles, particles150, svhn
from hgqjax.data.columns import FEATURES, Columns, known
from hgqjax.data.dataset import DataError, Scaler
from hgqjax.data.inputs import side_by_side
from hgqjax.data.rows import Rows, columns_at, sha256_of

NAMES = ("jets", "openml", "svhn", "svhn_extra", "muon", "particles")
KINDS = ("svhn", "svhn_extra", "particles", "particles150")
"""What may stand before a colon."""
KNOWN = f"{', '.join(NAMES)}, particles:32, particles150:16x3, svhn:PATH, or the path of a {', '.join((*arrays.SUFFIXES, '.mat'))} file"


def check(name: str | os.PathLike[str]) -> None:
    """Raises DataError where ``name`` is neither that of a data set nor a file that :func:`read` takes and that is there; reads nothing."""
    kind, path = _kind_and_path(name)
    if name not in NAMES and not kind and pathlib.Path(path).suffix.lower() not in (*arrays.SUFFIXES, ".mat"):
        what = f"{path} is a folder" if path and pathlib.Path(path).is_dir() else f"unknown data set {str(name)!r}"
        raise DataError(f"{what}: give {KNOWN}")
    if kind == "particles":
        _constituents(path)
    elif kind == "particles150":
        path = particles150.parse(path)[2] or "."
    if name not in NAMES and kind != "particles" and not pathlib.Path(path).exists():
        raise DataError(f"{path}: there is no such file or folder")


def absolute(name: str) -> str:
    """``name`` as :func:`read` takes it, with the whole of its path, so that it means the same from every folder.

    >>> absolute("jets"), absolute("svhn:/digits"), absolute("particles:32"), absolute("particles150:16x3:/jets")
    ('jets', 'svhn:/digits', 'particles:32', 'particles150:16x3:/jets')
    """
    kind, path = _kind_and_path(name)
    if name in NAMES or kind == "particles":
        return name
    if kind == "particles150":
        sizes, _, folder = path.partition(":")
        return f"{kind}:{sizes}:{pathlib.Path(folder).absolute()}" if folder else name
    return f"{kind}:{pathlib.Path(path).absolute()}" if kind else str(pathlib.Path(path).absolute())


def read(
    name: str | os.PathLike[str], columns: Columns = Columns(), cache_dir: str | os.PathLike[str] | None = None, rows: int | None = None
) -> Rows:
    """All rows of a data set or of files, unscaled; ``rows`` is how many are to be simulated, of a set that is.

    Raises: DataError.
    """
    check(name)
    main = _read_one(name, columns, cache_dir, rows)
    if not (columns.validation_data or columns.test_data):
        return main
    if main.parts is not None:
        raise DataError(f"{main.where}: is split already; leave out validation_data and test_data")
    same = dataclasses.replace(columns.of_rows(), weight=columns.weight)
    parts = [main, *(_part(main, path, same) for path in (columns.validation_data, columns.test_data) if path)]
    if len({part.sha256 for part in parts}) < len(parts):
        files = "the data, validation_data and test_data"
        raise DataError(f"{main.where}: {files} must be different files; a score on rows that were trained on says nothing")
    counts = iter([len(part.x) for part in parts])
    sizes = (next(counts), next(counts) if columns.validation_data else 0, next(counts) if columns.test_data else 0)
    targets, weights = (cast(list[np.ndarray], found) for found in ([part.y for part in parts], [part.weight for part in parts]))
    return dataclasses.replace(
        main,
        sha256=hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest(),
        x=scratch.concatenate([part.x for part in parts]),
        y=None if main.y is None else np.concatenate(targets),
        weight=None if main.weight is None else np.concatenate(weights),
        parts=sizes,
        files=tuple(part.sha256 for part in parts[: 2 if columns.validation_data else 1]),
    )


def name_and_checksum(name: str | os.PathLike[str], columns: Columns) -> tuple[str, str]:
    """Of all rows, as :func:`read` gives them; a table is not read for it."""
    kind, path = _kind_and_path(name)
    own = name in NAMES or kind or pathlib.Path(path).suffix.lower() == ".mat"
    if own or pathlib.Path(path).suffix.lower() not in (*arrays.TABLES, ".npy", ".root"):
        try:
            rows = read(name, columns)
            return rows.name, rows.sha256
        except DataError:
            if own:
                raise  # else it holds a table whose columns somebody has to name
    check(name)
    try:
        return arrays.name_of(pathlib.Path(path)), sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def as_labelled(rows: Rows, classes: tuple[str, ...], who: str) -> np.ndarray:
    """Labels of ``rows`` as indices into ``classes``: by name where the file names its classes, else by number.

    Raises: DataError where one is not among them.
    """
    assert rows.y is not None, "rows of classes have labels"
    if rows.classes is None:
        y = np.where(rows.y < len(classes), rows.y, np.int32(-1))
    else:
        y = np.array([classes.index(c) if c in classes else -1 for c in rows.classes], np.int32)[rows.y]
    if np.any(y < 0):
        label = rows.y[np.argmax(y < 0)]
        strange = label if rows.classes is None else rows.classes[label]
        raise DataError(f"{rows.where}: label {strange} is unknown to {who}, whose classes are {', '.join(classes)}")
    return y


def _part(main: Rows, path: str, columns: Columns) -> Rows:
    """Validation or test rows, which must be like the training rows ``main``."""
    check(path)
    kind = {} if main.y is None or columns.target_is else {"target_is": main.kind}
    part = _read_one(path, dataclasses.replace(columns, **kind), None, None)
    if part.x.shape[1:] != main.x.shape[1:] or part.feature_names != main.feature_names:
        raise DataError(f"{part.where}: its features are not those of {main.where}; name them, in order, with --features")
    if part.kind != main.kind or part.target_names != main.target_names or (part.weight is None) != (main.weight is None):
        raise DataError(f"{part.where}: its target or weights are not those of {main.where}; name them with --target and --weight")
    if main.kind == "classes" and main.classes is not None:
        return dataclasses.replace(part, y=as_labelled(part, main.classes, main.where), classes=main.classes)
    return part


def _kind_and_path(name: str | os.PathLike[str]) -> tuple[str, str]:
    """("svhn", "digits") of "svhn:digits"; ("", name) of everything else."""
    kind, colon, path = str(name).partition(":")
    return (kind, path) if colon and kind in KINDS else ("", str(name))


def _constituents(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= particles.MOST:
        raise DataError(f"particles:{text} is unknown: these jets have 1 .. {particles.MOST} constituents; give e.g. particles:16")
    return int(text)


def _read_one(name: str | os.PathLike[str], columns: Columns, cache_dir: str | os.PathLike[str] | None, rows: int | None) -> Rows:
    kind, path = _kind_and_path(name)
    if name in NAMES or kind or pathlib.Path(path).suffix.lower() == ".mat":
        found = _of_set(_read_set(name, kind, path, cache_dir, rows), columns.flat())
    else:
        found = arrays.read(path, columns)
    if not columns.inputs or found.inputs:  # of arrays a reader knows the shapes itself
        return found
    return dataclasses.replace(found, inputs=side_by_side([(part, (len(names),)) for part, names in columns.of_inputs().items()]))


def _read_set(name, kind: str, path: str, cache_dir, rows: int | None) -> Rows:
    if name == "jets":
        return jets.read()
    if name == "openml":
        return openml.read(cache_dir)
    if name == "muon":
        return muon.read(rows)
    if name == "particles" or kind == "particles":
        return particles.read(_constituents(path) if kind else particles.DEFAULT)
    if kind == "particles150":
        constituents, features, folder = particles150.parse(path)
        return particles150.read(constituents, features, folder or None, cache_dir=cache_dir)
    if name in ("svhn", "svhn_extra"):
        return svhn.read(cache_dir, extra=name == "svhn_extra")
    return svhn.read_path(path, extra=kind == "svhn_extra")


def _of_set(rows: Rows, columns: Columns) -> Rows:
    """Of a set that has its own columns only features can be chosen, and these as the target."""
    own = {"target", "weight", "split", "table", "target_is", "unit"} & set(columns.given)
    if columns.target == (FEATURES,):
        own -= {"target"}
        rows = dataclasses.replace(rows, y=None, classes=None, kind="regression", target_names=(FEATURES,), unit="")
    if own:
        raise DataError(f"{rows.name} has a {min(own)} of its own; of its columns only features, and the target features, can be chosen")
    if not columns.features or columns.features == rows.feature_names:
        return rows
    if rows.x.ndim != 2:
        raise DataError(f"{rows.name} has rows of shape {rows.x.shape[1:]}; features can be chosen of columns only")
    chosen = [rows.feature_names.index(known(name, rows.feature_names, rows.name, "feature")) for name in columns.features]
    scaler = None if rows.scaler is None else Scaler(rows.scaler.mean[chosen], rows.scaler.scale[chosen])
    return dataclasses.replace(rows, x=columns_at(rows.x, chosen), feature_names=columns.features, scaler=scaler)
