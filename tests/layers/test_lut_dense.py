"""Layers of tables: their words against numpy in float64, both gates, what is refused, and the memory of a training step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers, resources, training
from hgqjax.export.gate import check_words, gate_rows
from hgqjax.layers import edges
from hgqjax.quantizers import Kbi, Kif

ROWS = np.random.default_rng(3).normal(0.2, 1.2, (300, 4)).astype(np.float32)


class Hybrid(layers.Module):
    """A convolution, tables in the middle, a dense layer, tables between axes, tables at the end."""

    def __init__(self, rngs):
        self.conv = layers.Conv1D((4, 1), 2, 2, rngs=rngs, activation="relu", input_granularity="tensor")
        self.tables = layers.LutDense(6, 3, rngs=rngs, function=layers.EdgeMlp(hidden=2), batch_norm=layers.BatchNorm())
        self.dense = layers.Dense(3, 3, rngs=rngs, activation="relu")
        self.last = layers.LutDense(3, 2, rngs=rngs, function=layers.EdgeSpline(intervals=3, order=2))
        self.mix = layers.LutEinsum("ct,td->dc", (1, 3), (3, 1), rngs=rngs, function=layers.EdgeMlp(hidden=1))

    def __call__(self, x):
        x = self.dense(self.tables(layers.flatten(self.conv(layers.reshape(x, (4, 1))))))
        return self.last(layers.flatten(self.mix(layers.reshape(x, (1, 3)))))


def adapted(model, rows=ROWS):
    layers.adapt(model, jnp.asarray(rows))
    return model


@pytest.fixture(scope="module")
def hybrid():
    model = adapted(Hybrid(nnx.Rngs(0)))
    model.tables.input_quantizer.f[...] = model.tables.input_quantizer.f[...] - jnp.arange(18.0).reshape(1, 6, 3) % 9  # some are dead
    return model, export.describe(model, ROWS)


def test_words_are_those_of_the_functions(hybrid):
    model, description = hybrid
    layer, op = model.tables, description["tables"]
    of = {name: np.asarray(v, np.float64) for name, v in layer.parameters.items()}
    mean, variance = (np.asarray(v, np.float64) for v in layer.norm.running())
    gain, shift = (np.asarray(v[...], np.float64) for v in (layer.norm.scale, layer.shift))
    seen = 0
    for n, (i, j) in enumerate(np.ndindex(op.shape)):
        table = op.words[op.start[n] : op.start[n + 1]]
        x = np.ldexp(op.low[i, j] + np.arange(table.size), -op.f_in[i, j])
        y = np.tanh(x[:, None] * of["first"][i, j] + of["shift"][i, j]) @ of["last"][i, j] + of["offset"][i, j]
        y = (gain[j] * (y - mean[j]) / np.sqrt(variance[j] + 1e-5) + shift[j]) / np.sqrt(6)
        limit = 2 ** (op.bits[i, j] - 1) - 1
        assert np.all(abs(np.clip(np.ldexp(y, op.f[i, j]), -limit, limit) - table) <= 0.5 + 1e-9)
        seen += np.unique(table).size > 2
    assert seen > 6 and np.any(np.diff(op.start) == 1)


def test_keys_with_a_sign_are_looked_up_from_the_least_one():
    model = adapted(layers.Sequential(layers.LutDense(4, 2, rngs=nnx.Rngs(1), function=layers.EdgeMlp(hidden=2))))
    description = export.describe(model, ROWS)  # which compares the words with those of JAX
    (op,) = [op for op in description.operations if op.kind == "lookup"]
    assert op.low.min() < 0


def test_edges_without_bits_cost_nothing(hybrid):
    model, _ = hybrid
    model = nnx.clone(model)
    before = float(resources.ebops(model)["tables"])
    model.tables.output_quantizer.b[...] = model.tables.output_quantizer.b[...] * (jnp.arange(6.0) % 2).reshape(1, 6, 1)
    half = float(resources.ebops(model)["tables"])
    model.tables.output_quantizer.b[...] = jnp.zeros((1, 6, 3))
    assert 0 == float(resources.ebops(model)["tables"]) < half < before
    description = export.describe(model, ROWS)
    assert float(resources.ebops(description)["tables"]) == float(resources.Luts()(description)["tables"]) == 0


def test_an_adder_graph_gives_every_word(hybrid):
    trace = pytest.importorskip("alkaid.trace") and __import__("hgqjax.export.rtl.trace", fromlist=["trace"])
    from hgqjax.export.rtl import words

    _, description = hybrid
    rows = gate_rows(description, min_rows=300)
    graph = trace.trace(description)
    found = words.output_integers(description, graph.predict(words.stimulus_values(description, rows), n_threads=1))
    assert check_words(description, rows, found, tool="alkaid") > 0


@pytest.mark.slow
def test_cpp_gives_every_word(hybrid, tmp_path):
    assert export.to_hls4ml(hybrid[1], tmp_path / "p", min_rows=300).gate.differing_words == 0


@pytest.mark.synth
def test_verilog_gives_every_word(hybrid, tmp_path):
    assert export.to_rtl(hybrid[1], tmp_path / "p", min_rows=300).gate.differing_words == 0


def test_a_convolution_is_a_layer_of_each_window():
    settings = {"rngs": nnx.Rngs(0), "function": layers.EdgeMlp(hidden=1)}
    conv = layers.LutConv2D((3, 4, 2), 2, (2, 1), strides=(1, 3), padding=((1, 0), (0, 0)), **settings)
    assert conv.output_shape == (3, 2, 2) and conv.tables.full == (3, 2, 4, 2)
    x = np.arange(24.0).reshape(3, 4, 2) + 1
    padded = np.pad(x, ((1, 0), (0, 0), (0, 0)))
    windows = np.r_[x.ravel(), 0.0][conv._windows()]
    for i, j in np.ndindex(3, 2):
        assert windows[i, j].tolist() == [*padded[i, 3 * j], *padded[i + 1, 3 * j]]
    with pytest.raises(ValueError, match=r"LutConv1D: input_shape is \(4,\); 1 spatial axes and the channels are needed"):
        layers.LutConv1D((4,), 2, 2, **settings)


def test_tables_between_axes_are_tables_of_the_summed_ones():
    settings = {"function": layers.EdgeMlp(hidden=1)}
    layer = layers.LutEinsum("atb,abd->dt", (2, 3, 4), (5, 3), rngs=nnx.Rngs(0), **settings)
    assert layer.tables.full == (3, 8, 5)
    plain = layers.LutDense(8, 5, rngs=nnx.Rngs(0), input_shape=(3, 8), **settings)
    x = jax.random.normal(jax.random.key(0), (6, 2, 3, 4))
    expected = plain(x.transpose(0, 2, 1, 3).reshape(6, 3, 8)).transpose(0, 2, 1)
    assert np.array_equal(layer(x), expected)


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("tc,tcd->td", "where the functions share a label with x, one with the result, and none with both"),
        ("tc,c->t", "where the functions share a label"),
        ("tc,cd", "one like 'tc,cd->td' is needed, with a label for each axis"),
    ],
)
def test_other_equations_of_tables_are_refused(equation, message):
    with pytest.raises(ValueError, match=message):
        layers.LutEinsum(equation, (4, 3), {"tc,c->t": (4,)}.get(equation, (4, 2)), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_splines_are_a_partition_of_one(order):
    v = jnp.linspace(-0.5, 0.5, 9)
    total = sum(edges.bspline(v - n, order) for n in range(-3, 4))
    np.testing.assert_allclose(total, 1.0, atol=3e-6)
    assert np.all(np.asarray(edges.bspline(jnp.array([-(order + 1) / 2, (order + 1) / 2]), order)) == 0)


def compare(edge, x, step):
    """Values and both gradients by keys and by rows, of two members at once."""
    parameters = edge.init(jax.random.key(0), x.shape[-2:])
    members = jax.tree.map(lambda v: jnp.stack([v, 2 * v]), parameters)

    def loss(compute):
        return jax.jit(jax.vmap(jax.value_and_grad(lambda p, x: jnp.sum(jnp.sin(compute(p, x))), (0, 1))))

    found, expected = (loss(f)(members, x) for f in (lambda p, x: edges.at_keys(edge, p, x, step), edge))
    assert np.all(np.isfinite(found[1][1]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-5, atol=3e-5), found, expected)


@pytest.mark.parametrize("what", ["64 keys", "300 keys", "301 keys", "off the grid", "few rows"])
def test_looking_up_changes_no_value_and_no_gradient(monkeypatch, what):
    monkeypatch.setattr("hgqjax.layers.edges.BLOCK", 8 * 6)  # eight rows of 3 x 2 edges: the last block is not full
    rows = 127 if what == "few rows" else 600
    keys = {"300 keys": 300, "301 keys": 301}.get(what, 64)
    step = jnp.full((3, 2), 1 / 64).at[1, 0].set(1 / 128)
    x = jax.random.randint(jax.random.key(1), (2, rows, 3, 2), 0, keys).at[0, :2, 2, 1].set(jnp.array([0, keys - 1]))
    x = (x - 40).astype(jnp.float32) * step[None, None]
    if what == "off the grid":
        x = x.at[0, 7, 2, 1].add(1 / 256)
    compare(layers.EdgeSpline(intervals=1, order=1), x, step)


def test_places_have_keys_of_their_own():
    step = jnp.exp2(-jnp.arange(12.0)).reshape(2, 3, 2)
    x = jax.random.randint(jax.random.key(1), (2, 128, 2, 3, 2), -9, 9).astype(jnp.float32) * step[None, None]
    compare(layers.EdgeMlp(hidden=1), x, step)


class Exponential(layers.edges.AbstractEdge):
    """It is finite at all keys that rows have, and infinite a little further on."""

    terms = 1

    def init(self, key, edges):
        return {"first": jax.random.normal(key, (*edges, 1)) / 1e4}

    def value(self, parameters, x):
        return parameters["first"][..., 0] * jnp.exp(x)


def test_functions_are_not_computed_beyond_the_keys():
    x = 4.0 * jnp.tile(jnp.arange(4.0), (2, 50)).reshape(2, 200, 1, 1)
    compare(Exponential(), x, jnp.full((1, 1), 4.0))


def test_what_is_not_finite_stays_so():
    x = jnp.zeros((128, 1, 1)).at[5].set(jnp.nan).at[6].set(jnp.inf)
    edge = layers.EdgeSpline(intervals=1, order=1)
    y = edges.at_keys(edge, edge.init(jax.random.key(0), (1, 1)), x, jnp.ones((1, 1)))
    assert np.argwhere(~np.isfinite(np.asarray(y)[:, 0, 0])).ravel().tolist() == [5, 6]


class Counted(layers.edges.AbstractEdge):
    """For how many rows or keys it is computed at a time; in its gradients, too."""

    terms = 1

    def init(self, key, edges):
        return {"one": jnp.ones((*edges, 1))}

    def value(self, parameters, x):
        return parameters["one"][..., 0] * x.shape[0] * (1 + x)


@pytest.mark.parametrize(
    ("rows", "keys", "off", "at_a_time"),
    [(128, 64, 0, 16), (128, 65, 0, 64), (600, 300, 0, 16), (600, 301, 0, 300), (600, 64, 0.5, 300), (32, 16, 0, 16), (29, 9, 0, 15)],
)
def test_functions_are_computed_once_for_each_key(rows, keys, off, at_a_time):
    x = jnp.arange(float(rows)).reshape(-1, 1, 1) % keys - 7.0
    x = x.at[3].add(off)
    edge = Counted()
    parameters = edge.init(jax.random.key(0), (1, 1))
    y, back = jax.vjp(jax.jit(lambda p, x: edges.at_keys(edge, p, x, jnp.ones((1, 1)))), parameters, x)
    of_parameters, of_x = back(jnp.ones_like(y))
    assert np.all(np.asarray(y / (1 + x))[x != -1] == at_a_time) and np.all(np.asarray(of_x) == at_a_time)
    assert float(of_parameters["one"].sum()) == at_a_time * float((1 + x).sum())


def test_what_is_refused():
    rngs = nnx.Rngs(0)
    with pytest.raises(ValueError, match="input_quantizer is None; without a quantizer"):
        layers.LutDense(4, 2, rngs=rngs, input_quantizer=None)
    with pytest.raises(ValueError, match=r"intervals is 0, order 3; a grid of 1 \.\. 64 intervals"):
        layers.EdgeSpline(intervals=0)
    with pytest.raises(ValueError, match=r"low is 1\.0, high 1\.0"):
        layers.EdgeTable(low=1.0, high=1.0)
    with pytest.raises(ValueError, match="function is 'lut'; one of 'mlp', 'spline', 'table'"):
        layers.LutDense(4, 2, rngs=rngs, function="lut")
    with pytest.raises(ValueError, match=r"LutDense: n_in is 4, n_out 0, input_shape \(4,\)"):
        layers.LutDense(4, 0, rngs=rngs)
    wide = layers.Sequential(layers.LutDense(4, 2, rngs=rngs, input_quantizer=Kif(f0=20.0)))
    with pytest.raises(
        export.DescriptionError, match=r"layer 'layer_0' has a table with a key of 2\d bits at \(.*\); 16 bits are the most"
    ):
        export.describe(adapted(wide), ROWS)
    words = layers.Sequential(
        layers.LutDense(4, 2, rngs=rngs, output_quantizer=Kbi(b0=23.0), input_quantizer=Kif(f0=14.0, overflow="SAT", i0=1.0))
    )
    words.layer[0].output_quantizer.b[...] = words.layer[0].output_quantizer.b[...] + 1.0
    with pytest.raises(ValueError, match=r"words of 25 bits at \(0, 0\); 24 bits are the most"):
        words.layer[0].tabulate()
    large = layers.LutDense(64, 64, rngs=rngs)
    with pytest.raises(ValueError, match=r"1000000 rows of a LutDense of 4096 edges are arrays of 15\.3 GiB; 1 GiB is the most"):
        jax.eval_shape(large, jax.ShapeDtypeStruct((1_000_000, 64), jnp.float32))
    unsigned = layers.Sequential(layers.LutDense(4, 2, rngs=rngs, output_quantizer=Kif(keep_negative=False)))
    with pytest.raises(export.DescriptionError, match="layer 'layer_0' has words without a sign"):
        export.describe(adapted(unsigned), ROWS)


@pytest.mark.slow
def test_memory_of_a_step_of_16_members():
    def build(rngs):
        hidden = layers.LutDense(16, 20, rngs=rngs, batch_norm=layers.BatchNorm())
        return layers.Sequential(hidden, layers.LutDense(20, 5, rngs=rngs))

    train = training.make_train(training.Config(epochs=1, batch_size=2048), build)
    x, y = jnp.zeros((4096, 16)), jnp.zeros(4096, jnp.int32)
    members = training.Member(*(jnp.full(16, v) for v in (1e-5, 1e-2, 0.0)))
    data = training.Data(x, y, x, y)
    keys = jax.vmap(jax.random.key)(jnp.arange(16))
    state = jax.eval_shape(jax.vmap(train.init, (0, 0, None)), keys, members, data)
    program = jax.jit(jax.vmap(train.segment, (0, 0, None, None))).lower(state, members, data, jnp.int32(0)).compile()
    used = program.memory_analysis()
    assert used.temp_size_in_bytes + used.output_size_in_bytes + used.argument_size_in_bytes <= 2 * 2**30
