"""Measured costs: pieces of a table, matrices of layers, and tables by the adder-graph compiler."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import archives, export, layers, quantizers, resources, synth
from hgqjax.cli.costs import cost_of
from hgqjax.resources.measured import matrices

PAIRS = {(2.0, 4.0): 10.0, (4.0, 4.0): 30.0, (2.0, 8.0): 14.0, (4.0, 8.0): 50.0}
COST = resources.Measured(table=tuple((2.0, 1.0, *pair, luts) for pair, luts in PAIRS.items()))


@pytest.mark.parametrize(
    ("w", "a", "luts"), [(2, 4, 10), (4, 8, 50), (3, 4, 20), (3, 6, 26), (1, 4, 5), (0, 9, 0), (8, 4, 60), (4, 16, 100), (2, 2, 5)]
)
def test_pieces_are_linear_from_zero_and_beyond(w, a, luts):
    assert float(COST.at((2, 1), np.float64(w), np.float64(a))) == pytest.approx(luts)
    assert float(jax.jit(lambda w, a: COST.at((2, 1), w, a))(jnp.float32(w), jnp.float32(a))) == pytest.approx(luts, rel=1e-6)


def test_layers_are_so_many_matrices():
    conv = layers.Conv2D((8, 6, 3), 4, (3, 3), rngs=nnx.Rngs(0))
    assert [matrices(op) for op in conv.operations_cost().values()] == [(27, 4, 24)]
    einsum = layers.EinsumDense("tc,cd->td", (6, 5), (6, 7), rngs=nnx.Rngs(0))
    assert [matrices(op) for op in einsum.operations_cost().values()] == [(5, 7, 6)]


def test_a_table_is_what_the_compiler_says_and_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "luts.json"
    model = layers.mlp((4, 3, 3, 2), rngs=nnx.Rngs(0))
    cost = synth.measure(model, path, bits=(2, 5))
    assert {row[:2] for row in cost.table} == {(4, 3), (3, 3), (3, 2)} and cost_of(f"measured:{path}") == cost
    luts = {row[:4]: row[4] for row in cost.table}
    assert luts[4, 3, 2, 2] < luts[4, 3, 5, 2] < luts[4, 3, 5, 5]
    fixed = quantizers.Fixed(i=0, f=5, overflow="SAT_SYM")
    layer = layers.Dense(4, 3, rngs=nnx.Rngs(0), use_bias=False, kernel_quantizer=fixed, input_quantizer=INPUT)
    layer.kernel[...] = jnp.asarray(np.random.default_rng(0).integers(-31, 32, size=(4, 3)) / 32, jnp.float32)
    description = export.describe(layer, np.random.default_rng(1).uniform(size=(8, 4)).astype(np.float32))
    assert float(cost(description).total) == luts[4, 3, 5, 2] == export.adder_graph(description).cost
    monkeypatch.setattr("hgqjax.synth.tables._luts", lambda *size: 1.0)
    assert synth.measure(model, path, bits=(2, 5)) == cost  # nothing is compiled again
    assert {row[4] for row in synth.measure(model, path, bits=(2, 5), seed=1).table} == {1.0}


INPUT = quantizers.Fixed(i=0, f=2, overflow="SAT", keep_negative=False)


def test_bad_tables_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="table needs rows"):
        resources.Measured(table=((2.0, 1.0, 0.0, 4.0, 10.0),))
    with pytest.raises(ValueError, match="table has 3 pairs of widths for 2 x 1; each pair once"):
        resources.Measured(table=COST.table[:3])
    with pytest.raises(ValueError, match="table has no layer of 3 inputs and 1 results, only 2 x 1; measure this network"):
        COST.at((3, 1), np.float64(1), np.float64(1))
    (tmp_path / "t.json").write_text(json.dumps({"rows": 3}))
    (tmp_path / "cut.json").write_text('{"rows": [')
    for name in ("t.json", "cut.json", "missing.json"):
        with pytest.raises(ValueError, match="is no table of measured costs"):
            resources.Measured.load(tmp_path / name)
    monkeypatch.setattr(archives, "_JSON_LIMIT", 100)
    (tmp_path / "t.json").write_text(json.dumps({"rows": [[2, 1, 2, 4, 10]] * 10}))
    with pytest.raises(ValueError, match="t.json is no table of measured costs: it has more than 100 bytes of JSON"):
        resources.Measured.load(tmp_path / "t.json")
    with pytest.raises(ValueError, match="lut is no cost; legal are ebops, ebops_paper_v1, luts, weight_bits, measured:FILE"):
        cost_of("lut")
    with pytest.raises(ValueError, match=r"bits is \(0,\); one or more within 1..12"):
        synth.measure(layers.Dense(3, 2, rngs=nnx.Rngs(0)), tmp_path / "new.json", bits=(0,))
