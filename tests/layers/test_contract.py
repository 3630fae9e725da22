"""The contract that every layer keeps. A new layer is one more line in CASES: how to make it, and the shape of a row."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers, resources
from hgqjax.quantizers import Kbi, Kif


class Parts(layers.Module):
    """The first axis of a row as the inputs of a layer, or all of it, cut to their shapes."""

    def __init__(self, layer, shape):
        self.layer, self.first = layer, layers.Quantize(shape, Kif(f0=8.0))

    def __call__(self, x):
        x = self.first(x)
        shapes = [quantizer.shape for quantizer in self.layer.input_quantizer]
        if len(shapes[0]) < len(self.first.shape):
            return self.layer(*(layers.select(x, n) for n in range(self.layer.inputs)))
        return self.layer(*(layers.select(x, *map(slice, shape)) for shape in shapes))


class Padded(layers.Module):
    """A layer of particles and their mask, which is made of the first feature."""

    def __init__(self, layer, particles, features):
        self.layer, self.first = layer, layers.Quantize((particles, features), Kif(f0=8.0))
        self.mask = layers.Mask(particles, features, above=-1.0)

    def __call__(self, x):
        return self.layer(self.first(x), mask=self.mask(x))


class Levels(layers.Module):
    """A layer that two levels share, called on both halves of a row."""

    def __init__(self, layer, **settings):
        self.layer = layers.SharedLevels(layer, 2, **settings)
        layer.uses[...] = jnp.full((), 2.0)  # as `adapt` would count

    def __call__(self, x):
        return layers.concatenate([self.layer(layers.select(x, level), level) for level in range(2)])


CASES = {
    "dense": (lambda rngs: layers.Dense(3, 4, rngs=rngs, activation="relu"), (3,)),
    "dense of rows of rows": (lambda rngs: layers.Dense(3, 2, rngs=rngs, use_bias=False, input_shape=(2, 3)), (2, 3)),
    "dense saturating": (
        lambda rngs: layers.Dense(3, 2, rngs=rngs, input_quantizer=Kif(overflow="SAT"), kernel_quantizer=Kbi(b0=3.0)),
        (3,),
    ),
    "dense with a mask": (lambda rngs: layers.Dense(3, 4, rngs=rngs, mask=np.eye(3, 4), kernel_quantizer=Kbi(b0=3.0)), (3,)),
    "batch norm dense": (lambda rngs: layers.Dense(3, 4, rngs=rngs, batch_norm=layers.BatchNorm()), (3,)),
    "einsum dense": (
        lambda rngs: layers.EinsumDense("tc,cd->dt", (2, 3), (4, 2), rngs=rngs, bias_axes="dt", parallelization=1),
        (2, 3),
    ),
    "batch norm einsum dense": (
        lambda rngs: layers.EinsumDense("tc,tcd->td", (2, 3), (2, 4), rngs=rngs, batch_norm=layers.BatchNorm(), activation="relu"),
        (2, 3),
    ),
    "conv 1d": (lambda rngs: layers.Conv1D((5, 2), 3, 3, rngs=rngs, padding="SAME", strides=2, parallelization=1), (5, 2)),
    "conv 1d grouped": (lambda rngs: layers.Conv1D((5, 4), 2, 2, rngs=rngs, groups=2, dilation=2, padding=(1, 0), use_bias=False), (5, 4)),
    "conv 2d": (
        lambda rngs: layers.Conv2D((4, 5, 2), 3, (2, 3), rngs=rngs, activation="relu", input_granularity="tensor"),
        (4, 5, 2),
    ),
    "conv 1d causal": (lambda rngs: layers.Conv1D((5, 2), 2, 3, rngs=rngs, padding="CAUSAL", dilation=2, use_bias=False), (5, 2)),
    "transposed conv 1d": (lambda rngs: layers.ConvTranspose1D((3, 2), 2, 3, rngs=rngs, strides=2, padding="SAME"), (3, 2)),
    "transposed conv 2d": (
        lambda rngs: layers.ConvTranspose2D(
            (2, 3, 2),
            2,
            (2, 3),
            rngs=rngs,
            strides=(1, 2),
            padding=((1, 0), (0, 1)),
            input_granularity="channel",
            activation="relu",
            parallelization=1,
        ),
        (2, 3, 2),
    ),
    "batch norm transposed conv 1d": (
        lambda rngs: layers.ConvTranspose1D((3, 2), 2, 2, rngs=rngs, strides=3, batch_norm=layers.BatchNorm(), input_granularity="tensor"),
        (3, 2),
    ),
    "depthwise conv 1d": (lambda rngs: layers.DepthwiseConv1D((5, 2), 3, rngs=rngs, multiplier=2), (5, 2)),
    "depthwise conv 2d": (lambda rngs: layers.DepthwiseConv2D((3, 4, 2), 2, rngs=rngs, strides=(1, 2), padding="SAME"), (3, 4, 2)),
    "batch norm conv 1d": (lambda rngs: layers.Conv1D((5, 2), 3, 3, rngs=rngs, batch_norm=layers.BatchNorm()), (5, 2)),
    "batch norm conv 2d": (
        lambda rngs: layers.Conv2D((4, 4, 2), 3, 3, rngs=rngs, batch_norm=layers.BatchNorm(), input_granularity="channel"),
        (4, 4, 2),
    ),
    "batch norm depthwise conv 1d": (
        lambda rngs: layers.DepthwiseConv1D((5, 2), 3, rngs=rngs, batch_norm=layers.BatchNorm(), multiplier=2),
        (5, 2),
    ),
    "batch norm depthwise conv 2d": (
        lambda rngs: layers.DepthwiseConv2D((3, 4, 2), 2, rngs=rngs, batch_norm=layers.BatchNorm()),
        (3, 4, 2),
    ),
    "add": (lambda rngs: Parts(layers.Add((3,), 3), (3, 3)), (3, 3)),
    "add, axes that repeat": (lambda rngs: Parts(layers.Add(((2, 3), (1, 3))), (2, 3)), (2, 3)),
    "multiply, axes that repeat": (lambda rngs: Parts(layers.Multiply(((2, 1), (1, 3), (2, 3))), (2, 3)), (2, 3)),
    "subtract": (
        lambda rngs: Parts(layers.Subtract((2, 2), input_granularity="channel", input_quantizer=Kif(overflow="SAT")), (2, 2, 2)),
        (2, 2, 2),
    ),
    "multiply": (lambda rngs: Parts(layers.Multiply((3,)), (2, 3)), (2, 3)),
    "einsum": (lambda rngs: Parts(layers.Einsum("te,se->ts", (2, 3), (2, 3)), (2, 2, 3)), (2, 2, 3)),
    "einsum to one number": (
        lambda rngs: Parts(layers.Einsum("t,t->", (3,), (3,), input_granularity="tensor", input_quantizer=Kif(overflow="SAT")), (2, 3)),
        (2, 3),
    ),
    "below the greatest": (lambda rngs: layers.Below((2, 3), input_quantizer=Kif(overflow="SAT")), (2, 3)),
    "softmax": (lambda rngs: layers.Softmax((2, 3), scale=0.5), (2, 3)),
    "attention": (lambda rngs: layers.MultiHeadAttention(3, 2, heads=2, key_features=2, rngs=rngs), (3, 2)),
    "linformer": (
        lambda rngs: layers.MultiHeadAttention(
            3, 2, heads=1, key_features=2, value_features=3, projected_tokens=2, use_bias=False, rngs=rngs
        ),
        (3, 2),
    ),
    "aggregate": (lambda rngs: layers.Aggregate((0, 2, 0, 2, 0), 4, 2, shift=1), (5, 2)),
    "aggregate with one width": (
        lambda rngs: layers.Aggregate((1, 0), 2, 3, input_granularity="tensor", input_quantizer=Kif(overflow="SAT")),
        (2, 3),
    ),
    "interaction network": (
        lambda rngs: layers.InteractionNetwork(
            3, 2, edge_units=(3,), node_units=(2,), edges=((0, 1), (1, 2), (2, 1)), batch_norm=layers.BatchNorm(), rngs=rngs
        ),
        (3, 2),
    ),
    "propagate plainly": (
        lambda rngs: layers.Propagate(
            [[0.0, 2.0, 0.0], [2.0, 0.0, 1.0], [0.0, 1.0, 0.0]], 2, steps=1, threshold=None, input_granularity="tensor"
        ),
        (3, 2),
    ),
    "shared levels": (
        lambda rngs: Levels(layers.Dense(3, 2, use_bias=False, rngs=rngs), activation="relu", kernel_quantizer=Kbi(b0=5.0)),
        (2, 3),
    ),
    "jedi linear": (lambda rngs: layers.JediLinear(3, 2, 4, batch_norm=layers.BatchNorm(), input_granularity="channel", rngs=rngs), (3, 2)),
    "mixer": (
        lambda rngs: layers.MlpMixer(3, 2, particle_units=2, feature_units=3, batch_norm=layers.BatchNorm(), rngs=rngs),
        (3, 2),
    ),
    "masked": (lambda rngs: Parts(layers.Masked((3, 2)), (3, 2)), (3, 2)),
    "mask": (lambda rngs: layers.Mask(3, 2, feature=1), (3, 2)),
    "masked mean": (lambda rngs: Padded(layers.MaskedMean((3, 2)), 3, 2), (3, 2)),
    "masked softmax": (lambda rngs: Padded(layers.Softmax((3, 3), masked=True), 3, 3), (3, 3)),
    "masked attention": (
        lambda rngs: Padded(layers.MultiHeadAttention(3, 2, heads=1, key_features=2, masked=True, rngs=rngs), 3, 2),
        (3, 2),
    ),
    "masked linformer": (
        lambda rngs: Padded(layers.MultiHeadAttention(3, 2, heads=1, key_features=2, projected_tokens=2, masked=True, rngs=rngs), 3, 2),
        (3, 2),
    ),
    "sum of squares": (lambda rngs: layers.SumOfSquares((2, 3)), (2, 3)),
    "rms norm": (lambda rngs: layers.RMSNorm((2, 3), affine=True), (2, 3)),
    "layer norm": (lambda rngs: layers.LayerNorm((2, 4), input_quantizer=Kif(f0=3.0)), (2, 4)),
    "layer norm of a row": (lambda rngs: layers.LayerNorm((3,), affine=True, input_granularity="tensor"), (3,)),
    "embedding": (lambda rngs: layers.Embedding((2,), 5, 3, rngs=rngs), (2,)),
    "embedding saturating": (
        lambda rngs: layers.Embedding((2, 2), 4, 1, rngs=rngs, table_quantizer=Kbi(b0=3.0, overflow="SAT")),
        (2, 2),
    ),
    "conv 3d": (
        lambda rngs: layers.Conv3D((2, 3, 3, 1), 2, 2, rngs=rngs, padding="SAME", strides=(1, 2, 1), batch_norm=layers.BatchNorm()),
        (2, 3, 3, 1),
    ),
    "simple rnn": (lambda rngs: layers.SimpleRNN(3, 2, 2, activation="relu", sequences=True, rngs=rngs), (3, 2)),
    "gru": (lambda rngs: layers.GRU(2, 2, 2, rngs=rngs), (2, 2)),
    "lstm": (lambda rngs: layers.LSTM(2, 2, 2, sequences=True, backwards=True, rngs=rngs), (2, 2)),
    "sum": (lambda rngs: layers.Sum((4, 3), (0,), shift=2), (4, 3)),
    "sum of all": (lambda rngs: layers.Sum((2, 3), (-1, 0), input_granularity="channel"), (2, 3)),
    "sum that keeps its axis": (lambda rngs: layers.Sum((2, 3), (1,), keepdims=True), (2, 3)),
    "tanh": (lambda rngs: layers.Table("tanh", (3,)), (3,)),
    "square, inputs of different widths": (
        lambda rngs: layers.Table(
            lambda x: x * x / 8,
            (2, 2),
            input_quantizer=Kif(f0=2.0, overflow="SAT"),
            input_granularity="channel",
            output_quantizer=Kbi(b0=5.0),
        ),
        (2, 2),
    ),
    "tables by perceptrons": (
        lambda rngs: layers.LutDense(3, 2, rngs=rngs, batch_norm=layers.BatchNorm(), function=layers.EdgeMlp(hidden=3)),
        (3,),
    ),
    "tables by splines": (
        lambda rngs: layers.LutDense(
            3, 2, rngs=rngs, function="spline", input_shape=(2, 3), input_quantizer=Kif(f0=3.0), output_quantizer=Kif(f0=4.0)
        ),
        (2, 3),
    ),
    "tables by words": (
        lambda rngs: layers.LutDense(2, 2, rngs=rngs, function=layers.EdgeTable(bits=3), input_quantizer=Kif(overflow="SAT", f0=2.0)),
        (2,),
    ),
    "tables between axes": (
        lambda rngs: layers.LutEinsum("tc,td->dc", (3, 2), (2, 2), rngs=rngs, function=layers.EdgeMlp(hidden=1)),
        (3, 2),
    ),
    "convolution by tables": (
        lambda rngs: layers.LutConv1D((4, 1), 2, 2, rngs=rngs, padding="SAME", strides=2, function=layers.EdgeMlp(hidden=1)),
        (4, 1),
    ),
    "quantize": (lambda rngs: layers.Quantize((2, 3), Kif(f0=2.0), "channel"), (2, 3)),
}
ROWS = 32
SLOW = (
    "simple rnn",
    "gru",
    "lstm",
    "attention",
    "linformer",
    "interaction network",
    "jedi linear",
    "mixer",
    "masked attention",
    "masked linformer",
    "rms norm",
    "layer norm",
)
"""Compositions of many layers, each test of which compiles for long."""
OTHERS = nnx.Not(layers.Observed)


@functools.cache
def trained(name):
    """A layer in training, split, and rows: its making compiles one operation after the other, so once for all tests."""
    make, shape = CASES[name]
    rows = jnp.asarray(np.random.default_rng(1).normal(0.3, 1.5, (ROWS, *shape)), jnp.float32)
    layer = make(nnx.Rngs(0))
    nnx.update(
        layer, jax.tree.map(lambda a: a + 0.1 * jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), nnx.state(layer, nnx.Param))
    )
    layer.set_mode("train")
    call(layer, rows)
    return nnx.split(layer), rows


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES], ids=str)
def case(request):
    """(layer in training, rows)"""
    (graphdef, state), rows = trained(request.param)
    return nnx.merge(graphdef, state, copy=True), rows


call = nnx.jit(lambda layer, rows: layer(rows))  # at once: one operation after the other compiles for long


def state(layer, kind=...):
    return [np.array(leaf) for leaf in jax.tree.leaves(nnx.split(layer, kind, ...)[1])]


def same(a, b):
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def test_every_public_layer_is_a_case():
    public = {c for _, c in inspect.getmembers(layers, inspect.isclass) if issubclass(c, layers.Layer)}
    made = [nnx.eval_shape(lambda make=make: make(nnx.Rngs(0))) for make, _ in CASES.values()]
    tested = {type(getattr(one, "layer", one)) for one in made}
    assert public - {layers.Layer, layers.AbstractLinear, layers.QuantizeWeight} == {c for c in tested if issubclass(c, layers.Layer)}
    compositions = {layers.Softmax, layers.MultiHeadAttention, layers.InteractionNetwork, layers.JediLinear, layers.MlpMixer}
    assert tested >= compositions | {
        layers.Propagate,
        layers.SharedLevels,
        layers.Mask,
        layers.MaskedMean,
        layers.LayerNorm,
        layers.RMSNorm,
        layers.SimpleRNN,
        layers.GRU,
        layers.LSTM,
    }


def test_evaluation_changes_nothing_and_calibration_only_ranges(case):
    layer, rows = case
    layer.set_mode("evaluate")
    before = state(layer)
    y = call(layer, rows)
    assert same(state(layer), before) and np.all(np.isfinite(y))
    np.testing.assert_array_equal(call(layer, rows[::-1])[::-1], y)  # rows do not know of each other, nor of their places
    before, ranges = (state(layer, kind) for kind in (OTHERS, layers.Observed))
    layer.set_mode("observe")
    call(layer, rows * 4)
    assert same(state(layer, OTHERS), before) and not same(state(layer, layers.Observed), ranges)


def test_every_parameter_and_width_is_trained(case):
    layer, rows = case
    graphdef, weights, widths, rest = nnx.split(layer, nnx.Param, layers.BitWidth, ...)

    def loss(weights, widths):
        model = nnx.merge(graphdef, weights, widths, rest, copy=True)
        return jnp.sum(jnp.sin(model(rows))) + 1e-3 * resources.ebops(model).total

    for tree in jax.jit(jax.grad(loss, (0, 1)))(weights, widths):
        for path, g in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(tree)):
            observed = path[-1] == jax.tree_util.DictKey("i")  # with WRAP the range decides
            assert np.all(np.isfinite(g)) and (np.any(g != 0) or observed), path


@pytest.mark.exact
def test_hardware_gives_the_same_words_at_the_same_cost(case):
    layer, rows = case
    description = export.describe(layer, np.asarray(rows))  # raises when a word differs
    frozen = layers.calibrate(layer, rows)
    with jax.default_matmul_precision("float32"):
        compiled = jax.jit(lambda x: frozen(x))(rows)
    np.testing.assert_array_equal(compiled, description.evaluate(np.asarray(rows)))
    ours, theirs = ({name: float(v) for name, v in resources.ebops(model).items()} for model in (frozen, description))
    for name in [name for name in theirs if name not in ours]:  # of a layer that is called again
        theirs[name.rpartition("_")[0]] += theirs.pop(name)
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_one_trace_whatever_the_widths(case):
    layer, rows = case
    graphdef, widths, rest = nnx.split(layer, layers.BitWidth, ...)
    traces = []

    @jax.jit
    def run(widths, rest, x):
        traces.append(1)
        return nnx.merge(graphdef, widths, rest, copy=True)(x)

    for shift in range(3):
        run(jax.tree.map(lambda a, s=shift: a - s, widths), rest, rows)
    assert len(traces) == 1
