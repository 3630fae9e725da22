"""A model description layer by layer: shapes, bit-widths, pruned shares, costs. What `ModelDescription.summary`, the report of a run and
`hgqjax zoo` show."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from hgqjax.description.operations import Input, Linear, Lookup, Operation, Quantize
from hgqjax.resources import Luts, ebops

BLOCKS = "▁▂▃▄▅▆▇█"
"""Of `sparkline`; an empty bin is a point."""


@dataclasses.dataclass(frozen=True)
class Widths:
    """How many values have how many bits: ``counts[b]`` have b. Of weights the magnitude bits (with a sign where the format is SAT), of
    activations the total bits; `zeros` are the values that are gone: weights of 0, activations of 0 bits.

    >>> widths = Widths.of(np.array([0, 2, 2, 4]))
    >>> (widths.low, widths.mean, widths.high, widths.pruned), str(widths)
    ((0, 2.0, 4, 0.25), '0/2.00/4')
    >>> sum([widths, widths], Widths()).counts
    (2, 0, 4, 0, 2)
    """

    counts: tuple[int, ...] = ()
    zeros: int = 0

    @classmethod
    def of(cls, bits: np.ndarray, zero: np.ndarray | None = None) -> "Widths":
        """Of an array of whole numbers of bits >= 0; `zero` says which values are gone, by default those of no bits."""
        gone = bits == 0 if zero is None else zero
        return cls(tuple(np.bincount(bits.ravel().astype(np.int64)).tolist()), int(np.sum(gone)))

    def __add__(self, other: "Widths") -> "Widths":
        longer, shorter = sorted((self.counts, other.counts), key=len, reverse=True)
        counts = tuple(n + (shorter[b] if b < len(shorter) else 0) for b, n in enumerate(longer))
        return Widths(counts, self.zeros + other.zeros)

    def __str__(self) -> str:
        return f"{self.low}/{self.mean:.2f}/{self.high}" if self.size else ""

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(self.counts)

    @property
    def low(self) -> int:
        """Fewest bits of a value; 0 where there is none."""
        return next((b for b, n in enumerate(self.counts) if n), 0)

    @property
    def high(self) -> int:
        """Most bits of a value."""
        return max(len(self.counts) - 1, 0)

    @property
    def mean(self) -> float:
        """Mean bits of a value, values of no bits among them; 0 where there is none."""
        return sum(b * n for b, n in enumerate(self.counts)) / max(self.size, 1)

    @property
    def pruned(self) -> float:
        """Share of the values that are gone, 0 .. 1."""
        return self.zeros / max(self.size, 1)


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One layer of a description. `shape` is that of its result; `weights` has no values where it has no weights, `inputs` none where
    what it reads is quantized elsewhere. Of a layer of tables `weights` are the bits of their results, gone where all words are 0, and
    `kernel_shape` is the number of words. Costs are None where the layer costs nothing by that count."""

    name: str
    kind: str
    shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    inputs: Widths
    weights: Widths
    ebops: float | None
    ebops_paper_v1: float | None
    luts: float | None


def layer_rows(description: Any) -> list[LayerRow]:
    """Every layer of a model description in order. A quantizer that one layer alone reads is part of that layer's row, as its `inputs`.

    EBOPs are exact, by both definitions; `luts` are those that `hgqjax.resources.Luts` predicts.

    >>> from hgqjax.export import ModelDescription
    >>> zero, two = np.zeros(3, np.int64), np.array([2, 2, 0])
    >>> quantizer = {"inputs": ("x",), "shape": (3,), "k": zero, "i": zero, "f": two, "rounding": "RND", "overflow": "SAT"}
    >>> operations = (Input(name="x", inputs=(), shape=(3,)), Quantize(name="q", **quantizer))
    >>> row = layer_rows(ModelDescription(name="m", operations=operations, outputs=("q",)))[-1]
    >>> row.name, row.kind, str(row.inputs), row.ebops
    ('q', 'quantize', '0/1.33/2', None)
    """
    counted = ebops(description), ebops(description, "paper_v1"), Luts()(description)
    by_name = {op.name: op for op in description.operations}
    readers: dict[str, list[Operation]] = {op.name: [] for op in description.operations}
    for op in description.operations:
        for name in op.inputs:
            readers[name].append(op)
    merged = {
        op.name
        for op in description.operations
        if isinstance(op, Quantize) and op.name not in description.outputs and len({id(r) for r in readers[op.name]}) == 1
        if not isinstance(readers[op.name][0], Quantize)
    }
    rows = []
    for op in description.operations:
        if op.name in merged or isinstance(op, Input):
            continue
        sources = [op] if isinstance(op, Quantize) else [by_name[name] for name in op.inputs if name in merged]
        weights, kernel = Widths(), ()
        if isinstance(op, Linear):
            weights, kernel = Widths.of(op.kernel.bits, op.kernel.integers == 0), op.kernel.integers.shape
        elif isinstance(op, Lookup):
            live = np.logical_or.reduceat(op.words != 0, op.start[:-1]).reshape(op.shape)
            weights, kernel = Widths.of(op.bits, ~live), op.words.shape
        inputs = sum((Widths.of(source.bits) for source in sources), Widths())
        costs = (float(cost[op.name]) if op.name in cost else None for cost in counted)
        rows.append(LayerRow(op.name, op.kind, op.shape, kernel, inputs, weights, *costs))
    return rows


def activation_widths(description: Any) -> Widths:
    """Of all quantized activations of a description together."""
    return sum((Widths.of(op.bits) for op in description.operations if isinstance(op, Quantize)), Widths())


def weight_widths(rows: Iterable[LayerRow]) -> Widths:
    """Of all weights together; biases are not among them."""
    return sum((row.weights for row in rows), Widths())


def sparkline(widths: Widths) -> str:
    """A histogram in a line: a character for each number of bits from 0 on, the most frequent the highest; a point where there is none.

    >>> sparkline(Widths((4, 0, 8, 1)))
    '▄·█▁'
    """
    top = max(widths.counts, default=0)
    return "".join("·" if not n else BLOCKS[max(-(-8 * n // top) - 1, 0)] for n in widths.counts)


def shape_text(shape: tuple[int, ...]) -> str:
    """``8x8x3``."""
    return "x".join(map(str, shape))


def text_table(description: Any) -> str:
    """The layers for a terminal, inputs of the model first, totals last."""
    heads = ("layer", "kind", "shape", "input bits", "dead", "weights", "weight bits", "pruned", "EBOPs", "paper_v1", "LUTs")
    rows = layer_rows(description)
    lines: list[tuple[str, ...]] = [heads, *((op.name, op.kind, shape_text(op.shape), *[""] * 8) for op in description.inputs)]
    for r in rows:
        inputs = str(r.inputs), f"{r.inputs.pruned:.1%}" if r.inputs.size else ""
        weights = shape_text(r.kernel_shape), str(r.weights), f"{r.weights.pruned:.1%}" if r.weights.size else ""
        lines.append((r.name, r.kind, shape_text(r.shape), *inputs, *weights, *map(_cost, (r.ebops, r.ebops_paper_v1, r.luts))))
    sums = [sum(getattr(r, name) or 0.0 for r in rows) for name in ("ebops", "ebops_paper_v1", "luts")]
    lines.append(("total", "", "", str(activation_widths(description)), "", "", str(weight_widths(rows)), "", *map(_cost, sums)))
    text = "\n".join(aligned(lines, left=3))
    note = "bits min/mean/max: of inputs in total, of weights their magnitude; dead inputs have 0 bits, pruned weights are 0; "
    note += "LUTs are predicted (resources.Luts)"
    return (
        f"{description.name}\n{text}\n{note}\nEBOPs {sums[0]:.0f} (definition hgq2), {sums[1]:.0f} (paper_v1)\nLUTs predicted {sums[2]:.0f}"
    )


def aligned(lines: Iterable[tuple[str, ...]], left: int = 1) -> Iterator[str]:
    """Lines of cells in columns, two spaces between them, the first `left` columns to the left and the others to the right.

    >>> list(aligned([("a", "n"), ("bcd", "10")]))
    ['a     n', 'bcd  10']
    """
    lines = list(lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell.ljust(w) if n < left else cell.rjust(w) for n, (cell, w) in enumerate(zip(line, widths, strict=True))]
        yield "  ".join(cells).rstrip()


def _cost(number: float | None) -> str:
    return "" if number is None else f"{number:.0f}"
