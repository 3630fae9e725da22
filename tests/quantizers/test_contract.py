"""The contract that every quantizer keeps. A new quantizer is one more line in CASES."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers, quantizers, ranges, resources
from hgqjax.config import from_json, to_json

CASES = [
    quantizers.Kif(),
    quantizers.Kif(overflow="WRAP", keep_negative=False),
    quantizers.Kif(overflow="SAT", rounding="TRN", b0=3.0),
    quantizers.Kif(overflow="SAT_SYM", rounding="RND_CONV"),
    quantizers.Kbi(),
    quantizers.Kbi(overflow="WRAP", b0=4.0),
    quantizers.Kbi(overflow="SAT", keep_negative=False),
    quantizers.Fixed(i=0, f=3),
    quantizers.Fixed(i=1, f=2, overflow="WRAP", rounding="TRN", keep_negative=False),
    quantizers.Ternary(),
    quantizers.Ternary(keep_negative=False, rounding="RND_CONV"),
    quantizers.Binary(),
    quantizers.PowerOfTwo(),
    quantizers.PowerOfTwo(bits=2, i0=0.0),
    quantizers.Minifloat(),
    quantizers.Minifloat(m0=3.0, e0=2.0),
    quantizers.Hmq(bits=(4, 2, 3), thresholds=3),
    quantizers.Hmq(keep_negative=False, headroom=0),
    quantizers.Dqa(bits=(8, 1, 3)),
    quantizers.Cpq(),
    quantizers.Cpq(least=2, most=4, keep=0.5, keep_negative=False, rounding="RND_CONV"),
    quantizers.RowWise(),
    quantizers.RowWise(ratio=(0.0, 0.5, 0.5)),
    quantizers.Pruned(bits=4),
    quantizers.Allocated(),
    quantizers.Allocated(overflow="SAT_SYM", bits=(2, 8), signed=True, keep_negative=True),
    quantizers.Allocated(overflow="SAT", keep_negative=False),
    quantizers.Searched(),
    quantizers.Searched(overflow="WRAP", choices=(8, 4), signed=True),
    quantizers.Regions(),
]
SHAPE, GROUP = (4, 3), (4, 1)
every_case = pytest.mark.parametrize("quantizer", CASES, ids=repr)


def data(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=SHAPE), jnp.float32)


def test_every_public_quantizer_is_a_case():
    public = {c for _, c in inspect.getmembers(quantizers, inspect.isclass) if issubclass(c, quantizers.AbstractQuantizer)}
    assert public - {quantizers.AbstractQuantizer, quantizers.FixedPoint} == {type(case) for case in CASES}


@pytest.mark.exact
@every_case
def test_values(quantizer):
    params = jax.tree.map(lambda a: a + 0.3, quantizer.init(GROUP))
    x = data()
    q = np.asarray(quantizer.quantize(x, params))
    assert q.shape == SHAPE and q.dtype == np.float32
    np.testing.assert_array_equal(quantizer.quantize(q, params), q)  # idempotent
    np.testing.assert_array_equal(jax.jit(quantizer.quantize)(x, params), q)  # jit changes nothing
    if params:
        members = jax.tree.map(lambda a: jnp.stack([a, a - 1]), params)  # nor does vmap
        np.testing.assert_array_equal(jax.vmap(quantizer.quantize, (None, 0))(x, members)[0], q)
    in_order = np.asarray(quantizer.quantize_unwrapped(jnp.broadcast_to(jnp.linspace(0.0, 1.9, 64), (4, 64)), params))
    assert np.all(np.diff(in_order) >= 0) or quantizer.overflow == "WRAP"


@every_case
def test_format_holds_the_values(quantizer):
    params = jax.tree.map(lambda a: a + 0.3, quantizer.init(GROUP))
    x = data() * 3
    pairs = [(quantizer.format(params), quantizer.quantize(x, params))]
    assert all(np.shape(v) in (GROUP, ()) for v in pairs[0][0])
    if quantizer.format_of_each_value:
        seen = ranges.observe(x, SHAPE)
        pairs.append((quantizer.format(params, seen), quantizer.quantize(x, params, ranges=seen)))
        assert all(np.shape(v) == SHAPE for v in pairs[1][0])
    for fmt, q in pairs:
        q = np.asarray(q, np.float64)
        k, i, f = (np.broadcast_to(np.asarray(v), SHAPE) for v in fmt)
        assert all(np.all(v == np.round(v)) for v in (k, i, f)) and np.all((k == 0) | (k == 1))
        steps = np.ldexp(q, f.astype(int))
        assert np.all(steps == np.round(steps)) and np.all(q >= -k * np.ldexp(1.0, i.astype(int)))
        assert np.all(q <= np.ldexp(1.0, i.astype(int)) - np.ldexp(1.0, -f.astype(int)))


@every_case
def test_not_a_number_stays_and_infinity_saturates(quantizer):
    params = quantizer.init((1,))
    x = jnp.array([jnp.nan, jnp.inf, -jnp.inf, 1e30, -1e30], jnp.float32)
    nan, *ends = np.asarray(quantizer.quantize(x, params))
    assert np.isnan(nan) and (quantizer.overflow == "WRAP" or ends[:2] == ends[2:])


@every_case
def test_gradients_reach_every_width(quantizer):
    params = jax.tree.map(lambda a: a - 0.3, quantizer.init(GROUP))
    x = data() * jnp.array([[1e-3, 1.0, 1e4]])  # some below the smallest level, some beyond the largest
    how = {"key": jax.random.key(0), "temperature": jnp.ones(())}
    trained = functools.partial(quantizer.sample, **how) if quantizer.samples else quantizer.quantize_unwrapped
    g = jax.grad(lambda p: jnp.sum(trained(x, p)))(params)
    assert all(g[name].shape[:2] == GROUP and g[name].shape == value.shape for name, value in params.items())
    observed = {"i"} if quantizer.overflow == "WRAP" and "f" in params else set()  # the range decides
    assert {name for name, value in g.items() if np.any(value != 0)} == set(params) - observed - quantizer.untrained


@every_case
def test_one_trace_whatever_the_widths(quantizer):
    traces = []

    @jax.jit
    @jax.value_and_grad
    def loss(params, x):
        traces.append(1)
        return jnp.sum(quantizer.quantize(x, params))

    params = quantizer.init(GROUP)
    for shift in range(4):
        loss(jax.tree.map(lambda a, s=shift: a - s, params), data())
    assert len(traces) == 1


def starts_from_the_sample(quantizer):
    return not isinstance(quantizer, quantizers.Fixed) and not (isinstance(quantizer, quantizers.Kif) and quantizer.b0 is None)


@pytest.mark.parametrize("quantizer", [c for c in CASES if starts_from_the_sample(c)], ids=repr)
def test_a_sample_starts_the_widths_alive(quantizer):
    tiny = data() * 1e-5
    q = quantizer.quantize_unwrapped(tiny, quantizer.init(GROUP, sample=tiny), ranges=ranges.observe(tiny, GROUP))
    negative = getattr(quantizer, "keep_negative", True)
    positive = np.asarray(tiny).max(1) > -np.asarray(tiny).min(1)
    alive = np.any(np.asarray(q) != 0, axis=1)
    assert alive[positive].all() and (alive.all() or not negative)


@pytest.mark.parametrize("quantizer", [c for c in CASES if isinstance(c, quantizers.Kif) and c.b0 is None], ids=repr)
def test_fractional_bits_that_are_given_do_not_follow_the_sample(quantizer):
    assert np.all(quantizer.init(GROUP, sample=data() * 1e-5)["f"] == quantizer.f0)


@pytest.mark.parametrize("quantizer", [c for c in CASES if c.overflow == "WRAP" and c.limits()], ids=repr)
def test_observed_ranges_hold_the_data(quantizer):
    x = jnp.abs(data()) * 5 if not quantizer.keep_negative else data() * 5
    params, seen = quantizer.init(GROUP), ranges.observe(x, GROUP)
    np.testing.assert_array_equal(quantizer.quantize(x, params, ranges=seen), quantizer.quantize_unwrapped(x, params, ranges=seen))


@every_case
def test_float64_and_empty_samples_give_float32_widths(quantizer):
    with jax.enable_x64(True):
        sample = jnp.asarray(np.random.default_rng(0).normal(size=SHAPE))
        params = quantizer.init(GROUP, sample=sample)
        fmt = quantizer.format(params, ranges.observe(sample, SHAPE if quantizer.format_of_each_value else GROUP))
    assert all(v.dtype == jnp.float32 for v in [*params.values(), *fmt])
    assert all(np.all(np.isfinite(v)) for v in quantizer.init((1,), sample=jnp.zeros((0,))).values())


@pytest.mark.parametrize("quantizer", [c for c in CASES if c.limits()], ids=repr)
def test_widths_that_do_not_fit_are_named(quantizer):
    params = quantizer.init((4, 3))
    name = next(iter(params))
    with pytest.raises(ValueError, match="does not broadcast to the shape"):
        quantizer.quantize(jnp.ones((3,)), params)
    with pytest.raises(ValueError, match="; (whole numbers of bits|0 or 1) are needed"):
        quantizer.quantize(jnp.ones(SHAPE), {**params, name: params[name] * jnp.nan})
    with pytest.raises(ValueError, match=r"shape is \(1,\); it needs the rank"):
        quantizer.init((1,), sample=data())


@every_case
def test_json_both_ways(quantizer):
    assert from_json(quantizers.AbstractQuantizer, to_json(quantizer)) == quantizer
    assert hash(quantizer) == hash(dataclasses.replace(quantizer)) and eval(repr(quantizer), vars(quantizers)) == quantizer


@every_case
def test_clip_brings_the_widths_into_their_limits(quantizer):
    params = quantizer.clip(jax.tree.map(lambda a: a + 1000, quantizer.init(GROUP)))
    assert {name: float(np.unique(v)[0]) for name, v in params.items()} == {name: high for name, (_, high) in quantizer.limits().items()}
    assert all(np.unique(v).size == 1 for v in params.values())


@pytest.mark.exact
@pytest.mark.parametrize("quantizer", {type(case): case for case in CASES}.values(), ids=repr)
def test_weights_are_exported_word_for_word(quantizer):
    activations = quantizer if isinstance(quantizer, quantizers.FixedPoint) and quantizer.overflow != "WRAP" else quantizers.Kif(f0=3.0)
    shared = {"kernel_granularity": "element" if isinstance(quantizer, quantizers.Pruned) else "channel"}
    layer = layers.Dense(3, 4, rngs=nnx.Rngs(0), input_quantizer=activations, kernel_quantizer=quantizer, **shared)
    if not getattr(quantizer, "keep_negative", True):
        layer.kernel[...] = abs(layer.kernel[...])
        layer(data())
    layer.set_mode("observe")  # one that samples has its present choice
    description = export.describe(layer, np.asarray(data()))  # raises when a word differs
    constants = description["model"].kernel
    weights, frozen = layer.kernel_quantizer, layer.kernel_quantizer.frozen(layer.kernel[...])
    np.testing.assert_array_equal(constants.values, frozen.values)
    np.testing.assert_array_equal(constants.bits, weights.signal().bits("hgq2", False))
    if quantizer.format_of_each_value:
        assert resources.ebops(description, "paper_v1").total <= resources.ebops(description).total * 2
        np.testing.assert_array_less(constants.enclosed_bits, constants.bits + 1)


@pytest.mark.parametrize("quantizer", [c for c in CASES if not isinstance(c, quantizers.FixedPoint)], ids=repr)
def test_quantizers_of_weights_are_refused_for_activations(quantizer):
    with pytest.raises(ValueError, match=r"which is for weights; activations need a FixedPoint"):
        layers.Quantize((3,), quantizer)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quantizers.Kif(rounding="UP"), "rounding is 'UP'"),
        (lambda: quantizers.Kif(f_limits=(3.0, 2.0)), r"f_limits is \(3.0, 2.0\); a pair \(least, greatest\)"),
        (lambda: quantizers.Kif(f0=float("nan")), "f0 is nan"),
        (lambda: quantizers.Kbi(b_limits=(-1.0, 8.0)), r"b_limits is \(-1.0, 8.0\); magnitude bits are at least 0"),
        (lambda: quantizers.Fixed(i=0, f=True), "f is True; a whole number of bits"),
        (lambda: quantizers.Fixed(i=30, f=30), "i is 30, f 30; formats of 1 to 52 bits"),
        (lambda: quantizers.Fixed(i=2, f=-3), "i is 2, f -3; formats of 1 to 52 bits"),
        (lambda: quantizers.PowerOfTwo(bits=1), "bits is 1; 2 to 6 bits"),
        (lambda: quantizers.Minifloat(e_limits=(0.0, 9.0)), r"e_limits is \(0.0, 9.0\); exponent bits within 0..5"),
        (lambda: quantizers.Minifloat(m_limits=(-2.0, 9.0)), r"m_limits is \(-2.0, 9.0\); mantissa bits within 0..20"),
        (lambda: quantizers.Ternary(i0=99.0), "i0 is 99.0; a number of bits within"),
        (lambda: quantizers.Kbi(i_limits=(0.0, float("nan"))), r"i_limits is \(0.0, nan\); a pair"),
        (lambda: quantizers.Hmq(bits=(4, 4)), r"bits is \(4, 4\); different whole numbers within 1..16"),
        (lambda: quantizers.Hmq(thresholds=0), "thresholds is 0, headroom 1, draws 32; 1 to 16, 0 to 8 and at least 1"),
        (lambda: quantizers.Hmq(search=0.0), "search is 0.0, cycles 6; a share"),
        (lambda: quantizers.Dqa(bits=()), r"bits is \(\); one or more different whole numbers within 1..16"),
        (lambda: quantizers.Dqa(bits=(4, 2, 4)), r"bits is \(4, 2, 4\); one or more different"),
        (lambda: quantizers.Dqa(t1=100.0), "t0 is 100.0, t1 100.0; temperatures above 0 that fall"),
        (lambda: quantizers.Dqa(t1=0.0), "t0 is 100.0, t1 0.0; temperatures above 0"),
        (lambda: quantizers.Dqa(choice=0.0), "choice is 0.0; a share within 0..1"),
        (lambda: quantizers.Searched(choices=(8, 1)), r"choices is \(8, 1\); one or more different whole numbers within 2..16"),
        (lambda: quantizers.Searched(overflow="SAT"), "overflow is 'SAT'; Searched has WRAP"),
        (lambda: quantizers.Dqa(overflow="SAT"), "overflow is 'SAT'; Dqa has WRAP"),
        (lambda: quantizers.RowWise(ratio=(0.5, 0.3, 0.1)), r"ratio is \(0.5, 0.3, 0.1\), which sums to 0.9; three shares"),
        (lambda: quantizers.RowWise(ratio=(1.5, -0.5, 0.0)), r"ratio is \(1.5, -0.5, 0.0\), which sums to 1; three shares"),
        (lambda: quantizers.RowWise(every=0), "every is 0"),
        (lambda: quantizers.Regions(bits=(1, 4)), r"bits is \(1, 4\), widest 12; fewest and most magnitude bits within 2..16"),
        (lambda: quantizers.Pruned(bits=1), "bits is 1; 2 to 16"),
        (lambda: quantizers.Pruned(sparsity=1.0), "sparsity is 1.0"),
    ],
)
@pytest.mark.usefixtures("annotations_unchecked")
def test_bad_choices_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
