"""What a data set is to the rest of hgqjax: scaled rows in three parts, the scaler, and where they came from."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from hgqjax import scratch

Kind = Literal["classes", "labels", "regression"]
"""What y is: one of several classes; each of several labels yes or no; one number or several."""
PARTS = ("train", "val", "test")


class DataError(ValueError):
    """Rows cannot be had: one sentence that names the file or the argument, what is wrong, and what is legal."""


@dataclasses.dataclass(frozen=True, eq=False)
class Scaler:
    r"""Standard scaling of one row, :math:`(x - \mathrm{mean}) / \mathrm{scale}`, computed in float64.

    Fields:
      mean: float64, shape of one row, in the units of the file.
      scale: float64, same shape, > 0.

    >>> scaler = Scaler.fit(np.array([[1.0, 7.0], [3.0, 7.0]]))
    >>> scaler.mean.tolist(), scaler.scale.tolist()
    ([2.0, 7.0], [1.0, 1.0])
    >>> scaler(np.array([[5.0, 7.0]])).tolist()
    [[3.0, 0.0]]
    """

    mean: np.ndarray
    scale: np.ndarray

    def __post_init__(self):
        if self.mean.shape != self.scale.shape:
            raise DataError(f"a scaler needs one scale per mean, not shapes {self.mean.shape} and {self.scale.shape}")
        if not (np.all(np.isfinite(self.mean)) and np.all(np.isfinite(self.scale)) and np.all(self.scale > 0)):
            raise DataError("a scaler needs finite means and finite scales above zero")

    @classmethod
    def fit(cls, x: np.ndarray, counted: np.ndarray | None = None) -> "Scaler":
        """Mean and population standard deviation over the rows of ``x``; a feature that never changes gets scale 1.

        Args:
          x: (rows, *shape); in memory or in a file, read block by block in its order.
          counted: (rows,), bool, of those that count; None: all.
        """

        def total(of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
            found = np.zeros(x.shape[1:], np.float64)
            for rows in scratch.blocks(x):
                found += np.sum(of(x[rows] if counted is None else x[rows][counted[rows]]), axis=0, dtype=np.float64)
                scratch.release(x)
            return found

        first = x[0 if counted is None else int(counted.argmax())].astype(np.float64)
        count = len(x) if counted is None else int(counted.sum())
        mean = total(lambda part: part) / count
        scale = np.sqrt(total(lambda part: (part - mean) ** 2) / count)
        constant = total(lambda part: part != first) == 0  # rounding leaves such a deviation near zero, not always at zero
        return cls(np.where(constant, first, mean), np.where(constant | (scale == 0), 1.0, scale))

    def __call__(
        self, x: np.ndarray, dtype: type = np.float32, rows: np.ndarray | slice = slice(None), in_file: bool | None = None
    ) -> np.ndarray:
        """Rows ``x`` (rows, *shape) in scaled units, of type ``dtype``; block by block, so that float64 takes little memory.

        Args:
          rows: numbers of those that are taken, in their order.
          in_file: whether the result lies in a scratch file; None: where ``x`` lies in a file.
        """
        if x.shape[1:] != self.mean.shape:
            raise DataError(f"rows of shape {x.shape[1:]} do not fit this scaler, which takes {self.mean.shape}")
        index = rows if isinstance(rows, np.ndarray) else range(*rows.indices(len(x)))

        def values(part: slice) -> np.ndarray:
            taken = index[part]
            return (scratch.take(x, taken if isinstance(taken, np.ndarray) else slice(taken.start, taken.stop)) - self.mean) / self.scale

        return scratch.filled((len(index), *x.shape[1:]), dtype, values, scratch.is_in_file(x) if in_file is None else in_file)

    def dtype_for(self, x: np.ndarray) -> type:
        """float16 where it holds the scaled ``x`` exactly and is half the size: bytes over a power of two (images, hits); else float32.

        >>> Scaler(np.zeros(1), np.full(1, 256.0)).dtype_for(np.zeros((2, 1), np.uint8)).__name__
        'float16'
        """
        plain = not self.mean.any() and bool(np.all(np.frexp(self.scale)[0] == 0.5) and np.all((self.scale >= 1) & (self.scale <= 2**10)))
        return np.float16 if plain and x.dtype in (np.uint8, np.bool_) else np.float32


def pixel_scaler(shape: tuple[int, ...]) -> Scaler:
    """Divides 8-bit pixels by 256, which neither float16 nor a fixed-point word with 8 fractional bits rounds.

    >>> pixel_scaler((1,))(np.array([[255]], np.uint8)).tolist()
    [[0.99609375]]
    """
    return Scaler(np.zeros(shape), np.full(shape, 256.0))


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Training, validation and test rows of one data set.

    Fields:
      name: how results on it are labelled everywhere.
      source: one sentence, where the rows come from.
      sha256: of the file that was read, hexadecimal.
      x_train, x_val, x_test: (rows, *shape), scaled by ``scaler``; float32, or float16 where that holds them exactly.
      y_train, y_val, y_test: by ``kind``. "classes": (rows,), int32, index into ``classes``. "labels": (rows, n), int32, 0 or 1, a column
        for each of ``target_names``. "regression": (rows,), or (rows, n) of several targets, float32.
      classes, feature_names: names of the classes, none of any other kind, and of the last axis of ``x``.
      scaler: takes rows from the file's units to those of ``x``.
      unit: of ``y``, for a regression.
      kind: what ``y`` is, and so which tasks the rows are for.
      target_names: of the columns of ``y``.
      weight_train, weight_val, weight_test: (rows,), float32, at least 0, as the file has them; None where each row counts alike.
      files: where parts are files of their own, the checksums of those with training or validation rows.
      notes: what a reader did that one may not expect, a sentence each.
      inputs: of a network with several inputs the parts of a row (:class:`hgqjax.data.inputs.InputPart`); none where a row is one.
      at_once: bytes of rows that training holds at a time, where ``x_train`` and the others lie in files; None of rows in memory.

    >>> from hgqjax import data
    >>> jets = data.load("jets", rows=1000)
    >>> jets.name, jets.input_shape, jets.n_classes, jets.classes
    ('jets (re-simulated)', (16,), 5, ('g', 'q', 'w', 'z', 't'))
    >>> jets.kind, len(jets.x_train), len(jets.x_val), len(jets.x_test), len(jets.calibration())
    ('classes', 720, 80, 200, 800)
    """

    name: str
    source: str
    sha256: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    feature_names: tuple[str, ...]
    scaler: Scaler
    unit: str = ""
    kind: Kind = "classes"
    target_names: tuple[str, ...] = ("y",)
    weight_train: np.ndarray | None = None
    weight_val: np.ndarray | None = None
    weight_test: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    inputs: tuple[Any, ...] = ()
    at_once: int | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes, 0 of labels and regressions."""
        return len(self.classes)

    @property
    def n_outputs(self) -> int:
        """Outputs of a network that has one for each class, or for each column of ``y``."""
        return self.n_classes or len(self.target_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.x_train.shape[1:]

    @property
    def model_shape(self) -> tuple[int, ...] | tuple[tuple[int, ...], ...]:
        """Shape of a row as a network takes it: of several inputs a tuple of the shape of each."""
        return tuple(part.shape for part in self.inputs) or self.input_shape

    def of_model(self, x: np.ndarray) -> Any:
        """Scaled rows `x` of this data set as a network takes them: `x` itself, or a tuple with the rows of each of several inputs."""
        return tuple(part.of(x) for part in self.inputs) if self.inputs else x

    def calibration(self) -> np.ndarray:
        """Rows that fix the integer bits at export, float32: training and validation, never test; in a file where `x_train` is."""
        return self._calibration_in_file if self.at_once is not None else np.concatenate([self.x_train, self.x_val], dtype=np.float32)

    @functools.cached_property
    def _calibration_in_file(self) -> np.ndarray:
        return scratch.concatenate([self.x_train, self.x_val], np.float32)


def split(
    n: int, *, seed: int = 42, test_fraction: float = 0.2, validation_fraction: float = 0.1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of training, validation and test rows.

    Test, and training with validation, are exactly those of scikit-learn's ``train_test_split(test_size=test_fraction,
    random_state=seed)``, in its order; validation is the last part of what is not test, as in the HGQ paper's third version.

    Args:
      n: number of rows.
      seed: of the permutation, 0 .. 2**32 - 1.
      test_fraction: of all rows, between 0 and 1; rounded up.
      validation_fraction: of the rows that are not test, between 0 and 1; rounded to the nearest.

    Returns: three int64 arrays that together hold 0 .. n-1 once.
    Raises: DataError where an argument is out of range or a part would be empty.

    >>> [part.tolist() for part in split(12)]
    [[8, 5, 2, 1, 11, 4, 7, 3], [6], [10, 9, 0]]
    """
    for argument, fraction in (("test_fraction", test_fraction), ("validation_fraction", validation_fraction)):
        if not 0 < fraction < 1:
            raise DataError(f"{argument}={fraction} is out of range: it lies between 0 and 1, both excluded")
    if not 0 <= seed < 2**32:
        raise DataError(f"seed={seed} is out of range: it lies between 0 and 4294967295")
    n_test = math.ceil(n * test_fraction)
    n_val = round((n - n_test) * validation_fraction)
    n_train = n - n_test - n_val
    if min(n_test, n_val, n_train) < 1:
        raise DataError(
            f"{n} rows are too few: test_fraction={test_fraction} and validation_fraction={validation_fraction} "
            f"would leave {n_train} training, {n_val} validation and {n_test} test rows, and each needs one or more"
        )
    order = np.random.RandomState(seed).permutation(n)
    rest = order[n_test:]
    return rest[:n_train], rest[n_train:], order[:n_test]


def split_blocks(
    parts: tuple[int, int, int], rows: int | None = None, *, validation_fraction: float | None = None, seed: int = 42
) -> tuple[slice | np.ndarray, slice | np.ndarray, slice | np.ndarray]:
    """Training, validation and test rows that lie one behind the other: a split that the data set itself makes.

    Args:
      parts: rows of each. Where there are none for validation or test, they are cut at random from those of training: 20 % for the test,
        and of the rest 10 %, or ``validation_fraction``, for validation.
      rows: how many to take, the first of each part in proportion; None takes all.
      validation_fraction: of the rows that are not test, the last of them; None leaves the parts as they are.
      seed: of what is cut at random.

    Raises: DataError where an argument is out of range or a part would be empty.

    >>> split_blocks((700, 100, 200), 100)
    (slice(0, 70, None), slice(700, 710, None), slice(800, 820, None))
    >>> train, val, test = split_blocks((10, 0, 5))
    >>> sorted([*train.tolist(), *val.tolist()]), test
    ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], slice(10, 15, None))
    """
    if validation_fraction is not None and not 0 < validation_fraction < 1:
        raise DataError(f"validation_fraction={validation_fraction} is out of range: it lies between 0 and 1, both excluded")
    train, val, test = parts
    total = sum(parts)
    rows = total if rows is None else rows
    if not (val and test):
        return _cut(parts, rows / total, 0.1 if validation_fraction is None else validation_fraction, seed)
    if validation_fraction is not None:
        val = round((train + val) * validation_fraction)
        train = total - test - val
    n_val, n_test = round(val * rows / total), round(test * rows / total)
    n_train = rows - n_val - n_test
    _check_sizes(rows, n_train, n_val, n_test)
    return slice(0, n_train), slice(train, train + n_val), slice(train + val, train + val + n_test)


def _cut(
    parts: tuple[int, int, int], share: float, fraction: float, seed: int
) -> tuple[slice | np.ndarray, slice | np.ndarray, slice | np.ndarray]:
    """The first ``share`` of each part; what lacks a part of its own is cut from the training rows."""
    train, val, test = (round(n * share) for n in parts)
    order = np.random.RandomState(seed).permutation(train)
    n_test = 0 if test else math.ceil(0.2 * train)
    n_val = 0 if val else round((train - n_test) * fraction)
    n_train = train - n_test - n_val
    _check_sizes(train + val + test, n_train, n_val or val, n_test or test)
    start = parts[0] + parts[1]
    return (
        order[n_test : n_test + n_train],
        slice(parts[0], parts[0] + val) if val else order[n_test + n_train :],
        slice(start, start + test) if test else order[:n_test],
    )


def _check_sizes(rows: int, n_train: int, n_val: int, n_test: int) -> None:
    if min(n_train, n_val, n_test) < 1:
        raise DataError(
            f"{rows} rows are too few: they would leave {n_train} training, {n_val} validation and {n_test} test rows, "
            "and each needs one or more"
        )
