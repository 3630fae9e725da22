"""Arrays that may be larger than memory: filled block by block, in memory or in a file without a name, and read a part at a time.

An array "in a file" is a `numpy.memmap`, of a file of the user or of a scratch file. A scratch file has no name, so that nothing of it is
left whenever and however the process ends. It lies in the folder for temporary files, which ``TMPDIR`` chooses.
"""

import errno
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hgqjax.archives import ArchiveError, in_words
from hgqjax.errors import first_line

BLOCK_BYTES = 1 << 24
"""Of an array that is handled at a time."""
_ALIGNMENT = 64
"""Bytes: arrays at such addresses are shared by XLA's CPU devices, others copied."""
_PAGE = 4096


def is_in_file(x: object) -> bool:
    """Whether the array `x` lies in a file and not in memory.

    >>> is_in_file(empty((2, 3), np.float32)), is_in_file(empty((2, 3), np.float32, in_file=True))
    (False, True)
    """
    return isinstance(x, np.memmap)


def empty(shape: tuple[int, ...], dtype: Any, in_file: bool = False) -> np.ndarray:
    """An array without values, in memory or in a scratch file.

    Raises: ArchiveError where the folder for temporary files has no room for it.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if not in_file or not size:
        memory = np.empty(size + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        return memory[start : start + size].view(dtype).reshape(shape)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    try:
        if size > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is told now, and does not kill the process when it writes
            return np.memmap(file, dtype, "r+", shape=shape)
    except (OSError, ValueError) as error:
        made = f"a scratch file of {in_words(size)} cannot be made in {folder}, which has {in_words(free)} free"
        why = getattr(error, "strerror", None) or first_line(error)
        raise ArchiveError(f"{made} ({why}); TMPDIR names another folder") from None


def filled(shape: tuple[int, ...], dtype: Any, values: Callable[[slice], np.ndarray], in_file: bool = False) -> np.ndarray:
    """An array of this shape whose rows `values` gives, for one range of rows after the other.

    >>> filled((3, 1), np.float32, lambda rows: np.arange(3)[rows, None]).ravel().tolist()
    [0.0, 1.0, 2.0]
    """
    found = empty(shape, dtype, in_file)
    for rows in blocks(found):
        found[rows] = values(rows)
        release(found)
    return found


def blocks(x: np.ndarray, size: int | None = None) -> Iterator[slice]:
    """Ranges of rows of `x` that are `BLOCK_BYTES`, or `size`, together.

    >>> list(blocks(np.zeros((5, 2), np.float32), 16))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, (BLOCK_BYTES if size is None else size) // max(1, x.dtype.itemsize * math.prod(x.shape[1:])))
    for start in range(0, len(x), step):
        yield slice(start, min(start + step, len(x)))


def take(x: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
    """The `rows` of `x`, as ``x[rows]``, in memory; from a file they are read in the order in which they lie there.

    >>> take(np.arange(4) * 10, np.array([3, 1])).tolist()
    [30, 10]
    """
    if not is_in_file(x):
        return x[rows]
    if isinstance(rows, slice):
        found = empty((len(range(*rows.indices(len(x)))), *x.shape[1:]), x.dtype)
        found[:] = x[rows]
        release(x)
        return found
    found, order = empty((len(rows), *x.shape[1:]), x.dtype), np.argsort(rows, kind="stable")
    step = max(1, BLOCK_BYTES // max(_PAGE, x.dtype.itemsize * math.prod(x.shape[1:])))  # a row touches a page, at least
    for start in range(0, len(rows), step):
        part = order[start : start + step]
        found[part] = x[rows[part]]
        release(x)
    return found


def take_all(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """As `take`; the result lies in a scratch file where `x` lies in a file."""
    if not is_in_file(x):
        return x[rows]
    return filled((len(rows), *x.shape[1:]), x.dtype, lambda part: take(x, rows[part]), in_file=True)


def concatenate(parts: Sequence[np.ndarray], dtype: Any = None) -> np.ndarray:
    """Rows of all `parts`, one behind the other; in a scratch file where one of them is in a file."""
    shape, dtype = (sum(map(len, parts)), *parts[0].shape[1:]), np.result_type(*parts) if dtype is None else dtype
    found, start = empty(shape, dtype, any(map(is_in_file, parts))), 0
    for part in parts:
        for rows in blocks(part):
            found[start + rows.start : start + rows.stop] = part[rows]
            release(found, part)
        start += len(part)
    return found


def release(*arrays: Any) -> None:
    """Lets go of the memory that pages of arrays in files take in this process; their values stay. Other arrays are left alone."""
    for x in arrays:
        mapped = getattr(x, "_mmap", None) if is_in_file(x) else None
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
