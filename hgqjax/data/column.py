"""Columns that stay in their file: what a table too large for memory is made of."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hgqjax.archives import ArchiveError, check_memory, fits, in_words
from hgqjax.data.dataset import DataError
from hgqjax.errors import first_line

MOST_PACKED = 100
"""How many times larger than its file the content of a packed file may be, to be unpacked into scratch files."""


class Column:
    """A column (rows,) of a file, of which ``column[start:stop]`` reads a part, and ``np.asarray(column)`` all.

    Args:
      where: what errors call the file. name: of the column. dtype, length: of the whole.
      read: the values from a row to another one.

    >>> column = Column("t.npy", "a", np.dtype(np.int64), 4, lambda start, stop: np.arange(start, stop))
    >>> len(column), column[1:3].tolist(), np.asarray(column).tolist()
    (4, [1, 2], [0, 1, 2, 3])
    """

    def __init__(self, where: str, name: str, dtype: np.dtype, length: int, read: Callable[[int, int], Any]):
        self.where, self.name, self.dtype, self._length, self._read = where, name, dtype, length, read

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self._length)
        try:
            found = np.asarray(self._read(start, stop))
        except DataError:
            raise
        except BaseException as error:  # whatever the library makes of a damaged file; polars has panics that are no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            reason = f"{self.where}: column {self.name!r} cannot be read from row {start} to {stop} ({first_line(error)})"
            raise DataError(reason) from None
        if found.shape != (stop - start,):
            raise DataError(f"{self.where}: column {self.name!r} has {found.shape} values from row {start} to {stop}")
        if found.dtype.kind == "f" and self.dtype.kind in "biu":
            first = start + int(np.isnan(found).argmax())
            raise DataError(f"{self.where}: column {self.name!r} has a missing value at index {first}; every value must be a number")
        return found

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        try:
            check_memory(max(self.dtype.itemsize, 8) * self._length, f"column {self.name!r} of {self._length} rows", copies=2)
        except ArchiveError as error:
            raise DataError(f"{self.where}: {error}; of rows in files only features are read a part at a time") from None
        found = self[:]
        return found if dtype is None else found.astype(dtype)


def streamed(size: int, held: int, what: str) -> bool:
    """Whether the content of a file, of `size` bytes, is left in files, as memory has no room for it.

    Args:
      held: bytes of the file. what: the content, for the error.

    Raises: ArchiveError where memory has no room, and the file claims to be packed more than `MOST_PACKED` times.

    >>> streamed(10, 10, "a table")
    False
    """
    if fits(size):
        return False
    if size > MOST_PACKED * held:
        check_memory(size, f"{what}, packed in {in_words(held)},")
    return True
