"""New folders and files, whole or not at all; the file that makes a folder a run folder."""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MANIFEST = "manifest.json"
"""What makes a folder a run folder."""
_BLOCK = 1 << 16
"""Bytes below which a disk counts as full: what is written comes in blocks."""


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill that appears at `path` only when the block ends well; until then it has a temporary name beside it.

    Raises FileExistsError where `path` exists, and removes the temporary folder when the block fails.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already; name a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
    except BaseException as error:
        words = os.strerror(errno.ENOSPC)
        full = isinstance(error, Exception) and (_is_full(path.parent) or (isinstance(error, OSError) and words in str(error)))
        shutil.rmtree(temporary, ignore_errors=True)
        if full:  # numpy, compilers and lists of files that were not copied have words of their own for it
            raise OSError(errno.ENOSPC, words, str(path)) from error
        raise


def _is_full(folder: Path) -> bool:
    """Whether the disk of `folder` has no block left."""
    return shutil.disk_usage(folder).free < _BLOCK


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes under a temporary name in the same folder, then renames: a reader sees the old file or the new one."""
    with atomic(path) as file:
        file.write(content if isinstance(content, bytes) else content.encode())


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that replaces `path` when the block ends well; as `write_atomically`, part by part."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
