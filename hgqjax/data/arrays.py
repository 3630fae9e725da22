"""Rows of your own: an .npz with arrays, or a table in a .csv, .parquet or .arff file."""

import os
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from hgqjax.data import muon
from hgqjax.data.dataset import DataError, pixel_scaler
from hgqjax.data.rows import Rows, make_rows, sha256_of
from hgqjax.data.tables import read_table

SUFFIXES = (".arff", ".csv", ".npz", ".parquet")
_ARRAYS = ("x", "x_physical", "y", "classes", "feature_names", "unit", "x_packed", "splits")


def read(path: str | os.PathLike[str]) -> Rows:
    """All rows of one file, unscaled.

    An .npz file holds ``x`` (or ``x_physical`` where there is no ``x``): numbers, (rows, features) or (rows, ...); ``y``: (rows,),
    whole numbers from 0 or text; and may hold ``classes`` and ``feature_names``, text. Where it holds ``unit``, one text, ``y`` are
    numbers in that unit, to be found by regression. Images, uint8 of shape (rows, height, width, colours), are divided by 256, other rows
    are scaled by mean and deviation. Packed muon hits are read too (:func:`hgqjax.data.muon.unpacked`). For tables see
    :mod:`hgqjax.data.tables`.

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
    found = _fields(read_npz(path), path) if path.suffix.lower() == ".npz" else read_table(path)
    about = {"name": f"arrays {path.name}", "source": f"The file {path.name}, given by its path.", "sha256": sha256_of(path)}
    return make_rows(where=str(path), **about | found)


def read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that have a meaning here.

    Raises: DataError where it cannot be read.
    """
    if not _is_zip(path):
        raise DataError(f"{path}: is no .npz file, or is cut short")
    try:
        with np.load(path, allow_pickle=False) as file:
            lacking = [name for name in (_x_key(file), "y") if name not in file]
            if lacking:
                there = ", ".join(file) or "nothing"
                raise DataError(f"{path}: has no array {' and no array '.join(lacking)}; it holds {there}, but must hold x and y")
            ignored = {"x", "x_physical", "x_packed"} - {_x_key(file)}
            return {name: file[name] for name in _ARRAYS if name in file and name not in ignored}
    except DataError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{path}: an array in it cannot be read ({error})") from None


def _x_key(file) -> str:
    return next((name for name in ("x", "x_packed") if name in file), "x_physical")


def _fields(arrays: dict[str, np.ndarray], path: pathlib.Path) -> dict[str, Any]:
    """Arguments of ``make_rows``."""
    if "x_packed" in arrays:
        return muon.unpacked(arrays, str(path))
    names = {}
    for name in ("classes", "feature_names"):
        array = arrays.get(name)
        if array is not None and (array.ndim != 1 or array.dtype.kind not in "US"):
            raise DataError(f"{path}: {name} has type {array.dtype} and shape {array.shape}, but must be a list of text")
        names[name] = None if array is None else tuple(str(text) for text in array.astype(np.str_))
    unit = arrays.get("unit")
    if unit is not None and (unit.shape != () or unit.dtype.kind not in "US"):
        raise DataError(f"{path}: unit has type {unit.dtype} and shape {unit.shape}, but must be one text, such as 'mrad'")
    if unit is not None and names["classes"] is not None:
        raise DataError(f"{path}: holds both unit, for a regression, and classes, for a classification; leave one of them out")
    x = arrays["x"] if "x" in arrays else arrays["x_physical"]
    scaler = pixel_scaler(x.shape[1:]) if x.dtype == np.uint8 and x.ndim == 4 else None
    return {"x": x, "y": arrays["y"], "scaler": scaler, "unit": None if unit is None else str(unit.astype(np.str_)), **names}


def _is_zip(path: pathlib.Path) -> bool:
    try:
        with path.open("rb") as file:
            return zipfile.is_zipfile(file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
