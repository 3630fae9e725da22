"""Rows of your own: an .npz with arrays, or a table in a .csv, .parquet or .arff file."""

import os
import pathlib
import zipfile
import zlib

import numpy as np

from hgqjax.data.dataset import DataError
from hgqjax.data.rows import Rows, make_rows, sha256_of
from hgqjax.data.tables import read_table

SUFFIXES = (".arff", ".csv", ".npz", ".parquet")


def read(path: str | os.PathLike[str]) -> Rows:
    """All rows of one file, unscaled.

    An .npz file holds ``x`` (or ``x_physical`` where there is no ``x``): numbers, (rows, features) or (rows, ...); ``y``: (rows,),
    whole numbers from 0 or text; and may hold ``classes`` and ``feature_names``, text. For tables see :mod:`hgqjax.data.tables`.

    Args:
      path: of a file that ends in .arff, .csv, .npz or .parquet.

    Raises: DataError.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "mydata.npz")
    >>> np.savez(path, x=[[0.5, 1.0], [1.5, 2.0]], y=["signal", "noise"])
    >>> rows = read(path)
    >>> rows.name, rows.classes, rows.y.tolist()
    ('arrays mydata.npz', ('noise', 'signal'), [1, 0])
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: files that end in {path.suffix or 'nothing'} cannot be read; {', '.join(SUFFIXES)} can")
    if not path.is_file():
        raise DataError(f"{path}: {'is not a file' if path.exists() else 'there is no such file'}")
    found = _read_npz(path) if path.suffix.lower() == ".npz" else read_table(path)
    return make_rows(
        where=str(path),
        name=f"arrays {path.name}",
        source=f"The file {path.name}, given by its path.",
        sha256=sha256_of(path),
        **found,
    )


def _read_npz(path: pathlib.Path):
    if not _is_zip(path):
        raise DataError(f"{path}: is no .npz file, or is cut short")
    try:
        with np.load(path, allow_pickle=False) as file:
            key = "x" if "x" in file else "x_physical"
            lacking = [name for name in (key, "y") if name not in file]
            if lacking:
                there = ", ".join(file) or "nothing"
                raise DataError(f"{path}: has no array {' and no array '.join(lacking)}; it holds {there}, but must hold x and y")
            arrays = {name: file[name] for name in (key, "y", "classes", "feature_names") if name in file}
    except DataError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{path}: an array in it cannot be read ({error})") from None
    names = {}
    for name in ("classes", "feature_names"):
        array = arrays.get(name)
        if array is not None and (array.ndim != 1 or array.dtype.kind not in "US"):
            raise DataError(f"{path}: {name} has type {array.dtype} and shape {array.shape}, but must be a list of text")
        names[name] = None if array is None else tuple(str(text) for text in array.astype(np.str_))
    return {"x": arrays[key], "y": arrays["y"], **names}


def _is_zip(path: pathlib.Path) -> bool:
    try:
        with path.open("rb") as file:
            return zipfile.is_zipfile(file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
