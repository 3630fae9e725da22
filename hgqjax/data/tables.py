"""Tables with one row an example: CSV, Parquet and ARFF, read by polars; and the choice of columns of any table."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from hgqjax import scratch
from hgqjax.archives import DAMAGED, ArchiveError, check_memory
from hgqjax.data import csv_file
from hgqjax.data.column import Column, streamed
from hgqjax.data.columns import FEATURES, LABELS, WEIGHTS, Columns, known, listed
from hgqjax.data.dataset import DataError
from hgqjax.data.rows import at_index
from hgqjax.errors import first_line

_ATTRIBUTE = re.compile(r"""@attribute\s+(?:'([^']*)'|"([^"]*)"|(\S+))\s+(\{.*\}|\w+)""", re.IGNORECASE)
_NUMBERS = ("numeric", "real", "integer")
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?", "-")
_PART_NAMES = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "0": 0, "1": 1, "2": 2}


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Columns by name, each (rows,): numbers, or text (an object array, None where it is missing); of a large file they stay there."""

    columns: Mapping[str, np.ndarray | Column]
    classes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Names of the classes of columns whose file lists them."""
    place: Callable[[int], str] = at_index
    """Says where in the file a row is."""
    notes: tuple[str, ...] = ()
    weight: np.ndarray | None = None
    """Weights that are no column."""
    unit: str | None = None


def read_table(path: pathlib.Path) -> Table:
    """The columns of a text table (see :mod:`hgqjax.data.csv_file`), a .parquet or an .arff file.

    Raises: DataError, with ``path`` in its sentence.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "demo.csv")
    >>> _ = path.write_text("mass,width,class\\n80.4,0.1,w\\n91.2,0.2,z\\n")
    >>> {name: column.tolist() for name, column in read_table(path).columns.items()}
    {'mass': [80.4, 91.2], 'width': [0.1, 0.2], 'class': ['w', 'z']}
    """
    try:
        import polars as pl
    except ImportError:
        raise DataError(f"{path}: reading {path.suffix} files needs polars; pip install 'hgqjax[run]'") from None
    try:
        if path.suffix.lower() == ".parquet":
            return _parquet(path, pl)
        frame, about = (_arff if path.suffix.lower() == ".arff" else _csv)(path, pl)
    except DataError:
        raise
    except ArchiveError as error:
        hint = "; as a .parquet, .npy or .h5 file it is read a part at a time" if path.suffix.lower() != ".parquet" else ""
        raise DataError(f"{path}: {error}{hint}") from None
    except (*DAMAGED, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix} ({first_line(error)})") from None
    _check_size(path, frame.height, frame.width)
    return Table({name: _array(frame[name], pl) for name in frame.columns}, **about)


def _check_size(path: pathlib.Path, rows: int, columns: int) -> None:
    if rows == 0 or columns < 2:
        raise DataError(f"{path}: holds {rows} rows of {columns} columns; one feature and one label are needed")


def choose(table: Table, columns: Columns, where: str) -> dict[str, Any]:
    """Arguments of ``make_rows``: the columns that are features, target, weight and split.

    The target is the column that ``columns`` names; failing that, the one called class, jet_type, label, target or y; failing that, the
    only column of text; failing that, the last column where it alone is not of floating-point type. Every column without another use is
    a feature. Rows of a split by name are put one part behind the other.

    Raises: DataError.

    >>> table = Table({"mass": np.array([80.0, 91.0]), "width": np.array([0.1, 0.2]), "energy": np.array([1.5, 2.5])})
    >>> found = choose(table, Columns(target=("energy",)), "demo")
    >>> found["feature_names"], found["y"].tolist()
    (('mass', 'width'), [1.5, 2.5])
    """
    names = tuple(table.columns)
    lengths = {len(column) for column in table.columns.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise DataError(
            f"{where}: its {len(names)} columns have {listed(map(str, sorted(lengths)))} rows; each needs as many, and one or more"
        )
    weight = known(columns.weight, names, where) if columns.weight else _weight_column(names, columns)
    apart = {weight, known(columns.split, names, where) if columns.split else ""}
    rest = [name for name in names if name not in apart]
    auto = columns.target == (FEATURES,) and FEATURES not in names
    if auto and columns.unit:
        raise DataError(f"{where}: unit is {columns.unit!r}, but the target is the scaled features, whose unit is a standard deviation")
    targets = () if auto else tuple(known(n, names, where) for n in columns.target) or (_label_column(table, rest, columns, where),)
    features = tuple(known(name, names, where) for name in columns.features) or tuple(name for name in rest if name not in targets)
    if twice := set(features) & {*targets, *apart}:
        raise DataError(f"{where}: column {min(twice)!r} is a feature, and target, weight or split; an autoencoder has --target features")
    if not features:
        raise DataError(f"{where}: no column is left for the features; it has {listed(names)}")
    y = None if auto else _target(table, targets, where)
    found: dict[str, Any] = {"x": _stack(table, features, np.float32, where), "y": y, "feature_names": features, "place": table.place}
    found["classes"] = table.classes.get(targets[0]) if len(targets) == 1 and columns.target_is in (None, "classes") else None
    found |= {"unit": None if auto else columns.unit or table.unit or None, "kind": columns.target_is, "target_names": targets or None}
    found |= {"weight": _stack(table, (weight,), np.float32, where)[:, 0] if weight else table.weight, "notes": table.notes}
    return _in_parts(found, table, columns.split, where) if columns.split else found


def _in_parts(found: dict[str, Any], table: Table, name: str, where: str) -> dict[str, Any]:
    """With the rows of training, validation and test one behind the other, as the column ``name`` says."""
    values = [str(value).strip().lower().removesuffix(".0") for value in np.asarray(table.columns[name]).tolist()]
    unknown = next((n for n, value in enumerate(values) if value not in _PART_NAMES), None)
    if unknown is not None:
        value = np.asarray(table.columns[name])[unknown]
        raise DataError(f"{where}: the split {str(value)[:80]!r} at {table.place(unknown)} must be train, val or test (or 0, 1, 2)")
    parts = np.array([_PART_NAMES[value] for value in values])
    sizes = np.bincount(parts, minlength=3)
    if not (sizes[0] and sizes[2]):
        raise DataError(f"{where}: column {name!r} has {sizes[0]} rows for training, {sizes[1]} for validation and {sizes[2]} for the test")
    order = np.argsort(parts, kind="stable")
    place = found["place"]
    moved = {key: scratch.take_all(found[key], order) for key in ("x", "y", "weight") if found[key] is not None}
    return found | moved | {"parts": tuple(sizes.tolist()), "place": lambda row: place(int(order[row]))}


def _stack(table: Table, names: tuple[str, ...], least: type, where: str) -> np.ndarray:
    """Columns of numbers as one array (rows, columns), of the type that holds them all; in a file where they are."""
    for name in names:
        _check_numbers(table, name, where)
    parts = [table.columns[name] for name in names]
    in_file = any(isinstance(part, Column) or scratch.is_in_file(part) for part in parts)
    try:
        stacked = scratch.empty((len(parts[0]), len(parts)), np.result_type(least, *(part.dtype for part in parts)), in_file)
    except ArchiveError as error:
        raise DataError(f"{where}: {error}") from None
    for rows in scratch.blocks(stacked):
        for n, part in enumerate(parts):
            stacked[rows, n] = part[rows]
        scratch.release(stacked, *(part for part in parts if isinstance(part, np.ndarray)))
    return stacked


def _check_numbers(table: Table, name: str, where: str) -> None:
    column = table.columns[name]
    if column.dtype.kind in "biuf":
        return
    column = np.asarray(column)
    strange = next((n for n, value in enumerate(column.tolist()) if not _is_number(value)), 0)
    value = column[strange]
    what = repr(value)[:80] if isinstance(value, str | bytes | None) else f"a {type(value).__name__}"
    raise DataError(f"{where}: column {name!r} holds {what} at {table.place(strange)}, but must hold numbers; --features may leave it out")


def _target(table: Table, names: tuple[str, ...], where: str) -> np.ndarray:
    if len(names) > 1:
        return _stack(table, names, np.bool_, where)
    name = next(iter(names))
    column = np.asarray(table.columns[name])
    if column.dtype.kind in "US":
        return np.char.strip(column)
    if column.dtype.kind in "biuf":
        missing = np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), bool)
        if missing.any():
            raise DataError(f"{where}: {missing.sum()} rows have no label (first at {table.place(int(missing.argmax()))})")
        return column
    values = [value.strip() if isinstance(value, str) else value for value in column.tolist()]
    missing = [n for n, value in enumerate(values) if value is None or value == ""]
    if missing:
        raise DataError(f"{where}: {len(missing)} rows have no label (first at {table.place(missing[0])})")
    strange = next((n for n, value in enumerate(values) if not isinstance(value, str)), None)
    if strange is not None:
        kind = type(values[strange]).__name__
        raise DataError(f"{where}: label column {name!r} holds a {kind} at {table.place(strange)}, not whole numbers or text")
    texts = [n for n, value in enumerate(values) if not _is_number(value)]
    if 0 < len(texts) < len(values) and all(values[n].lower() in _MISSING for n in texts):
        raise DataError(
            f"{where}: the label {values[texts[0]][:80]!r} at {table.place(texts[0])} is no number, but others are; is it missing?"
        )
    return np.array(values, np.str_)


def _weight_column(names: tuple[str, ...], columns: Columns) -> str:
    """The column that is called so and has no other use, or ""."""
    return next((name for name in names if name.lower() in WEIGHTS and name not in (*columns.features, *columns.target)), "")


def _label_column(table: Table, names: list[str], columns: Columns, where: str) -> str:
    names = [name for name in names if name not in columns.features]
    named = [name for name in names if name.lower() in LABELS]
    kinds = {name: table.columns[name].dtype.kind for name in names}
    texts = [name for name in names if kinds[name] in "OUS" and _is_text(table.columns[name])]
    rest = [name for name in names if kinds[name] != "f"]
    if len(named) == 1:
        return named[0]
    if not named and len(texts) == 1:
        return texts[0]
    if not named and rest and rest == names[-1:]:
        return rest[0]
    found = f"columns {', '.join(named)} all could be" if named else "no column is clearly"
    raise DataError(f"{where}: {found} the label; name it with --target, or call it {', '.join(LABELS[:-1])} or {LABELS[-1]}")


def _is_text(column: np.ndarray | Column) -> bool:
    return column.dtype.kind in "US" or all(value is None or isinstance(value, str) for value in np.asarray(column).tolist())


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _array(column, pl) -> np.ndarray:
    """A polars column: numbers with NaN where they are missing, or objects."""
    if column.dtype.is_decimal() or (column.dtype.is_integer() and "128" in str(column.dtype)):  # numpy has none of either
        column = column.cast(pl.Float64)
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if (column.dtype.is_numeric() or column.dtype == pl.Boolean) and column.null_count():
        column = column.cast(pl.Float64)
    return column.to_numpy()


def _csv(path: pathlib.Path, pl) -> tuple[Any, dict[str, Any]]:
    check_memory(path.stat().st_size, "its text")
    dialect = csv_file.dialect_of(path)
    options = {"separator": dialect.separator, "skip_lines": dialect.skip_lines, "decimal_comma": dialect.decimal_comma}
    options |= {"comment_prefix": "#"} if dialect.comments else {}
    try:
        try:
            frame = pl.read_csv(path, has_header=False, infer_schema_length=None, **options)
        except pl.exceptions.ComputeError:  # whole numbers beyond 128 bits: `_as_number` reads them
            frame = pl.read_csv(path, has_header=False, infer_schema=False, **options)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = csv_file.ragged(path, dialect) or first_line(error)
        raise DataError(f"{path}: cannot be read as {path.suffix} ({reason})") from None
    frame = _without_blank_lines(frame, pl)
    short = frame.width != len(dialect.names) or any(frame[name].null_count() for name in frame.columns)
    if short and (reason := csv_file.ragged(path, dialect)):
        raise DataError(f"{path}: {reason}")
    frame = frame.rename(dict(zip(frame.columns, dialect.names, strict=True)))
    frame = frame.with_columns([_as_number(frame[name], dialect, pl) for name in frame.columns])
    unnamed = [name for name in frame.columns if name.startswith(" ")]
    notes = tuple(f"column {int(name) + 1} has no name and is left out" for name in unnamed)
    if not dialect.named:
        notes += (f"the file has no line of names; its columns are c0 .. c{frame.width - 1}",)
    for name in frame.columns:
        if frame.height and frame[name].null_count() == frame.height and name not in unnamed:
            raise DataError(f"{path}: column {name!r} is empty in every row; remove it")
    return frame.drop(unnamed), {"notes": notes, "place": functools.partial(csv_file.place, path, dialect)}


def _as_number(column, dialect: csv_file.Dialect, pl):
    """A column of text whose every value is a number, written in a way that polars does not guess (5e-1, +3, nan), as numbers."""
    if column.dtype != pl.String:
        return column
    text = column.str.strip_chars()
    numbers = (text.str.replace(",", ".", literal=True) if dialect.decimal_comma else text).cast(pl.Float64, strict=False)
    return numbers if numbers.null_count() == column.null_count() < len(column) else column


def _parquet(path: pathlib.Path, pl) -> Table:
    with _panics_unseen():
        lazy = pl.scan_parquet(path, glob=False)
        rows, schema = lazy.select(pl.len()).collect().item(), lazy.collect_schema()
        index = [name for name in schema.names() if name.startswith("__index_level_")]
        names = [name for name in schema.names() if name not in index]
        notes = tuple(f"column {name!r}, an index of pandas, is left out" for name in index)
        _check_size(path, rows, len(names))
        if streamed(8 * rows * len(schema), path.stat().st_size, f"a table of {rows} rows and {len(schema)} columns"):
            columns: dict[str, Any] = {name: _parquet_column(path, name, rows, schema[name], pl) for name in names}
        else:
            frame = pl.read_parquet(path, glob=False)
            columns = {name: _array(frame[name], pl) for name in names}
    if len({name.strip() for name in names}) < len(names):
        raise DataError(f"{path}: two columns have names that differ by spaces only; rename one")
    return Table({name.strip(): column for name, column in columns.items()}, notes=notes)


def _parquet_column(path: pathlib.Path, name: str, rows: int, kind, pl) -> Column:
    """A column of which the groups of rows are read that are asked for."""

    def read(start: int, stop: int) -> np.ndarray:
        with _panics_unseen():
            return _array(pl.scan_parquet(path, glob=False).select(name).slice(start, stop - start).collect()[name], pl)

    return Column(str(path), name, _array(pl.Series(name, [], dtype=kind), pl).dtype, rows, read)


@contextlib.contextmanager
def _panics_unseen() -> Iterator[None]:
    """polars prints a stack of its own for a damaged file, before it raises what becomes one sentence."""
    with contextlib.ExitStack() as stack:
        try:
            kept = os.dup(2)
        except OSError:  # no standard error
            yield
            return
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield


def _arff(path: pathlib.Path, pl) -> tuple[Any, dict[str, Any]]:
    """Dense ARFF with attributes that are numbers, text, or one of a list of names."""
    check_memory(path.stat().st_size, "its text")
    schema, nominal, n_lines = {}, {}, 0
    with path.open(encoding="utf-8") as file:
        for n_lines, line in enumerate(file, 1):
            if line.strip().lower().startswith("@data"):
                break
            if not line.strip().lower().startswith("@attribute"):
                continue
            match = _ATTRIBUTE.match(line.strip())
            if match is None or not (match[4][0] == "{" or match[4].lower() in (*_NUMBERS, "string")):
                raise DataError(f"{path}: line {n_lines} is no attribute of numbers, text or {{names}}: {line.strip()[:80]}")
            name = next(part for part in match.groups()[:3] if part is not None).strip()
            if name in schema:
                raise DataError(f"{path}: attribute {name!r} is there twice")
            schema[name] = pl.Float64 if match[4].lower() in _NUMBERS else pl.String
            if match[4][0] == "{":
                nominal[name] = tuple(_unquoted(part) for part in match[4][1:-1].split(","))
        else:
            raise DataError(f"{path}: has no @DATA line, so it is no ARFF file or ends early")
    if not schema:
        raise DataError(f"{path}: has no @ATTRIBUTE line, so it is no ARFF file")
    options = {"has_header": False, "schema": schema, "null_values": ["?"], "comment_prefix": "%", "quote_char": None}
    frame = _without_blank_lines(pl.read_csv(path, skip_lines=n_lines, **options), pl)
    texts = [name for name, kind in schema.items() if kind == pl.String]
    frame = frame.with_columns(pl.col(texts).str.strip_chars(" \t\r").str.strip_chars("'\"")) if texts else frame
    return frame, {"classes": nominal}


def _without_blank_lines(frame, pl):
    return frame.filter(~pl.all_horizontal(pl.all().is_null())) if frame.width else frame


def _unquoted(text: str) -> str:
    return text.strip().strip("'\"")
