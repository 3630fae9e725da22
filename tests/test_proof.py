"""`quantize` is exact: equality with exact arithmetic, for every format of widths -24 to 24, all modes, eager, compiled and mapped."""

import functools
import itertools
from fractions import Fraction

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from hgqjax import testing
from hgqjax.fixed_point import quantize, quantize_unwrapped

pytestmark = pytest.mark.exact
MODES = list(itertools.product(("RND", "TRN", "RND_CONV"), ("WRAP", "SAT", "SAT_SYM")))
WIDTHS = range(-24, 25)
FORMATS = list(itertools.product((0, 1), WIDTHS, WIDTHS))
DTYPES = [np.float64, np.float32]
ROWS = 32
all_modes = pytest.mark.parametrize("modes", MODES, ids="-".join)
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])


def fits(q: Fraction, dtype) -> bool:
    """Whether `dtype` has this value: 2**40 - 1, a word of ufixed<40>, is no float32."""
    return Fraction(float(dtype(float(q)))) == q


@all_modes
@both_dtypes
@hypothesis.given(kif=st.one_of(testing.formats(), testing.formats(i=(-60, 60), f=(-60, 60))), data=st.data())
@hypothesis.settings(max_examples=20)
def test_eager_compiled_and_mapped_are_exact(modes, dtype, kif, data):
    x = data.draw(testing.near_edges(*kif, count=ROWS, dtype=dtype))
    want = [testing.exact_quantize(float(v), *kif, *modes) for v in x]
    exact = [n for n, q in enumerate(want) if fits(q, dtype)]
    with jax.enable_x64(dtype is np.float64):
        widths = [np.full(ROWS, n, dtype) for n in kif]
        results = [quantize(x, *kif, *modes), compiled(x, *widths, modes), mapped(x, *widths, modes)]
    for got in map(np.asarray, results):
        assert got.dtype == dtype
        assert [float(got[n]) for n in exact] == [want[n] for n in exact]  # a float equals a fraction only if it is that number


@functools.partial(jax.jit, static_argnums=4)
def compiled(x, k, i, f, modes):
    return quantize(x, k, i, f, *modes)


def mapped(x, k, i, f, modes):
    return jax.vmap(lambda *a: quantize(*a, *modes))(x, k, i, f)


class Lattice:
    """Numbers at the edges of every format in flat arrays x, k, i, f: one shape, so that there is one compilation per mode."""

    def __init__(self, dtype, per_format: int | None = None, **kwargs):
        rng = np.random.default_rng(3)
        chunks = [testing.edges(*kif, dtype, rng=rng, **kwargs) for kif in FORMATS]
        if per_format is not None:
            chunks = [rng.choice(x, per_format) for x in chunks]
        self.x = np.concatenate(chunks)
        self.widths = np.repeat(np.array(FORMATS).T, [len(x) for x in chunks], axis=1)
        self.has_bits = self.widths.sum(0) > 0

    def exact(self, *modes) -> np.ndarray:
        """Values of the integer reference, float64: words have at most 49 bits."""
        return testing.exact_words(self.x, *self.widths, *modes) * np.ldexp(1.0, -self.widths[2])


def differences(lattice: Lattice, traces: list) -> tuple[int, int]:
    """(cases, of which differ) over all modes; only cases of formats that have bits and whose exact value the dtype has."""

    def traced(x, k, i, f, modes):
        traces.append(modes)
        return quantize(x, k, i, f, *modes)

    counting = jax.jit(traced, static_argnums=4)
    cases = differing = 0
    for modes in MODES:
        want = lattice.exact(*modes)
        got = np.asarray(counting(lattice.x, *lattice.widths.astype(lattice.x.dtype), modes))
        assert not np.any(got[~lattice.has_bits])
        counted = lattice.has_bits & (want.astype(lattice.x.dtype) == want)
        cases += int(counted.sum())
        differing += int(np.sum(got[counted] != want[counted]))
    return cases, differing


def test_every_format_is_exact():
    traces = []
    with jax.enable_x64(True):
        cases, differing = differences(Lattice(np.float64, per_format=12), traces)
    assert cases >= 250_000 and differing == 0
    assert traces == MODES


@pytest.mark.slow
@both_dtypes
def test_ten_million_cases_are_exact(dtype):
    """All ties of the narrow formats, limits and random ties of the others; the integer reference equals fractions on a subset."""
    traces, lattice = [], Lattice(dtype, ties=96)
    with jax.enable_x64(dtype is np.float64):
        cases, differing = differences(lattice, traces)
    assert cases >= 10_000_000 and differing == 0
    assert traces == MODES
    rng = np.random.default_rng(5)
    for modes in MODES:
        some = rng.choice(np.flatnonzero(lattice.has_bits), 12_000)
        rows = zip(lattice.x[some].tolist(), *lattice.widths[:, some].tolist(), strict=True)
        assert all(testing.exact_quantize(*row, *modes) == v for row, v in zip(rows, lattice.exact(*modes)[some].tolist(), strict=True))


@both_dtypes
def test_least_and_greatest_floats(dtype):
    """Neither a shift by f that overflows nor one that underflows may show: -1e-37 is below 0 and TRN goes down to -step."""
    tiny, huge = np.finfo(dtype).tiny, np.finfo(dtype).max
    x = np.array([s * v for v in (tiny, 3 * tiny, huge, huge / 3) for s in (1, -1)], dtype)
    with jax.enable_x64(dtype is np.float64):
        for kif in itertools.product((0, 1), (-4, 3, 12), (-8, 0, 8)):
            for modes in MODES:
                got = np.asarray(quantize(x, *kif, *modes))
                assert got.tolist() == [testing.exact_quantize(float(v), *kif, *modes) for v in x], (kif, modes)


@pytest.mark.parametrize("what", ["quantize", "gradient", "quantize_unwrapped"])
def test_one_trace_whatever_the_widths(what):
    traces = []

    def traced(x, k, i, f, modes):
        traces.append(modes)
        return (quantize_unwrapped if what == "quantize_unwrapped" else quantize)(x, k, i, f, *modes)

    fn = jax.grad(traced, (0, 1, 2, 3)) if what == "gradient" else traced
    counting = jax.jit(fn, static_argnums=4)
    for modes in MODES:
        for k, i, f in FORMATS[::400]:
            counting(jnp.float32(0.3), jnp.float32(k), jnp.float32(i), jnp.float32(f), modes)
    assert traces == MODES


@pytest.mark.parametrize("overflow", ["WRAP", "SAT", "SAT_SYM"])
@pytest.mark.parametrize("kif", [(1, 2, 3), (0, 3, 1), (1, 5, -2), (1, -2, 6)])
def test_stochastic_rounding_gives_a_neighbour_and_is_keyed(kif, overflow):
    x = testing.numbers_near_edges(np.random.default_rng(0), *kif, 400)
    step = Fraction(2) ** -kif[2]
    down = [testing.exact_quantize(float(v), *kif, "TRN", overflow) for v in x]
    up = [testing.exact_quantize(-((-Fraction(float(v))) // step) * step, *kif, "TRN", overflow) for v in x]
    got = np.stack([quantize(x, *kif, "S_RND", overflow, key=jax.random.key(n)) for n in (0, 0, 1)])
    assert all(q in (a, b) for q, a, b in zip(got[0].tolist(), down, up, strict=True))
    assert np.array_equal(got[0], got[1]) and not np.array_equal(got[0], got[2])


@pytest.mark.parametrize("overflow", ["WRAP", "SAT", "SAT_SYM"])
def test_stochastic_rounding_is_unbiased(overflow):
    """Each of 16 numbers, 2**17 draws each: 2.1e6; the mean of each and of all within 5 standard errors."""
    values = np.float32([-9.3, -3.99, -3.2, -2.51, -1.0, -0.6, -0.25, -0.07, 1e-3, 0.0625, 0.4, 0.5, 1.9, 3.3, 3.74, 7.1])
    if overflow == "WRAP":
        values = values[1:-1]  # those in the range: beyond, a mean says nothing
    draws = 2**17
    x = np.broadcast_to(values[:, None], (len(values), draws))
    q = np.asarray(jax.jit(lambda x, key: quantize(x, 1, 2, 2, "S_RND", overflow, key=key))(x, jax.random.key(7)), np.float64)
    target = np.clip(values.astype(np.float64), -3.75 if overflow == "SAT_SYM" else -4, 3.75)
    up = target * 4 % 1
    sigma = 0.25 * np.sqrt(up * (1 - up) / draws)
    error = q.mean(1) - target
    assert np.all(abs(error) <= 5 * sigma)  # 0 where the number is on the grid or beyond a limit
    assert abs(error.mean()) <= 5 * np.sqrt(np.sum(sigma**2)) / len(values)
