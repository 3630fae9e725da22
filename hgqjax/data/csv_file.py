"""Text tables: how their columns are separated, whether line 1 holds names, and on which line of the file a row is."""

import csv
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator

from hgqjax.data.columns import listed
from hgqjax.data.dataset import DataError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
_HEAD_BYTES, _MOST_HEAD_BYTES, _LINES = 1 << 18, 1 << 28, 20


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a text table is written."""

    separator: str
    names: tuple[str, ...]
    """Of the columns; c0, c1, ... where the file has none."""
    skip_lines: int
    """Lines before the first row of values."""
    named: bool
    comments: bool
    decimal_comma: bool = False


def dialect_of(path: pathlib.Path) -> Dialect:
    """How the text table ``path`` is written, from its first lines.

    Separators are commas, semicolons, tabs, bars or single spaces. Line 1 holds names unless one of its fields is a number; a line that
    begins with # is a comment, or holds the names where it is the last before the values and has as many fields.

    Raises: DataError where that is not clear: no text, one column, names and numbers mixed, the same name twice.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "demo.csv")
    >>> _ = path.write_text("0.5;2;1\\n1.5;3;0\\n")
    >>> dialect_of(path).separator, dialect_of(path).names
    (';', ('c0', 'c1', 'c2'))
    """
    lines, comment, skip = _first_lines(path)
    if not lines:
        raise DataError(f"{path}: holds no line of values")
    separator = _separator(lines, path)
    first, *more = _fields(lines, separator)
    first_line = skip + 1
    comma = separator == ";" and any(_is_number(field.replace(",", ".")) and "," in field for row in [first, *more] for field in row)
    numbers = [_is_number(field.replace(",", ".") if comma else field) for field in first]
    about = {"separator": separator, "comments": comment is not None, "decimal_comma": comma}
    if not any(numbers):
        if not more:
            raise DataError(f"{path}: holds no line of values but that of names")
        names = _checked(first, more, path)
        return Dialect(names=names, skip_lines=first_line, named=True, **about)
    counting = [field.strip() for field, number in zip(first, numbers, strict=True) if number]
    if counting == [str(n) for n in range(len(counting))] and len(counting) >= 3:
        raise DataError(f"{path}: line {first_line} is {listed(first)}: names or values? Give the columns names that are no numbers")
    mixed = [n for n, number in enumerate(numbers) if not number and first[n] and more and _is_number("".join(more[0][n : n + 1]))]
    if mixed:
        raise DataError(f"{path}: line {first_line} has both numbers and the name {first[mixed[0]]!r}; give every column a name, or none")
    if comment is not None:
        titles = _fields([comment], separator)[0]
        if len(titles) == len(first) and not any(map(_is_number, titles)):
            return Dialect(names=_checked(titles, [first], path), skip_lines=skip, named=True, **about)
    return Dialect(names=tuple(f"c{n}" for n in range(len(first))), skip_lines=skip, named=False, **about)


def lines_of(path: pathlib.Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Number of the last line of each row of values, from 1, and its fields; empty lines and comments have none."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for _ in itertools.islice(file, dialect.skip_lines):
            pass
        kept = (line.replace("\0", "") for line in file)
        reader = csv.reader(kept, delimiter=dialect.separator)
        try:
            for fields in reader:
                if any(field.strip() for field in fields) and not (dialect.comments and fields[0].startswith("#")):
                    yield dialect.skip_lines + reader.line_num, fields
        except csv.Error:
            return


def place(path: pathlib.Path, dialect: Dialect, row: int) -> str:
    """The line of row ``row``, counted from 0, for an error.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "demo.csv")
    >>> _ = path.write_text("a,b\\n1,2\\n\\n3,4\\n")
    >>> place(path, dialect_of(path), 1)
    'line 4'
    """
    found = next(itertools.islice(lines_of(path, dialect), row, None), None)
    return f"row {row}" if found is None else f"line {found[0]}"


def ragged(path: pathlib.Path, dialect: Dialect) -> str:
    """A sentence on the first line that has not as many fields as there are columns; "" where each has."""
    wanted = len(dialect.names)
    for number, fields in lines_of(path, dialect):
        if len(fields) != wanted:
            return f"line {number} has {len(fields)} {'field' if len(fields) == 1 else 'fields'}, but the table has {wanted} columns"
    return ""


def _first_lines(path: pathlib.Path) -> tuple[list[str], str | None, int]:
    """Lines of values (the first may hold names), the last comment before them, and the number of lines before them."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES + 1)
        size = _HEAD_BYTES
        while head.count(b"\n") < _LINES and len(head) > size and size < _MOST_HEAD_BYTES:  # of tens of thousands of columns
            size *= 4
            head += file.read(size + 1 - len(head))
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: is text in UTF-16; save it as UTF-8")
    if b"\0" in head:
        raise DataError(f"{path}: cannot be read as {path.suffix} (it holds bytes of 0, so it is no text)")
    if b"\r" in head and b"\n" not in head:
        raise DataError(f"{path}: its lines end with carriage returns alone; save it with line feeds (\\n or \\r\\n)")
    whole = len(head) <= size
    try:
        text = head[: None if whole else head.rfind(b"\n") + 1 or None].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = head[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: cannot be read as {path.suffix} (line {line} is no text in UTF-8); save it as UTF-8") from None
    lines = text.replace("\r\n", "\n").split("\n")
    skip = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    comments = [line[1:].strip() for line in lines[:skip] if line.startswith("#")]
    comment = comments[-1] if comments else None
    kept = [line for line in lines[skip : skip + _LINES] if line.strip() and not (comment is not None and line.startswith("#"))]
    return kept, comment, skip


def _fields(lines: list[str], separator: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=separator))
    except csv.Error:
        return [line.split(separator) for line in lines]


def _separator(lines: list[str], path: pathlib.Path) -> str:
    """The first of the separators by which all lines have as many fields, two or more, without another one in them."""
    split = {separator: _fields(lines, separator) for separator in SEPARATORS}
    several = [separator for separator, rows in split.items() if len(rows[0]) > 1]
    if not several:
        raise DataError(f"{path}: line 1 has one column; a feature and a label are needed, separated by {', '.join(SEPARATORS.values())}")

    def regular(separator: str) -> bool:
        rows = split[separator]
        inner = any(other in field for other in ";\t|" if other != separator for row in rows for field in row)
        return len({len(row) for row in rows}) == 1 and not inner

    found = next(filter(regular, several), several[0])
    if found == " " and any(not field for row in split[found] for field in row):
        raise DataError(f"{path}: columns are separated by several spaces; separate them by {', '.join(SEPARATORS.values())}")
    return found


def _checked(names: list[str], more: list[list[str]], path: pathlib.Path) -> tuple[str, ...]:
    """Names of columns; one without a name is legal where it is empty or counts the rows, as pandas writes it."""
    names, seen = [name.strip() for name in names], set()
    for n, name in enumerate(names):
        if name in seen:
            raise DataError(f"{path}: the column {name!r} is there twice, as column {names.index(name) + 1} and {n + 1}; rename one")
        if name:
            seen.add(name)
        elif any("".join(row[n : n + 1]) not in ("", str(m), str(m + 1)) for m, row in enumerate(more)):
            raise DataError(f"{path}: column {n + 1} has no name; give it one, or leave the column out")
    return tuple(name or f" {n}" for n, name in enumerate(names))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.strip().lower() not in ("nan", "inf", "infinity", "-inf") and "_" not in text
