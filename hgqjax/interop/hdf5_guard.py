"""HDF5 files of strangers, opened with care.

Text of attributes lies in global heaps, in which the HDF5 library may go round for ever where they are damaged. And it allocates the length
that a file claims for a text before it compares it with anything.

The layout is that of the HDF5 file format specification, version 3.0, section III.E (Global Heap): a collection is the signature ``GCOL``,
version 1, three bytes, its size in 8 bytes, and then objects: an index (2 bytes), a count (2), 4 bytes, a size (8) and the content,
filled up to a multiple of 8. The object of index 0 is free space, and its size counts its own header.
"""

import contextlib
import io
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hgqjax.archives import ArchiveError

HDF5 = b"\x89HDF\r\n\x1a\n"
"""How an HDF5 file begins."""
_SIGNATURE = b"GCOL\x01"
"""The library looks at no more of it."""
_HEADER = 16
"""Bytes of the header of a collection, and of that of an object."""
_ROOM = 1 << 29
"""Bytes that reading may take besides a few times the size of the file."""
_lock = threading.Lock()


@contextlib.contextmanager
def opened(raw: bytes) -> Iterator[Any]:
    """The HDF5 file `raw`, open; until it is closed, this process may take 512 MiB and four times the size of `raw`.

    Raises: ArchiveError where a heap is damaged, `check_heaps`; ImportError without h5py; whatever h5py raises.
    """
    try:
        import h5py
    except ImportError:
        raise ImportError("reading .keras and .h5 files needs h5py; pip install 'hgqjax[interop]'") from None
    check_heaps(raw)
    with _limited(_ROOM + 4 * len(raw)), h5py.File(io.BytesIO(raw), "r") as file:
        yield file


def has_attribute(path: Path, name: str) -> bool:
    """Whether `path` is an HDF5 file with this attribute; its text, which may lie in a damaged heap, is not read.

    >>> has_attribute(Path(__file__), "model_config")
    False
    """
    with path.open("rb") as file:
        if file.read(len(HDF5)) != HDF5:
            return False
    try:
        import h5py

        with _limited(_ROOM), h5py.File(path, "r") as file:
            return name in file.attrs
    except (ImportError, OSError, RuntimeError, ValueError, KeyError, MemoryError):
        return False


@contextlib.contextmanager
def _limited(room: int) -> Iterator[None]:
    """Lets the whole process map `room` bytes more; where the system tells no sizes, nothing is limited."""
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        try:
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        except OSError:
            yield
            return
        limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min([mapped + room, *limits]), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def check_heaps(raw: bytes) -> None:
    """Raises ArchiveError where a global heap in the HDF5 file `raw` claims more than it has, or would be walked for ever.

    >>> sound = b"GCOL" + bytes([1, 0, 0, 0]) + (48).to_bytes(8, "little") + bytes([1, 0, 1, 0]) + bytes(4) + (3).to_bytes(8, "little")
    >>> check_heaps(sound + b"abc" + bytes(13))
    >>> check_heaps(sound[:8] + (10**6).to_bytes(8, "little") + sound[16:])
    Traceback (most recent call last):
    hgqjax.archives.ArchiveError: the heap of text at byte 0 claims 1000000 bytes, but the file ends after 32
    """
    start, objects = raw.find(_SIGNATURE), 0
    while start >= 0:
        objects += _check(raw, start)
        if objects * _HEADER > len(raw):  # those of heaps that lie beside each other have a header each
            raise ArchiveError(f"the heap of text at byte {start} lies inside of others")
        start = raw.find(_SIGNATURE, start + 1)


def _check(raw: bytes, start: int) -> int:
    """Number of objects in the heap at byte `start`."""
    size = int.from_bytes(raw[start + 8 : start + _HEADER], "little")
    if start + size > len(raw):
        raise ArchiveError(f"the heap of text at byte {start} claims {size} bytes, but the file ends after {len(raw) - start}")
    at, end, seen = start + _HEADER, start + size, set()
    while end - at >= _HEADER:
        index, held = int.from_bytes(raw[at : at + 2], "little"), int.from_bytes(raw[at + 8 : at + _HEADER], "little")
        taken = held if index == 0 else _HEADER + -(-held // 8) * 8
        if taken < _HEADER or at + taken > end or index in seen:
            raise ArchiveError(f"object {index} in the heap of text at byte {start} is damaged")
        seen.add(index)
        at += taken
    return len(seen)
