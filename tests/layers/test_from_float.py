"""Float networks of flax nnx that become quantized ones, and float weights of other frameworks."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers
from hgqjax.methods import Hgq, Uniform

FINE = Hgq(weight_bits=12.0, activation_fraction_bits=12.0)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.conv, self.norm = nnx.Conv(2, 2, (3, 3), rngs=rngs), nnx.BatchNorm(2, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.norm(self.conv(x))) + x


class Net(nnx.Module):
    """Has an example of everything that is converted."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(1, 2, (3, 3), strides=2, padding="SAME", use_bias=False, rngs=rngs)
        self.blocks = nnx.List([Block(rngs), Block(rngs)])
        self.drop, self.head, self.out = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(2, 4, rngs=rngs), nnx.Linear(10, 3, rngs=rngs)
        self.line = nnx.Conv(2, 2, (2,), padding=((0, 1),), feature_group_count=2, rngs=rngs)

    def __call__(self, x):
        x = jnp.tanh(self.stem(x))
        for block in self.blocks:
            x = block(x)
        pooled = nnx.avg_pool(x, (2, 2), (2, 2))
        x = nnx.silu(self.head(self.drop(pooled.mean((1, 2)))))
        most = nnx.max_pool(pooled, (2, 2)).reshape(len(x), -1)
        line = self.line(jnp.swapaxes(pooled, 1, 2)[:, 0]).sum(1)
        return self.out(jnp.concatenate([x, x[:, ::2], most * pooled.max((1, 2)), jnp.maximum(line, 0) - most], -1)), most


@pytest.fixture(scope="module")
def trained():
    """A float network whose batch norms have seen rows, these, and its results."""
    model, x = Net(nnx.Rngs(0)), np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32)
    model.train()
    with jax.numpy_dtype_promotion("standard"):
        model(x)
        model.eval()
        return model, x, model(x)


@pytest.mark.slow
def test_a_quantized_network_computes_what_the_float_one_does(trained):
    model, x, expected = trained
    quantized = layers.from_float(model, {"blocks": Hgq(weight_bits=11.0), "": FINE}, x)
    quantized.set_mode("float")
    for ours, theirs in zip(quantized(jnp.asarray(x)), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
    norm = quantized.blocks_1_conv.norm
    np.testing.assert_array_equal(norm.variance[...], model.blocks[1].norm.var[...])  # the rows have not moved it
    assert norm.epsilon == model.blocks[1].norm.epsilon
    assert [name for name, _ in quantized.named(layers.Add)] == ["add", "add_1"]


@pytest.mark.slow
def test_its_hardware_is_near_the_float_network(trained):
    model, x, expected = trained
    description = export.describe(layers.from_float(model, {"": FINE}, x), x)
    outputs = description.evaluate(x)
    for ours, theirs in zip(outputs, expected, strict=True):
        assert np.abs(ours - theirs).max() < 0.05  # tables have 2**-4 of a unit


def mlp():
    return nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(3, 2, rngs=nnx.Rngs(1)))


X = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)


def test_rules_choose_quantizers_granularity_and_bits():
    float_model = mlp()
    rules = {"layers/0": Hgq(weight_bits=6.0, weight_granularity="channel"), r"layers/\d$": Uniform(bits=5)}
    model = layers.from_float(float_model, rules, X)
    first, last = model.layers_0, model.layers_2
    assert first.kernel_quantizer.f[...].shape == (1, 3) and last.kernel_quantizer.b[...].shape == (1, 1)
    assert float(last.kernel_quantizer.b[...].item()) == 4.0
    _, i, f = first.kernel_quantizer.format()
    largest = np.abs(first.kernel[...]).max(0, keepdims=True)
    np.testing.assert_array_equal(i + f, np.full((1, 3), 6.0))  # which the largest weight of each neuron starts with
    model.set_mode("float")
    np.testing.assert_allclose(model(jnp.asarray(X)), float_model(X), atol=1e-6)
    assert np.all(largest < 2.0 ** np.asarray(i)) and np.all(largest >= 2.0 ** (np.asarray(i) - 1))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"": FINE, "head": FINE}, "rule 'head' matches no layer; layers are layers/0, layers/2"),
        (
            {"": FINE, "layers/0": FINE},
            "rule 'layers/0' matches no layer that an earlier rule has not taken; layers are layers/0, layers/2",
        ),
        ({"layers/0": FINE}, "no rule matches layer 'layers/2'; rules are 'layers/0'"),
        ({}, "no rule matches layer 'layers/0'; rules are none"),
        ({"(": FINE}, "rule '(' is no regular expression"),
    ],
)
def test_rules_that_match_nothing_are_refused(rules, message):
    with pytest.raises(layers.FloatError, match=f"^{re.escape(message)}"):
        layers.from_float(mlp(), rules, X)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([nnx.LayerNorm(4, rngs=nnx.Rngs(0))], "layer 'layers/0' is a LayerNorm, which has no quantized counterpart here; Linear, Conv, "),
        (
            [nnx.BatchNorm(4, rngs=nnx.Rngs(0))],
            "layer 'layers/0', a BatchNorm over the last axis, must follow a Linear or Conv whose result",
        ),
        ([lambda x: x * 3.0], "the float network computes 'mul' of a layer's result and a constant, which has no counterpart here"),
        ([lambda x: x @ x.T], "the float network has a result of shape (4, 2) (transpose), which does not keep the rows as its first axis"),
        ([lambda x: x / x], "the float network computes 'div' of a layer's result, which has no counterpart here"),
        ([lambda x: nnx.leaky_relu(x, 0.3)], "the float network has a leaky_relu with parameters of its own"),
        ([lambda x: x.sum()], "the float network has a result of shape () (reduce_sum), which does not keep the rows"),
    ],
)
def test_what_has_no_counterpart_is_named(parts, message):
    with pytest.raises(layers.FloatError, match=f"^{re.escape(message)}"):
        layers.from_float(nnx.Sequential(*parts), {"": FINE}, X)


def network(norm=True):
    norm = layers.BatchNorm() if norm else None
    return layers.Sequential(
        layers.Conv1D((5, 2), 3, 2, rngs=nnx.Rngs(0), batch_norm=norm), layers.flatten, layers.Dense(12, 2, rngs=nnx.Rngs(1))
    )


RNG = np.random.default_rng(2)
CONV, DENSE = RNG.normal(size=(2, 2, 3)).astype(np.float32), RNG.normal(size=(12, 2)).astype(np.float32)
SCALE, SHIFT, MEAN, VARIANCE, OF_CONV = (RNG.uniform(0.5, 2, 3).astype(np.float32) for _ in range(5))
OF_DENSE = np.array([0.5, -1.0], np.float32)
LINEN = {
    "params": {
        "BatchNorm_0": {"scale": SCALE, "bias": SHIFT},
        "Conv_0": {"kernel": CONV, "bias": OF_CONV},
        "Dense_0": {"kernel": DENSE, "bias": OF_DENSE},
    },
    "batch_stats": {"BatchNorm_0": {"mean": MEAN, "var": VARIANCE}},
}
TORCH = {"conv.weight": CONV.transpose(2, 1, 0), "conv.bias": OF_CONV, "bn.weight": SCALE, "bn.bias": SHIFT, "bn.running_mean": MEAN}
TORCH |= {"bn.running_var": VARIANCE, "bn.num_batches_tracked": np.array(3), "fc.weight": DENSE.T, "fc.bias": OF_DENSE}
KERAS = {"conv1d/kernel": CONV, "conv1d/bias": OF_CONV, "bn/gamma": SCALE, "bn/beta": SHIFT, "bn/moving_mean": MEAN}
KERAS |= {"bn/moving_variance": VARIANCE, "dense/kernel": DENSE, "dense/bias": OF_DENSE}


@pytest.mark.parametrize("source", ["linen", "torch", "keras.npz", "torch.npz", "orbax", "state"])
def test_weights_of_other_frameworks(source, tmp_path):
    given = {"linen": LINEN, "torch": TORCH, "state": LINEN["params"] | LINEN["batch_stats"]}.get(source, tmp_path / source)
    if source == "state":
        given = {"layer_0": LINEN["params"]["Conv_0"], "layer_2": LINEN["params"]["Dense_0"]}
        given["norm"] = LINEN["params"]["BatchNorm_0"] | LINEN["batch_stats"]["BatchNorm_0"]
        given = nnx.State({name: {part: nnx.Param(jnp.asarray(v)) for part, v in tree.items()} for name, tree in given.items()})
    if source.endswith(".npz"):
        np.savez(given, **(KERAS if "keras" in source else TORCH))
    if source == "orbax":
        import orbax.checkpoint as ocp

        ocp.PyTreeCheckpointer().save(given, LINEN)
    model = network()
    layers.load_weights(model, given)
    model.set_mode("float")
    x = RNG.normal(size=(4, 5, 2)).astype(np.float32)
    conv = np.stack([np.einsum("bkc,kcf->bf", x[:, n : n + 2], CONV) for n in range(4)], 1) + OF_CONV
    conv = (conv - MEAN) / np.sqrt(VARIANCE + 1e-5) * SCALE + SHIFT
    np.testing.assert_allclose(model(jnp.asarray(x)), conv.reshape(4, 12) @ DENSE + OF_DENSE, rtol=1e-4, atol=1e-4)


def test_weights_by_name():
    model = layers.Sequential(layers.Dense(2, 2, rngs=nnx.Rngs(0)), layers.Dense(2, 2, rngs=nnx.Rngs(1)))
    a, b = np.eye(2, dtype=np.float32), 2 * np.eye(2, dtype=np.float32)
    layers.load_weights(model, {"a": {"kernel": a}, "b": {"kernel": b}}, {"layer_0": "b", "layer_1": "a"})
    assert model.layer[0].kernel[...].tolist() == b.tolist() and model.layer[1].kernel[...].tolist() == a.tolist()
    assert np.diag(model.layer[0].kernel_quantizer.format().i).tolist() == [2.0, 2.0]  # bits follow the weights: 2 needs two integer bits


@pytest.mark.parametrize(
    ("source", "names", "message"),
    [
        (
            {"a": {"kernel": CONV}},
            None,
            "the float weights have 1 layers (a), the network 2 (layer_0, layer_2); names= may say which is which",
        ),
        (
            {"a": {"kernel": CONV}, "b": {"kernel": DENSE[:3]}},
            None,
            "layer 'layer_2' has a kernel of shape (12, 2), the float weights of 'b' one of (3, 2)",
        ),
        ({"a": {"kernel": CONV * np.nan}, "b": {"kernel": DENSE}}, None, "the float weights of 'a' have a NaN or infinity"),
        ({"a": {"kernel": CONV}, "b": {"kernel": DENSE}}, {"layer_9": "a"}, "names has 'layer_9'; layers are layer_0, layer_2"),
        ({"a": {"kernel": CONV}, "b": {"kernel": DENSE}}, {"layer_0": "a"}, "names has no 'layer_2'; layers are layer_0, layer_2"),
        ({"a": {"kernels": CONV}}, None, "the float weights have 'a/kernels'; names must end in "),
        ({"a": {"bias": SHIFT}}, None, "the float weights of 'a' have neither a kernel nor mean and variance of a batch norm"),
        (LINEN, None, "the float weights have 1 batch norms (BatchNorm_0), the network 0 (none)"),
        ({}, None, "the float weights hold no layer"),
        ("nowhere.npz", None, "there is no nowhere.npz"),
    ],
)
def test_weights_that_do_not_fit_are_refused(source, names, message):
    model = network(norm=False)
    before = model.layer[0].kernel[...]
    with pytest.raises(layers.FloatError, match=f"^{re.escape(message)}"):
        layers.load_weights(model, source, names)
    np.testing.assert_array_equal(model.layer[0].kernel[...], before)


def test_a_folder_that_is_no_checkpoint(tmp_path):
    with pytest.raises(layers.FloatError, match="cannot be read as an orbax checkpoint"):
        layers.load_weights(network(norm=False), tmp_path)
