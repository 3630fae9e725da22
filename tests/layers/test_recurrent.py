"""Recurrent layers: the words of HGQ2's layers as they are read, formulas in numpy, ranges over all steps, both gates."""

import dataclasses
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, interop, layers, resources, training
from hgqjax.description import operations as o
from hgqjax.description.model import ModelDescription
from hgqjax.export.gate import check_words, gate_rows
from hgqjax.export.rtl import trace, words
from hgqjax.quantizers import Fixed, Kif

VALUE, STATE, GATE, EXACT = Fixed(i=8, f=10), Fixed(i=0, f=6), Fixed(keep_negative=False, i=0, f=6), Fixed(i=12, f=35)
WEIGHT = Fixed(i=6, f=20)
GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "recurrent.keras"


def rows(shape, count=200):
    return np.random.default_rng(4).normal(0.3, 1.2, (count, *shape)).astype(np.float32)


def read(name, last):
    """A recurrent layer of HGQ2 as it is read, with formats in which nothing wraps."""
    whole = interop.load_hgq2(GOLDEN)
    own = [op for op in whole.operations if op.name.startswith(f"{name}_")]
    first = o.Input(name="x", inputs=(), shape=own[0].shape)
    operations = []
    for op in own:
        if isinstance(op, o.Quantize):
            kind = op.name.rpartition("_")[2]
            fixed = {"paq": STATE, "praq": Fixed(i=1, f=4)}.get(kind, VALUE)
            formats = {key: np.full(op.shape, getattr(fixed, value)) for key, value in (("k", "keep_negative"), ("i", "i"), ("f", "f"))}
            formats = {key: v.astype(np.int64) for key, v in formats.items()}
            op = dataclasses.replace(op, rounding="RND", overflow="SAT", inputs=("x",) if kind == "iq" else op.inputs, **formats)
        operations.append(op)
    return ModelDescription(name=name, operations=(first, *operations), outputs=(last,), sample=rows(first.shape))


def constants(description, name):
    op = description[name]
    return op.kernel.values, None if op.bias is None else op.bias.values


def described(model, x):
    return export.describe(model, x, name="ours")


@pytest.mark.slow
def test_a_simple_rnn_has_the_words_of_hgq2s():
    theirs = read("simple", "simple_2_relu")
    model = layers.SimpleRNN(
        3,
        2,
        3,
        activation="relu",
        rngs=nnx.Rngs(0),
        input_quantizer=VALUE,
        state_quantizer=STATE,
        kernel_quantizer=WEIGHT,
        bias_quantizer=WEIGHT,
    )
    (kernel, bias), (recurrent, _) = (constants(theirs, name) for name in ("simple_input", "simple_1_recurrent"))
    model.inner.kernel[...], model.inner.bias[...] = (
        jnp.concatenate([jnp.asarray(kernel), jnp.asarray(recurrent)]).astype(jnp.float32),
        bias,
    )
    x = rows((3, 2))
    np.testing.assert_array_equal(described(model, x).evaluate(x), theirs.evaluate(x))
    assert len(np.unique(theirs.evaluate(x))) > 20


@pytest.mark.slow
def test_a_gru_has_the_words_of_hgq2s():
    theirs = read("after", "after_2_h")
    settings = {"input_quantizer": VALUE, "candidate_quantizer": STATE, "gate_quantizer": GATE}
    model = layers.GRU(3, 3, 2, rngs=nnx.Rngs(0), kernel_quantizer=WEIGHT, bias_quantizer=WEIGHT, **settings)
    for layer in (model.sum, model.new):  # HGQ2 rounds nothing there
        layer.input_quantizer = nnx.List([layers.Quantize((2,), EXACT) for _ in range(2)])
    (kernel, bias), (inner, inner_bias) = (constants(theirs, name) for name in ("after_input", "after_1_recurrent"))
    inner_bias = np.zeros(6) if inner_bias is None else inner_bias
    gates = np.concatenate([kernel, inner])[:, :4] / 4, (bias + inner_bias)[:4] / 4 + 0.5
    parts = gates, (kernel[:, 4:], bias[4:]), (inner[:, 4:], inner_bias[4:])
    for layer, (weight, offset) in zip((model.gates, model.candidate, model.hidden), parts, strict=True):
        layer.kernel[...], layer.bias[...] = weight.astype(np.float32), offset.astype(np.float32)
    x = rows((3, 3))
    np.testing.assert_array_equal(described(model, x).evaluate(x), theirs.evaluate(x))
    assert len(np.unique(theirs.evaluate(x))) > 20


@pytest.mark.parametrize("backwards", [False, True])
def test_an_lstm_is_that_of_numpy(backwards):
    fine = {
        "input_quantizer": Fixed(i=4, f=12),
        "candidate_quantizer": Fixed(i=0, f=12),
        "kernel_quantizer": WEIGHT,
        "bias_quantizer": WEIGHT,
    }
    model = layers.LSTM(
        4, 3, 2, sequences=True, backwards=backwards, rngs=nnx.Rngs(0), gate_quantizer=Fixed(keep_negative=False, i=0, f=12), **fine
    )
    model.set_mode("evaluate")
    x = rows((4, 3), 20)
    gates, candidate = (tuple(np.asarray(v[...]) for v in (layer.kernel, layer.bias)) for layer in (model.gates, model.candidate))
    h = c = np.zeros((20, 2), np.float32)
    found = []
    for n in (3, 2, 1, 0) if backwards else range(4):
        seen = np.concatenate([x[:, n], h], 1)
        i, f, out = np.split(np.clip(seen @ gates[0] + gates[1], 0, 1), 3, 1)
        c = f * c + i * np.clip(seen @ candidate[0] + candidate[1], -1, 1)
        h = out * np.clip(c, -1, 1)
        found.append(h)
    got = nnx.jit(lambda model, x: model(x))(model, jnp.asarray(x))
    np.testing.assert_allclose(got, np.stack(found, 1), atol=5e-3)


def test_ranges_hold_all_steps_and_costs_count_them():
    model, x = layers.SimpleRNN(5, 2, 3, rngs=nnx.Rngs(0)), rows((5, 2), 50)
    x[7, 2, 0], x[9, 4, 1] = 13.0, -11.0  # in different steps
    model.set_mode("calibrate")
    nnx.jit(lambda model, x: model(x))(model, jnp.asarray(x))
    assert float(model.inner.input_quantizer.high[0, 0]) == 13.0 and float(model.inner.input_quantizer.low[0, 1]) == -11.0
    assert float(resources.ebops(model).total) == 5 * float(resources.Ebops().operation(model.inner.cost()))


MAKERS = {
    "simple rnn": lambda rngs, **kinds: layers.SimpleRNN(3, 2, 2, sequences=True, activation="relu", rngs=rngs, **kinds),
    "gru": lambda rngs, **kinds: layers.GRU(2, 2, 2, sequences=True, backwards=True, rngs=rngs, **kinds),
    "lstm": lambda rngs, **kinds: layers.LSTM(2, 2, 2, rngs=rngs, **kinds),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_both_gates(name, tmp_path):
    model = MAKERS[name](nnx.Rngs(0), input_quantizer=Kif(b0=4.0), kernel_quantizer=Kif(b0=3.0))
    x = rows((model.steps, 2))
    layers.adapt(model, jnp.asarray(x))
    description = export.describe(model, x)
    graph, gated = trace.trace(description), gate_rows(description, min_rows=500)
    found = words.output_integers(description, graph.predict(words.stimulus_values(description, gated), n_threads=1))
    assert check_words(description, gated, found, tool="alkaid") > 0
    assert export.to_hls4ml(description, tmp_path / "p", min_rows=300).gate.differing_words == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: layers.GRU(0, 2, 2, rngs=r), "GRU: steps 0, features 2, units 2 are given; at least 1 of each and at most 1024 steps"),
        (lambda r: layers.LSTM(2000, 2, 2, rngs=r), "LSTM: steps 2000, features 2, units 2 are given"),
        (
            lambda r: layers.SimpleRNN(4, 2, 2, rngs=r)(jnp.ones((5, 3, 2))),
            r"SimpleRNN was made for rows of shape \(4, 2\), and is given \(3, 2\)",
        ),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(nnx.Rngs(0))


@pytest.mark.synth
def test_a_gru_in_verilator(tmp_path):
    model = MAKERS["gru"](nnx.Rngs(0), input_quantizer=Kif(b0=4.0), kernel_quantizer=Kif(b0=3.0))
    project = export.to_rtl(export.describe(model, rows((2, 2))), tmp_path / "p", min_rows=1000)
    assert project.gate.words == 4 * project.gate.rows and project.gate.differing_words == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [layers.SimpleRNN, layers.GRU, layers.LSTM])
def test_a_population_learns_what_came_first(kind):
    """The sign of the first of four steps, which the last state must still hold."""

    class Network(layers.Module):
        def __init__(self, rngs):
            self.cell, self.out = kind(4, 2, 4, rngs=rngs), layers.Dense(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.out(self.cell(x))

    x = rows((4, 2), 1280)
    y = (x[:, 0, 0] > 0.3).astype(np.int32)
    data = training.Data(*(jnp.asarray(v) for v in (x[:1024], y[:1024], x[1024:], y[1024:])))
    config = training.Config(epochs=12, batch_size=64, penalty=training.schedules.Constant())
    members = training.Member(jnp.asarray([1e-7, 1e-4]), jnp.full(2, 2e-2), jnp.zeros(2))
    sweep = training.sweep(training.make_train(config, Network), data, members, [0, 0])
    first, second = ([row for row in sweep.history if row["member"] == member] for member in range(2))
    assert first[-1]["val_score"] > 0.85 and not sweep.failed
    assert second[-1]["cost"] < 0.8 * first[-1]["cost"]
