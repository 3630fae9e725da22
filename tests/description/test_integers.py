"""Exact integer arithmetic of the evaluator, int64 and Python ints, against fractions."""

import itertools
from fractions import Fraction
from math import floor

import numpy as np
import pytest

from hgqjax import testing
from hgqjax.description import integers

MODES = list(itertools.product(("RND", "TRN", "RND_CONV"), ("WRAP", "SAT", "SAT_SYM")))


def limits(k, i, f, mode):
    top = 2 ** max(i + f, 0)
    return np.array([-k * (top - 1 if mode == "SAT_SYM" else top)], object), np.array([top - 1], object)


@pytest.mark.parametrize("modes", MODES, ids="-".join)
def test_floats_and_integers_to_a_grid(modes):
    rng = np.random.default_rng(0)
    for k, i, f in [(1, 3, 2), (0, 2, 0), (1, -2, 9), (1, 12, -4), (0, 5, 12)]:
        x = testing.numbers_near_edges(rng, k, i, f, 300).astype(np.float64)
        want = [testing.exact_quantize(v, k, i, f, *modes) * 2**f for v in x]
        low, high = limits(k, i, f, modes[1])
        assert list(integers.quantize_floats(x, np.array([f]), *modes, low, high)) == want
        wide = np.array([int(Fraction(v) * 2**160) for v in x], object)  # the same numbers as Python ints on a fine grid
        if modes[1] == "WRAP":
            rounded = integers.round_to_grid(wide, np.array([160]), np.array([f]), modes[0])
            assert list(integers.overflow(rounded, "WRAP", low, high)) == want


def test_rounding_of_int64_equals_that_of_python_ints():
    m = np.random.default_rng(1).integers(-(2**40), 2**40, 1000)
    for mode, drop in itertools.product(("RND", "TRN", "RND_CONV"), (0, 1, 5, 39, 45, 100)):
        narrow = integers.round_to_grid(m, np.array([drop]), np.array([0]), mode)
        wide = integers.round_to_grid(m.astype(object), np.array([drop]), np.array([0]), mode)
        assert narrow.dtype == np.int64 and list(narrow) == list(wide)


@pytest.mark.parametrize("mode", ["RND", "TRN", "RND_CONV"])
def test_the_widest_words_of_int64_are_rounded_as_fractions_are(mode):
    rng = np.random.default_rng(2)
    ends = [s * (2**n + d) for n in (0, 1, 59, 60, 61) for s in (1, -1) for d in (-1, 0, 1) if abs(2**n + d) < 2**61]
    m = np.array([*ends, *rng.integers(1 - 2**61, 2**61 - 1, 300)])
    for drop in (0, 1, 2, 59, 60, 61, 62, 63, 64, 200):
        found = integers.round_to_grid(m, np.array([drop]), np.array([0]), mode)
        assert found.dtype == np.int64
        exact = [Fraction(int(v), 2**drop) for v in m]
        half = Fraction(1, 2)
        want = {"TRN": [floor(v) for v in exact], "RND": [floor(v + half) for v in exact], "RND_CONV": [round(v) for v in exact]}[mode]
        assert [int(v) for v in found] == want


def test_a_shift_never_overflows():
    assert integers.shift_left(np.array([2**50]), np.array([20]))[0] == 2**70
    with pytest.raises(ArithmeticError, match="negative count"):
        integers.shift_left(np.array([1]), np.array([-1]))


def test_unknown_rounding():
    with pytest.raises(ValueError, match="rounding is 'S_RND'; hardware has RND, TRN and RND_CONV"):
        integers.round_to_grid(np.array([1]), np.array([1]), np.array([0]), "S_RND")
