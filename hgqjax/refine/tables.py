"""The layers of tables that follow one another in a description, as tables whose words can change."""

import dataclasses
import functools
import itertools
import math

import numpy as np

from hgqjax.description import ModelDescription
from hgqjax.description import integers as exact
from hgqjax.description.operations import Gather, Lookup, Operation, Quantize, Sum
from hgqjax.resources.content import by_key, tables_luts


class RefineError(ValueError):
    """A network that cannot be refined; one sentence."""


@dataclasses.dataclass(eq=False)
class Tables:
    """A layer of tables: keys are quantized elements of what comes before, words are added up. Tables are numbered along one axis."""

    quantize: Quantize
    lookup: Lookup
    total: Sum
    source: np.ndarray
    """Of each table, the element that its key is made of; -1 where that is a constant 0."""
    source_f: int | None
    """Fractional bits of these elements, which have one grid, where they are sums of words; None of other numbers."""
    target: np.ndarray
    """The sum that its words are part of."""
    shift: np.ndarray
    """Of each table, by how much its words are shifted to the grid of the sum."""
    aligned: np.ndarray
    """By how much each sum is shifted so that all have one grid, where tables follow."""
    words: list[np.ndarray]
    luts: np.ndarray
    """LUT6 of the content of each table."""
    bits: np.ndarray
    """Bits of the words of each table for its adder, as `word_bits`."""

    @functools.cached_property
    def tables_of(self) -> list[list[int]]:
        """The tables of each sum."""
        return [np.flatnonzero(self.target == t).tolist() for t in range(math.prod(self.total.shape))]

    @functools.cached_property
    def _limits(self) -> list[np.ndarray]:
        return [v.ravel() for v in self.quantize.limits()]

    def alive(self, n: int) -> bool:
        """Whether table n is no constant."""
        return bool(self.bits[n])

    def keys(self, n: int, h: np.ndarray) -> np.ndarray:
        """Of whole numbers `h`, values of the element that table n reads: the number of the word of each."""
        low, high = (limit[n : n + 1] for limit in self._limits)
        f, f_in = self.quantize.f.ravel()[n : n + 1], int(self.lookup.f_in.ravel()[n])
        assert self.source_f is not None, "its sources are sums of words"
        key = exact.overflow(
            exact.round_to_grid(h[:, None], np.array([self.source_f]), f, self.quantize.rounding), self.quantize.overflow, low, high
        )
        return (exact.shift_left(key, np.array([f_in]) - f)[:, 0] - int(self.lookup.low.ravel()[n])).astype(np.int64)

    def read(self, s: int, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums that hang on element `s`, and what it adds to each where it is `h` (rows,): (sums,), (rows, sums)."""
        tables = [n for n in np.flatnonzero(self.source == s).tolist() if self.alive(n)]
        targets, least, most = np.unique(self.target[tables]), int(h.min()), int(h.max())
        if most - least < 2 * len(h) + 2**12:
            every, where = np.arange(least, most + 1), h - least
        else:  # of wide sums only what is there
            every, where = np.unique(h, return_inverse=True)
        added = np.zeros((len(every), len(targets)), np.int64)
        for n in tables:
            added[:, np.searchsorted(targets, self.target[n])] += self.words[n][self.keys(n, every)] << self.shift[n]
        return targets, np.take(added, where, axis=0)  # faster than an index, and other threads go on

    def cost(self, changes: dict[int, np.ndarray], growth: float) -> float:
        """How much more the layer costs with other words of some tables of one sum."""
        own = self.tables_of[self.target[next(iter(changes))]]
        bits, luts = self.bits[own].copy(), 0.0
        for n, words in changes.items():
            bits[own.index(n)] = word_bits(words)
            luts += self._luts(n, words) - self.luts[n]
        return float(luts) + adders(bits, growth) - adders(self.bits[own], growth)

    def _luts(self, n: int, words: np.ndarray) -> float:
        return content_luts(words.tobytes(), int(self.lookup.low.ravel()[n]))

    def set(self, n: int, words: np.ndarray) -> None:
        """Gives table n other words."""
        self.words[n] = words
        self.luts[n], self.bits[n] = self._luts(n, words), word_bits(words)

    def total_cost(self, growth: float) -> float:
        """Predicted LUTs of the layer."""
        return float(self.luts.sum() + sum(adders(self.bits[own], growth) for own in self.tables_of))

    def operations(self) -> dict[str, Operation]:
        """Quantizer and tables as they are now, without bits that nothing reads: of constants, at the end of all words, of keys."""
        quantize = {name: getattr(self.quantize, name).copy() for name in "kif"}
        lookup = {name: getattr(self.lookup, name).copy() for name in ("low", "f_in", "f", "bits")}
        cut = self.quantize.rounding == "TRN" and self.quantize.overflow != "SAT_SYM"  # a key without its last bit is then cut off earlier
        words = []
        for n, table in enumerate(self.words):
            at = np.unravel_index(n, self.lookup.shape)
            lookup["f"][at] -= zeros(table)
            lookup["bits"][at] = word_width(table)
            table = table >> zeros(table)
            if not self.alive(n):
                table = table[:1]
                for v in (*quantize.values(), lookup["low"], lookup["f_in"]):
                    v[at] = 0
            while cut and len(table) > 2 and len(table) % 2 == 0 and self._last_bit_is_unread(table, quantize, lookup, at):
                table = table[::2]
                lookup["low"][at] //= 2
                lookup["f_in"][at] -= 1
                quantize["f"][at] -= 1
            words.append(table)
        start = np.r_[0, np.cumsum([len(table) for table in words])].astype(np.int64)
        return {
            self.quantize.name: dataclasses.replace(self.quantize, **quantize),
            self.lookup.name: dataclasses.replace(self.lookup, words=np.concatenate(words), start=start, **lookup),
        }

    def _last_bit_is_unread(self, table, quantize, lookup, at) -> bool:
        whole = lookup["low"][at] % 2 == 0 and quantize["f"][at] == lookup["f_in"][at]
        return bool(whole and np.array_equal(table[::2], table[1::2]))

    def check(self) -> None:
        """Raises RefineError where a table has not all words that its key, of any sum, can ask for."""
        low, high = (limit.astype(np.float64) for limit in self._limits)
        coarser = np.ldexp(1.0, (self.lookup.f_in - self.quantize.f).ravel())
        sizes = np.array([len(table) for table in self.words])
        short = (low * coarser < self.lookup.low.ravel()) | (high * coarser - self.lookup.low.ravel() >= sizes) | (coarser < 1)
        if np.any(short & (self.source >= 0) & (self.bits > 0)):
            raise RefineError(f"layer {self.lookup.name!r} has tables without words for some of their keys; whole ones are refined")


def adders(bits: np.ndarray, growth: float) -> float:
    """LUTs of the adders of words of these bits, 0 where a word is a constant: as `hgqjax.resources.Luts` counts a layer of tables."""
    live = bits[bits > 0]
    return (len(live) - 1) * (float(live.mean()) + growth) if len(live) > 1 else 0.0


def word_width(words: np.ndarray) -> int:
    """Bits of the words of a table, a sign included, without those that are 0 in all at their end; 0 of a constant.

    >>> word_width(np.array([-4, 0, 8])), word_width(np.array([3, 3]))
    (3, 0)
    """
    low, high = int(words.min()) >> zeros(words), int(words.max()) >> zeros(words)
    return 0 if low == high else max(high, ~low if low < 0 else 0).bit_length() + (low < 0)


def word_bits(words: np.ndarray) -> float:
    """Bits that the words differ in, as `hgqjax.resources.Luts` counts a word for its adder: log2 of how many steps they lie apart.

    >>> word_bits(np.array([-4, 0, 8])), word_bits(np.array([3, 3]))
    (2.0, 0.0)
    """
    steps = (int(words.max()) - int(words.min())) >> zeros(words)
    return min(math.log2(1 + steps), float(word_width(words)))


def zeros(words: np.ndarray) -> int:
    """Bits at the end that are 0 in all words."""
    some = int(np.bitwise_or.reduce(words))
    return (some & -some).bit_length() - 1 if some else 0


@functools.lru_cache(maxsize=2**14)
def content_luts(words: bytes, low: int) -> float:
    """LUT6 of the content of a table whose first word is that of key `low`."""
    table = np.frombuffer(words, np.int64)
    if np.all(table == table[0]):
        return 0.0
    bits = int(len(table) - 1).bit_length()
    return float(tables_luts([(None, by_key(table, low, bits), bits)])[0])


def chain(description: ModelDescription) -> list[Tables]:
    """Layers of tables, each of which alone reads the one before. What comes before the first and after the last may be anything.

    Raises: RefineError where there is none, or where results of one go elsewhere, too.
    """
    by_name = {op.name: op for op in description.operations}
    readers: dict[str, list[str]] = {name: [] for name in by_name}
    for op in description.operations:
        for name in op.inputs:
            readers[name].append(op.name)
    found: list[Tables] = []
    for op in description.operations:
        if isinstance(op, Lookup):
            found.append(_tables(op, description, by_name, readers, found[-1] if found else None))
    if not found:
        raise RefineError(f"network {description.name!r} has no layer of tables; only words of tables are refined")
    for tables in found[1:]:
        tables.check()
    return found


def _tables(op: Lookup, description: ModelDescription, by_name, readers, before: Tables | None) -> Tables:
    """The layer of `op`, which reads the sums of the layer `before`, if there is one."""
    quantize, after = by_name[op.inputs[0]], readers[op.name]
    total = by_name[after[0]] if len(after) == 1 else None
    if not isinstance(quantize, Quantize) or readers[quantize.name] != [op.name] or not isinstance(total, Sum) or total.shift:
        raise RefineError(f"layer {op.name!r} is not a quantizer, tables and a sum that nothing else reads; such layers are refined")
    origin, source, steps = by_name[quantize.inputs[0]], np.arange(op.low.size), [quantize.name]
    while isinstance(origin, Gather):
        source = np.where(source < 0, -1, origin.index.ravel()[source])
        steps.append(origin.name)
        origin = by_name[origin.inputs[0]]
    source_f = None
    if before is not None:
        alone = readers[before.total.name] == steps[-1:] and all(len(readers[step]) == 1 for step in steps)
        if origin is not before.total or not alone:
            name = before.lookup.name
            raise RefineError(
                f"layer {op.name!r} does not read the sums of layer {name!r}, alone and as they are; such networks are refined"
            )
        grid = description.grids[origin.name]
        source_f = int(grid.f.max())
        before.aligned = source_f - grid.f.ravel()
        before.shift = before.shift + before.aligned[before.target]
    low, f = op.low.ravel().tolist(), description.grids[total.name].f.ravel()
    target = _targets(op.shape, total.axes)
    words = [op.words[a:b].copy() for a, b in itertools.pairwise(op.start)]
    words = [table if s >= 0 else table[-least : -least + 1] for table, s, least in zip(words, source, low, strict=True)]
    luts = np.array([content_luts(table.tobytes(), least) for table, least in zip(words, low, strict=True)])
    bits = np.array([word_bits(table) for table in words])
    return Tables(quantize, op, total, source, source_f, target, f[target] - op.f.ravel(), np.zeros_like(f), words, luts, bits)


def _targets(shape: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """Of each element of `shape`, the one that it is part of in a sum over `axes`."""
    kept = [1 if axis in axes else n for axis, n in enumerate(shape)]
    return np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), shape).ravel()
