"""LUTs of a table by its content: what its bits need, and not what its widths would."""

import functools
import itertools
from collections.abc import Iterable

import numpy as np

EXACT_BITS = 12
"""Widest key whose tables are counted by content; wider ones by their widths."""
INPUTS = 6
"""Of a LUT; it holds two functions of one input less."""


def table_luts(words: np.ndarray, bits: int) -> float:
    """LUT6 of a table: `words` (whole numbers, one for each of the ``2**bits`` keys in the order of their bits) without what they share.

    A bit of the words that is the same for all keys costs nothing, nor does one that is a bit of the key. An input that a bit does not
    hang on is not one. A function of up to five inputs is half a LUT6, one of six a whole; a wider one is split by the input that leaves
    the fewest, until what is left has six: its halves are multiplexed for nothing, as in a slice (MUXF7, F8, F9), and a half that was
    built already, or its inverse, is not built again.

    Raises: ValueError where there are not ``2**bits`` words, or more than 12 bits.

    >>> table_luts(np.arange(8), 3), table_luts(np.array([0, 0, 1, 0]), 2)
    (0.0, 0.5)
    >>> noise = np.random.default_rng(0).integers(0, 2, 256)
    >>> table_luts(noise, 8), table_luts(np.tile(noise[:64], 4), 8)
    (4.0, 1.0)
    """
    if len(words) != 2**bits or bits > EXACT_BITS:
        raise ValueError(f"a table of {len(words)} words with a key of {bits} bits; 2**bits words, at most {EXACT_BITS} bits, are needed")
    built: set[int] = set()
    return sum(_build(function, bits, built) for function in bit_functions(words))


def bit_functions(words: np.ndarray) -> list[int]:
    """The functions of the key that the bits of the words are, each once, as whole numbers: bit n is the value for key n.

    >>> bit_functions(np.array([0, -1, 2, 0]))
    [2, 6]
    """
    words = np.asarray(words, np.int64)
    width = int(np.max(np.where(words < 0, ~words, words), initial=0)).bit_length() + 1  # with a sign, which may be constant
    packed = (np.packbits((words >> n & 1).astype(np.uint8), bitorder="little").tobytes() for n in range(width))
    return list(dict.fromkeys(int.from_bytes(part, "little") for part in packed))


@functools.cache
def _mask(n: int, bits: int) -> int:
    """Keys of `bits` bits whose bit n is 0, as a function."""
    block = (1 << (1 << n)) - 1
    return sum(block << start for start in range(0, 1 << bits, 2 << n))


def _halves(function: int, n: int, bits: int) -> tuple[int, int]:
    """The function where input n is 0, and where it is 1, both as functions of all inputs that ignore it."""
    shift, low = 1 << n, function & _mask(n, bits)
    high = (function >> shift) & _mask(n, bits)
    return low | low << shift, high | high << shift


def _build(function: int, bits: int, built: set[int]) -> float:
    """LUT6 that `function` adds to those of `built`, which it joins."""
    inverse = function ^ ((1 << (1 << bits)) - 1)
    if function in built or inverse in built:
        return 0.0
    built.add(function)
    halves = {n: _halves(function, n, bits) for n in range(bits)}
    inputs = [n for n, (low, high) in halves.items() if low != high]
    if len(inputs) <= 1:
        return 0.0
    if len(inputs) <= INPUTS:
        return 0.5 if len(inputs) < INPUTS else 1.0
    split = min(inputs, key=lambda n: sum(_inputs(half, bits) for half in set(halves[n])))
    return sum(_build(half, bits, built) for half in halves[split])


@functools.lru_cache(maxsize=2**14)
def _inputs(function: int, bits: int) -> int:
    """How many inputs a function hangs on."""
    return sum(low != high for low, high in (_halves(function, n, bits) for n in range(bits)))


def tables_luts(tables: Iterable[tuple[object, np.ndarray, int]]) -> np.ndarray:
    """`table_luts` of each of `tables` (what its key is, words, bits of the key); one that was there, of the same key, costs nothing.

    A table whose key has more than 12 bits costs ``2**(bits - 6)`` LUT6 for each bit that its words differ in.
    """
    seen: set[tuple[object, bytes]] = set()
    found = []
    for key, words, bits in tables:
        words = np.asarray(words, np.int64)
        mark = key, words.tobytes()
        if mark in seen:
            found.append(0.0)
        elif bits > EXACT_BITS:
            found.append(2.0 ** (bits - INPUTS) * int(np.bitwise_or.reduce(words ^ words[0])).bit_count())
        else:
            found.append(table_luts(words, bits))
        seen.add(mark)
    return np.array(found)


def by_key(words: np.ndarray, low: int, bits: int) -> np.ndarray:
    """A table of the numbers ``low, low + 1, ..`` in the order of their bits, those of negative numbers after the others.

    Keys that never occur have the word of the nearest that does.

    >>> by_key(np.array([10, 11, 12]), -1, 2).tolist()
    [11, 12, 10, 10]
    """
    half = 2 ** (bits - 1) if low < 0 else 2**bits
    numbers = np.fromiter(itertools.chain(range(half), range(half - 2**bits, 0)), np.int64, 2**bits)
    return np.asarray(words)[np.clip(numbers - low, 0, len(words) - 1)]
