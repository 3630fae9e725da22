"""Rows of your own: arrays in an .npz or .h5 file, or a table in any of the formats below."""

import math
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from hgqjax import scratch
from hgqjax.archives import DAMAGED, ArchiveError, Npz, check_memory, fits, npy_header, read_npy
from hgqjax.data import hdf5, root
from hgqjax.data.column import streamed
from hgqjax.data.columns import Columns
from hgqjax.data.dataset import DataError
from hgqjax.data.named_arrays import of_arrays, table_of
from hgqjax.data.rows import Rows, make_rows, sha256_of
from hgqjax.data.tables import Table, choose, read_table
from hgqjax.errors import first_line

TABLES = (".arff", ".csv", ".tsv", ".txt", ".parquet")
SUFFIXES = (*TABLES, ".npz", ".npy", ".h5", ".hdf5", ".root")


def read(path: str | os.PathLike[str], columns: Columns = Columns()) -> Rows:
    """All rows of one file, unscaled.

    An .npz file, or the datasets of an .h5 file, hold

    * ``x`` (or ``x_physical`` where there is no ``x``): numbers, (rows, features) or (rows, ...);
    * ``y``: (rows,) or (rows, n), see :func:`hgqjax.data.rows.make_rows`;
    * where they want, ``weight``: numbers, (rows,); ``classes``, ``feature_names`` and ``target_names``: text; ``unit``: one text, where
      ``y`` are numbers to be found by regression.

    Or they hold ``x_train``, ``y_train``, ``x_test``, ``y_test``, and so on. Images, uint8 of shape (rows, height, width, colours), are
    divided by 256, other rows are scaled by mean and deviation. Packed muon hits are read too (:func:`hgqjax.data.muon.unpacked`). Where
    there is no ``x``, arrays of shape (rows,) are the columns of a table. For tables see :mod:`hgqjax.data.tables`, for their .h5 and
    .root files :mod:`hgqjax.data.hdf5` and :mod:`hgqjax.data.root`.

    Args:
      path: of a file that ends in one of ``SUFFIXES``.
      columns: what its columns or arrays are.

    Raises: DataError.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "mydata.npz")
    >>> np.savez(path, x=[[0.5, 1.0], [1.5, 2.0]], y=["signal", "noise"])
    >>> rows = read(path)
    >>> rows.name, rows.classes, rows.y.tolist()
    ('arrays mydata.npz', ('noise', 'signal'), [1, 0])
    """
    path = pathlib.Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: files that end in {path.suffix or 'nothing'} cannot be read; {', '.join(SUFFIXES)} can")
    if columns.table and suffix not in (".h5", ".hdf5", ".root"):
        raise DataError(f"{path}: table {columns.table!r} is for .h5 and .root files; others have one table")
    if not path.is_file():
        raise DataError(f"{path}: {'is not a file' if path.exists() else 'there is no such file'}")
    try:
        found, sha256 = _found(path, suffix, columns), sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if isinstance(found, Rows):
        return found
    if isinstance(found, Table):
        found = choose(found, columns.flat(), str(path))
    about: dict[str, Any] = {"name": name_of(path), "source": f"The file {path.name}, given by its path.", "sha256": sha256}
    return make_rows(where=str(path), **about | found)


def name_of(path: pathlib.Path) -> str:
    """What results on the rows of a file are labelled with."""
    return f"arrays {path.name}"


def _found(path: pathlib.Path, suffix: str, columns: Columns) -> Rows | Table | dict[str, Any]:
    """A table, or the arguments of ``make_rows``."""
    if suffix in TABLES:
        return read_table(path)
    if suffix == ".npz":
        return of_arrays(_NpzSource(path), columns)
    if suffix == ".npy":
        return _npy(path)
    if suffix == ".root":
        return root.read(path, columns.flat())
    return hdf5.read(path, columns)


def read_npz(path: pathlib.Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays ``names`` of an .npz file, those that there are.

    Raises: DataError where it cannot be read.
    """
    source = _NpzSource(path)
    return source.read(name for name in names if name in source.shapes)


class _NpzSource:
    """Arrays by name: their shapes, and a way to read some of them."""

    def __init__(self, path: pathlib.Path):
        self.where = str(path)
        try:
            self._npz = Npz(path)
            self.shapes = {name: (shape, dtype) for name, (shape, dtype, _) in self._npz.headers(self._npz.names).items()}
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        except ArchiveError as error:
            raise DataError(f"{path}: {error}") from None

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The arrays; where memory has no room for them, those of numbers are unpacked into scratch files."""
        names = tuple(names)
        try:
            sizes = {name: size for name, (_, _, size) in self._npz.headers(names).items()}
            if not streamed(sum(sizes.values()), pathlib.Path(self.where).stat().st_size, "all of its arrays together"):
                return self._npz.read(names, copies=3)
            return {name: self._unpacked(name) for name in names}
        except (*DAMAGED, RecursionError) as error:
            raise DataError(f"{self.where}: {error}") from None

    def _unpacked(self, name: str) -> np.ndarray:
        """An array of numbers in a scratch file, where it lies row by row."""
        with self._npz.opened(name) as file:
            start = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if start == (1, 0) else np.lib.format.read_array_header_2_0
            shape, is_fortran, dtype = header(file)
            if not shape or is_fortran or not _is_plain(dtype):
                return self._npz.read([name], copies=3)[name]
            width = dtype.itemsize * math.prod(shape[1:])

            def values(rows: slice) -> np.ndarray:
                return np.frombuffer(file.read(width * (rows.stop - rows.start)), dtype).reshape(-1, *shape[1:])

            return scratch.filled(shape, dtype, values, in_file=True)


def _is_plain(dtype: np.dtype) -> bool:
    """Whether values of this type are numbers, or records of numbers, which any bytes are."""
    if dtype.names is not None:
        return all(_is_plain(dtype[name]) for name in dtype.names)
    return dtype.kind in "biuf"


def _npy(path: pathlib.Path) -> Table:
    """A structured array, whose fields have names, or columns c0, c1, ... of a plain one; the label is found as in other tables."""
    try:
        with path.open("rb") as file:
            shape, dtype, size = npy_header(file)
            held = path.stat().st_size - file.tell()
            if size != held:
                raise ArchiveError(f"its header claims the shape {shape} of {dtype}, but {held} bytes follow")
            if not fits(size) and _is_plain(dtype):
                return table_of(np.lib.format.open_memmap(path, "r"), str(path))
            check_memory(size, f"its array of shape {shape}")
            file.seek(0)
            array = read_npy(file)
    except (*DAMAGED, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as .npy ({first_line(error)})") from None
    return table_of(array, str(path))
