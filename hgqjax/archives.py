"""Files of strangers: what their headers claim is compared with what they hold, and with memory, before anything is allocated."""

import ast
import contextlib
import contextvars
import io
import json
import lzma
import math
import os
import re
import resource
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from hgqjax.errors import first_line

_MAGIC, _HEADER_LIMIT = b"\x93NUMPY", 1 << 16
_JSON_LIMIT = 1 << 28
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
DAMAGED = (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, NotImplementedError, RuntimeError, OverflowError, MemoryError)
"""What the libraries raise that read files, where a file is not what it seems."""
DAMAGED += (AttributeError, SyntaxError, AssertionError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)


class ArchiveError(ValueError):
    """A file that claims what it cannot hold, or what memory cannot hold: one sentence without the file's name."""


def in_words(size: int) -> str:
    """A number of bytes for people.

    >>> in_words(16 * 10**13), in_words(12)
    ('160 TB', '12 bytes')
    """
    power = min((len(str(size)) - 1) // 3, len(_UNITS) - 1)
    return f"{size / 1000**power:.3g} {_UNITS[power]}"


_limit: contextvars.ContextVar[int | None] = contextvars.ContextVar("memory limit", default=None)


@contextlib.contextmanager
def limited(memory: int | None) -> Iterator[None]:
    """Within the block `available_memory` is at most `memory` bytes; None changes nothing.

    >>> with limited(10**6):
    ...     fits(400_000), fits(200_000)
    (False, True)
    """
    token = _limit.set(_limit.get() if memory is None else memory)
    try:
        yield
    finally:
        _limit.reset(token)


def bytes_of(text: str) -> int:
    """The reverse of `in_words`. Raises: ValueError.

    >>> bytes_of("1.5 GB"), bytes_of("800MB")
    (1500000000, 800000000)
    """
    found = re.fullmatch(r"\s*([0-9.]{1,20})\s*([A-Za-z]{0,5})\s*", text)
    try:
        number, unit = found.groups() if found else ("", "")
        return int(float(number) * 1000 ** [name.lower() for name in _UNITS].index(unit.lower() or "bytes"))
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no amount of memory; a number and one of {', '.join(_UNITS)} is, such as 8GB") from None


def available_memory() -> int:
    """Bytes that this process can still take: of the machine, its control group, its own limit (``ulimit -v``), and that of `limited`."""
    found = [] if (given := _limit.get()) is None else [given]
    found += [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    found += [1024 * int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemAvailable:")]
    most, used = (_lines(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if most and used and most[0].isdigit():
        found.append(int(most[0]) - int(used[0]))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        mapped = [int(line.split()[0]) * os.sysconf("SC_PAGE_SIZE") for line in _lines("/proc/self/statm")]
        found.append(limit - (mapped[0] if mapped else 0))
    return max(min(found), 0)


def fits(size: int, copies: int = 3) -> bool:
    """Whether memory has room for ``copies`` times ``size`` bytes (read, as one table, scaled)."""
    return copies * size <= available_memory()


def check_memory(size: int, what: str, copies: int = 3) -> None:
    """Raises ArchiveError where ``copies`` times ``size`` bytes (read, as one table, scaled) are more than memory has free."""
    free = available_memory()
    if copies * size > free:
        times = f" {copies} times that is needed and" if copies > 1 else ""
        raise ArchiveError(f"{what} takes {in_words(size)} in memory;{times} {in_words(free)} are free")


def npy_header(file: io.BufferedIOBase | IO[bytes]) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, type and bytes of the values of an .npy file, of which the header alone is read.

    Raises: ArchiveError where it is none, or holds Python objects.

    >>> buffer = io.BytesIO()
    >>> np.save(buffer, np.zeros((2, 3), np.float32))
    >>> npy_header(io.BytesIO(buffer.getvalue()))
    ((2, 3), dtype('float32'), 24)
    """
    start = file.read(8)
    if start[:6] != _MAGIC or len(start) < 8 or start[6] not in (1, 2, 3):
        raise ArchiveError("it is no array in numpy's format")
    kind = "<H" if start[6] == 1 else "<I"
    (length,) = struct.unpack(kind, file.read(struct.calcsize(kind)))
    if length > _HEADER_LIMIT:
        raise ArchiveError(f"its header claims {in_words(length)}; {in_words(_HEADER_LIMIT)} are legal")
    head = ast.literal_eval(file.read(length).decode("latin1" if start[6] < 3 else "utf-8").strip())
    shape, dtype = head["shape"], np.lib.format.descr_to_dtype(head["descr"])
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
        raise ArchiveError(f"its header has the shape {str(shape)[:80]}")
    if dtype.hasobject or dtype.itemsize == 0:
        raise ArchiveError(f"it holds values of type {str(dtype)[:80]}; numbers and text are legal (no allow_pickle)")
    return shape, dtype, math.prod(shape) * dtype.itemsize


def read_npy(file: io.BufferedIOBase | IO[bytes]) -> np.ndarray:
    """The array of an .npy file whose size was checked.

    Raises: ArchiveError where its text is none, which Python must not see; else as numpy.
    """
    array = np.lib.format.read_array(file, allow_pickle=False, max_header_size=_HEADER_LIMIT)
    fields = [array[name] for name in array.dtype.names] if array.dtype.names else [array]
    for text in fields:
        codes = np.ascontiguousarray(text).view(np.dtype(np.uint32).newbyteorder(text.dtype.byteorder)) if text.dtype.kind == "U" else []
        if np.any(np.greater(codes, 0x10FFFF)):
            raise ArchiveError("it holds text with signs that are none")
    return array


class Npz:
    """The arrays of an .npz file, each read only when it is asked for and only where it is as large as its header says.

    Args: source: the path, or the content.
    Raises: ArchiveError where it is no archive or cut short, here; where an array is not what its header claims or too large, in `read`.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes):
        self._source = source if isinstance(source, bytes) else Path(source)
        with self._open() as archive:
            names = [info.filename for info in archive.infolist()]
        self.names = tuple(name.removesuffix(".npy") for name in names)
        self._members = dict(zip(self.names, names, strict=True))
        if len(self._members) < len(names):
            raise ArchiveError("two of its arrays have the same name")

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source)
        except OSError:
            raise
        except DAMAGED:
            raise ArchiveError("is no .npz file, or is cut short") from None

    def headers(self, names: Iterable[str]) -> dict[str, tuple[tuple[int, ...], np.dtype, int]]:
        """Shape, type and bytes of the arrays ``names``."""
        with self._open() as archive:
            return {name: self._header(archive, name) for name in names}

    def read(self, names: Iterable[str], copies: int = 1) -> dict[str, np.ndarray]:
        """The arrays ``names``, where memory has room for ``copies`` of all."""
        names = tuple(names)
        headers = self.headers(names)
        check_memory(sum(size for _, _, size in headers.values()), "all of its arrays together", copies)
        with self._open() as archive:
            return {name: self._array(archive, name) for name in names}

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """The .npy file of an array, to be read from its start to its end."""
        with self._open() as archive, archive.open(self._members[name]) as file:
            yield file

    def _header(self, archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype, int]:
        info = archive.getinfo(self._members[name])
        try:
            with archive.open(info) as file:
                shape, dtype, size = npy_header(file)
                held = info.file_size - file.tell()
        except (*DAMAGED, RecursionError) as error:
            raise ArchiveError(f"an array in it cannot be read ({name[:80]}: {first_line(error)})") from None
        if size != held:
            claim = f"claims the shape {shape} of {dtype}, {in_words(size)}"
            raise ArchiveError(f"an array in it cannot be read ({name[:80]}: its header {claim}, but {in_words(held)} follow)")
        return shape, dtype, size

    def _array(self, archive: zipfile.ZipFile, name: str) -> np.ndarray:
        try:
            with archive.open(self._members[name]) as file:
                return read_npy(file)
        except (*DAMAGED, RecursionError) as error:
            raise ArchiveError(f"an array in it cannot be read ({name[:80]}: {first_line(error)})") from None


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises: ArchiveError where it is none, is nested too deeply, or is too large.

    >>> read_json("[" * 100_000)
    Traceback (most recent call last):
    hgqjax.archives.ArchiveError: is JSON that is nested too deeply
    """
    if len(text) > _JSON_LIMIT:
        raise ArchiveError(f"has more than {in_words(_JSON_LIMIT)} of JSON")
    try:
        return json.loads(text)
    except RecursionError:
        raise ArchiveError("is JSON that is nested too deeply") from None
    except ValueError as error:
        raise ArchiveError(f"is no JSON ({error})") from None


def read_json_file(path: str | os.PathLike[str]) -> Any:
    """The value of a JSON file, of which no more is read than is legal. Raises: as `read_json`; OSError where it cannot be read."""
    with open(path, "rb") as file:
        return read_json(file.read(_JSON_LIMIT + 1))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
