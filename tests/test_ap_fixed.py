"""`quantize` equals the C++ type ap_fixed that hls4ml ships: raw words of random numbers, compared with ==.

``ap_fixed<W, I>`` has W = k + i + f bits of which I = k + i are integer bits; ``ap_ufixed`` has k = 0.
"""

import functools
import importlib.util
import itertools
import shutil
import signal
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from hgqjax import testing
from hgqjax.fixed_point import quantize

MODES = list(itertools.product(("RND", "TRN", "RND_CONV"), ("WRAP", "SAT", "SAT_SYM")))
SMALL = [(1, 1), (6, 3), (8, 12), (8, -4)]  # W, I: also I > W, a step above 1, and I < 0, a range below 1/2
LARGE = [*SMALL, (1, -3), (1, 5), (2, 1), (4, 4), (5, 20), (12, -10), (16, 6), (24, 8), (24, -2), (32, 16)]
WIDE_F = 32  # the second input type, ap_fixed<64, 32>, holds multiples of 2**-32 up to 2**31
CODE = """
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>
#include "ap_fixed.h"

static FILE *in, *out;

template <class T, class From> void convert(const std::vector<double> &x) {
    std::vector<int64_t> words;
    for (double v : x) {
        T t = From(v);
        words.push_back((int64_t)t.V);
    }
    fwrite(words.data(), sizeof(int64_t), words.size(), out);
}

template <class T> void run(int n) {
    std::vector<double> x(n);
    if (fread(x.data(), sizeof(double), n, in) != (size_t)n) exit(2);
    convert<T, double>(x);
    if (fread(x.data(), sizeof(double), n, in) != (size_t)n) exit(2);
    convert<T, ap_fixed<64, 32>>(x);
}

int main(int, char **argv) {
    in = fopen(argv[1], "rb");
    out = fopen(argv[2], "wb");
    int n = atoi(argv[3]);
    TYPES
    return fclose(out);
}
"""


def headers() -> Path:
    """The folder of ap_fixed.h in the installed hls4ml, which is not imported: only its files are needed."""
    spec = importlib.util.find_spec("hls4ml")
    if spec is None or shutil.which("g++") is None:
        pytest.skip("hls4ml, which ships ap_fixed.h, or g++ is not installed")
    return next(Path(spec.origin).parent.glob("templates/**/ap_types/ap_fixed.h")).parent


def build(code: str, folder: Path, *flags: str) -> None:
    """Compiles `code` to folder/program."""
    command = ["g++", "-std=c++14", "-O1", "-w", *flags, f"-I{headers()}", "program.cpp", "-o", "program"]
    (folder / "program.cpp").write_text(code)
    subprocess.run(command, cwd=folder, check=True)


class Program:
    """C++ that converts a file of doubles to all modes of some formats, signed and not, straight and through ap_fixed<64, 32>."""

    def __init__(self, formats, folder: Path):
        self.folder = folder
        self.formats = [(signed, W, I) for W, I in formats for signed in (1, 0)]
        self.kif = np.array([(signed, I - signed, W - I) for signed, W, I in self.formats])
        types = [
            f"run<ap_{'' if signed else 'u'}fixed<{W}, {I}, AP_{rounding}, AP_{overflow}>>(n);"
            for signed, W, I in self.formats
            for rounding, overflow in MODES
        ]
        build(CODE.replace("TYPES", "\n    ".join(types)), folder)

    def words(self, x: np.ndarray) -> np.ndarray:
        """Numbers (format, route, n) -> words (mode, format, route, n)."""
        np.repeat(x[:, None], len(MODES), axis=1).tofile(self.folder / "x")
        subprocess.run(["./program", "x", "y", str(x.shape[-1])], cwd=self.folder, check=True)
        return np.fromfile(self.folder / "y", np.int64).reshape(len(x), len(MODES), 2, -1).swapaxes(0, 1)

    def numbers(self, count: int) -> np.ndarray:
        """Numbers (format, route, count) near the edges: floats and doubles as they are; and such as ap_fixed<64, 32> holds."""
        rng = np.random.default_rng(0)
        x = np.empty((len(self.kif), 2, count))
        for row, kif in zip(x, self.kif.tolist(), strict=True):
            row[0] = testing.numbers_near_edges(rng, *kif, count, np.float64)
            row[0, ::2] = testing.numbers_near_edges(rng, *kif, len(row[0, ::2]))
            row[1] = testing.numbers_near_edges(rng, *kif, count, np.float64)
            row[1] = np.ldexp(np.rint(np.ldexp(row[1], WIDE_F)) + rng.integers(-1, 2, count), -WIDE_F)  # or one step beside
            row[1, abs(row[1]) >= 2.0**30] = 0
        return x


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return Program(SMALL, tmp_path_factory.mktemp("ap_fixed"))


@functools.partial(jax.jit, static_argnums=4)
def compiled(x, k, i, f, modes):
    return quantize(x, k, i, f, *modes)


def differences(program: Program, count: int) -> tuple[int, int]:
    """(cases, of which differ) of ap_fixed from `quantize`: float64, float32 where it has number and result, the reference on some."""
    x = program.numbers(count)
    k, i, f = program.kif.T[:, :, None, None]
    one_bit = (k == 1) & (i + f == 0)
    rng = np.random.default_rng(1)
    cases = differing = 0
    for modes, words in zip(MODES, program.words(x), strict=True):
        counted = np.broadcast_to(~one_bit | (modes[1] != "SAT_SYM"), x.shape)  # the known difference below
        want = np.ldexp(words.astype(np.float64), -f)
        for dtype in (np.float64, np.float32):
            exact = counted & (x.astype(dtype) == x) & (want.astype(dtype) == want)
            with jax.enable_x64(dtype is np.float64):
                got = np.asarray(compiled(x.astype(dtype), *(n.astype(dtype) for n in (k, i, f)), modes))
            cases += int(exact.sum()) if dtype is np.float64 else 0
            differing += int(np.sum(got[exact] != want[exact]))
        some = rng.choice(np.flatnonzero(counted), 5000)
        reference = testing.exact_words(*(np.broadcast_to(n, x.shape).ravel()[some] for n in (x, k, i, f)), *modes)
        differing += int(np.sum(reference != words.ravel()[some]))
    return cases, differing


def test_a_million_words_are_equal(program):
    cases, differing = differences(program, 8000)
    assert cases >= 1_000_000 and differing == 0


@pytest.mark.slow
def test_words_of_more_formats_are_equal(tmp_path):
    cases, differing = differences(Program(LARGE, tmp_path), 10_000)
    assert cases >= 4_000_000 and differing == 0


def test_least_and_greatest_doubles(program):
    """A double just below 0 truncates to minus one step in C++ too, at once from the double, whatever the exponents."""
    info = np.finfo(np.float64)
    x = np.array([s * v for v in (info.tiny, 1e-200, 1e-30, 1e30, 1e200, info.max) for s in (1, -1)])
    words = program.words(np.broadcast_to(x, (len(program.kif), 2, len(x))))[:, :, 0]
    for modes, of_mode in zip(MODES, words, strict=True):
        for kif, got in zip(program.kif.tolist(), of_mode, strict=True):
            if kif[0] + kif[1] + kif[2] > 1:
                assert np.array_equal(got, testing.exact_words(x, *kif, *modes)), (kif, modes)


def test_known_difference_one_signed_bit_saturates_symmetrically_to_minus_one_step(program):
    """The symmetric range of a sign bit alone is {0}, and `quantize` gives 0; ap_fixed gives its SAT words, 0 and -1."""
    x = program.numbers(500)
    words = dict(zip(MODES, program.words(x), strict=True))
    row = program.formats.index((1, 1, 1))
    for rounding in ("RND", "TRN", "RND_CONV"):
        got = words[rounding, "SAT_SYM"][row]
        assert np.array_equal(got, words[rounding, "SAT"][row]) and set(np.unique(got)) == {-1, 0}
        assert not np.any(quantize(x[row].astype(np.float32), 1, 0, 0, rounding, "SAT_SYM"))


def test_known_difference_rounding_a_type_below_half_a_step_aborts(tmp_path):
    """ap_fixed reads a bit that its source lacks, an assertion, where all of it is dropped and more; without assertions it is right."""
    code = """
    #include "ap_fixed.h"
    int main() {
        ap_fixed<8, -12> x = -1.0 / 16384;
        ap_fixed<6, 3, AP_TRN> truncated = x;
        ap_fixed<6, 3, AP_RND> rounded = x;
        return !((int64_t)truncated.V == -1 && (int64_t)rounded.V == 0);
    }"""
    build(code, tmp_path, "-DNDEBUG")
    assert subprocess.run([tmp_path / "program"]).returncode == 0
    build(code, tmp_path)
    run = subprocess.run([tmp_path / "program"], capture_output=True, text=True)
    assert run.returncode == -signal.SIGABRT and "read bit beyond MSB" in run.stderr
