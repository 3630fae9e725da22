"""Ours against what HGQ2 0.2.0 and quantizers 1.2.2 compute: tests/golden, written by scripts/make_golden.

Values are equal, bit for bit, except where HGQ2 is wrong or differs on purpose; each such place is pinned here, with the reason. Gradients
agree to the rounding of float32 terms: HGQ2 differentiates both scalings of ``round(x * 2**f) / 2**f``, and so subtracts two numbers of
the size of x where ours is ``ln2 (x - q)``.
"""

import json
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import fixed_point, ranges, resources, testing
from hgqjax.quantizers import Binary, Format, Kbi, Kif, Minifloat, Ternary

GOLDEN = Path(__file__).parent / "golden"
LN2 = fixed_point.LN2
LAST_BELOW_TIE = 0.5 - 2.0**-25  # RND of quantizers is floor(v + 0.5), and this sum is rounded to 1


def load(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: file[key].astype(np.float32) if file[key].dtype.kind in "iu" else file[key] for key in file.files}


FIXED, TRAINED, MINIFLOAT = load("fixed"), load("trained"), load("minifloat")
MODES = [tuple(mode) for mode in FIXED["modes"].tolist()]
CASES = [tuple(case) for case in TRAINED["cases"].tolist()]
EBOPS = json.loads((GOLDEN / "ebops.json").read_text())


def test_as_many_values_as_the_readme_says():
    values = [FIXED["value"], *(TRAINED[name] for name in ("training", "inference", "traced")), MINIFLOAT["value"]]
    assert sum(v.size for v in values) == 25_344 and len(EBOPS) == 60


def gradients(fn, g, *primals):
    """Value, and gradients in the primals for the upstream gradient g."""
    value, pull = jax.vjp(fn, *(jax.tree.map(jnp.asarray, p) for p in primals))
    return np.asarray(value), jax.tree.map(np.asarray, pull(jnp.asarray(g)))


def agree(got, want, terms):
    """Whether they are equal to 1e-6 of 1 and of the float32 terms that were added up."""
    return abs(got - want) <= 1e-6 * (1 + terms)


def below_tie(x, f):
    """Where x is the last number below the tie between 0 and the first step."""
    return np.ldexp(x.astype(float), np.broadcast_to(f, x.shape).astype(int)) == LAST_BELOW_TIE


def gradient_of_difference(x, ours, theirs, g, k, i, f, overflow):
    """What their value, where it is not ours, adds to the gradient on f: ln2 (ours - theirs), for x within the range."""
    inside = np.ones(x.shape, bool)
    if overflow != "WRAP":
        low, high = (np.asarray(v) for v in fixed_point.limits(*(jnp.asarray(v) for v in (k, i, f)), overflow))
        inside = (x >= low) & (x <= high)
    return np.where(inside, LN2 * (ours.astype(float) - theirs) * g, 0)


@pytest.fixture(scope="module")
def fixed():
    """Of each triple of modes: our value and our gradients in x, i, f."""
    x, k, i, f, g = (FIXED[name] for name in "xkifg")
    functions = {"training": fixed_point.quantize_unwrapped, "inference": fixed_point.quantize}
    return {mode: gradients(lambda x, i, f, m=mode: functions[m[2]](x, k, i, f, *m[:2]), g, x, i, f) for mode in MODES}


# Elements of 900 where quantizers is not exact: the last number below the first tie with RND; formats without bits
WRONG = {
    ("RND", "WRAP", "training"): (43, 0),
    ("RND", "WRAP", "inference"): (29, 39),
    ("RND", "SAT", "inference"): (29, 27),
    ("RND", "SAT_SYM", "inference"): (29, 0),
    ("TRN", "WRAP", "inference"): (0, 33),
    ("TRN", "SAT", "inference"): (0, 41),
    ("RND_CONV", "WRAP", "inference"): (0, 28),
    ("RND_CONV", "SAT", "inference"): (0, 27),
}


def exact(mode, x, k, i, f):
    """The value in fractions. WRAP in training rounds only: so does a range that holds everything."""
    k, i = (1, 40) if mode[1:] == ("WRAP", "training") else (k, i)
    return testing.exact_quantize(float(x), int(k), int(i), int(f), *mode[:2])


@pytest.mark.parametrize("mode", MODES, ids="-".join)
def test_values(fixed, mode):
    x, k, i, f = (FIXED[name] for name in "xkif")
    ours, theirs = fixed[mode][0], FIXED["value"][MODES.index(mode)]
    assert [Fraction(float(v)) for v in ours] == [exact(mode, *row) for row in zip(x, k, i, f, strict=True)]
    different = ours != theirs
    below = below_tie(x, f) & (mode[0] == "RND")
    no_bits = (k + i + f <= 0) & (mode[1:] != ("WRAP", "training"))
    assert not np.any(different & ~below & ~no_bits)
    # quantizers gives one step where 0 is nearer; without bits it gives -1 or 0 steps, which HGQ2's own layers set to 0
    assert (np.sum(different & ~no_bits), np.sum(different & no_bits)) == WRONG.get(mode, (0, 0))


@pytest.mark.parametrize("mode", MODES, ids="-".join)
def test_gradients(fixed, mode):
    n = MODES.index(mode)
    x, k, i, f, g = (FIXED[name] for name in "xkifg")
    ours, (dx, di, df) = fixed[mode]
    theirs, their_di, their_df = (FIXED[name][n] for name in ("value", "di", "df"))
    assert np.array_equal(dx, FIXED["dx"][n])
    if mode[1:] != ("WRAP", "inference"):
        assert np.array_equal(di, their_di)
        extra = gradient_of_difference(x, ours, theirs, g, k, i, f, mode[1])
        assert agree(df + extra, their_df, abs(x * g)).all()
        return
    # WRAP at inference: theirs differentiates the modulo, ours gives i no gradient, since nothing trains through a wrap
    rounded = FIXED["value"][n - 1]
    assert MODES[n - 1] == (mode[0], "WRAP", "training") and not di.any()
    assert agree(their_di, LN2 * (theirs - rounded) * g, abs(x * g)).all()
    has_bits = np.broadcast_to(k + i + f > 0, x.shape)
    extra = gradient_of_difference(x, ours, theirs, g, k, i, f, mode[1])
    assert agree(df + extra, their_df, abs(x * g))[has_bits].all()


@pytest.fixture(scope="module", params=range(len(CASES)), ids=["-".join(case) for case in CASES])
def case(request):
    """One of HGQ2's internal quantizers: ours, its parameters, and what HGQ2 computed."""
    name, overflow, keep_negative = CASES[request.param]
    quantizer = {"kif": Kif, "kbi": Kbi}[name](overflow=overflow, keep_negative=keep_negative == "1")
    values = {key: array[request.param] for key, array in TRAINED.items() if key != "cases"}
    return quantizer, {"i": jnp.asarray(values["i"]), {"kif": "f", "kbi": "b"}[name]: jnp.asarray(values["width"])}, values


def check_values(ours, theirs, k, i, f, x):
    """Equal, but for the last number below the first tie and, with SAT, for formats without bits while training."""
    different = ours != theirs
    known = below_tie(x, f) | np.broadcast_to(k + i + f <= 0, x.shape)
    assert not np.any(different & ~known)
    rows = (np.broadcast_to(v, x.shape)[different] for v in (k, i, f))
    wide = [(int(k), int(i), int(f)) for k, i, f in zip(*rows, strict=True)]
    exact = [testing.exact_quantize(float(v), k, i, f) for v, (k, i, f) in zip(x[different], wide, strict=True)]
    assert [Fraction(float(v)) for v in ours[different]] == exact


def test_trained_widths_in_training(case):
    quantizer, params, theirs = case
    wrap, x, g = quantizer.overflow == "WRAP", theirs["x"], theirs["g"]
    if wrap:  # HGQ2 first lets i follow the data of this very step
        params = params | {"i": jnp.asarray(theirs["i_training"])}
    ours, (dx, dparams) = gradients(quantizer.quantize_unwrapped, g, x, params)
    k, i, f = (np.asarray(v) for v in quantizer.format(params))
    check_values(ours, theirs["training"], k, i + 40 * wrap, f, x)
    assert np.array_equal(dx, theirs["dx"])
    extra = gradient_of_difference(x, ours, theirs["training"], g, k, i, f, quantizer.overflow).sum(0)
    terms = abs(x * g).sum(0)
    if isinstance(quantizer, Kif):
        assert agree(dparams["f"] + extra, theirs["dwidth"], terms).all()
        assert agree(dparams["i"], theirs["di"], terms).all()
    else:
        assert agree(dparams["b"] + extra, theirs["dwidth"], terms).all()
        if not wrap:  # with WRAP i is no parameter: ours sees an observed range there
            assert agree(dparams["i"] - extra, theirs["di"], terms).all()


def test_trained_widths_at_inference(case):
    quantizer, params, theirs = case
    ours = np.asarray(quantizer.quantize(theirs["x"], params))
    k, i, f = (np.asarray(v) for v in quantizer.format(params))
    check_values(ours, theirs["inference"], k, i, f, theirs["x"])
    bits = resources.Signal(Format(k, i, f), quantizer.overflow, f.shape).bits("hgq2", False)
    no_magnitude = (quantizer.overflow == "SAT") & (i + f < 0)  # k + max(i + f, 0): HGQ2 counts the sign of what is always 0
    assert np.array_equal(bits[~no_magnitude], theirs["bits"][~no_magnitude])
    assert np.array_equal(theirs["bits"][no_magnitude], k[no_magnitude]) and not bits[no_magnitude].any()


@pytest.mark.parametrize("case", [n for n, case in enumerate(CASES) if "WRAP" in case], indirect=True)
def test_integer_bits_follow_the_data(case):
    quantizer, params, theirs = case
    x = theirs["x"]
    seen = ranges.observe(jnp.asarray(x), params["i"].shape)
    k, i, f = (np.asarray(v) for v in quantizer.format(params, seen))
    known = np.zeros(i.shape, bool)
    if isinstance(quantizer, Kbi):
        b = i + f
        limit = np.ldexp(1 - 2.0**-b, theirs["i_traced"].astype(int))
        largest = abs(x).max(0, keepdims=True)
        # without bits HGQ2 sets i = 32; and it takes a magnitude 1e-7 above the limit for one below it
        known = (b == 0) | ((largest > limit) & (largest < limit * (1 + 2e-7)))
        assert (theirs["i_traced"][b == 0] == 32).all() and (i - theirs["i_traced"] == 1)[known & (b > 0)].all()
    assert np.array_equal(k, theirs["k_traced"]) and np.array_equal(i[~known], theirs["i_traced"][~known])
    after = np.maximum(theirs["i"] - np.float32(0.01), np.where(known, theirs["i_traced"], i))
    assert np.array_equal(after, theirs["i_training"])
    ours = np.asarray(quantizer.quantize(jnp.asarray(x), params, ranges=seen))
    same = np.broadcast_to(~known | (i + f == 0), x.shape)
    check_values(np.where(same, ours, theirs["traced"]), theirs["traced"], k, i, f, x)


def test_minifloat():
    x, m, e, c, g = (MINIFLOAT[name] for name in ("x", "m", "e", "e0", "g"))
    value, (dx, dm, de, dc) = gradients(lambda x, m, e, c: Minifloat().quantize(x, {"m": m, "e": e, "c": c}), g, x, m, e, c)
    assert np.array_equal(value, MINIFLOAT["value"])
    span = np.maximum(2.0 ** (e - 1), 1)
    inside = abs(x) <= (2 - 2.0**-m) * 2.0 ** (c + span - 1)
    assert 300 < np.sum(~inside) < 600  # there ours has the gradients of the greatest number, theirs has dq/dx = 1
    for ours, theirs in ((dx, "dx"), (dm, "dm"), (de, "de"), (dc, "de0")):
        assert agree(ours, MINIFLOAT[theirs], abs(x * g))[inside].all()
    assert np.array_equal(dx[~inside], 0 * g[~inside])


def test_binary_and_ternary():
    t = jnp.asarray(MINIFLOAT["t"])
    unit = {"i": jnp.ones(t.shape)}  # levels -1, (0,) 1; gradients differ: theirs is 1 - tanh(x)**2 whatever the range
    binary = np.asarray(Binary().quantize(t, unit))
    assert np.array_equal(binary != MINIFLOAT["binary"], t == 0)  # sign(0) is +1 here, -1 there
    assert np.array_equal(Ternary(rounding="RND_CONV").quantize(t, unit), MINIFLOAT["ternary"])
    half_up = np.asarray(Ternary(rounding="RND").quantize(t, unit))
    assert np.array_equal(half_up != MINIFLOAT["ternary"], t == 0.5)


def signal(operand, data):
    """The operand as ours; data without its batch axis."""
    k, i, f = (np.array(operand[name], np.float64) for name in "kif")
    if operand["overflow"] == "SAT":  # HGQ2 counts the sign of a format without magnitude bits, ours does not: the value is always 0
        f = np.maximum(f, -i)
    width = Format(*(v[0] if data else v for v in (k, i, f)))
    return resources.Signal(width, operand["overflow"], tuple(operand["shape"][1:] if data else operand["shape"]), not data)


def padding(arguments, rank, size, window):
    """Zeros (before, after) each axis, as TensorFlow counts them."""
    strides, dilation = (np.broadcast_to(arguments.get(name, 1), rank).tolist() for name in ("strides", "dilation_rate"))
    pads = []
    for n, taps, stride, step in zip(size, window, strides, dilation, strict=True):
        zeros = max((-(-n // stride) - 1) * stride + step * (taps - 1) + 1 - n, 0) if arguments.get("padding") == "same" else 0
        pads.append((zeros // 2, zeros - zeros // 2))
    return tuple(strides), tuple(pads), tuple(dilation)


def equation_of(entry):
    """Equation without a label for the batch axis."""
    arguments, rank = entry["arguments"], len(entry["inputs"][0])
    if "equation" in arguments:
        return arguments["equation"].replace("...", "bn").replace("b", "")
    return {"QDense": "nmc,cC->nmC", "QBatchNormDense": "nmc,cC->nmC", "QBatchNormalization": "nmc,c->nmc"}[entry["layer"]].replace(
        "nm", "nm"[: rank - 1]
    )


MERGES = {
    "QAdd": resources.Add,
    "QAveragePow2": resources.Add,
    "QSubtract": resources.Subtract,
    "QMultiply": resources.Multiply,
    "QDot": resources.Multiply,
    "QMaximum": resources.Extreme,
    "QMinimum": resources.Extreme,
}


def operation(entry):
    """The operation of `hgqjax.resources` for one layer of HGQ2."""
    layer, arguments = entry["layer"], entry["arguments"]
    signals = {name: signal(operand, name.startswith("input")) for name, operand in entry["operands"].items()}
    x, kernel, bias = signals["input0"], signals.get("kernel"), signals.get("bias")
    factor = arguments.get("parallelization_factor", -1)
    parallel = None if factor < 0 else factor
    if layer in MERGES:
        return MERGES[layer](tuple(signals.values()))
    if layer == "QEinsum":
        return resources.Einsum(x, signals["input1"], None, equation_of(entry))
    if layer in ("QSum", "QMeanPow2"):
        axes = np.atleast_1d(arguments["axes"])
        return resources.Sum(x, tuple(int(a) - 1 if a > 0 else int(a) for a in axes))
    if "Pooling" in layer:
        positions = np.prod([n // arguments["pool_size"] for n in x.shape[:-1]])
        return resources.Pool(x, int(positions), parallel)
    if "Conv" in layer:
        rank = len(x.shape) - 1
        strides, pads, dilation = padding(arguments, rank, x.shape[:-1], kernel.shape[:rank])
        return resources.Conv(x, kernel, bias, strides, pads, dilation, arguments.get("groups", 1), parallel)
    if layer == "QDense" and parallel is None:
        return resources.Dense(x, kernel, bias)
    return resources.Einsum(x, kernel, bias, equation_of(entry), parallel)


@pytest.mark.parametrize("entry", EBOPS, ids=[f"{n}-{entry['layer']}" for n, entry in enumerate(EBOPS)])
def test_ebops(entry):
    for name, operand in entry["operands"].items():
        mine = signal(operand, False)
        assert np.array_equal(mine.bits("hgq2", False), np.broadcast_to(operand["bits"], mine.shape)), name
    assert float(operation(entry).ebops("hgq2", False)) == pytest.approx(entry["ebops"], rel=1e-6)  # theirs is a float32 sum
