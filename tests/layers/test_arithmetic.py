"""Plain arithmetic, indices and functions on layers' results, layers that are called again: words, formats, costs, what is refused."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import layers, resources, training
from hgqjax.description import DescriptionError, describe
from hgqjax.quantizers import Kbi, Kif

ROWS = np.random.default_rng(0).normal(0.2, 1.5, (200, 4, 3)).astype(np.float32)


class Calls(layers.Module):
    """Functions of one quantized input, a result for each."""

    def __init__(self, *calls):
        self.first, self.calls = layers.Quantize((4, 3), Kif(f0=3.0)), calls

    def __call__(self, x):
        x = self.first(x)
        return tuple(call(x) for call in self.calls)


PLAIN = {
    "sum of two": lambda x: x + x[:, :1],
    "difference": lambda x: x[:, :, 1:2] - x,
    "product": lambda x: x * x[:, ::-1],
    "square": lambda x: x**2,
    "negative": lambda x: -x,
    "scaled": lambda x: 0.75 * x,
    "a divisor": lambda x: x / -4,
    "plus a constant": lambda x: 1.25 + x - 3,
    "from a constant": lambda x: np.float32([[[0.5, 0.0, -2.0]]]) - x,
    "constants of each": lambda x: x * jnp.asarray(np.arange(-6, 6).reshape(1, 4, 3) / 8, jnp.float32),
    "one column": lambda x: x[..., 1],
    "rows backwards, a new axis": lambda x: x[:, ::-1, None, 1:],
    "chosen rows": lambda x: x[:, np.array([3, 0, 3])],
    "a mask": lambda x: x[:, np.eye(4, 3) > 0],
    "all": lambda x: x[:],
    "sum": lambda x: layers.sum(x, 1, keepdims=True),
    "sum of all": lambda x: layers.sum(x, (0, -1), shift=-1),
    "mean of four": lambda x: layers.mean(x, 0),
    "mean of three": lambda x: layers.mean(x, -1, keepdims=True),
    "mean of twelve": lambda x: layers.mean(x, (0, 1), bits=4),
    "max of rows": lambda x: layers.max(x, 0),
    "max of all": lambda x: layers.max(x, (0, 1), keepdims=True),
    "residual of the mean": lambda x: (x - layers.mean(x, 0, keepdims=True)) * 2,
}


@pytest.fixture(scope="module")
def plain():
    return describe(Calls(*PLAIN.values()), ROWS)  # raises where a word differs


def test_words_are_those_of_jax(plain):
    x = np.ldexp(plain.integers(ROWS)["first"].astype(np.float64), -plain["first"].f)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        expected = [call(jnp.asarray(x)) for call in PLAIN.values()]
    for name, got, want in zip(PLAIN, plain.evaluate(ROWS), expected, strict=True):
        np.testing.assert_array_equal(got, want, err_msg=name)


def test_what_each_becomes(plain):
    def kinds(name):
        op = plain[name]
        return () if op.kind == "quantize" else (*kinds(op.inputs[0]), op.kind)

    found = dict(zip(PLAIN, map(kinds, plain.outputs), strict=True))
    assert {name: list(found[name]) for name in KINDS} == KINDS


KINDS = {
    "square": ["multiply"],
    "scaled": ["einsum"],
    "one column": ["slice"],
    "rows backwards, a new axis": ["gather"],
    "all": [],
    "mean of four": ["sum"],
    "mean of three": ["sum", "einsum"],
    "max of rows": ["transpose", "reshape", "max_pool", "reshape"],
}


def test_formats_are_exact_and_wires_cost_nothing():
    description = describe(Calls(lambda x: x + x, lambda x: -x / 2, lambda x: x * 1.5, lambda x: x + 1), ROWS)
    f, total = description.grids["first"].f, resources.ebops(description)
    added, halved, scaled, raised = (description.grids[name].f for name in description.outputs)
    assert np.array_equal(added, f) and np.array_equal(halved, f + 1) and np.array_equal(scaled, f + 1)
    assert np.array_equal(raised, np.maximum(f, 0)) and [float(total[name]) > 0 for name in description.outputs] == [
        True,
        False,
        True,
        True,
    ]
    assert all(float(resources.ebops(description, "paper_v1")[name]) == 0 for name in description.outputs[:2])


REFUSED = {
    "'first' meets the constant 0.1; constants of at most 16 significant bits are .*; 0.10009765625 is the nearest": lambda x: x * 0.1,
    "'first' meets the constant nan; constants of at most 16": lambda x: x + float("nan"),
    "'first' has rows of shape \\(4, 3\\), and a constant of shape \\(4,\\) does not fit": lambda x: x + np.ones(4),
    "'first' is divided by 3.0, which is no power of two; multiply by a constant instead": lambda x: x / 3,
    "add of 'first' and 'first_slice': inputs have shapes \\(4, 3\\), \\(3,\\); they may differ only": lambda x: x + x[:, 0],
    "index \\[0\\] of 'first', whose rows have shape \\(4, 3\\), must leave the batch axis": lambda x: x[0],
    "index \\[:, 2:1\\] of 'first', .* and at least one element": lambda x: x[:, 2:1],
    "index \\[..., 3\\] of 'first', .*: index 3 is out of bounds": lambda x: x[..., 3],
    "slice step cannot be zero": lambda x: x[:, ::0],
    "sum: axes is \\(2,\\) for rows of shape \\(4, 3\\); different ones of -2 .. 1 are needed": lambda x: layers.sum(x, 2),
    "mean: bits is 0; 1 .. 16 are legal": lambda x: layers.mean(x, 0, bits=0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_has_no_form_is_refused(message):
    first = importlib.import_module("hgqjax.description.describe")._Graph(Calls()).input("first", (4, 3))
    with pytest.raises(ValueError, match=message):
        REFUSED[message](first)


# ---- a layer that is called again ----


class Twice(layers.Module):
    """A dense layer, a table and a product, each of them called twice."""

    def __init__(self, rngs, **settings):
        self.dense = layers.Dense(3, 3, rngs=rngs, input_shape=(4, 3), **settings)
        self.tanh = layers.Table("tanh", (4, 3))
        self.product = layers.Multiply((4, 3))

    def __call__(self, x):
        near = self.tanh(self.dense(x))
        far = self.tanh(self.dense(8 * near))
        return self.product(self.product(near, far), far)


SAT = Kbi(b0=6.0, overflow="SAT")


@pytest.fixture(scope="module")
def twice():
    model = Twice(nnx.Rngs(0), input_quantizer=SAT)
    layers.adapt(model, jnp.asarray(ROWS))
    return model, describe(model, ROWS)


def test_it_stands_twice_with_the_same_weights(twice):
    _, description = twice
    names = [op.name for op in description.operations if op.kind in ("dense", "table", "multiply")]
    assert names == ["dense", "tanh", "dense_2", "tanh_2", "product", "product_2"]
    assert description["dense"].kernel is not description["dense_2"].kernel
    assert np.array_equal(description["dense"].kernel.integers, description["dense_2"].kernel.integers)
    assert np.array_equal(description["dense_input"].i, description["dense_2_input"].i)


def test_ranges_are_those_of_both_calls(twice):
    both, alone = twice[0].dense.input_quantizer, layers.Quantize((4, 3), SAT)
    layers.adapt(alone, jnp.asarray(ROWS))
    assert np.all(both.high[...] >= alone.high[...]) and np.any(both.high[...] > alone.high[...])  # 8 tanh(...) is wider than rows
    assert np.all(both.i[...] >= alone.i[...]) and np.any(both.i[...] > alone.i[...])


def test_its_cost_counts_twice_in_training_and_in_hardware(twice):
    model, description = twice
    assert {name: float(n) for name, n in model.operations_uses().items()} == {"dense": 2, "tanh": 2, "product": 2}
    training, hardware = resources.ebops(layers.calibrate(model, ROWS)), resources.ebops(description)
    assert float(training["dense"]) == pytest.approx(float(hardware["dense"] + hardware["dense_2"]), rel=1e-6)
    assert float(training["product"]) == pytest.approx(float(hardware["product"] + hardware["product_2"]), rel=1e-6)
    layers.adapt(model, jnp.asarray(ROWS))  # counts anew
    assert float(model.dense.uses[...]) == 2


class OwnCall(layers.Dense):
    def __call__(self, x):
        return self.forward(x)


def test_a_layer_with_a_call_of_its_own_counts_once():
    model = OwnCall(3, 2, rngs=nnx.Rngs(0), input_shape=(4, 3))
    layers.adapt(model, jnp.asarray(ROWS[:9]))
    assert float(model.uses[...]) == 1


def test_gradients_are_those_of_both_calls():
    graphdef, weights, rest = nnx.split(layers.Dense(3, 3, rngs=nnx.Rngs(0), input_shape=(4, 3)), nnx.Param, ...)

    @jax.jit
    def gradient(weights):
        def loss(parts):
            first, second = (nnx.merge(graphdef, part, rest, copy=True) for part in parts)
            return jnp.sum(jnp.sin(second(first(jnp.asarray(ROWS)))))

        def shared(part):
            dense = nnx.merge(graphdef, part, rest, copy=True)
            return jnp.sum(jnp.sin(dense(dense(jnp.asarray(ROWS)))))

        return jax.grad(loss)((weights, weights)), jax.grad(shared)(weights)

    (first, second), shared = gradient(weights)
    for a, b, both in zip(*map(jax.tree.leaves, (first, second, shared)), strict=True):
        np.testing.assert_allclose(a + b, both, rtol=1e-3, atol=1e-3)


class Siamese(layers.Module):
    """Whether two rows are near each other."""

    def __init__(self, rngs):
        self.encode = layers.Dense(3, 4, rngs=rngs, activation="relu")
        self.out = layers.Dense(4, 2, rngs=rngs)

    def __call__(self, left, right):
        return self.out((self.encode(left) - self.encode(right)) ** 2)


@pytest.mark.slow
def test_training_pays_for_each_call():
    rng = np.random.default_rng(0)
    left, right = (jnp.asarray(rng.normal(size=(512, 3)), jnp.float32) for _ in range(2))
    y = (jnp.sum((left - right) ** 2, 1) < 4).astype(jnp.int32)
    data = training.Data((left, right), y, (left[:128], right[:128]), y[:128])
    objective = training.Objective(cost=resources.Ebops())
    train = training.make_train(training.Config(epochs=10, batch_size=64, objective=objective), Siamese)
    members = training.Member(beta=jnp.array([1e-5, 1e-3]), learning_rate=jnp.array([1e-2, 1e-2]), budget=jnp.array([0.0, 0.0]))
    sweep = training.sweep(train, data, members, [0, 1])
    one, *_ = sweep.archive.points
    model = train.model(sweep.state(one))
    assert float(model.encode.uses[...]) == 2
    description = describe(model, (np.asarray(left), np.asarray(right)))
    hardware = resources.ebops(description)
    frozen = resources.ebops(layers.calibrate(model, (np.asarray(left), np.asarray(right))))
    assert float(frozen["encode"]) == pytest.approx(float(hardware["encode"] + hardware["encode_2"]), rel=1e-6)
    costs = [row["cost"] for row in sweep.history if row["member"] == 1]
    assert costs[-1] < costs[0]


class Names(layers.Module):
    def __init__(self, rngs):
        self.d = layers.Dense(3, 3, rngs=rngs, input_shape=(4, 3))
        self.d_2, self.d_plus = (layers.Dense(3, 3, rngs=rngs, input_shape=(4, 3)) for _ in range(2))

    def __call__(self, x):
        return self.d_plus(self.d_2(self.d(self.d(x) + 1)))


def test_names_of_other_layers_stay_theirs():
    names = [op.name for op in describe(Names(nnx.Rngs(0)), ROWS[:9]).operations if op.kind in ("dense", "einsum")]
    assert names == ["d", "d_plus_2", "d_3", "d_2", "d_plus"]


class Clash(Names):
    def __init__(self, rngs):
        self.d = layers.Dense(3, 3, rngs=rngs, input_shape=(4, 3))
        self.d_input = layers.Quantize((4, 3))

    def __call__(self, x):
        return self.d(self.d_input(x))


def test_names_that_clash_are_refused():
    with pytest.raises(DescriptionError, match="two layers, or a layer and an input quantizer, come to the name 'd_input'; rename an attr"):
        describe(Clash(nnx.Rngs(0)), ROWS[:9])
