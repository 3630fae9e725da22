"""The contract that every quantizer keeps. A new quantizer is one more line in CASES."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import quantizers, ranges
from hgqjax.config import from_json, to_json

CASES = [
    quantizers.Kif(),
    quantizers.Kif(overflow="WRAP", keep_negative=False),
    quantizers.Kif(overflow="SAT", rounding="TRN", b0=3.0),
    quantizers.Kif(overflow="SAT_SYM", rounding="RND_CONV"),
    quantizers.Kbi(),
    quantizers.Kbi(overflow="WRAP", b0=4.0),
    quantizers.Kbi(overflow="SAT", keep_negative=False),
]
SHAPE, GROUP = (4, 3), (4, 1)


def data(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=SHAPE), jnp.float32)


def test_every_public_quantizer_is_a_case():
    public = {c for _, c in inspect.getmembers(quantizers, inspect.isclass) if issubclass(c, quantizers.AbstractQuantizer)}
    assert public - {quantizers.AbstractQuantizer} == {type(case) for case in CASES}


@pytest.mark.parametrize("quantizer", CASES, ids=repr)
def test_contract(quantizer):
    params = jax.tree.map(lambda a: a + 0.3, quantizer.init(GROUP))
    x = data()
    q = np.asarray(quantizer.quantize(x, params))
    k, i, f = quantizer.format(params)
    assert hash(quantizer) == hash(dataclasses.replace(quantizer)) and eval(repr(quantizer), vars(quantizers)) == quantizer
    assert all(np.all(a == np.round(a)) and a.shape == GROUP for a in (k, i, f))
    assert np.all(np.ldexp(q, np.broadcast_to(np.asarray(f, int), SHAPE)) % 1 == 0)  # on the grid
    np.testing.assert_array_equal(quantizer.quantize(q, params), q)  # idempotent
    np.testing.assert_array_equal(jax.jit(quantizer.quantize)(x, params), q)  # jit changes nothing
    members = jax.tree.map(lambda a: jnp.stack([a, a - 1]), params)  # nor does vmap
    np.testing.assert_array_equal(jax.vmap(quantizer.quantize, (None, 0))(x, members)[0], q)


@pytest.mark.parametrize("quantizer", CASES, ids=repr)
def test_gradients_reach_every_width_of_the_grid(quantizer):
    params = jax.tree.map(lambda a: a - 0.3, quantizer.init(GROUP))
    g = jax.grad(lambda p: jnp.sum(quantizer.quantize_unwrapped(data() * 9, p)))(params)
    trained = {name for name, value in g.items() if np.any(value != 0)}
    assert {name: v.shape for name, v in g.items()} == {name: GROUP for name in params}
    grid = {"b", "i"} if isinstance(quantizer, quantizers.Kbi) else {"f"}
    assert trained == (grid if quantizer.overflow == "WRAP" else grid | {"i"})


@pytest.mark.parametrize("quantizer", CASES, ids=repr)
def test_a_sample_starts_the_widths_alive(quantizer):
    tiny = data() * 1e-5
    q = quantizer.quantize_unwrapped(tiny, quantizer.init(GROUP, sample=tiny), ranges=ranges.observe(tiny, GROUP))
    if isinstance(quantizer, quantizers.Kbi) or quantizer.b0 is not None:
        positive = np.asarray(tiny).max(1) > -np.asarray(tiny).min(1)
        alive = np.any(np.asarray(q) != 0, axis=1)
        assert alive[positive].all() and (alive.all() or not quantizer.keep_negative)


@pytest.mark.parametrize("quantizer", [c for c in CASES if c.overflow == "WRAP"], ids=repr)
def test_observed_ranges_hold_the_data(quantizer):
    x = jnp.abs(data()) * 5 if not quantizer.keep_negative else data() * 5
    params, seen = quantizer.init(GROUP), ranges.observe(x, GROUP)
    np.testing.assert_array_equal(quantizer.quantize(x, params, ranges=seen), quantizer.quantize_unwrapped(x, params, ranges=seen))


@pytest.mark.parametrize("quantizer", CASES, ids=repr)
def test_json_both_ways(quantizer):
    assert from_json(quantizers.AbstractQuantizer, to_json(quantizer)) == quantizer


@pytest.mark.parametrize("quantizer", CASES, ids=repr)
def test_clip_brings_the_widths_into_their_limits(quantizer):
    params = quantizer.clip(jax.tree.map(lambda a: a + 1000, quantizer.init(GROUP)))
    assert {name: float(v[0, 0]) for name, v in params.items()} == {name: high for name, (_, high) in quantizer.limits().items()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: quantizers.Kif(rounding="UP"), "rounding is 'UP'"),
        (lambda: quantizers.Kif(f_limits=(3.0, 2.0)), r"f_limits is \(3.0, 2.0\); a pair \(least, greatest\)"),
        (lambda: quantizers.Kif(f0=float("nan")), "f0 is nan"),
        (lambda: quantizers.Kbi(b_limits=(-1.0, 8.0)), r"b_limits is \(-1.0, 8.0\); magnitude bits are at least 0"),
    ],
)
def test_bad_choices_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
