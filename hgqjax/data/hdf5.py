"""Rows in .h5 files: arrays x and y, a table with named columns, or hits of muons."""

import json
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from hgqjax import processes, scratch
from hgqjax.archives import ArchiveError, available_memory, check_memory, in_words
from hgqjax.data import muon
from hgqjax.data.column import streamed
from hgqjax.data.columns import Columns, known, listed
from hgqjax.data.dataset import DataError
from hgqjax.data.named_arrays import columns_of, of_arrays, several_arrays, table_of
from hgqjax.data.rows import Rows
from hgqjax.data.tables import Table
from hgqjax.errors import first_line

_MOST = 1000
"""Datasets that a file may have."""
_TEXT_SECONDS, _TEXT_ROOM = 60.0, 1 << 29
"""What reading text of any length may take: seconds, and bytes of memory besides eight times the size of the file."""
_TEXTS = """
import json, resource, sys
import h5py, numpy
path, name, field, room = sys.argv[1:]
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 1 << 40
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
limit = mapped + int(room)
resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
with h5py.File(path, "r") as file:
    values = file[name].fields(field)[()] if field else file[name][()]
    print(json.dumps([text.decode() for text in numpy.ravel(values)]))
"""


def read(path: pathlib.Path, columns: Columns = Columns()) -> Rows | Table | dict[str, Any]:
    """What an .h5 file holds, in the first of these ways that fits.

    * ``X`` (rows, 7, 50) and ``Y``: hits of muons, :func:`hgqjax.data.muon.of_hits`;
    * ``x`` and ``y``, or ``X`` and ``Y``, and what an .npz has besides them: :func:`hgqjax.data.named_arrays.of_arrays`;
    * a table: a dataset of records with named fields, or one of shape (rows, columns) beside a list of as many names, as the public sets of
      jets have (``jets`` and ``jetFeatureNames``); ``columns.table`` says which, where there are several;
    * datasets of shape (rows,), all of one length: columns of a table.

    Reading needs h5py (``hgqjax[interop]``). Data in other files (external storage, virtual datasets) is refused.
    Raises: DataError where it cannot be read, or holds none of these.
    """
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path}: reading {path.suffix} files needs h5py; pip install 'hgqjax[interop]'") from None
    try:
        with h5py.File(path, "r") as file:
            return _read(_Source(path, file, h5py), columns)
    except DataError:
        raise
    except Exception as error:  # whatever the library makes of a damaged file
        raise DataError(f"{path}: cannot be read as HDF5 ({first_line(error)})") from None


class _Source:
    """The datasets of an open file by their paths, as `named_arrays.of_arrays` takes them."""

    def __init__(self, path: pathlib.Path, file, h5py):
        self.path, self.where, self._h5py, self._sets = path, str(path), h5py, {}

        def visit(name, found):
            if isinstance(found, h5py.Dataset):
                self._sets[name] = found
            return len(self._sets) > _MOST or None

        if file.visititems(visit):
            raise DataError(f"{path}: holds more than {_MOST} datasets; name a file with fewer")
        self.shapes = {name: (found.shape, found.dtype) for name, found in self._sets.items() if found.shape is not None}

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The datasets `names`, text as text; where memory has no room for them, those of numbers stay in files."""
        names = tuple(names)
        sizes = [int(np.prod(self.shapes[name][0], dtype=object)) * max(self.shapes[name][1].itemsize, 1) for name in names]
        try:
            held = sum(self._sets[name].id.get_storage_size() for name in names)
            in_file = streamed(sum(sizes), held, f"what it holds in {listed(names)}")
            return {name: self._values(name, in_file) for name in names}
        except ArchiveError as error:
            raise DataError(f"{self.path}: {error}") from None

    def _values(self, name: str, in_file: bool) -> np.ndarray:
        found = self._sets[name]
        if found.external or found.is_virtual:
            raise DataError(f"{self.path}: dataset {name!r} lies in other files, which are not read; copy it into one file")
        text = self._h5py.check_string_dtype(found.dtype)
        if text is not None and text.length is None:
            return self._text_of_any_length(name)
        if text is not None:
            return np.array(found.asstr()[()], np.str_)
        if found.dtype.hasobject and found.dtype.names is not None:
            return self._records_with_text(name)
        if found.dtype.hasobject:
            raise DataError(f"{self.path}: dataset {name!r} holds {found.dtype}, but must hold numbers or text")
        if not (in_file and found.shape and found.dtype.kind in "biufV"):
            return np.asarray(found[()])
        offset = found.id.get_offset()
        if offset is not None:  # it lies in one piece, as numpy has it
            return np.memmap(self.path, found.dtype, "r", offset, found.shape)
        return scratch.filled(found.shape, found.dtype, lambda rows: found[rows], in_file=True)

    def _records_with_text(self, name: str) -> np.ndarray:
        """Records of which some fields are text of any length."""
        found = self._sets[name]
        kinds = {field: found.dtype[field] for field in found.dtype.names}
        columns = {}
        for field in [field for field, kind in kinds.items() if kind.hasobject]:
            if self._h5py.check_string_dtype(kinds[field]) is None:
                raise DataError(f"{self.path}: field {field!r} of dataset {name!r} holds {kinds[field]}, but must hold numbers or text")
            columns[field] = self._text_of_any_length(name, field)
            kinds[field] = columns[field].dtype
        if numbers := [field for field in kinds if field not in columns]:
            plain = found.fields(numbers)[()]
            columns |= {field: plain[field] for field in numbers}
        whole = np.empty(found.shape, list(kinds.items()))
        for field, values in columns.items():
            whole[field] = values
        return whole

    def _text_of_any_length(self, name: str, field: str = "") -> np.ndarray:
        """Text that lies in the heap of the file. Where that is damaged, the HDF5 library may go round in it for ever, or allocate what a
        length in it claims: so it does that in a process of its own, which has limits of time and memory."""
        what = f"{self.path}: the text in dataset {name!r}" + (f", field {field!r}," if field else "")
        room = _TEXT_ROOM + min(8 * self.path.stat().st_size, available_memory())
        argv = [sys.executable, "-c", _TEXTS, str(self.path), name, field, str(room)]
        try:
            code, said = processes.run(argv, seconds=_TEXT_SECONDS)
        except TimeoutError:
            raise DataError(f"{what} could not be read in {_TEXT_SECONDS:g} s; is it damaged?") from None
        if code:
            reason = (said.strip().splitlines() or [f"code {code}"])[-1][:200]
            if "MemoryError" in said or "memory allocation" in said:
                reason = f"it takes more than {in_words(room)} of memory; is it damaged?"
            raise DataError(f"{what} cannot be read ({reason})")
        texts = json.loads(said.splitlines()[-1])
        longest = max(map(len, texts), default=0)
        check_memory(4 * len(texts) * longest, f"text of up to {longest} letters in {len(texts)} rows of dataset {name!r}", copies=1)
        return np.array(texts, np.str_).reshape(self.shapes[name][0])


def _read(source: _Source, columns: Columns) -> Rows | Table | dict[str, Any]:
    shapes, where = source.shapes, source.where
    if muon.is_hits(shapes.get("X", ((), None))[0]) and "Y" in shapes and not columns.given:
        found = source.read(["X", "Y"])
        return muon.of_hits(found["X"], found["Y"], source.path)
    if several_arrays(source, columns):
        return of_arrays(source, columns)
    columns = columns.flat()
    if not columns.table and ({"x", "X", "x_train"} & set(shapes)):
        return of_arrays(source, columns)
    if tables := _tables(source):
        name = known(columns.table, tables, where, "table") if columns.table else next(iter(tables))
        if len(tables) > 1 and not columns.table:
            raise DataError(f"{where}: holds the tables {listed(tables)}; name one with --table")
        labels = tables[name]
        names = tuple(str(n) for n in source.read([labels])[labels]) if labels else None
        return table_of(source.read([name])[name], where, names)
    if table := columns_of(source):
        return table
    if columns.features and columns.target:
        return of_arrays(source, columns)
    raise DataError(
        f"{where}: holds {listed(shapes)}, but an .h5 file is read that has x and y, a table with named columns "
        "(records, or (rows, columns) beside a list of as many names), or columns of one length"
    )


def _tables(source: _Source) -> dict[str, str | None]:
    """Datasets that are tables, each with the dataset of its names; None where its fields have names."""
    found: dict[str, str | None] = {}
    for name, (shape, dtype) in source.shapes.items():
        if dtype.names is not None and len(shape) == 1:
            found[name] = None
        elif len(shape) == 2 and dtype.kind in "biuf" and shape[1] > 1:
            names = [n for n, (s, d) in source.shapes.items() if s == (shape[1],) and d.kind in "OSU"]
            near = [n for n in names if n.split("/")[-1].lower().startswith(name.split("/")[-1].lower().rstrip("s"))]
            if len(names) == 1 or len(near) == 1:
                found[name] = names[0] if len(names) == 1 else near[0]
    return found
