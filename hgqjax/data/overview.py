"""What a data set is, on one screen, before a network is trained on it: sizes, target, and warnings of what often goes wrong."""

import numpy as np

from hgqjax import scratch
from hgqjax.archives import in_words
from hgqjax.data.columns import listed
from hgqjax.data.dataset import PARTS, Dataset

FEW_ROWS = 20
"""Training rows below which a class is called small."""
UNBALANCED = 10.0
"""Ratio of the rows of the largest and the smallest class that is called unbalanced."""
FLATTENED = 100.0
"""Ratio of the whole span of a column and that of its central 99 % above which an outlier flattens it."""
_SAMPLE, _MOST_WARNINGS, _MOST_VALUES = 20_000, 8, 4096


def overview(dataset: Dataset) -> str:
    """Some lines for people: rows, features, target, and at most eight warnings.

    >>> from hgqjax import data
    >>> print(overview(data.load("jets", rows=1000)))
    jets (re-simulated): 1000 rows (720 train, 80 val, 200 test), 16 features
      target: 5 classes: g 17 %, q 20 %, w 23 %, z 18 %, t 22 %
    """
    counts = {part: len(getattr(dataset, f"y_{part}")) for part in PARTS}
    shape = dataset.input_shape
    what = f"{shape[0]} features" if len(shape) == 1 else f"rows of shape {shape}"
    if dataset.inputs:
        what = f"{len(dataset.inputs)} inputs: " + ", ".join(f"{part.name} {part.shape}" for part in dataset.inputs)
    parts = ", ".join(f"{n} {part}" for part, n in counts.items())
    lines = [f"{dataset.name}: {sum(counts.values())} rows ({parts}), {what}", f"  target: {_target(dataset)}"]
    if dataset.weight_train is not None:
        weight = dataset.weight_train
        lines.append(f"  weights: {weight.min():.4g} .. {weight.max():.4g}, mean {weight.mean(dtype=np.float64):.4g}")
    if dataset.at_once is not None:
        size = sum(getattr(dataset, f"x_{part}").nbytes for part in PARTS)
        about = f"{in_words(size)} of rows are streamed from a scratch file, {in_words(dataset.at_once)} at a time"
        lines.append(f"  {about}, as memory has no room for them (--memory)")
    lines += [f"  note: {note}" for note in dataset.notes[:3]]
    found = warnings_of(dataset)
    lines += [f"  warning: {warning}" for warning in found[:_MOST_WARNINGS]]
    if len(found) > _MOST_WARNINGS:
        lines.append(f"  and {len(found) - _MOST_WARNINGS} more warnings")
    return "\n".join(lines)


def warnings_of(dataset: Dataset) -> list[str]:
    """Sentences on the training rows: constant or flattened features, small and unbalanced classes, odd targets and weights."""
    checks = {"classes": _classes, "labels": _labels, "regression": _numbers}
    return checks[dataset.kind](dataset) + _weights(dataset) + _features(dataset)


def _target(dataset: Dataset) -> str:
    y = dataset.y_train
    if dataset.kind == "classes":
        shares = np.bincount(y, minlength=dataset.n_classes) / len(y)
        shown = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(zip(dataset.classes, shares, strict=True))[:8])
        return f"{dataset.n_classes} classes: {shown}" + (", ..." if dataset.n_classes > 8 else "")
    if dataset.kind == "labels":
        shares = y.mean(axis=0)
        shown = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(zip(dataset.target_names, shares, strict=True))[:8])
        return f"{len(shares)} labels, each yes or no: {shown}" + (", ..." if len(shares) > 8 else "")
    unit = f" {dataset.unit}" if dataset.unit else ""
    if y.ndim == 2:
        return f"{y.shape[1]} numbers in{unit or ' no unit'}: {listed(dataset.target_names)}"
    mean, deviation = y.mean(dtype=np.float64), y.std(dtype=np.float64)
    return f"{dataset.target_names[0]}, mean {mean:.4g}{unit}, standard deviation {deviation:.4g}, {y.min():.4g} .. {y.max():.4g}"


def _classes(dataset: Dataset) -> list[str]:
    found, n = [], dataset.n_classes
    counts = {part: np.bincount(getattr(dataset, f"y_{part}"), minlength=n) for part in PARTS}
    rows = counts["train"]
    for number, name in enumerate(dataset.classes):
        lacking = [part for part in PARTS if not counts[part][number]]
        if rows[number] < FEW_ROWS or lacking:
            where = f", and none for {' and '.join(lacking)}" if lacking else ""
            found.append(f"class {name!r} has {rows[number]} training rows{where}; a handful is not learned, or not measured")
    if rows.min() and rows.max() / rows.min() > UNBALANCED:
        name, share = dataset.classes[int(rows.argmax())], rows.max() / rows.sum()
        small = dataset.classes[int(rows.argmin())]
        why = f"saying {name!r} always is right in {100 * share:.1f} % of the rows"
        found.append(f"classes are unbalanced, {rows.max() / rows.min():.0f} times as many rows of {name!r} as of {small!r}: {why}")
    return found


def _labels(dataset: Dataset) -> list[str]:
    ones = dataset.y_train.sum(axis=0)
    rows = len(dataset.y_train)
    return [
        f"label {name!r} is yes in {n} of {rows} training rows; a handful of either is not learned"
        for name, n in zip(dataset.target_names, ones.tolist(), strict=True)
        if min(n, rows - n) < FEW_ROWS
    ]


def _numbers(dataset: Dataset) -> list[str]:
    y, found = dataset.y_train.reshape(len(dataset.y_train), -1), []
    if y.shape[1] > _MOST_VALUES or dataset.target_names == dataset.feature_names:  # an autoencoder: said of its features
        return found
    y = y.astype(np.float64)
    for name, mean, deviation in zip(dataset.target_names, y.mean(axis=0), y.std(axis=0), strict=True):
        if deviation <= 1e-6 * abs(mean) or deviation == 0:
            found.append(f"target {name!r} is constant, {mean:.4g}")
        elif abs(mean) > 10 * deviation or not 1e-2 < deviation < 1e2:
            size = f"has the mean {mean:.4g} and the standard deviation {deviation:.4g}"
            found.append(f"target {name!r} {size}; a network starts with outputs of about 1, so shift and scale it in the file")
    return found + _flattened(y, dataset.target_names, "target")


def _weights(dataset: Dataset) -> list[str]:
    weight = dataset.weight_train
    if weight is None:
        return []
    effective = float(weight.sum(dtype=np.float64) ** 2 / np.sum(weight.astype(np.float64) ** 2))
    if effective >= 0.1 * len(weight):
        return []
    return [f"a few rows have most of the weight: {len(weight)} training rows count as {effective:.0f} equal ones"]


def _features(dataset: Dataset) -> list[str]:
    x = dataset.x_train.reshape(len(dataset.x_train), -1)
    least, most = _ends(x)
    constant = least == most
    if x.ndim != dataset.x_train.ndim or x.shape[1] > _MOST_VALUES:
        share = f"{constant.sum()} of {x.shape[1]} values of a row are constant in the training rows"
        return [share] if constant.any() else []
    names = [name for name, same in zip(dataset.feature_names, constant, strict=True) if same]
    found = [f"feature {name!r} is constant in the training rows, and tells nothing" for name in names]
    return found + _flattened(x, dataset.feature_names, "feature")


def _flattened(values: np.ndarray, names: tuple[str, ...], what: str) -> list[str]:
    """Of columns whose few largest values leave the others next to nothing of the scale."""
    sample = values[:: max(1, len(values) // _SAMPLE)].astype(np.float64)
    low, high = np.quantile(sample, (0.005, 0.995), axis=0)
    least, most = (end.astype(np.float64) for end in _ends(values))
    found = []
    for n in np.flatnonzero((high > low) & (most - least > FLATTENED * (high - low))):
        centre = (low[n] + high[n]) / 2
        far = most[n] if most[n] - centre > centre - least[n] else least[n]
        row = next(rows.start + int(at[0]) for rows in scratch.blocks(values) if len(at := np.flatnonzero(values[rows, n] == far)))
        ratio = (most[n] - least[n]) / (high[n] - low[n])
        why = f"an outlier (training row {row}) that makes its span {ratio:.3g} times that of 99 % of the rows"
        found.append(f"{what} {names[n]!r} has {why}")
    return found


def _ends(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest value of each column."""
    least, most = values[0], values[0]
    for rows in scratch.blocks(values):
        least, most = np.minimum(least, values[rows].min(axis=0)), np.maximum(most, values[rows].max(axis=0))
        scratch.release(values)
    return least, most
