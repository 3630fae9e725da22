"""Every kind of operation against plain loops over fractions, narrow and very wide; their grids, their errors, several inputs."""

import dataclasses
import functools
import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest

from hgqjax import resources
from hgqjax.description import operations as o
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, DescriptionError
from hgqjax.description.readers import input_readers

WIDTHS = {"narrow": (3, 4), "int64": (14, 18), "python": (45, 40)}
"""Name of the integers that must hold the sums: greatest f of the data, of the constants."""


def quantize(name, source, shape, f, rng):
    k, i, f = rng.integers(0, 2, shape), rng.integers(-1, 4, shape), rng.integers(0, f + 1, shape)
    dead = rng.random(shape) < 0.1
    k, i, f = (np.where(dead, 0, v).astype(np.int64) for v in (k, i, np.maximum(f, 1 - k - i)))
    return o.Quantize(name=name, inputs=(source,), shape=shape, k=k, i=i, f=f, rounding="TRN", overflow="WRAP")


def constant(shape, f, rng):
    integers = rng.integers(-(2**5), 2**5, shape) * (rng.random(shape) < 0.7)
    return Constant(integers, rng.integers(-2, f + 1, shape), np.full(shape, 6))


def network(shapes, make, f=3, seed=0):
    """Quantized inputs of `shapes` and the one operation that `make` makes of their names."""
    rng = np.random.default_rng(seed)
    ops = [o.Input(name=f"x{n}", inputs=(), shape=shape) for n, shape in enumerate(shapes)]
    ops += [quantize(f"q{n}", f"x{n}", shape, f, rng) for n, shape in enumerate(shapes)]
    ops.append(make(name="y", inputs=tuple(f"q{n}" for n in range(len(shapes)))))
    return ModelDescription(name="net", operations=tuple(ops), outputs=("y",))


def rows(model, count=7, seed=1):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0, 6, (count, *op.shape)) for op in model.inputs)


def fractions(model, values, name):
    """The values of an operation as an array of fractions."""
    f = np.broadcast_to(model.grids[name].f, values[name].shape)
    exact = [Fraction(int(m)) * Fraction(2) ** -int(n) for m, n in zip(values[name].ravel(), f.ravel(), strict=True)]
    return np.array(exact, object).reshape(values[name].shape)


def exact_constant(c):
    exact = [Fraction(int(m)) * Fraction(2) ** -int(f) for m, f in zip(c.integers.ravel(), c.f.ravel(), strict=True)]
    return np.array(exact, object).reshape(c.integers.shape)


def check(model, reference):
    """Words equal `reference` of the quantized inputs; every word lies in its interval."""
    values = model.integers(rows(model))
    want = reference(*(fractions(model, values, f"q{n}") for n in range(len(model.inputs))))
    got = fractions(model, values, "y")
    assert got.shape == want.shape and np.all(got == want)
    grid = model.grids["y"]
    assert grid.f.shape == model["y"].shape and np.all(values["y"] >= grid.low) and np.all(values["y"] <= grid.high)
    return values["y"]


# ---- linear operations ----


def convolve(x, kernel, strides, padding, dilation, groups):
    """Convolution by loops, (rows, spatial..., channels) x (window..., channels / groups, filters)."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=Fraction(0))
    *size, channels, filters = kernel.shape
    counts = [(n - d * (s - 1) - 1) // stride + 1 for n, s, stride, d in zip(x.shape[1:-1], size, strides, dilation, strict=True)]
    y = np.full((len(x), *counts, filters), Fraction(0), object)
    for at, tap in itertools.product(itertools.product(*map(range, counts)), itertools.product(*map(range, size))):
        where = tuple(a * s + t * d for a, s, t, d in zip(at, strides, tap, dilation, strict=True))
        for filter_ in range(filters):
            first = filter_ // (filters // groups) * channels
            seen = x[(slice(None), *where, slice(first, first + channels))]
            y[(slice(None), *at, filter_)] += seen @ kernel[(*tap, slice(None), filter_)]
    return y


CONVS = [
    ((6, 3), (3, 3, 4), {}),
    ((7, 2), (2, 2, 3), {"strides": (2,), "padding": ((1, 0),), "dilation": (2,)}),
    ((5, 4), (3, 2, 4), {"groups": 2, "padding": ((2, 0),)}),
    ((4, 5, 2), (3, 2, 2, 3), {"padding": ((1, 1), (0, 1))}),
    ((5, 6, 4), (2, 3, 1, 8), {"groups": 4, "strides": (2, 3)}),
    ((5, 4, 2), (2, 2, 2, 2), {"dilation": (3, 2), "padding": ((0, 1), (2, 2)), "strides": (1, 2)}),
]


@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize(("shape", "kernel_shape", "settings"), CONVS, ids=range(len(CONVS)))
def test_convolution(shape, kernel_shape, settings, widths):
    rng, rank = np.random.default_rng(2), len(shape) - 1
    settings = {"strides": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank, "groups": 1} | settings
    kernel, bias = constant(kernel_shape, widths[1], rng), constant(kernel_shape[-1:], widths[1], rng)
    windows = o.Windows(shape, kernel_shape[:-2], *(settings[key] for key in ("strides", "padding", "dilation")))
    result = (*windows.positions, kernel_shape[-1])
    model = network([shape], functools.partial(o.Conv, shape=result, kernel=kernel, bias=bias, **settings), widths[0])
    check(model, lambda x: convolve(x, exact_constant(kernel), **settings) + exact_constant(bias))


EINSUMS = [
    ("c,cd->d", (4,), (4, 3), (3,)),
    ("tc,cd->td", (3, 4), (4, 2), (3, 1)),
    ("tc,tcd->td", (3, 4), (3, 4, 2), (2,)),
    ("tc,tcd->d", (3, 4), (3, 4, 2), (2,)),
    ("abc,bd->cad", (2, 3, 4), (3, 5), None),
    ("tc,c->tc", (3, 4), (4,), (4,)),
    ("tc,uc->tu", (3, 4), (5, 4), (3, 5)),
]


@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize(("equation", "shape", "kernel_shape", "bias_shape"), EINSUMS, ids=[e[0] for e in EINSUMS])
def test_einsum(equation, shape, kernel_shape, bias_shape, widths):
    rng = np.random.default_rng(3)
    kernel, bias = constant(kernel_shape, widths[1], rng), None if bias_shape is None else constant(bias_shape, widths[1], rng)
    x, k, y = equation.replace("->", ",").split(",")
    sizes = dict(zip(x + k, shape + kernel_shape, strict=True))
    result = tuple(sizes[label] for label in y)
    model = network([shape], functools.partial(o.Einsum, shape=result, kernel=kernel, bias=bias, equation=equation), widths[0])
    zero = np.full((1,), Fraction(0), object)
    check(model, lambda v: np.einsum(f"Z{x},{k}->Z{y}", v, exact_constant(kernel)) + (zero if bias is None else exact_constant(bias)))


def test_rows_are_evaluated_in_parts(monkeypatch):
    kernel = constant((3, 2, 2), 4, np.random.default_rng(0))
    settings = {"strides": (1,), "padding": ((1, 1),), "dilation": (1,), "groups": 1}
    model = network([(6, 2)], functools.partial(o.Conv, shape=(6, 2), kernel=kernel, bias=None, **settings))
    at_once = model.integers(rows(model)[0])["y"]
    monkeypatch.setattr("hgqjax.description.operations.linear.CHUNK", 80)
    assert np.array_equal(model.integers(rows(model)[0])["y"], at_once)
    assert model.integers(np.zeros((0, 6, 2)))["y"].shape == (0, 6, 2)


def test_a_result_without_terms_is_its_bias():
    kernel, bias = Constant(np.zeros((3, 2), np.int64), np.zeros((3, 2), np.int64), np.zeros((3, 2))), Constant.from_values([0.75, 0.0], 2)
    model = network([(3,)], functools.partial(o.Dense, shape=(2,), kernel=kernel, bias=bias))
    assert model.evaluate(rows(model)[0])[0].tolist() == [0.75, 0.0]
    assert model["y"].accumulator_bits(model.grids["q0"]).tolist() == [2, 0]


# ---- everything else ----


def pooled(x, size, strides, padding, reduce):
    rank = len(size)
    counts = [(n + sum(p) - s) // stride + 1 for n, s, stride, p in zip(x.shape[1 : 1 + rank], size, strides, padding, strict=True)]
    y = np.empty((len(x), *counts, x.shape[-1]), object)
    for at in itertools.product(*map(range, counts)):
        ends = [(max(a * s - p[0], 0), a * s - p[0] + n) for a, s, p, n in zip(at, strides, padding, size, strict=True)]
        window = x[(slice(None), *(slice(*pair) for pair in ends))]
        y[(slice(None), *at)] = reduce(window.reshape(len(x), -1, x.shape[-1]))
    return y


def pool(cls, shape, size, strides, padding):
    return functools.partial(cls, shape=shape, size=size, strides=strides, padding=padding)


KINDS = {
    "add": ([(3, 2)] * 3, functools.partial(o.Add, shape=(3, 2)), lambda a, b, c: a + b + c),
    "add, axes that repeat": ([(4, 3), (1, 3), (4, 1)], functools.partial(o.Add, shape=(4, 3)), lambda a, b, c: a + b + c),
    "subtract, one value": ([(1, 1), (2, 3)], functools.partial(o.Subtract, shape=(2, 3)), lambda a, b: a - b),
    "multiply, both repeat": ([(3, 1), (1, 2)], functools.partial(o.Multiply, shape=(3, 2)), lambda a, b: a * b),
    "maximum, one row": ([(1, 4), (3, 4)], functools.partial(o.Maximum, shape=(3, 4)), np.maximum),
    "subtract": ([(3, 2)] * 2, functools.partial(o.Subtract, shape=(3, 2)), lambda a, b: a - b),
    "multiply": ([(4,)] * 3, functools.partial(o.Multiply, shape=(4,)), lambda a, b, c: a * b * c),
    "maximum": ([(4,)] * 3, functools.partial(o.Maximum, shape=(4,)), lambda a, b, c: np.maximum(np.maximum(a, b), c)),
    "minimum": ([(4,)] * 2, functools.partial(o.Minimum, shape=(4,)), np.minimum),
    "concatenate": (
        [(2, 3), (2, 1), (2, 2)],
        functools.partial(o.Concatenate, shape=(2, 6), axis=1),
        lambda *parts: np.concatenate(parts, 2),
    ),
    "reshape": ([(2, 6)], functools.partial(o.Reshape, shape=(3, 4)), lambda x: x.reshape(-1, 3, 4)),
    "transpose": ([(2, 3, 4)], functools.partial(o.Transpose, shape=(4, 2, 3), axes=(2, 0, 1)), lambda x: x.transpose(0, 3, 1, 2)),
    "slice": (
        [(4, 5, 2)],
        functools.partial(o.Slice, shape=(4, 2), index=((None, None, -1), (1, 4, 2), -1)),
        lambda x: x[:, ::-1, 1:4:2, -1],
    ),
    "max_pool": (
        [(5, 4, 2)],
        pool(o.MaxPool, (3, 2, 2), (2, 3), (2, 2), ((0, 1), (1, 1))),
        lambda x: pooled(x, (2, 3), (2, 2), ((0, 1), (1, 1)), lambda w: w.max(1)),
    ),
    "average_pool": (
        [(6, 2)],
        pool(o.AveragePool, (2, 2), (4,), (2,), ((0, 0),)),
        lambda x: pooled(x, (4,), (2,), ((0, 0),), lambda w: w.sum(1) / 4),
    ),
    "sum": ([(3, 4, 2)], functools.partial(o.Sum, shape=(1, 4), axes=(0, 2), shift=-1), lambda x: x.sum((1, 3))[:, None] * 2),
    "relu": ([(4,)], functools.partial(o.Relu, shape=(4,)), lambda x: np.maximum(x, Fraction(0))),
    "gather": (
        [(2, 3)],
        functools.partial(o.Gather, shape=(2, 4), index=np.array([[5, 0, -1, 0], [-1, 3, 3, 1]])),
        lambda x: np.concatenate([x.reshape(-1, 6), np.full((len(x), 1), Fraction(0))], 1)[:, [[5, 0, 6, 0], [6, 3, 3, 1]]],
    ),
}


@pytest.mark.parametrize("f", [3, 25, 56])
@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds(kind, f):
    shapes, make, reference = KINDS[kind]
    for seed in range(3):
        check(network(shapes, make, f, seed), reference)


def test_every_kind_is_tested_here():
    assert set(o.KINDS) == {
        *(name.split(",")[0] for name in KINDS),
        "input",
        "quantize",
        "dense",
        "einsum",
        "conv",
        "table",
        "contract",
        "lookup",
    }


CONTRACTIONS = [
    ("the,she->hts", (3, 2, 4), (5, 2, 4), (2, 3, 5)),
    ("hts,she->the", (2, 3, 5), (5, 2, 4), (3, 2, 4)),
    ("t,t->", (4,), (4,), (1,)),
    ("ab,ab->ab", (2, 3), (2, 3), (2, 3)),
    ("a,b->ba", (2,), (3,), (3, 2)),
    ("abc,cb->a", (2, 3, 4), (4, 3), (2,)),
]


@pytest.mark.parametrize("f", [3, 25, 56])
@pytest.mark.parametrize(("equation", "a", "b", "shape"), CONTRACTIONS, ids=[c[0] for c in CONTRACTIONS])
def test_contract(equation, a, b, shape, f):
    x, y, result = equation.replace("->", ",").split(",")
    for seed in range(3):
        model = network([a, b], functools.partial(o.Contract, shape=shape, equation=equation), f, seed)
        check(model, lambda u, v: np.einsum(f"Z{x},Z{y}->Z{result}", u, v).reshape(-1, *shape))
        grid, bits = model.grids["y"], model["y"].accumulator_bits(model.grids["q0"], model.grids["q1"])
        largest = np.maximum(abs(grid.low), abs(grid.high))
        assert bits.shape == shape and all(int(b) >= int(v).bit_length() for b, v in zip(bits.ravel(), largest.ravel(), strict=True))


def test_the_grid_of_a_contraction_is_exact():
    """Two results of different grids; a term of a dead factor makes no grid finer."""
    formats = [np.array(v, np.int64) for v in ([1, 1, 0], [1, 1, 0], [0, 2, 0])]
    quantizers = [
        o.Quantize(name=n, inputs=("x",), shape=(3,), rounding="TRN", overflow="WRAP", **dict(zip("kif", formats, strict=True)))
        for n in "ab"
    ]
    ops = (o.Input(name="x", inputs=(), shape=(3,)), *quantizers, o.Contract(name="y", inputs=("a", "b"), shape=(3, 3), equation="s,t->st"))
    grid = ModelDescription(name="m", operations=ops, outputs=("y",)).grids["y"]
    assert grid.f.tolist() == [[0, 2, 0], [2, 4, 0], [0, 0, 0]]
    assert grid.low.tolist() == [[-2, -14, 0], [-14, -56, 0], [0, 0, 0]] and grid.high.tolist() == [[4, 16, 0], [16, 64, 0], [0, 0, 0]]


def lookup(source, rng, f=45, spare=2):
    """Tables for a quantizer `source`: a little longer than needed, one of constants, one word where the input is constant."""
    low, high = source.limits()
    low, sizes = low.astype(np.int64) - spare, (high - low).astype(np.int64) + 1 + 2 * spare
    constant = source.bits == 0
    low, sizes = np.where(constant, 0, low), np.where(constant, 1, sizes)
    words = rng.integers(-(2 ** (f - 5)), 2 ** (f - 5), sizes.sum())
    start = np.r_[0, np.cumsum(sizes.ravel())]
    words[start[1] : start[2]] = 7
    f_out = rng.integers(-2, f + 1, source.shape)
    return {"words": words, "start": start, "low": low, "f_in": source.f, "f": f_out, "bits": np.full(source.shape, f - 4)}


@pytest.mark.parametrize("seed", range(3))
def test_lookup(seed):
    relu = network([(3, 4)], functools.partial(o.Relu, shape=(3, 4)), seed=seed)
    alive = np.random.default_rng(seed).permutation(12).reshape(3, 4) > 2
    source = dataclasses.replace(relu["q0"], **{name: getattr(relu["q0"], name) * alive for name in "kif"})

    def tables(**fields):
        return dataclasses.replace(relu, operations=(relu["x0"], source, o.Lookup(name="y", inputs=("q0",), shape=(3, 4), **fields)))

    fields = lookup(source, np.random.default_rng(seed))
    model = tables(**fields)

    def reference(x):
        out = np.empty(x.shape, object)
        for row, *n in np.ndindex(x.shape):
            n = tuple(n)
            entry = x[(row, *n)] * 2 ** int(source.f[n]) - int(fields["low"][n])
            word = fields["words"][fields["start"][np.ravel_multi_index(n, x.shape[1:])] + int(entry)]
            out[(row, *n)] = Fraction(int(word)) * Fraction(2) ** -int(fields["f"][n])
        return out

    check(model, reference)
    constant, grid = source.bits == 0, model.grids["y"]
    assert constant.sum() >= 3 and np.array_equal(grid.low[constant], grid.high[constant])
    assert grid.low[0, 1] == grid.high[0, 1] == 7  # the interval is that of the words
    coarser = {**fields, "f_in": source.f + 3, "low": fields["low"] * 8, "start": np.arange(13) * 2200, "words": np.arange(12 * 2200)}
    model = tables(**coarser)
    index = model.integers(rows(model))["q0"] * 8 - coarser["low"] + coarser["start"][:-1].reshape(3, 4)
    assert np.array_equal(model.integers(rows(model))["y"], index)


def test_a_lookup_without_a_word_is_named():
    source = network([(2, 2)], functools.partial(o.Relu, shape=(2, 2)))["q0"]
    fields = lookup(source, np.random.default_rng(0), spare=0)
    wide = {**fields, "words": np.zeros(2**17, np.int64), "start": np.array([0, 1, 2, 3, 2**17])}
    for change, message in [
        ({"low": fields["low"] + 1}, r"layer 'y' has a table of .* words from .* \* 2\*\*-.* at .*; its input has others"),
        ({"f_in": fields["f_in"] - 1}, "its input has others"),
        ({"words": fields["words"][:-1]}, "layer 'y' has .* words in tables that start .*; each of 4 needs one"),
        ({"bits": fields["bits"][0]}, r"layer 'y' has bits int64\(2,\); int64 is needed, \(2, 2\) but for words and start"),
        ({"words": fields["words"] * 1.0}, "layer 'y' has words float64"),
        (wide, r"layer 'y' has a table of 131069 words at \(1, 1\); 2\*\*16, a key of 16 bits, is the most"),
    ]:
        with pytest.raises(DescriptionError, match=message):
            network([(2, 2)], functools.partial(o.Lookup, shape=(2, 2), **fields | change))
    with pytest.raises(DescriptionError, match=r"layer 'y' has tables for shape \(2, 2\), but is given \(3, 2\)"):
        network([(3, 2)], functools.partial(o.Lookup, shape=(2, 2), **fields))


def table(size=256, f=45):
    entries = np.random.default_rng(3).integers(-(2 ** (f - 5)), 2 ** (f - 5), size)
    return functools.partial(o.Table, table=entries, f=f, bits=f - 4, f_in=4, low=-128)


@pytest.mark.parametrize("seed", range(3))
def test_table(seed):
    make = functools.partial(table(), shape=(2, 3))
    model = network([(2, 3)], make, 3, seed)
    entries = {Fraction(n - 128, 16): Fraction(int(v), 2**45) for n, v in enumerate(model["y"].table)}
    check(model, np.vectorize(entries.__getitem__, otypes=[object]))
    with pytest.raises(DescriptionError, match="layer 'y' has a table of 20 words .* its input has others"):
        network([(2, 3)], functools.partial(table(20), shape=(2, 3)), 3, seed)
    with pytest.raises(DescriptionError, match="its input has others"):
        network([(2, 3)], functools.partial(table(), shape=(2, 3)), 9, seed)  # finer than the table
    with pytest.raises(DescriptionError, match="int64 and one axis are needed"):
        o.Table(name="y", inputs=("x",), shape=(2,), table=np.ones((2, 2), np.int64), f=0, bits=1, f_in=0, low=0)


def test_values_wider_than_int64_stay_exact():
    model = network([(4,)] * 3, KINDS["multiply"][1], 56, seed=2)
    assert check(model, KINDS["multiply"][2]).dtype == object
    with pytest.raises(DescriptionError, match="output 'y' has [0-9]+ bits, float64 holds 53"):
        model.evaluate(rows(model))


# ---- descriptions ----


def everything():
    """All kinds in one network of two inputs."""
    rng = np.random.default_rng(4)
    ops = [o.Input(name="a", inputs=(), shape=(4, 4, 2)), o.Input(name="b", inputs=(), shape=(4,))]
    ops += [quantize("qa", "a", (4, 4, 2), 3, rng), quantize("qb", "b", (4,), 3, rng)]

    def add(cls, name, sources, shape, **fields):
        ops.append(cls(name=name, inputs=tuple(sources.split()), shape=shape, **fields))

    plain = {"strides": (1, 1), "padding": ((0, 1), (1, 0)), "dilation": (1, 1)}
    add(o.Conv, "conv", "qa", (4, 4, 2), kernel=constant((2, 2, 2, 2), 3, rng), bias=constant((2,), 3, rng), **plain, parallelization=4)
    windows = {"size": (2, 2), "strides": (2, 2), "padding": ((0, 0), (0, 0))}
    add(o.MaxPool, "most", "conv", (2, 2, 2), **windows)
    add(o.AveragePool, "mean", "conv", (2, 2, 2), **windows, counted=False)
    add(o.Add, "add", "most mean", (2, 2, 2))
    add(o.Transpose, "turned", "add", (2, 2, 2), axes=(2, 0, 1))
    add(o.Slice, "part", "turned", (2, 2), index=((None, None, None), 0, (0, 2, 1)))
    add(o.Reshape, "flat", "part", (4,))
    ops.append(table(f=8)(name="table", inputs=("qb",), shape=(4,)))
    add(o.Subtract, "less", "flat table", (4,))
    index = np.array([[0, 1], [3, -1]])
    add(o.Gather, "moved", "qb", (2, 2), index=index)
    k, i, f = (np.where(index < 0, 0, getattr(ops[3], name)[index]) for name in "kif")
    moved = o.Quantize(name="moved", inputs=("x",), shape=(2, 2), k=k, i=i, f=f, rounding="TRN", overflow="WRAP")
    add(o.Lookup, "looked", "moved", (2, 2), **lookup(moved, rng, 8))
    add(o.Contract, "pairs", "looked part", (2, 2), equation="ab,bc->ac")
    add(o.Reshape, "row", "pairs", (4,))
    add(o.Add, "more", "less row", (4,))
    add(o.Multiply, "times", "more qb", (4,))
    add(o.Maximum, "top", "times qb", (4,))
    add(o.Minimum, "low", "top flat", (4,))
    add(o.Concatenate, "both", "low qb", (8,), axis=0)
    add(o.Relu, "relu", "both", (8,))
    add(o.Reshape, "square", "relu", (2, 4))
    add(o.Einsum, "einsum", "square", (2, 3), kernel=constant((4, 3), 3, rng), bias=None, equation="tc,cd->td")
    add(o.Sum, "sum", "einsum", (3,), axes=(0,))
    add(o.Dense, "dense", "sum", (2,), kernel=constant((3, 2), 3, rng), bias=constant((2,), 3, rng))
    return ModelDescription(name="everything", operations=tuple(ops), outputs=("dense", "part"), metadata={"a": 1})


def test_all_kinds_in_a_folder_and_in_the_summary(tmp_path):
    model = everything()
    assert {op.kind for op in model.operations} == set(o.KINDS)
    model.save(tmp_path / "m")
    again = ModelDescription.load(tmp_path / "m")
    x = rows(model)
    for ours, theirs in zip(model.evaluate(x), again.evaluate(x), strict=True):
        assert np.array_equal(ours, theirs)
    assert again.summary() == model.summary() and all(op.kind in model.summary() for op in model.operations if op.kind != "quantize")
    counted = {"pairs", "looked", "more", "conv", "most", "table", "add", "less", "times", "top", "low", "einsum", "sum", "dense"}
    assert set(resources.ebops(model)) == counted and resources.ebops(model).total > resources.ebops(model, "paper_v1").total > 0


def test_the_layout_on_disk_is_that_of_the_first_release(tmp_path):
    everything().save(tmp_path / "m")
    file = tmp_path / "m" / "description.json"
    by_kind = {entry["kind"]: set(entry) for entry in json.loads(file.read_text())["operations"]}
    common = {"kind", "name", "inputs", "shape"}
    assert by_kind["dense"] == common | {"kernel", "bias"} and by_kind["input"] == by_kind["relu"] == common
    assert by_kind["quantize"] == common | {"k", "i", "f", "rounding", "overflow"}
    file.write_text(file.read_text().replace('"kind": "sum"', '"kind": "fft"'))
    with pytest.raises(DescriptionError, match="operation 'sum' is of the unknown kind 'fft'; known are input, quantize"):
        ModelDescription.load(tmp_path / "m")


def test_several_inputs_are_checked():
    model = everything()
    a, b = rows(model)
    for x, message in [
        (a, "x is 1 arrays; the model takes 2, for 'a', 'b', as a tuple"),
        ((a, a), r"x\[1\] is float64 of shape \(7, 4, 4, 2\); floats of shape \(rows, 4\) are needed"),
        ((a, b[:3]), r"x\[1\] has 3 rows, x\[0\] 7; each input needs as many"),
        ((a, b * np.inf), r"row 0 of x\[1\] has a NaN or an infinity"),
    ]:
        with pytest.raises(DescriptionError, match=message):
            model.evaluate(x)
    assert np.array_equal(model.evaluate([a, b])[0], model.evaluate((a, b))[0])


KERNEL = Constant.from_values(np.ones((3, 2)), 0)
INDEX = np.array([0, 1, 5])
ODD = [
    ([(3,)], functools.partial(o.Gather, shape=(3,), index=INDEX), "layer 'y' takes element 5 of an input that has 3"),
    ([(3,)], functools.partial(o.Gather, shape=(3,), index=0 * INDEX - 1), "layer 'y' takes no element of its input"),
    ([(3,)], functools.partial(o.Gather, shape=(2,), index=INDEX), r"layer 'y' has an index int64\(3,\); int64, \(2,\)"),
    (
        [(3,)],
        functools.partial(o.Contract, shape=(3,), equation="a,a->a"),
        "layer 'y' is of kind contract and reads 1 inputs; 2 are needed",
    ),
    ([(3, 3), (3,)], functools.partial(o.Contract, shape=(3,), equation="aa,a->a"), "no label twice in a part, is needed"),
    ([(3, 2), (3,)], functools.partial(o.Contract, shape=(3,), equation="ab,a->a"), "every label must be in two of its three parts"),
    ([(3,), (3,)], functools.partial(o.Contract, shape=(3, 3), equation="a,a->a"), r"has shape \(3, 3\), which 'a,a->a' does not give"),
    ([(2**9, 2**9)] * 2, functools.partial(o.Contract, shape=(2**9, 2**9), equation="ab,cb->ac"), "has 134217728 products; 67108864 are"),
    ([(3,), (4,)], functools.partial(o.Contract, shape=(3,), equation="a,a->a"), r"does not bring \(3,\) and \(4,\) to \(3,\)"),
    (
        [(3,), (4,)],
        functools.partial(o.Add, shape=(3,)),
        r"layer 'y' of shape \(3,\) needs inputs of its own shape, or .*, but 'q1' is \(4,\)",
    ),
    (
        [(3, 2), (2,)],
        functools.partial(o.Add, shape=(3, 2)),
        r"needs inputs of its own shape, or of size 1 on some axes, but 'q1' is \(2,\)",
    ),
    (
        [(1, 2), (1, 2)],
        functools.partial(o.Multiply, shape=(3, 2)),
        r"has shape \(3, 2\), which inputs of shapes \(1, 2\), \(1, 2\) do not",
    ),
    ([(3,)], functools.partial(o.Add, shape=(3,)), "layer 'y' is of kind add and reads 1 inputs; at least 2 are needed"),
    ([(3,)] * 3, functools.partial(o.Subtract, shape=(3,)), "layer 'y' subtracts, and reads 3 inputs; 2 are needed"),
    ([(3, 2), (4, 1)], functools.partial(o.Concatenate, shape=(7, 2), axis=0), "layer 'y' needs inputs that differ in axis 0 alone"),
    ([(3,)], functools.partial(o.Concatenate, shape=(3,), axis=1), "layer 'y' has axis 1; 0 .. 0 is legal"),
    ([(3,)], functools.partial(o.Reshape, shape=(2,)), "layer 'y' cannot reshape values of shape"),
    ([(3,)], functools.partial(o.Transpose, shape=(3,), axes=(1,)), r"layer 'y' has axes \(1,\); each of 0 .. 0 once is legal"),
    ([(3,)], functools.partial(o.Slice, shape=(2,), index=((0, 3, 0),)), "layer 'y' takes no element or has step 0"),
    ([(3, 2)], functools.partial(o.Slice, shape=(2,), index=(5,)), "layer 'y' cannot slice values of shape"),
    ([(3,)], functools.partial(o.Slice, shape=(), index=(2,)), "layer 'y' has no axis but the batch's; keep one, of size 1"),
    ([(3,)], functools.partial(o.Slice, shape=(1,), index=((0, 2, None),)), r"layer 'y' has shape \(1,\), but what it reads gives \(2,\)"),
    ([(4, 2)], pool(o.AveragePool, (1, 2), (3,), (1,), ((0, 0),)), "averages windows of size .*; only those with a power of two"),
    ([(4, 2)], pool(o.AveragePool, (3, 2), (2,), (2,), ((1, 1),)), "averages windows of size .*; only those with a power of two"),
    ([(4, 2)], pool(o.MaxPool, (1, 2), (5,), (1,), ((0, 0),)), "are larger than the padded values"),
    ([(4, 2)], pool(o.MaxPool, (1, 2), (2, 2), (1, 1), ((0, 0),) * 2), "do not fit values of shape"),
    ([(4, 2)], pool(o.MaxPool, (4, 2), (1,), (0,), ((0, 0),)), "sizes, strides and dilations are at least 1"),
    ([(3, 4)], functools.partial(o.Sum, shape=(3,), axes=(2,)), r"sums over axes \(2,\) of values of shape"),
    ([(3, 4)], functools.partial(o.Sum, shape=(4,), axes=(1,)), "has shape .* for a sum over"),
    (
        [(3,)],
        functools.partial(o.Dense, shape=(4,), kernel=KERNEL, bias=None),
        r"layer 'y' has a kernel of shape \(3, 2\); \(features, 4\)",
    ),
    (
        [(3,)],
        functools.partial(o.Dense, shape=(2,), kernel=KERNEL, bias=Constant.from_values(np.ones(3), 0)),
        r"layer 'y' has a bias of shape \(3,\)",
    ),
    ([(3,)], functools.partial(o.Einsum, shape=(2,), kernel=KERNEL, bias=None, equation="aa,ab->b"), "'tc,cd->td'"),
    ([(3,)], functools.partial(o.Einsum, shape=(3,), kernel=KERNEL, bias=None, equation="a,ab->a"), "every label must be in two"),
    ([(3,)], functools.partial(o.Einsum, shape=(5,), kernel=KERNEL, bias=None, equation="a,ab->b"), "layer 'y' has a kernel of shape"),
]


@pytest.mark.parametrize(("shapes", "make", "message"), ODD, ids=range(len(ODD)))
def test_operations_that_do_not_fit_are_named(shapes, make, message):
    with pytest.raises(DescriptionError, match=message):
        network(shapes, make)


def test_a_convolution_that_does_not_fit_is_named():
    settings = {"strides": (1,), "padding": ((0, 0),), "dilation": (1,)}
    kernel = constant((2, 3, 4), 3, np.random.default_rng(0))
    for shape, more, message in [
        ((5, 4), {}, "takes 3 channels, but is given 2"),
        ((5, 4), {"groups": 3}, "layer 'y' has a kernel of shape"),
    ]:
        with pytest.raises(DescriptionError, match=message):
            network([(6, 2)], functools.partial(o.Conv, shape=shape, kernel=kernel, bias=None, **settings, **more))
    assert math.prod(o.Windows((6, 2), (2,), (1,), ((0, 0),), (1,)).positions) == 5


# ---- between an input and its quantizer ----


def rearranged(f=2, rounding="RND", overflow="WRAP"):
    """A layer of tables on the input: a format for each of three readers of each element, a transpose and a slice in between."""
    rng = np.random.default_rng(5)
    index = np.array([[0, 0, 0], [3, 3, -1], [1, 5, 1]])
    ops = [o.Input(name="x", inputs=(), shape=(2, 3)), o.Transpose(name="turned", inputs=("x",), shape=(3, 2), axes=(1, 0))]
    ops += [o.Slice(name="part", inputs=("turned",), shape=(2, 2), index=((0, 2, 1), (None, None, None)))]
    ops += [o.Gather(name="copies", inputs=("x",), shape=(3, 3), index=index), quantize("a", "copies", (3, 3), f, rng)]
    ops += [quantize("b", "part", (2, 2), f, rng)]
    ops[-2:] = [dataclasses.replace(op, rounding=rounding, overflow=overflow) for op in ops[-2:]]
    ops += [
        o.Lookup(name="looked", inputs=("a",), shape=(3, 3), **lookup(ops[-2], rng, 8)),
        o.Sum(name="y", inputs=("looked",), shape=(3,), axes=(0,)),
    ]
    return ModelDescription(name="m", operations=tuple(ops), outputs=("y", "b"))


def test_rearranging_may_stand_before_the_quantizer():
    model = rearranged()
    assert model.unquantized == {"x", "turned", "part", "copies"}
    x = rows(model)[0]
    a = model["a"]
    moved = np.concatenate([x.reshape(-1, 6), np.zeros((len(x), 1))], 1)[:, model["copies"].index]
    direct = ModelDescription(
        name="d", operations=(o.Input(name="x", inputs=(), shape=(3, 3)), dataclasses.replace(a, inputs=("x",))), outputs=("a",)
    )
    assert np.array_equal(model.integers(x)["a"], direct.integers(moved)["a"])
    assert np.array_equal(model.integers(x)["part"], x.transpose(0, 2, 1)[:, :2])
    for outputs, change in [(("copies",), ()), (("r",), (o.Relu(name="r", inputs=("copies",), shape=(3, 3)),))]:
        with pytest.raises(
            DescriptionError, match="(output 'copies' is|layer 'r' reads) the unquantized input; put an input quantizer before it"
        ):
            ModelDescription(name="m", operations=model.operations + change, outputs=outputs)


def test_the_readers_of_an_input_are_seen_from_its_elements():
    model = rearranged()
    readers = input_readers(model, model.inputs[0])
    assert [r.name for r in readers] == ["a", "a", "a", "b"] and all(r.shape == (2, 3) and r.inputs == ("x",) for r in readers)
    seen = [tuple(int(getattr(r, name).ravel()[n]) for name in "kif") for r in readers for n in (0, 1, 4)]
    a, b = ([tuple(int(getattr(model[op], name)[n]) for name in "kif") for n in where] for op, where in READ)
    none = (0, 0, 0)
    assert seen == [a[0], a[3], none, a[1], a[4], none, a[2], none, none, b[0], b[1], b[2]]
    assert input_readers(everything(), everything().inputs[1])[0].name == "qb"


READ = ("a", [(0, 0), (0, 1), (0, 2), (2, 0), (2, 2)]), ("b", [(0, 0), (1, 0), (1, 1)])
