"""Tables with one row an example and one column the label: CSV, Parquet and ARFF. They are read by polars."""

import pathlib
import re

import numpy as np

from hgqjax.data.dataset import DataError
from hgqjax.errors import first_line

LABELS = ("class", "jet_type", "label", "target", "y")
_ATTRIBUTE = re.compile(r"""@attribute\s+(?:'([^']*)'|"([^"]*)"|(\S+))\s+(\{.*\}|\w+)""", re.IGNORECASE)
_NUMBERS = ("numeric", "real", "integer")


def read_table(path: pathlib.Path):
    """Columns of a table as the arguments ``x``, ``y``, ``classes`` and ``feature_names`` of ``make_rows``.

    The label is the column called class, jet_type, label, target or y; failing that, the only column of text; failing that, the
    last column where it alone is not of floating-point type. Every other column is a feature. A line of a text file that ends
    early counts as missing values.

    Args:
      path: of a file that ends in .csv (comma-separated, with a header), .parquet or .arff.

    Raises: DataError, with ``path`` in its sentence.

    >>> import tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "demo.csv")
    >>> _ = path.write_text("mass,width,class\\n80.4,0.1,w\\n91.2,0.2,z\\n")
    >>> table = read_table(path)
    >>> table["x"].tolist(), table["y"].tolist(), table["feature_names"]
    ([[80.4, 0.1], [91.2, 0.2]], ['w', 'z'], ('mass', 'width'))
    """
    try:
        import polars as pl
    except ImportError:
        raise DataError(f"{path}: reading {path.suffix} files needs polars; pip install 'hgqjax[run]'") from None
    try:
        frame, classes = _READERS[path.suffix.lower()](path, pl)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as {path.suffix} ({first_line(error)})") from None
    if frame.height == 0 or frame.width < 2:
        raise DataError(f"{path}: holds {frame.height} rows of {frame.width} columns; one feature and one label are needed")
    frame = frame.rename(str.strip)
    label = _label_column(frame, pl, path)
    features = [name for name in frame.columns if name != label]
    for name in features:
        if not (frame[name].dtype.is_numeric() or frame[name].dtype == pl.Boolean):
            raise DataError(f"{path}: column {name!r} holds {frame[name].dtype}, but a feature must be a number")
    x = np.stack([frame[name].cast(pl.Float64).to_numpy() for name in features], axis=1)
    return {"x": x, "y": _labels(frame[label], pl, path), "classes": classes, "feature_names": tuple(features)}


def _csv(path: pathlib.Path, pl):
    frame = pl.read_csv(path, infer_schema_length=None)
    return _without_blank_lines(frame, pl), None


def _parquet(path: pathlib.Path, pl):
    return pl.read_parquet(path), None


def _arff(path: pathlib.Path, pl):
    """Dense ARFF with attributes that are numbers, text, or one of a list of names."""
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
            name = next(part for part in match.groups()[:3] if part is not None)
            if name in schema:
                raise DataError(f"{path}: attribute {name!r} is there twice")
            schema[name] = pl.Float64 if match[4].lower() in _NUMBERS else pl.String
            if match[4][0] == "{":
                nominal[name] = tuple(_unquoted(part) for part in match[4][1:-1].split(","))
        else:
            raise DataError(f"{path}: has no @DATA line, so it is no ARFF file or ends early")
    options = {"has_header": False, "schema": schema, "null_values": ["?"], "comment_prefix": "%", "quote_char": None}
    frame = _without_blank_lines(pl.read_csv(path, skip_lines=n_lines, **options), pl)
    texts = [name for name, kind in schema.items() if kind == pl.String]
    frame = frame.with_columns(pl.col(texts).str.strip_chars(" \t\r").str.strip_chars("'\"")) if texts else frame
    return frame, nominal.get(_label_column(frame, pl, path)) if frame.width > 1 else None


_READERS = {".csv": _csv, ".parquet": _parquet, ".arff": _arff}


def _without_blank_lines(frame, pl):
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def _label_column(frame, pl, path: pathlib.Path) -> str:
    named = [name for name in frame.columns if name.lower() in LABELS]
    texts = [name for name in frame.columns if frame[name].dtype in (pl.String, pl.Categorical, pl.Enum)]
    rest = [name for name in frame.columns if not frame[name].dtype.is_float()]
    if len(named) == 1:
        return named[0]
    if not named and len(texts) == 1:
        return texts[0]
    if not named and rest == frame.columns[-1:]:
        return rest[0]
    found = f"columns {', '.join(named)} all could be" if named else "no column is clearly"
    raise DataError(f"{path}: {found} the label; call one column {', '.join(LABELS[:-1])} or {LABELS[-1]}")


def _labels(column, pl, path: pathlib.Path) -> np.ndarray:
    missing = column.is_null()
    if missing.any():
        raise DataError(f"{path}: {missing.sum()} rows have no label (first at index {missing.arg_max()})")
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return column.to_numpy()
    try:
        return column.cast(pl.String).str.strip_chars().to_numpy().astype(np.str_)
    except pl.exceptions.PolarsError:
        raise DataError(f"{path}: label column {column.name!r} holds {column.dtype}, not whole numbers or text") from None


def _unquoted(text: str) -> str:
    return text.strip().strip("'\"")
