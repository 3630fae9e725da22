"""Refined networks of tables: less loss, fewer LUTs, and still the very words that the exact evaluator gives."""

import dataclasses
import functools
import re

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from flax import nnx

from hgqjax import export, layers, refine, resources, runs, scores
from hgqjax.cli import main
from hgqjax.quantizers import Kbi, Kif
from hgqjax.refine import descent, tables
from hgqjax.runs.networks import Lut
from hgqjax.training import Config

ROWS = 600
KEY = Kif(i0=2.0, f0=2.0, rounding="TRN")
SETTINGS = {"function": layers.EdgeMlp(hidden=2), "input_quantizer": KEY, "output_quantizer": Kbi(b0=4.0, overflow="SAT_SYM")}


def rows():
    x = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    return x, np.argmax(x[:, :3] + 0.5 * x[:, 1:] ** 2, 1)


def build(name):
    rngs = nnx.Rngs(1)

    def tables_of(*sizes, norm=None):
        return layers.LutDense(*sizes, rngs=rngs, batch_norm=norm, **SETTINGS)

    norm = layers.BatchNorm()
    return {
        "one layer": lambda: layers.Sequential(tables_of(4, 3)),
        "two layers": lambda: layers.Sequential(tables_of(4, 5, norm=norm), tables_of(5, 3)),
        "three layers": lambda: layers.Sequential(tables_of(4, 3, norm=norm), tables_of(3, 3, norm=norm), tables_of(3, 3)),
        "a dense layer before and one after": lambda: layers.Sequential(
            layers.Dense(4, 4, rngs=rngs), tables_of(4, 4, norm=norm), layers.Dense(4, 3, rngs=rngs)
        ),
        "windows": lambda: layers.Sequential(
            lambda x: layers.reshape(x, (4, 1)), layers.LutConv1D((4, 1), 1, 2, rngs=rngs, **SETTINGS), layers.flatten
        ),
    }[name]()


@functools.cache
def network(name):
    model, (x, _) = build(name), rows()
    model.set_mode("adapt")
    model(jnp.asarray(x))
    model.set_mode("train")
    model(jnp.asarray(x))
    return export.describe(model, x, name="tables")


def total_loss(description, weight=None):
    x, y = rows()
    losses = np.asarray(scores.Accuracy().loss(description.evaluate(x).astype(np.float32), y, weight))
    return float(losses) * (ROWS if weight is None else weight.sum())


@pytest.mark.parametrize("name", ["one layer", "two layers", "three layers", "a dense layer before and one after", "windows"])
def test_loss_and_penalty_fall_and_the_words_are_those_of_the_evaluator(name):
    before, (x, y) = network(name), rows()
    search = descent.Descent(before, x, y, scores.Accuracy(), None, least=0.5)
    start, cost = float(search.now.sum()), search.total_cost()
    assert start == pytest.approx(total_loss(before), rel=1e-5)
    search.penalty = 0.1 * ROWS / cost
    search.sweep()
    assert search.now.sum() + search.penalty * search.total_cost() < start + search.penalty * cost
    after = search.description({})
    values = after.integers(x)
    for layer, sums in zip(search.layers, search.sums, strict=True):
        total = layer.total.name
        exact = np.ldexp(values[total].reshape(ROWS, -1).astype(np.float64), -after.grids[total].f.ravel().astype(np.int64))
        assert np.array_equal(exact, np.ldexp(sums.astype(np.float64), -(before.grids[total].f.ravel() + layer.aligned).astype(np.int64)))
    assert float(search.now.sum()) == pytest.approx(total_loss(after), rel=1e-5)
    assert resources.Luts()(after).total < resources.Luts()(before).total


def test_the_cost_is_that_of_the_cost_model():
    x, y = rows()
    search = descent.Descent(network("one layer"), x, y, scores.Accuracy(), None, 2.0)
    assert search.total_cost() == pytest.approx(float(resources.Luts()(network("one layer")).total), rel=1e-6)
    search.penalty = 1.0
    search.sweep()
    assert search.total_cost() == pytest.approx(float(resources.Luts()(search.description({})).total), rel=1e-6)


def test_each_strength_begins_with_the_network_before():
    x, y = rows()
    weak, strong, none = refine.refine(network("two layers"), x, y, scores.Accuracy(), strengths=(0.01, 0.3, 1e6), sweeps=1)
    costs = [float(resources.Luts()(found).total) for found in (network("two layers"), weak, strong, none)]
    assert costs == sorted(costs, reverse=True) and costs[-1] == 0 and costs[1] > costs[2] > 0
    assert total_loss(weak) < total_loss(strong) < total_loss(none)
    assert strong.metadata["refined"] == {"strengths": [0.01, 0.3], "rows": ROWS, "sweeps": 1, "least": 2.0}
    assert not np.any(none["layer_1"].bits) and len(none["layer_1"].words) == none["layer_1"].low.size


def test_without_a_strength_only_the_loss_counts():
    x, y = rows()
    (found,) = refine.refine(network("two layers"), x, y, scores.Accuracy(), strengths=(0.0,), least=0.0, sweeps=3)
    assert total_loss(found) < 0.8 * total_loss(network("two layers"))


def test_rows_without_weight_do_not_count():
    x, y = rows()
    weight = np.arange(ROWS) % 2.0
    (found,) = refine.refine(network("two layers"), x, y, scores.Accuracy(), weight=weight, sweeps=1)
    (half,) = refine.refine(network("two layers"), x[1::2], y[1::2], scores.Accuracy(), sweeps=1)
    for name in ("layer_0", "layer_1"):
        assert np.array_equal(found[name].words, half[name].words)


def test_a_regression_is_refined():
    x, _ = rows()
    y = (x[:, :3] ** 2).astype(np.float32)
    score = scores.Resolution()
    (found,) = refine.refine(network("two layers"), x, y, score, strengths=(0.0,), sweeps=2)
    before, after = (float(score.loss(jnp.asarray(d.evaluate(x), jnp.float32), jnp.asarray(y))) for d in (network("two layers"), found))
    assert after < 0.9 * before


def test_what_is_refused():
    x, y = rows()
    dense = export.describe(layers.mlp((4, 3), rngs=nnx.Rngs(0)), x)
    for description, settings, message in (
        (dense, {}, r"network 'model' has no layer of tables; only words of tables are refined"),
        (network("one layer"), {"strengths": (-1.0,)}, r"strengths has -1\.0; finite numbers of at least 0 are needed"),
        (network("one layer"), {"sweeps": 0}, r"sweeps has 0; finite numbers of at least 1 are needed"),
        (network("one layer"), {"least": np.inf}, r"least has inf; finite numbers of at least 0"),
        (network("one layer"), {"weight": np.zeros(ROWS)}, r"the 600 rows have the weight 0 together; more than 0 is needed"),
    ):
        with pytest.raises(ValueError, match=message):
            refine.refine(description, x, y, scores.Accuracy(), **settings)


class Beside(layers.Module):
    """Sums of tables that two layers read, or that are a result, too."""

    def __init__(self, kind):
        rngs, self.kind = nnx.Rngs(0), kind
        self.first, self.second = (layers.LutDense(4, 4, rngs=rngs, **SETTINGS) for _ in range(2))
        if kind == "both":
            self.third = layers.LutDense(4, 4, rngs=rngs, **SETTINGS)

    def __call__(self, x):
        y = self.first(x)
        if self.kind == "both":
            return self.second(y) + self.third(y)
        return (y, self.second(y)) if self.kind == "result" else self.second(y) + y


@pytest.mark.parametrize(
    ("kind", "message"),
    [("both", "does not read the sums of layer 'first', alone"), ("sum", "alone and as they are"), ("result", "has outputs beside")],
)
def test_networks_that_are_no_chain_are_refused(kind, message):
    x, y = rows()
    model = Beside(kind)
    model.set_mode("adapt")
    model(jnp.asarray(x))
    with pytest.raises(refine.RefineError, match=message):
        refine.refine(export.describe(model, x), x, y, scores.Accuracy())


def test_sums_may_be_wide():
    last = tables.chain(network("two layers"))[1]
    narrow = np.array([-3, 0, 5])
    wide = narrow + 2**40 * np.array([-1, 0, 1])  # keys wrap, so these have the same
    for s in range(5):
        (targets, near), (there, far) = last.read(s, narrow), last.read(s, wide)
        assert np.array_equal(targets, there) and np.array_equal(near, far)


def test_words_lose_bits():
    words = np.array([-6, 2, 5, 8])
    assert tables.word_width(words) == 5 and tables.word_width(words * 4) == 5
    once = descent.without_last_bit(words)
    assert once.tolist() == [-6, 2, 6, 8] and descent.without_last_bit(once).tolist() == [-4, 4, 8, 8]
    count = np.array([1, 1, 0, 0])
    assert descent.without_key_bit(words, count, 0, 1).tolist() == [-6, 2, -6, 2]
    assert descent.without_key_bit(words, count, -2, 0).tolist() == [-2, -2, 5, 5]  # keys -2, -1, 0, 1


def sweep(**changes):
    settings = Config(epochs=1, batch_size=256)
    return runs.Sweep(rows=1500, model=Lut(hidden=(3,)), train=settings, betas=(1e-4,), points=1, within=1.0, refine=(0.02, 0.3), **changes)


def test_a_sweep_refines_its_points_and_the_command_a_network(tmp_path, capsys):
    folder = runs.run(sweep(), root=tmp_path, progress=False)
    summary = pl.read_csv(folder / "summary.csv")
    assert set(summary["refined"]) <= {None, 0.02, 0.3} and summary["refined"].is_not_null().any()
    refined = summary.filter(pl.col("refined").is_not_null()).row(0, named=True)
    found = export.ModelDescription.load(folder / refined["model"])
    assert (
        float(resources.Luts()(found).total) == refined["luts_predicted"]
        and found.metadata["refined"]["strengths"][-1] == refined["refined"]
    )
    output = tmp_path / "again"
    assert (
        main(["refine", str(folder / refined["model"]), "--data", "jets", "--strengths", "0.5", "--sweeps", "1", "--output", str(output)])
        == 0
    )
    said = capsys.readouterr().out
    again = export.ModelDescription.load(output / "r0")
    luts = float(resources.Luts()(again).total)
    assert luts < refined["luts_predicted"] and re.search(rf"strength 0\.5 +{luts:.0f} LUTs predicted, .* validation \d", said)
    assert main(["refine", str(output / "r0"), "--data", "muon", "--output", str(tmp_path / "none")]) == 2
    assert "rows of " in capsys.readouterr().err and not (tmp_path / "none").exists()
    moved = again.metadata["scaler"] | {"mean": [0.0] * 16}
    dataclasses.replace(again, metadata=again.metadata | {"scaler": moved}).save(tmp_path / "moved")
    assert main(["refine", str(tmp_path / "moved"), "--data", "jets"]) == 2
    assert "was trained on rows with another scaling" in capsys.readouterr().err


def test_a_sweep_without_tables_is_not_refined(tmp_path):
    with pytest.raises(ValueError, match="refine is given, but the network has no layer of tables"):
        runs.run(dataclasses.replace(sweep(), model=runs.networks.Mlp(hidden=(3,))), root=tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"refine is \(-1\.0,\); each must be a finite number"):
        dataclasses.replace(sweep(), refine=(-1.0,))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two layers", "a dense layer before and one after"])
def test_refined_networks_pass_the_gates(tmp_path, name):
    x, y = rows()
    (found,) = refine.refine(network(name), x, y, scores.Accuracy(), strengths=(0.05,), sweeps=1)
    project = export.to_hls4ml(found, tmp_path / "hls4ml", min_rows=1000)
    assert project.gate.differing_words == 0
    assert export.to_rtl(found, tmp_path / "rtl", min_rows=1000, simulated_rows=200).gate.differing_words == 0
