"""LUTs of tables by content: known functions, an independent count, HGQ-LUT's formula as the most, and the gradient of the span."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers, resources
from hgqjax.quantizers import Format, Kbi, Kif
from hgqjax.resources import Luts, Signal, table_luts, tables_luts
from hgqjax.resources.content import bit_functions, by_key

RNG = np.random.default_rng(0)


def depends(column: np.ndarray, bits: int) -> list[int]:
    """Inputs that a column of a truth table hangs on, by comparing rows that differ in one."""
    keys = np.arange(2**bits)
    return [n for n in range(bits) if np.any(column != column[keys ^ (1 << n)])]


@pytest.mark.parametrize("bits", range(1, 7))
def test_small_keys_are_a_function_for_each_bit_that_is_one(bits):
    for _ in range(20):
        words = RNG.integers(-8, 8, 2**bits) >> RNG.integers(0, 3)
        columns = {tuple(words >> n & 1) for n in range(64)}
        columns = {min(c, tuple(1 - v for v in c)) for c in columns}  # an inverse is not built again
        inputs = [len(depends(np.array(column), bits)) for column in columns]
        assert table_luts(words, bits) == sum(0.0 if n < 2 else 0.5 if n < 6 else 1.0 for n in inputs)


@pytest.mark.parametrize("bits", [7, 8, 9, 12])
def test_wide_keys(bits):
    noise = RNG.integers(0, 2, 2**bits)
    assert table_luts(noise, bits) == 2 ** (bits - 6)
    keys = np.arange(2**bits)
    for ignored in (0, bits // 2, bits - 1):  # a repeated half, whichever input it is
        assert table_luts(noise[keys & ~(1 << ignored)], bits) == 2 ** (bits - 7)
    assert table_luts(keys >> 3, bits) == 0.0 and table_luts(np.zeros(2**bits, int), bits) == 0.0  # wires, and nothing
    constant_below = np.where(keys < 2 ** (bits - 1), 1, noise)
    assert table_luts(constant_below, bits) <= 2 ** (bits - 7)
    symmetric = noise[np.minimum(keys, keys ^ (2**bits - 1))]
    assert 2 ** (bits - 7) <= table_luts(symmetric, bits) <= 2 ** (bits - 6)


def test_shared_tables_cost_nothing_and_very_wide_ones_go_by_width():
    noise = RNG.integers(0, 4, 64)
    found = tables_luts([(0, noise, 6), (1, noise, 6), (0, noise, 6), (0, noise + 0, 6), (0, RNG.integers(0, 2, 2**13), 13)])
    assert found.tolist() == [2.0, 2.0, 0.0, 0.0, 128.0]
    with pytest.raises(ValueError, match="a table of 5 words with a key of 2 bits"):
        table_luts(np.arange(5), 2)


def test_bits_and_keys():
    words = RNG.integers(-40, 40, 32)
    for n, function in enumerate(bit_functions(words)):
        assert any(all((function >> key & 1) == (word >> bit & 1) for key, word in enumerate(words.tolist())) for bit in range(8)), n
    table = by_key(np.arange(10, 17), -4, 3)  # words of -4 .. 2, of which 3 never comes
    assert all(table[key % 8] == 14 + min(key, 2) for key in range(-4, 4))


def layer(**settings):
    model = layers.Sequential(layers.LutDense(5, 4, rngs=nnx.Rngs(0), **settings))
    rows = np.random.default_rng(1).normal(size=(200, 5)).astype(np.float32)
    layers.adapt(model, jnp.asarray(rows))
    return model, rows


def test_content_of_a_layer():
    model, rows = layer(function=layers.EdgeMlp(hidden=2), input_quantizer=Kif(f0=2.0), output_quantizer=Kbi(b0=4.0))
    description = export.describe(model, rows)
    op, source = description["layer_0"], description.grids["layer_0_input"]
    total, spans = 0.0, np.zeros(op.shape)
    for n, (i, j) in enumerate(np.ndindex(op.shape)):
        table = op.words[op.start[n] : op.start[n + 1]]
        bits = int(description["layer_0_input"].bits[i, j])
        keys = [key - (1 << bits) if source.low[i, j] < 0 and key >= 1 << bits - 1 else key for key in range(1 << bits)]
        total += table_luts(np.array([table[key - op.low[i, j]] for key in keys]), bits)
        spans[i, j] = np.ptp(table)
    adders = 3 * 0
    for j in range(4):
        live = spans[:, j] > 0
        adders += max(live.sum() - 1, 0) * (np.minimum(np.log2(1 + spans[live, j]), 5).mean() + 1.3)
    assert float(Luts()(description).total) == pytest.approx(total + adders, rel=1e-9) and total > 10
    most = resources.Lookup(*description.operations_cost()["layer_0"][:2])
    assert total <= float(Luts().operation(most)) and adders > 20


def test_the_gradient_is_that_of_the_bits_of_the_span():
    three = jnp.full((4, 2), 3.0)
    key, word = (Signal(Format(jnp.ones((4, 2)), three, 0.0 * three + f), "WRAP", (4, 2)) for f in (2.0, 4.0))
    spans = jnp.asarray(RNG.uniform(0.1, 3.0, (4, 2)), jnp.float32)

    def cost(spans, pull, f=word.format.f):
        return Luts(pull=pull, spans=True).operation(
            resources.Lookup(key, word._replace(format=word.format._replace(f=f)), True, lambda: spans)
        )

    gradient = jax.grad(cost)(spans, 1.0)
    for index in itertools.product(range(4), range(2)):
        step = 1e-2 * (jnp.arange(8).reshape(4, 2) == index[0] * 2 + index[1]).astype(jnp.float32)
        assert gradient[index] == pytest.approx(float(cost(spans + step, 1.0) - cost(spans - step, 1.0)) / 2e-2, rel=2e-2)
    np.testing.assert_allclose(jax.grad(cost)(spans, 0.25), 0.25 * gradient, rtol=1e-6)
    assert np.all(jax.grad(cost, 2)(spans, 1.0, word.format.f) > 0) and float(cost(0.0 * spans, 1.0)) == 0.0


def test_training_shrinks_what_the_content_costs():
    model, _ = layer(function=layers.EdgeMlp(hidden=2))
    graphdef, weights, rest = nnx.split(model, nnx.Param, ...)
    total = jax.jit(jax.value_and_grad(lambda weights: Luts(spans=True)(nnx.merge(graphdef, weights, rest, copy=True)).total))
    before, gradient = total(weights)
    after = total(jax.tree.map(lambda w, g: w - 0.02 * g, weights, gradient))[0]
    assert after < 0.98 * before
