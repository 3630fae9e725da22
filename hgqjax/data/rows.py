"""All rows of one file, checked: what every reader of this folder hands over before anything is split or scaled."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable

import numpy as np

from hgqjax import scratch
from hgqjax.data.columns import FEATURES, listed
from hgqjax.data.dataset import DataError, Kind, Scaler
from hgqjax.data.inputs import InputPart

JET_CLASSES = ("g", "q", "w", "z", "t")  # the order of the HGQ papers; the public file lists g, q, t, w, z
JET_FEATURES = (
    "zlogz",
    "c1_b0_mmdt",
    "c1_b1_mmdt",
    "c1_b2_mmdt",
    "c2_b1_mmdt",
    "c2_b2_mmdt",
    "d2_b1_mmdt",
    "d2_b2_mmdt",
    "d2_a1_b1_mmdt",
    "d2_a1_b2_mmdt",
    "m2_b1_mmdt",
    "m2_b2_mmdt",
    "n2_b1_mmdt",
    "n2_b2_mmdt",
    "mass_mmdt",
    "multiplicity",
)  # the order of the public file


def at_index(row: int) -> str:
    """Where row ``row`` is, for an error about a file without lines."""
    return f"index {row}"


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Unscaled rows ``x`` (rows, *shape) of one file and their ``y``; see :func:`make_rows`.

    Fields:
      where: what errors call the file.
      y: as in :class:`hgqjax.data.Dataset`; None of an autoencoder, whose ``y`` are its scaled rows.
      classes: None where the file does not name them, and for every kind but classes.
      unit: None but for a regression.
      parts: rows of training, validation and test, one behind the other, where the split is the file's; 0 of a part that is yet to be cut
        from the training rows.
    """

    where: str
    name: str
    source: str
    sha256: str
    x: np.ndarray
    y: np.ndarray | None
    classes: tuple[str, ...] | None
    feature_names: tuple[str, ...]
    scaler: Scaler | None
    unit: str | None = None
    parts: tuple[int, int, int] | None = None
    kind: Kind = "classes"
    target_names: tuple[str, ...] = ("y",)
    weight: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    inputs: tuple[InputPart, ...] = ()


def make_rows(
    *,
    where: str,
    name: str,
    source: str,
    sha256: str,
    x: np.ndarray,
    y: np.ndarray | None,
    classes: tuple[str, ...] | None,
    feature_names: tuple[str, ...] | None,
    scaler: Scaler | None = None,
    unit: str | None = None,
    parts: tuple[int, int, int] | None = None,
    kind: Kind | None = None,
    target_names: tuple[str, ...] | None = None,
    weight: np.ndarray | None = None,
    notes: tuple[str, ...] = (),
    place: Callable[[int], str] = at_index,
    inputs: tuple[InputPart, ...] = (),
) -> Rows:
    """Check what a reader found, and put jets into the order of :data:`JET_CLASSES` and :data:`JET_FEATURES`.

    Args:
      where: what to call the file in an error.
      x: numbers, (rows, *shape).
      y: (rows,): whole numbers that index ``classes``, names of classes, or numbers; (rows, n): a column for each of ``target_names``;
        None for an autoencoder.
      classes: None where the file does not name them: then they are the sorted names in ``y``, or stay unnamed.
      feature_names: of the last axis of ``x``; None gives x0, x1, ...
      scaler: the one that these rows must be scaled with, or None to fit one.
      unit: of ``y``, which is then a number to be found and no label.
      parts: rows of training, validation and test, in that order, or None to split at random.
      kind: what ``y`` is; None decides by its values. One-hot columns, just one 1 in each row, are classes.
      target_names: of the columns of ``y``; None gives y, or y0, y1, ...
      weight: of each row, (rows,), or None.
      notes: for :class:`hgqjax.data.Dataset`.
      place: says where in the file a row is.
      inputs: parts of a row that are inputs of their own; none where a row is one.

    Raises: DataError.

    >>> x, y = np.array([[0.5], [1.5]]), np.array(["signal", "background"])
    >>> rows = make_rows(where="demo", name="demo", source="", sha256="", x=x, y=y, classes=None, feature_names=None)
    >>> rows.classes, rows.y.tolist(), rows.feature_names
    (('background', 'signal'), [1, 0], ('x0',))
    >>> y = np.array([[0.5, 2.0], [1.5, 3.0]])
    >>> make_rows(where="demo", name="demo", source="", sha256="", x=x, y=y, classes=None, feature_names=None).kind
    'regression'
    """
    _check_x(x, where, place)
    names = tuple(f"x{j}" for j in range(x.shape[-1])) if feature_names is None else feature_names
    if len(names) != x.shape[-1]:
        raise DataError(f"{where}: {len(names)} feature names for {x.shape[-1]} features; they must be as many")
    if x.ndim == 2 and names != JET_FEATURES and set(names) == set(JET_FEATURES):
        x, names = columns_at(x, [names.index(feature) for feature in JET_FEATURES]), JET_FEATURES
    about = {"where": where, "name": name, "source": source, "sha256": sha256, "x": x, "feature_names": names, "scaler": scaler}
    about |= {"parts": parts, "notes": notes, "inputs": inputs, "weight": _weights(weight, len(x), where, place)}
    if y is None:
        return Rows(**about, y=None, classes=None, unit=unit or "", kind="regression", target_names=(FEATURES,))
    targets = _check_y(y, target_names, len(x), where)
    found = _kind(y, classes, unit, kind, where)
    if found == "regression":
        about["unit"], y, known = unit or "", _numbers(y, where, place), None
    elif found == "labels":
        y, known = _yes_or_no(y, where, place), None
    else:
        if y.ndim == 2:
            y, classes, targets = _from_one_hot(y, where, place), classes or (None if target_names is None else targets), ("y",)
        y, known = _encode(y, classes, where, place)
        if known is not None and known != JET_CLASSES and set(known) == set(JET_CLASSES):
            y, known = np.array([JET_CLASSES.index(c) for c in known], np.int32)[y], JET_CLASSES
    return Rows(**about, y=y, classes=known, kind=found, target_names=targets)


def class_names(rows: Rows) -> tuple[str, ...]:
    """Classes to train on, two or more; unnamed ones are called 0, 1, 2, ...; none of another kind.

    Raises: DataError where there is one class only, or unnamed labels leave a number out.

    >>> x, y = np.array([[0.5], [1.5]]), np.array([1, 0])
    >>> rows = make_rows(where="demo", name="demo", source="", sha256="", x=x, y=y, classes=None, feature_names=None)
    >>> class_names(rows)
    ('0', '1')
    """
    if rows.kind != "classes":
        return ()
    assert rows.y is not None, "rows of classes have labels"
    present = np.unique(rows.y)
    n = int(present[-1]) + 1 if rows.classes is None else len(rows.classes)
    if n < 2:
        raise DataError(f"{rows.where}: every row has the same label; two or more classes are needed")
    if rows.classes is None and n != len(present):
        raise DataError(
            f"{rows.where}: labels run from {present[0]} to {n - 1} but take {len(present)} different values; "
            "they must be 0, 1, 2, ... without a gap, or the file must name its classes"
        )
    return tuple(str(label) for label in range(n)) if rows.classes is None else rows.classes


def columns_at(x: np.ndarray, chosen: list[int]) -> np.ndarray:
    """The columns of `x` (rows, columns) with these numbers; in a file where `x` is.

    >>> columns_at(np.array([[1, 2, 3]]), [2, 0]).tolist()
    [[3, 1]]
    """
    return scratch.filled((len(x), len(chosen)), x.dtype, lambda rows: x[rows][:, chosen], scratch.is_in_file(x))


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Checksum of a file, hexadecimal.

    >>> len(sha256_of(__file__))
    64
    """
    with pathlib.Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_x(x: np.ndarray, where: str, place: Callable[[int], str]) -> None:
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where}: x has type {x.dtype}, but must hold real numbers")
    if x.ndim < 2 or 0 in x.shape:
        raise DataError(f"{where}: x has shape {x.shape}, but must be (rows, features) or (rows, ...), none of them 0")
    if x.dtype.kind == "f":
        bad = np.zeros(len(x), bool)
        for rows in scratch.blocks(x):
            bad[rows] = ~(np.abs(x[rows]) <= np.finfo(np.float32).max).reshape(rows.stop - rows.start, -1).all(axis=1)
            scratch.release(x)
        if bad.any():
            raise DataError(
                f"{where}: {bad.sum()} of {len(x)} rows hold missing, NaN or infinite values "
                f"(first at {place(int(bad.argmax()))}); every value must be a finite float32"
            )


def _check_y(y: np.ndarray, target_names: tuple[str, ...] | None, rows: int, where: str) -> tuple[str, ...]:
    """Names of the columns of ``y``, which has a shape that is legal."""
    if y.ndim not in (1, 2) or len(y) != rows or 0 in y.shape:
        raise DataError(f"{where}: y has shape {y.shape}, but must be ({rows},) or ({rows}, n), one label or n numbers for each row of x")
    width = 1 if y.ndim == 1 else y.shape[1]
    names = (("y",) if y.ndim == 1 else tuple(f"y{j}" for j in range(width))) if target_names is None else target_names
    if len(names) != width:
        raise DataError(f"{where}: {len(names)} target names for {width} targets; they must be as many")
    return names


def _kind(y: np.ndarray, classes: tuple[str, ...] | None, unit: str | None, asked: Kind | None, where: str) -> Kind:
    if unit is not None and classes is not None:
        raise DataError(f"{where}: holds both unit, for a regression, and classes, for a classification; leave one of them out")
    if asked is not None:
        return asked
    if unit is not None:
        return "regression"
    if y.dtype.kind not in "biuf":
        return "classes"
    if y.ndim == 2:
        binary = bool(np.all((y == 0) | (y == 1)))
        return "regression" if not binary or y.shape[1] == 1 else "classes" if bool(np.all(y.sum(axis=1) == 1)) else "labels"
    broken = classes is None and y.dtype.kind == "f" and bool(np.any(np.isfinite(y) & (y != np.floor(y))))
    return "regression" if broken else "classes"


def _weights(weight: np.ndarray | None, rows: int, where: str, place: Callable[[int], str]) -> np.ndarray | None:
    if weight is None:
        return None
    if weight.shape != (rows,) or weight.dtype.kind not in "biuf":
        raise DataError(f"{where}: weights have type {weight.dtype} and shape {weight.shape}, but must be numbers, ({rows},)")
    bad = ~((weight >= 0) & (weight <= np.finfo(np.float32).max))
    if bad.any():
        first = int(bad.argmax())
        raise DataError(f"{where}: weight {weight[first]} at {place(first)} must be a finite number of at least 0")
    if not weight.any():
        raise DataError(f"{where}: every weight is 0; at least one row must count")
    return weight.astype(np.float32)


def _numbers(y: np.ndarray, where: str, place: Callable[[int], str]) -> np.ndarray:
    """Numbers to be found, float32."""
    if y.dtype.kind not in "biuf":
        raise DataError(f"{where}: y has type {y.dtype}, but a regression needs numbers")
    bad = ~(np.abs(y) <= np.finfo(np.float32).max)
    if bad.any():
        first = tuple(np.argwhere(bad)[0])
        raise DataError(f"{where}: y is {y[first]} at {place(int(first[0]))}, but every value must be a finite float32")
    return y.astype(np.float32)


def _yes_or_no(y: np.ndarray, where: str, place: Callable[[int], str]) -> np.ndarray:
    """Columns of 0 and 1, int32."""
    y = y.reshape(len(y), -1)
    bad = ~np.isin(y, (0, 1)) if y.dtype.kind in "biuf" else np.ones(y.shape, bool)
    if bad.any():
        first = tuple(np.argwhere(bad)[0])
        raise DataError(f"{where}: label {y[first]} at {place(int(first[0]))} must be 0 or 1, as several labels at once are yes or no")
    return y.astype(np.int32)


def _from_one_hot(y: np.ndarray, where: str, place: Callable[[int], str]) -> np.ndarray:
    """The column of the one 1 of each row, int32."""
    ones = y == 1 if y.dtype.kind in "biuf" else np.zeros(y.shape, bool)
    bad = (ones.sum(axis=1) != 1) | (ones != (y != 0)).any(axis=1)
    if bad.any():
        first = int(bad.argmax())
        row = listed(map(str, y[first].tolist()))
        raise DataError(f"{where}: the labels at {place(first)} are {row}; columns for classes need one 1 in each row and else 0")
    return ones.argmax(axis=1).astype(np.int32)


def _encode(
    y: np.ndarray, classes: tuple[str, ...] | None, where: str, place: Callable[[int], str]
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Labels as int32 indices, and the classes that they index, None where nothing names them."""
    if classes is not None and (len(classes) < 2 or len(set(classes)) != len(classes)):
        raise DataError(f"{where}: classes are {listed(classes)}, but must be two or more different names")
    if y.dtype.kind in "US":
        return _encode_names(_text(y, where), classes, where)
    if y.dtype.kind not in "biuf":
        raise DataError(f"{where}: labels have type {y.dtype}, but must be whole numbers or text")
    broken = ~(np.isfinite(y) & (y == np.floor(y)))
    if broken.any():
        first = int(broken.argmax())
        hint = "; numbers to be predicted are --target-is regression" if np.isfinite(y[first]) else ""
        raise DataError(f"{where}: label {y[first]} at {place(first)} is not a whole number (0, 1, 2, ...){hint}")
    n = 2**31 if classes is None else len(classes)
    outside = (y < 0) | (y >= n)
    if outside.any():
        first = int(outside.argmax())
        raise DataError(f"{where}: label {int(y[first])} at {place(first)} is out of range: it must be 0 .. {n - 1}")
    return y.astype(np.int32), classes


def _text(y: np.ndarray, where: str) -> np.ndarray:
    try:
        return np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: labels are not text in UTF-8 ({error.reason})") from None


def _encode_names(y: np.ndarray, classes: tuple[str, ...] | None, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    present, index = np.unique(y, return_inverse=True)
    found = tuple(str(name) for name in present)
    known = found if classes is None else classes
    strange = [name for name in found if name not in known]
    if strange:
        raise DataError(f"{where}: rows are labelled {listed(strange)}, but the classes are {listed(known)}")
    return np.array([known.index(name) for name in found], np.int32)[index], known
