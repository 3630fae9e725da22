"""All rows of one file, checked: what every reader of this folder hands over before anything is split or scaled."""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from hgqjax.data.dataset import DataError, Scaler

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


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Unscaled rows ``x`` (rows, *shape) of one file and their labels ``y``, int32, or numbers, float32; see :func:`make_rows`.

    ``where`` is what errors call the file; ``classes`` is None where the file does not name them, and for a regression; ``unit`` is None
    for a classification; ``parts`` are the rows of training, validation and test, one behind the other, where the split is the file's.
    """

    where: str
    name: str
    source: str
    sha256: str
    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...] | None
    feature_names: tuple[str, ...]
    scaler: Scaler | None
    unit: str | None = None
    parts: tuple[int, int, int] | None = None


def make_rows(
    *,
    where: str,
    name: str,
    source: str,
    sha256: str,
    x: np.ndarray,
    y: np.ndarray,
    classes: tuple[str, ...] | None,
    feature_names: tuple[str, ...] | None,
    scaler: Scaler | None = None,
    unit: str | None = None,
    parts: tuple[int, int, int] | None = None,
) -> Rows:
    """Check what a reader found, and put jets into the order of :data:`JET_CLASSES` and :data:`JET_FEATURES`.

    Args:
      where: what to call the file in an error.
      x: numbers, (rows, *shape).
      y: whole numbers that index ``classes``, or names of classes; with ``unit`` any numbers; (rows,).
      classes: None where the file does not name them: then they are the sorted names in ``y``, or stay unnamed.
      feature_names: of the last axis of ``x``; None gives x0, x1, ...
      scaler: the one that these rows must be scaled with, or None to fit one.
      unit: of ``y``, which is then a number to be found and no label; None for labels.
      parts: rows of training, validation and test, in that order, or None to split at random.

    Raises: DataError.

    >>> x, y = np.array([[0.5], [1.5]]), np.array(["signal", "background"])
    >>> rows = make_rows(where="demo", name="demo", source="", sha256="", x=x, y=y, classes=None, feature_names=None)
    >>> rows.classes, rows.y.tolist(), rows.feature_names
    (('background', 'signal'), [1, 0], ('x0',))
    """
    _check_x(x, where)
    if y.shape != (len(x),):
        hint = "; one-hot labels need argmax first" if y.ndim == 2 else ""
        raise DataError(f"{where}: y has shape {y.shape}, but must be ({len(x)},), one label for each row of x{hint}")
    names = tuple(f"x{j}" for j in range(x.shape[-1])) if feature_names is None else feature_names
    if len(names) != x.shape[-1]:
        raise DataError(f"{where}: {len(names)} feature names for {x.shape[-1]} features; they must be as many")
    if x.ndim == 2 and names != JET_FEATURES and set(names) == set(JET_FEATURES):
        x, names = x[:, [names.index(feature) for feature in JET_FEATURES]], JET_FEATURES
    if unit is not None:
        return Rows(where, name, source, sha256, x, _numbers(y, where), None, names, scaler, unit, parts)
    labels, known = _encode(y, classes, where)
    if known is not None and known != JET_CLASSES and set(known) == set(JET_CLASSES):
        labels, known = np.array([JET_CLASSES.index(c) for c in known], np.int32)[labels], JET_CLASSES
    return Rows(where, name, source, sha256, x, labels, known, names, scaler, None, parts)


def class_names(rows: Rows) -> tuple[str, ...]:
    """Classes to train on, two or more; unnamed ones are called 0, 1, 2, ...; none for a regression.

    Raises: DataError where there is one class only, or unnamed labels leave a number out.

    >>> x, y = np.array([[0.5], [1.5]]), np.array([1, 0])
    >>> rows = make_rows(where="demo", name="demo", source="", sha256="", x=x, y=y, classes=None, feature_names=None)
    >>> class_names(rows)
    ('0', '1')
    """
    if rows.unit is not None:
        return ()
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


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Checksum of a file, hexadecimal.

    >>> len(sha256_of(__file__))
    64
    """
    with pathlib.Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_x(x: np.ndarray, where: str) -> None:
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where}: x has type {x.dtype}, but must hold real numbers")
    if x.ndim < 2 or 0 in x.shape:
        raise DataError(f"{where}: x has shape {x.shape}, but must be (rows, features) or (rows, ...), none of them 0")
    if x.dtype.kind == "f":
        bad = ~(np.abs(x) <= np.finfo(np.float32).max).reshape(len(x), -1).all(axis=1)
        if bad.any():
            raise DataError(
                f"{where}: {bad.sum()} of {len(x)} rows hold missing, NaN or infinite values "
                f"(first at index {bad.argmax()}); every value must be a finite float32"
            )


def _numbers(y: np.ndarray, where: str) -> np.ndarray:
    """Numbers to be found, float32."""
    if y.dtype.kind not in "iuf":
        raise DataError(f"{where}: y has type {y.dtype}, but a regression needs numbers")
    bad = ~(np.abs(y) <= np.finfo(np.float32).max)
    if bad.any():
        raise DataError(f"{where}: y is {y[bad.argmax()]} at index {bad.argmax()}, but every value must be a finite float32")
    return y.astype(np.float32)


def _encode(y: np.ndarray, classes: tuple[str, ...] | None, where: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Labels as int32 indices, and the classes that they index, None where nothing names them."""
    if classes is not None and (len(classes) < 2 or len(set(classes)) != len(classes)):
        raise DataError(f"{where}: classes are {_listed(classes)}, but must be two or more different names")
    if y.dtype.kind in "US":
        return _encode_names(np.char.decode(y, "utf-8") if y.dtype.kind == "S" else y, classes, where)
    if y.dtype.kind not in "biuf":
        raise DataError(f"{where}: labels have type {y.dtype}, but must be whole numbers or text")
    broken = ~(np.isfinite(y) & (y == np.floor(y)))
    if broken.any():
        first = broken.argmax()
        raise DataError(
            f"{where}: label {y[first]} at index {first} is not a whole number (0, 1, 2, ...); only an .npz with unit holds numbers"
        )
    n = 2**31 if classes is None else len(classes)
    outside = (y < 0) | (y >= n)
    if outside.any():
        first = outside.argmax()
        raise DataError(f"{where}: label {int(y[first])} at index {first} is out of range: it must be 0 .. {n - 1}")
    return y.astype(np.int32), classes


def _encode_names(y: np.ndarray, classes: tuple[str, ...] | None, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    present, index = np.unique(y, return_inverse=True)
    found = tuple(str(name) for name in present)
    known = found if classes is None else classes
    strange = [name for name in found if name not in known]
    if strange:
        raise DataError(f"{where}: rows are labelled {_listed(strange)}, but the classes are {_listed(known)}")
    return np.array([known.index(name) for name in found], np.int32)[index], known


def _listed(names: tuple[str, ...] | list[str]) -> str:
    """At most eight names for an error."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "none"
