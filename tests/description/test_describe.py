"""Trained models become descriptions: word for word what JAX computes."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import layers, resources
from hgqjax.description import DescriptionError, describe
from hgqjax.quantizers import Kbi, Kif


def rows(n=3000, features=4, seed=0):
    return np.random.default_rng(seed).normal(0.3, 2.0, (n, features)).astype(np.float32)


def described(model, x=None):
    x = rows() if x is None else x
    layers.adapt(model, jnp.asarray(x[:256]))
    for _ in range(3):
        model(jnp.asarray(x[:256]))
    return model, describe(model, x)


QUANTIZERS = [
    {},
    {"input_quantizer": Kif(f0=1.0, overflow="SAT"), "kernel_quantizer": Kbi(b0=2.0)},
    {"input_quantizer": Kif(f0=2.0, rounding="TRN"), "kernel_granularity": "tensor"},
    {"input_quantizer": Kbi(b0=4.0, overflow="SAT_SYM", rounding="RND_CONV"), "input_granularity": "tensor"},
    {"batch_norm": None, "kernel_quantizer": Kif(b0=1.0, overflow="SAT", rounding="TRN")},
]


@pytest.mark.parametrize("dense", QUANTIZERS, ids=range(len(QUANTIZERS)))
def test_words_equal_beyond_the_limits_too(dense):
    model, description = described(layers.mlp((4, 6, 3), rngs=nnx.Rngs(0), **dense))
    frozen = layers.calibrate(model, rows())
    x = np.concatenate([rows(seed=1), 30 * rows(seed=2), np.ldexp(np.round(rows(seed=3) * 64), -5).astype(np.float32)])
    assert np.array_equal(np.asarray(frozen(jnp.asarray(x)), np.float64), description.evaluate(x))
    assert np.array_equal(np.asarray(jax.jit(frozen)(jnp.asarray(x)), np.float64), description.evaluate(x))


@pytest.mark.parametrize("weight", [Kif(b0=3.0), Kif(b0=3.0, overflow="SAT"), Kbi(b0=3.0), Kbi(b0=3.0, overflow="WRAP")], ids=repr)
def test_exact_ebops_equal_those_of_the_frozen_model(weight):
    quantizers = {"kernel_quantizer": weight, "bias_quantizer": weight}
    model, description = described(layers.mlp((4, 6, 3), rngs=nnx.Rngs(0), **quantizers))
    frozen = resources.ebops(layers.calibrate(model, rows()))
    assert {k: float(v) for k, v in resources.ebops(description).items()} == {k: float(v) for k, v in frozen.items()}


class Free(layers.Module):
    """Two layers in a row, then two branches."""

    def __init__(self, rngs):
        self.first = layers.Quantize((4,), Kif(f0=2.0))
        self.c = layers.Dense(4, 4, rngs=rngs)
        self.d = layers.Dense(4, 4, rngs=rngs)
        self.a = layers.Dense(4, 2, rngs=rngs, batch_norm=layers.BatchNorm())
        self.b = layers.Dense(4, 3, rngs=rngs, use_bias=False)

    def __call__(self, x):
        x = layers.relu(self.d(self.c(self.first(x))))
        return self.a(x), self.b(x)


def test_free_form_modules_with_several_outputs():
    model, description = described(Free(nnx.Rngs(0)))
    assert description.outputs == ("a", "b") and {"first", "c", "d", "d_relu"} <= {op.name for op in description.operations}
    frozen = layers.calibrate(model, rows())
    for ours, judge in zip(frozen(jnp.asarray(rows(seed=5))), description.evaluate(rows(seed=5)), strict=True):
        assert np.array_equal(np.asarray(ours, np.float64), judge)


@pytest.mark.parametrize("overflow", ["WRAP", "SAT", "SAT_SYM"])
def test_weights_without_bits_are_zero_in_training_too(overflow):
    model = layers.mlp((4, 3), rngs=nnx.Rngs(0), batch_norm=None, kernel_quantizer=Kif(b0=3.0, overflow=overflow))
    layers.adapt(model, jnp.asarray(rows(100)))
    quantizer = model.layer[0].kernel_quantizer
    quantizer.i[...] = quantizer.i[...] - 3
    quantizer.f[...] = -quantizer.i[...] - 1
    model.set_mode("train")
    assert overflow == "WRAP" or np.all(quantizer(model.layer[0].kernel[...]) == 0)
    description = describe(model, rows())
    assert np.all((description["layer_0"].kernel.integers == 0) | (description["layer_0"].kernel.bits > 0))


def test_ranges_hold_the_calibration_rows_exactly():
    first = layers.Dense(256, 1, rngs=nnx.Rngs(0), input_quantizer=Kif(f0=20.0), kernel_quantizer=Kif(b0=12.0), use_bias=False)
    model = layers.Sequential(first, layers.Dense(1, 1, rngs=nnx.Rngs(1), input_quantizer=Kif(f0=18.0)))
    x = rows(2000, 256)
    layers.calibrate(model, x)
    description = describe(model, x)
    inner, exact = description["layer_1_input"], description.integers(x)
    values = np.ldexp(exact["layer_0"].astype(np.float64), -description.grids["layer_0"].f)
    assert np.all(abs(np.ldexp(exact["layer_1_input"].astype(np.float64), -inner.f) - values) <= 2.0 ** -(inner.f + 1.0))


def test_models_of_one_structure_are_compared_by_one_compiled_program():
    judge = importlib.import_module("hgqjax.description.describe")  # the room's `describe` is the function
    models = [layers.mlp((4, 3), rngs=nnx.Rngs(seed)) for seed in range(3)]
    describe(models[0], rows(50, 4))
    compiled = judge._called._cache_size()
    descriptions = [describe(model, rows(50, 4)) for model in models]
    assert judge._called._cache_size() == compiled
    assert len({description.evaluate(rows(50, 4)).tobytes() for description in descriptions}) == 3


def test_negative_rows_of_an_unsigned_quantizer_are_refused():
    model = layers.mlp((4, 3), rngs=nnx.Rngs(0), input_quantizer=Kif(keep_negative=False))
    with pytest.raises(DescriptionError, match="layer 'layer_0_input' meets values from -.*, which its format cannot hold"):
        describe(model, rows())


def test_wide_sums_are_checked_in_float64():
    model = layers.mlp((4, 3), rngs=nnx.Rngs(0), input_quantizer=Kif(f0=16.0), kernel_quantizer=Kif(b0=12.0), batch_norm=None)
    _, description = described(model)
    op = description["layer_0"]
    assert 24 < op.accumulator_bits(description.grids[op.inputs[0]]).max() <= 53


def test_sums_wider_than_float64_are_refused():
    wide = Kif(b0=24.0, f_limits=(-24.0, 60.0))
    model = layers.mlp(
        (4, 3), rngs=nnx.Rngs(0), input_quantizer=Kif(f0=30.0, f_limits=(-24.0, 60.0)), kernel_quantizer=wide, batch_norm=None
    )
    with pytest.raises(DescriptionError, match="layer 'layer_0' sums up to [0-9]+ bits, more than float64 holds"):
        described(model)


def test_a_diverged_layer_is_named():
    model = layers.mlp((4, 3), rngs=nnx.Rngs(0), batch_norm=None)
    model.layer[0].bias[...] = jnp.full((3,), jnp.nan)
    with pytest.raises(DescriptionError, match="layer 'layer_0' has a NaN or infinity; the model has diverged"):
        describe(model, rows())


def test_a_difference_is_reported(monkeypatch):
    from hgqjax.description import operations as m

    right = m.Dense.evaluate
    monkeypatch.setattr(m.Dense, "evaluate", lambda *a: right(*a) + np.eye(len(a[1][0]), 3, -7, dtype=np.int64))
    with pytest.raises(DescriptionError, match=r"output 'layer_0'\[0\], row 7: JAX gives .* the exact evaluator .*; 3 words differ"):
        described(layers.mlp((4, 3), rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda self, x: jnp.add(self.d(x), 1.0),
            "the model computes outside hgqjax.layers, .*: line [0-9]+ of test_describe.py, .*use x [+] y, or layers.Add, which quant",
        ),
        (lambda self, x: jnp.tanh(self.d(x)), "outside hgqjax.layers, .*; use layers.Table, a function of single values$"),
        (lambda self, x: self.d(x).reshape(-1), "outside hgqjax.layers, .*; use layers.reshape$"),
        (
            lambda self, x: jnp.einsum("bi,bj->bij", self.d(x), x),
            "outside hgqjax.layers, .*; use layers.Einsum, or layers.EinsumDense where",
        ),
        (lambda self, x: jnp.where(True, self.d(x), x), "outside hgqjax.layers, .*; use a layer or a function of hgqjax.layers$"),
        (lambda self, x: jax.nn.relu(self.d(x)), "outside hgqjax.layers, .*; use layers.relu$"),
        (lambda self, x: jnp.concatenate([self.d(x), x]), "outside hgqjax.layers, .*; use layers.concatenate$"),
        (lambda self, x: next(iter(self.d(x))), r"outside hgqjax.layers, .*; use x\[:, n\], or layers.select$"),
        (lambda self, x: jnp.mean(self.d(x), 1), "outside hgqjax.layers, .*; use layers.mean$"),
        (lambda self, x: self.d(x).max(1), "outside hgqjax.layers, .*; use layers.max$"),
        (lambda self, x: 1 / self.d(x), "outside hgqjax.layers, .*; use x \\* c with c = 1 / divisor of few bits, or a layers.Table"),
        (
            lambda self, x: jax.lax.dot(self.d(x), jnp.ones((4, 2))),
            "outside hgqjax.layers, .*; use layers.Einsum, or layers.EinsumDense where",
        ),
        (lambda self, x: {"a": self.d(x)}, "it returns something that is neither a layer's result nor a tuple"),
        (lambda self, x: self.d(x), "layer 'e' is part of the model, but no output depends on it"),
    ],
)
def test_computing_outside_layers_is_refused(call, message):
    class Odd(layers.Module):
        def __init__(self):
            self.d = layers.Dense(4, 4, rngs=nnx.Rngs(0))
            self.e = layers.Dense(4, 3, rngs=nnx.Rngs(0))

        __call__ = call

    with pytest.raises(DescriptionError, match=message):
        describe(Odd(), rows())


@pytest.mark.parametrize("x", [np.zeros((0, 4), np.float32), np.full((2, 4), np.nan, np.float32), np.zeros(4, np.float32)])
def test_bad_calibration_rows(x):
    with pytest.raises(DescriptionError, match="at least one row of finite numbers is needed"):
        describe(layers.mlp((4, 3), rngs=nnx.Rngs(0)), x)


class Named(layers.Module):
    def __init__(self):
        self.x = layers.Dense(4, 3, rngs=nnx.Rngs(0))

    def __call__(self, rows):
        return self.x(rows)


def test_a_layer_may_be_called_x():
    description = describe(Named(), rows())
    assert [op.name for op in description.operations] == ["x_rows", "x_input", "x"]


def test_an_error_of_the_model_itself_is_raised_as_it_is():
    class Broken(Named):
        def __call__(self, rows):
            if isinstance(rows, layers.Symbol):
                int("four")
            return self.x(rows)

    with pytest.raises(ValueError, match="invalid literal for int"):
        describe(Broken(), rows())
