"""Where rows leave the calibrated ranges of a network, and so wrap around in hardware, and how often."""

from typing import NamedTuple

import numpy as np

from hgqjax.description import integers as exact
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Grid, Quantize

BATCH_WORDS = 2**24


class Wrap(NamedTuple):
    """A quantizer that wraps: its name, the share of rows in which any element does, and that of each element, of its shape."""

    name: str
    share: float
    elements: np.ndarray


class Wraps(NamedTuple):
    """What `wraps` found on `rows` rows: the share of rows that wrap anywhere, and each quantizer that does."""

    rows: int
    share: float
    where: tuple[Wrap, ...]


def rounded(op: Quantize, x: np.ndarray, source: Grid) -> np.ndarray:
    """Whole numbers that `op` makes of values `x`, before they are brought into its range."""
    if np.issubdtype(x.dtype, np.floating):
        wide = np.full(op.shape, 2**60, object)
        return exact.quantize_floats(x, op.f, op.rounding, "SAT", -wide, wide - 1)
    return exact.round_to_grid(x, source.f, op.f, op.rounding)


def wraps(description: ModelDescription, x) -> Wraps:
    """Which quantizers with overflow WRAP wrap on rows `x` (as `ModelDescription.evaluate` takes them), in exact integers.

    Elements without bits, which are the constant 0, do not count. Raises: as `ModelDescription.evaluate`.
    """
    parts = x if isinstance(x, tuple) else (x,)
    quantizers = [op for op in description.operations if isinstance(op, Quantize) and op.overflow == "WRAP" and np.any(op.bits > 0)]
    counts = {op.name: np.zeros(op.shape, np.int64) for op in quantizers}
    rows_of = dict.fromkeys(counts, 0)
    step = max(BATCH_WORDS // max(sum(int(np.prod(op.shape)) for op in description.operations), 1), 1)
    total = anywhere = 0
    for start in range(0, len(parts[0]), step):
        batch = tuple(part[start : start + step] for part in parts)
        values, count = description.integers(batch), len(batch[0])
        hit = np.zeros(count, bool)
        for op in quantizers:
            low, high = op.limits()
            found = rounded(op, values[op.inputs[0]], description.grids[op.inputs[0]])
            outside = ((found < low) | (found > high)).astype(bool) & (op.bits > 0)
            counts[op.name] += outside.sum(0)
            of_row = outside.reshape(count, -1).any(1)
            rows_of[op.name] += int(of_row.sum())
            hit |= of_row
        total, anywhere = total + count, anywhere + int(hit.sum())
    share = 1 / max(total, 1)
    where = tuple(Wrap(name, rows_of[name] * share, n * share) for name, n in counts.items() if rows_of[name])
    return Wraps(total, anywhere * share, where)


def text(found: Wraps, features: tuple[str, ...] = (), inputs: tuple[str, ...] = ()) -> str:
    """Some lines for people; `features` name the elements of quantizers with one axis of as many, of those in `inputs`."""
    if not found.where:
        return f"all {found.rows} rows are within the calibrated ranges"
    lines = [f"{found.share:.2%} of {found.rows} rows are beyond a calibrated range, and wrap around there:"]
    for wrap in found.where:
        flat = wrap.elements.ravel()
        most = [int(n) for n in np.argsort(-flat, kind="stable")[:4] if flat[n] > 0]
        named = wrap.name in inputs and wrap.elements.shape == (len(features),)
        names = [features[n] if named else f"[{', '.join(map(str, np.unravel_index(n, wrap.elements.shape)))}]" for n in most]
        shown = ", ".join(f"{name} {flat[n]:.2%}" for name, n in zip(names, most, strict=True))
        more = int((flat > 0).sum()) - len(most)
        lines.append(f"  {wrap.name}: {wrap.share:.2%} of rows; elements {shown}" + (f" and {more} more" if more else ""))
    return "\n".join(lines)


def report(description: ModelDescription, x) -> str:
    """`text` of `wraps`, with the names of the features that the metadata has."""
    inputs = {op.name for op in description.inputs}
    readers = tuple(op.name for op in description.operations if isinstance(op, Quantize) and op.inputs[0] in inputs)
    return text(wraps(description, x), tuple(map(str, description.metadata.get("features", ()))), readers)
