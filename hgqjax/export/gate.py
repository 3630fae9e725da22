"""The export gate: what a back end computes is compared word for word with the model description, and any difference stops the export.

A back end brings its output words for the rows of `gate_rows`; `check_words` does the rest. Nothing here knows hls4ml or RTL.
"""

import dataclasses
import math

import numpy as np

from hgqjax.archives import ArchiveError, check_memory
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Grid, Quantize
from hgqjax.description.readers import input_readers

EXTRA_BITS = 3
"""Test rows lie on a grid this many bits finer than the input quantizers, so that input rounding is tested too."""
MAX_DIRECTED_WORDS = 4_000_000
"""Input words in the rows that visit limits one element at a time; wide inputs visit a random choice of them."""
CHUNK = 2**24
"""Words of all operations together that are computed at a time."""
Rows = np.ndarray | tuple[np.ndarray, ...]
"""Rows of the one input, or of each."""


class ExportError(RuntimeError):
    """A model that cannot be exported as asked; nothing is left on disk."""


class GateError(ExportError):
    """A back end computed a word that differs from the model description."""


@dataclasses.dataclass(frozen=True)
class GateReport:
    """A gate that was passed: every one of `words` output words on `rows` rows was equal."""

    rows: int
    words: int
    seed: int
    seconds: float
    differing_words: int = 0


def row_count(x: Rows) -> int:
    """Rows of `x`, each of which is a row of every input."""
    return len(x[0] if isinstance(x, tuple) else x)


def check_rows(description: ModelDescription, **counts: int | None) -> None:
    """Raises ExportError where one of the given numbers of rows is not at least 1, or memory has no room for their words."""
    words = sum(math.prod(description[name].shape) for name in (*(op.name for op in description.inputs), *description.outputs))
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ExportError(f"{name} is {count}; at least 1 row is needed")
        try:
            check_memory(8 * words * (count or 0), f"{name} is {count}, which")
        except ArchiveError as error:
            raise ExportError(f"{error}; give fewer rows") from None


def gate_rows(description: ModelDescription, *, rows: Rows | None = None, min_rows: int = 10_000, seed: int = 0) -> Rows:
    """Rows to compare on: real data, words at and beyond every input limit, and uniformly random words.

    Args:
      description: the model; `description.sample`, or its first rows up to half of `min_rows`, is part of the rows.
      rows: more data, (n, *input shape), all of it; a tuple of such arrays where the model has several inputs.
      min_rows: at least this many rows in all, of which at least half are random words.
      seed: of the random words.
    Returns:
      float64 (n, *input shape), finite; a tuple of such arrays where the model has several inputs. The formats are those of the quantizers
      that read the input; every element visits its least and greatest word, one step and half a step beyond, ties, zero, all at once and
      each alone among random neighbours. Where these would be more than half of `min_rows`, or more than memory has room for, each element
      alone visits a random choice of them. Of several inputs the shorter ones go on with random words.
    """
    rng = np.random.default_rng(seed)
    sample = description.sample if isinstance(description.sample, tuple) else (description.sample,) * len(description.inputs)
    sample = [None if part is None else part[: max(min_rows // 2, 1)] for part in sample]
    if len(description.inputs) == 1:
        return _input_rows(description, 0, [sample[0], rows], min_rows, rng)
    given = (None,) * len(description.inputs) if rows is None else rows
    if not isinstance(given, tuple) or len(given) != len(description.inputs):
        raise ExportError(f"rows for the gate must be a tuple of {len(description.inputs)} arrays, one for each input")
    parts = [_input_rows(description, n, [sample[n], part], min_rows, rng) for n, part in enumerate(given)]
    most = max(map(len, parts))
    more = [_input_rows(description, n, [], 2 * (most - len(part)), rng)[len(part) - most :] for n, part in enumerate(parts)]
    return tuple(np.concatenate([a, b]) if len(a) < most else a for a, b in zip(parts, more, strict=True))


def _input_rows(description: ModelDescription, which: int, given: list, min_rows: int, rng: np.random.Generator) -> np.ndarray:
    source = description.inputs[which]
    data = [np.asarray(r, np.float64) for r in given if r is not None]
    for r in data:
        if r.shape[1:] != source.shape:
            raise ExportError(f"rows of shape {r.shape} were given for the gate; (rows, {', '.join(map(str, source.shape))}) is needed")
    readers = input_readers(description, source)
    if not readers:
        return np.concatenate([*data, rng.normal(size=(min_rows, *source.shape))])
    directed = [_directed_rows(reader, rng, min_rows // (2 * len(readers)) + 1) for reader in readers]
    count = max(min_rows // 2, min_rows - sum(len(r) for r in data + directed))
    random = [_random_rows(reader, rng, -(-count // len(readers))) for reader in readers]
    return np.concatenate([*data, *directed, *random])


def _limits(reader: Quantize) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least and greatest word and the step of each element, float64; a constant element plays a number of 3 bits."""
    low, high = (v.astype(np.float64) for v in reader.limits())
    dead = reader.bits <= 0
    step = np.ldexp(1.0, np.where(dead, 0, reader.f).astype(np.int64))
    return np.where(dead, -4.0, low), np.where(dead, 3.0, high), 1.0 / step


def _directed_rows(reader: Quantize, rng: np.random.Generator, count: int) -> np.ndarray:
    """All at their limits; a mixture of limits; each alone at one of its limits, `count` rows at most, the mixture half as many."""
    low, high, step = (v.ravel() for v in _limits(reader))
    steps = {0: (-1, -0.5, 0, 0.5), 1: (-1, -0.5, -0.125, 0, 0.125, 0.5, 1, 1.5), 2: (0, 0.5, 1)}
    special = np.stack([start + d for n, start in enumerate((low, np.zeros_like(low), high)) for d in steps[n]])
    corners = special[rng.integers(len(special), size=(min(512, count // 2 + 1), len(low))), np.arange(len(low))]
    which, element = np.divmod(np.arange(special.size), len(low))
    count = min(count, MAX_DIRECTED_WORDS // len(low) + 1)
    if special.size > count:
        chosen = rng.choice(special.size, count, replace=False)
        which, element = which[chosen], element[chosen]
    alone = _random_words(low, high, 0, rng, len(which))
    alone[np.arange(len(which)), element] = special[which, element]
    return (np.concatenate([special, corners, alone]) * step).reshape(-1, *reader.shape)


def _random_rows(reader: Quantize, rng: np.random.Generator, count: int) -> np.ndarray:
    """A third on the grid, a third between grid points and a little outside, a third up to a whole range outside."""
    low, high, step = (v.ravel() for v in _limits(reader))
    third = -(-count // 3)
    inside = _random_words(low, high, 0, rng, third)
    between = _random_words(low - 1, high + 1, EXTRA_BITS, rng, third)
    span = high - low + 1
    outside = _random_words(low - span, high + span, EXTRA_BITS, rng, third)
    return (np.concatenate([inside, between, outside]) * step).reshape(-1, *reader.shape)


def _random_words(low, high, extra_bits: int, rng: np.random.Generator, count: int) -> np.ndarray:
    """Uniform multiples of ``2**-extra_bits`` within [low, high]."""
    scale = 2.0**extra_bits
    return low + np.floor(rng.random((count, len(low))) * ((high - low) * scale + 1)) / scale


def to_words(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Values as numbers of steps of `grid`, float64; a fraction is left where a value is not on the grid."""
    return np.ldexp(np.asarray(values, np.float64).reshape(-1, *grid.f.shape), grid.f.astype(np.int64))


def expected(description: ModelDescription, x: Rows) -> dict[str, np.ndarray]:
    """Words of the outputs for rows `x` by the exact evaluator, computed in parts that fit into memory."""
    step = max(CHUNK // sum(math.prod(op.shape) for op in description.operations), 1)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in description.outputs}
    for n in range(0, max(row_count(x), 1), step):
        values = description.integers(tuple(part[n : n + step] for part in x) if isinstance(x, tuple) else x[n : n + step])
        for name, found in parts.items():
            found.append(values[name])
    return {name: np.concatenate(found) for name, found in parts.items()}


def check_words(description: ModelDescription, x: Rows, words: tuple[np.ndarray, ...], *, tool: str) -> int:
    """Compare the output words of a back end with the description's own.

    Args:
      description: the judge.
      x: rows (n, *input shape); a tuple of them where the model has several inputs.
      words: for each output (n, *shape), in steps of its grid (see `to_words`).
      tool: name of the back end, for the message.
    Returns: number of words compared.
    Raises: GateError with the first difference: output, index, row, both words and values, and the number of differing words.
    """
    shapes = {name: description[name].shape for name in description.outputs}
    for name, got in zip(description.outputs, words, strict=True):
        if got.shape != (row_count(x), *shapes[name]):
            raise GateError(f"{tool} gave output {name!r} the shape {got.shape}, the model description has {(row_count(x), *shapes[name])}")
    wanted = expected(description, x)
    wrong = [np.argwhere(got != wanted[name]) for name, got in zip(description.outputs, words, strict=True)]
    total = sum(got.size for got in words)
    count = sum(map(len, wrong))
    if count:
        first = next(n for n, where in enumerate(wrong) if len(where))
        name, (row, *index) = description.outputs[first], wrong[first][0].tolist()
        f = int(description.grids[name].f[tuple(index)])
        want, got = (v[(row, *index)] for v in (wanted[name], words[first]))
        raise GateError(
            f"{tool} differs from the model in {count} of {total} output words; first: output {name!r} index {index} row {row} should be "
            f"the word {int(want)} (value {int(want) * 2.0**-f!r}), {tool} has {float(got):.17g} (value {float(got) * 2.0**-f!r}), f={f}"
        )
    return total
