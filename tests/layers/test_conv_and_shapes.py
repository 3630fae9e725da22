"""Convolutions and pooling against XLA's own, tables, masks, functions on shapes: values, what they refuse, and a whole model's words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from hgqjax import export, layers, resources
from hgqjax.quantizers import Binary, Kbi, Kif

FINE = Kif(f0=20.0, b0=23.0)
SAT = Kif(overflow="SAT")
NORM = layers.BatchNorm()
EXACT = {"input_quantizer": FINE, "kernel_quantizer": FINE, "bias_quantizer": FINE}


def integers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(-8, 9, shape), jnp.float32)


CONVS = [
    ((7, 4), 6, 3, {"padding": "SAME", "strides": 2}),
    ((7, 4), 6, 2, {"groups": 2, "dilation": 3, "padding": (2, 1)}),
    ((5, 6, 2), 3, (3, 2), {"padding": ((1, 0), (0, 2)), "strides": (1, 2)}),
    ((5, 6, 4), 8, 3, {"groups": 4, "padding": "SAME", "dilation": (1, 2)}),
]


@pytest.mark.parametrize(("shape", "filters", "size", "settings"), CONVS, ids=range(len(CONVS)))
def test_convolution_is_that_of_xla(shape, filters, size, settings):
    rank = len(shape) - 1
    layer = (layers.Conv1D if rank == 1 else layers.Conv2D)(shape, filters, size, rngs=nnx.Rngs(0), **settings, **EXACT)
    layer.kernel[...] = integers(*layer.kernel[...].shape)
    x = integers(3, *shape, seed=1)
    letters = "HW"[:rank]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    padding = settings.get("padding", "VALID")
    padding = padding if isinstance(padding, str) else (padding,) if isinstance(padding[0], int) else padding
    expected = lax.conv_general_dilated(
        x, layer.kernel[...], layer.strides, padding, rhs_dilation=layer.dilation, dimension_numbers=numbers,
        feature_group_count=layer.groups,
    )  # fmt: skip
    np.testing.assert_array_equal(nnx.jit(lambda layer, x: layer(x))(layer, x), expected)
    assert expected.shape[1:] == layer.output_shape


TRANSPOSED = [
    ((4, 3), 2, size, strides, padding) for size, strides in ((3, 2), (4, 2), (2, 3), (5, 1), (4, 1)) for padding in ("VALID", "SAME")
]
TRANSPOSED += [((3, 4, 2), 3, (3, 2), (2, 3), padding) for padding in ("VALID", "SAME")]


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_transposed_convolution_is_that_of_xla(case):
    shape, filters, size, strides, padding = case
    rank = len(shape) - 1
    cls = layers.ConvTranspose1D if rank == 1 else layers.ConvTranspose2D
    layer = cls(shape, filters, size, rngs=nnx.Rngs(0), strides=strides, padding=padding, **EXACT)
    layer.kernel[...] = integers(*layer.kernel[...].shape)
    x, letters = integers(3, *shape, seed=1), "HW"[:rank]
    numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    expected = lax.conv_transpose(x, layer.kernel[...], layer.steps, padding, dimension_numbers=numbers)
    np.testing.assert_array_equal(nnx.jit(lambda layer, x: layer(x))(layer, x), expected)
    assert expected.shape[1:] == layer.output_shape


def test_a_transposed_convolution_is_cut_at_its_ends():
    whole, cut = (
        layers.ConvTranspose1D((4, 2), 3, 3, rngs=nnx.Rngs(0), strides=2, padding=padding, use_bias=False, **EXACT)
        for padding in ("VALID", (2, 1))
    )
    x = integers(2, 4, 2)
    np.testing.assert_array_equal(cut(x), whole(x)[:, 2:-1])


def test_a_causal_convolution_sees_nothing_of_what_comes():
    layer = layers.Conv1D((6, 1), 1, 3, rngs=nnx.Rngs(0), padding="CAUSAL", dilation=2, use_bias=False, **EXACT)
    layer.kernel[...] = jnp.asarray([4.0, 2.0, 1.0]).reshape(3, 1, 1)
    x = jnp.asarray([1.0, 0, 0, 0, 0, 0]).reshape(1, 6, 1)
    assert layer(x).ravel().tolist() == [1, 0, 2, 0, 4, 0]


def test_upsampling_and_zero_padding():
    x = integers(2, 2, 3, 2)
    np.testing.assert_array_equal(layers.upsample(x, (2, 1)), np.repeat(x, 2, axis=1))
    np.testing.assert_array_equal(layers.zero_pad(x, ((0, 1), (2, 0))), np.pad(x, ((0, 0), (0, 1), (2, 0), (0, 0))))
    assert layers.zero_pad(x, 1).shape == (2, 4, 5, 2)


def test_depthwise_filters_read_their_channel():
    layer = layers.DepthwiseConv1D((4, 2), 2, rngs=nnx.Rngs(0), multiplier=2, use_bias=False, **EXACT)
    layer.kernel[...] = integers(*layer.kernel[...].shape)
    x = integers(1, 4, 2, seed=1)
    kernel = layer.kernel[...]
    for n in range(4):
        expected = x[0, :-1, n // 2] * kernel[0, 0, n] + x[0, 1:, n // 2] * kernel[1, 0, n]
        np.testing.assert_array_equal(layer(x)[0, :, n], expected)


def test_batch_norm_of_a_convolution_normalizes_each_filter():
    layer = layers.Conv1D((6, 2), 3, 2, rngs=nnx.Rngs(0), batch_norm=layers.BatchNorm(), padding="SAME", **EXACT)
    y = layer(integers(64, 6, 2))
    np.testing.assert_allclose(y.mean((0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(y.std((0, 1)), 1, atol=1e-3)


@pytest.mark.parametrize(("size", "strides", "padding"), [((2, 3), None, "VALID"), ((2, 2), (1, 2), "SAME"), ((3, 2), (3, 2), "VALID")])
def test_max_pool_is_that_of_xla(size, strides, padding):
    x = integers(2, 5, 7, 3)
    expected = nnx.max_pool(x, size, strides=strides or size, padding=padding)
    np.testing.assert_array_equal(layers.max_pool(x, size, strides, padding), expected)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(layers.max_pool(x, size, strides, padding))))(x)
    assert float(gradient.sum()) == expected.size  # each window passes its gradient on once


def test_average_and_global_pools():
    x = integers(2, 4, 4, 3)
    np.testing.assert_array_equal(layers.average_pool(x, 2), x.reshape(2, 2, 2, 2, 2, 3).mean((2, 4)))
    np.testing.assert_array_equal(layers.global_average_pool(x), x.mean((1, 2)))
    np.testing.assert_array_equal(layers.global_max_pool(x), x.max((1, 2)))


class Everything(layers.Module):
    """One of each function and merge, of rows (4, 4, 2)."""

    def __init__(self, rngs):
        self.first = layers.Quantize((4, 4, 2), Kif(f0=3.0))
        self.tanh = layers.Table("tanh", (4, 4, 2), input_quantizer=Kbi(b0=5.0, overflow="WRAP"))
        self.separable = layers.SeparableConv2D((2, 4, 4), 3, (2, 3), rngs=rngs, padding="SAME", activation="relu", parallelization=1)
        self.add, self.subtract, self.multiply = layers.Add((2, 3), 3), layers.Subtract((2, 3)), layers.Multiply((2, 3))
        self.mix = layers.EinsumDense("tc,cd->td", (2, 6), (2, 4), rngs=rngs, activation="relu")
        self.masked = layers.Dense(8, 5, rngs=rngs, mask=np.arange(40).reshape(8, 5) % 3 == 0)

    def __call__(self, x):
        x = self.first(x)
        a = layers.concatenate([layers.select(x, slice(0, 2)), layers.select(self.tanh(x), slice(None, None, 2))])
        a = self.separable(a)
        a, b = layers.global_max_pool(a), layers.reshape(layers.average_pool(layers.max_pool(a, 1), (2, 4)), (1, 3))
        a = layers.concatenate([layers.reshape(a, (1, 3)), b], axis=0)
        total = self.add(a, self.subtract(a, layers.transpose(layers.reshape(a, (3, 2)), (1, 0))), self.multiply(a, a))
        return self.masked(layers.flatten(self.mix(layers.concatenate([total, a]))))


@pytest.mark.slow
def test_a_model_of_everything_has_the_words_of_its_description():
    model, x = Everything(nnx.Rngs(0)), np.random.default_rng(0).normal(0, 2, (64, 4, 4, 2)).astype(np.float32)
    layers.adapt(model, jnp.asarray(x))
    description = export.describe(model, x)  # raises where a word differs
    kinds = {op.kind for op in description.operations}
    assert kinds == {"input", "quantize", "table", "slice", "concatenate", "conv", "relu", "max_pool", "average_pool", "reshape"} | {
        "transpose", "add", "subtract", "multiply", "einsum", "dense"
    }  # fmt: skip
    costs = resources.ebops(description)
    assert set(costs) == {"tanh", "separable_depthwise", "separable_pointwise", "add", "subtract", "multiply", "mix", "masked"}
    masked = description["masked"].kernel
    assert not masked.bits[np.arange(40).reshape(8, 5) % 3 != 0].any() and masked.bits.any()


def test_a_table_is_the_function_rounded_once():
    layer = layers.Table("sigmoid", (1,), input_quantizer=Kif(i0=3.0, f0=5.0, overflow="SAT"), output_quantizer=Kif(f0=8.0))
    words = np.arange(-256, 256) / 32.0
    frozen = layers.calibrate(layer, words[:, None].astype(np.float32))
    expected = np.floor(256 / (1 + np.exp(-words)) + 0.5) / 256
    np.testing.assert_array_equal(jax.jit(lambda x: frozen(x))(words[:, None].astype(np.float32))[:, 0], expected)
    np.testing.assert_array_equal(export.describe(layer, words[:, None]).evaluate(words[:, None])[:, 0], expected)


def test_hard_tanh_is_a_quantizer_that_clips():
    layer = layers.Quantize((1,), layers.HARD_TANH)
    assert layer(jnp.array([[-3.0], [0.25], [3.0]])).ravel().tolist() == [-1.0, 0.25, 1.0 - 2.0**-6]


class SameNames(layers.Module):
    def __init__(self, rngs):
        self.a_0, self.a = layers.Dense(2, 2, rngs=rngs), nnx.List([layers.Dense(2, 2, rngs=rngs)])


class Wide(layers.Module):
    def __init__(self, f):
        self.multiply = layers.Multiply((2,), input_quantizer=Kif(f0=f))

    def __call__(self, x):
        return self.multiply(x, x)


def test_wide_products_are_compared_in_float64_or_refused():
    x = np.random.default_rng(0).normal(0, 1, (200, 2)).astype(np.float32)
    assert export.describe(Wide(12.0), x).grids["multiply"].high.max().bit_length() > 24
    with pytest.raises(export.DescriptionError, match="layer 'multiply' sums up to .* more than float64 holds"):
        export.describe(Wide(24.0), x * 64)


def test_masked_weights_are_not_there_whatever_the_quantizer():
    mask = np.zeros((4, 3))
    mask[0] = 1
    layer = layers.Dense(4, 3, rngs=nnx.Rngs(0), mask=mask, kernel_quantizer=Binary())
    x = np.array([[1.0, 0, 0, 0], [1, 2, 2, 2]], np.float32)
    assert np.array_equal(*layer(jnp.asarray(x)))
    assert np.array_equal(*export.describe(layer, x).evaluate(x))


def test_a_table_is_forgotten_when_training_goes_on():
    layer = layers.calibrate(layers.Table("tanh", (1,)), np.array([[0.5]], np.float32))
    assert layer.entries is not None
    layer.set_mode("train")
    assert layer.entries is None


REFUSED = {
    "input_shape is .* 2 spatial axes": lambda r: layers.Conv2D((8, 3), 4, 3, rngs=r),
    "groups must divide both": lambda r: layers.Conv1D((8, 3), 4, 3, rngs=r, groups=2),
    "do not fit into": lambda r: layers.Conv1D((4, 3), 4, 3, rngs=r, dilation=2),
    "padding is 'FULL'": lambda r: layers.Conv1D((4, 3), 4, 3, rngs=r, padding="FULL"),
    "padding is 'FULL' for rows of shape": lambda r: layers.zero_pad(jnp.ones((1, 4, 2)), "FULL"),
    "padding is 'CAUSAL'; 'VALID', 'SAME', or pairs of at most": lambda r: layers.ConvTranspose1D((4, 2), 3, 3, rngs=r, padding="CAUSAL"),
    "pairs of at most .* to cut off": lambda r: layers.ConvTranspose1D((4, 2), 3, 3, rngs=r, padding=(3, 0)),
    "size is 0; one whole number": lambda r: layers.upsample(jnp.ones((1, 4, 2)), 0),
    "filters is 0, parallelization None": lambda r: layers.ConvTranspose1D((4, 2), 0, 3, rngs=r),
    "2 spatial axes and channels are needed": lambda r: layers.ConvTranspose2D((4, 2), 3, 3, rngs=r),
    "strides is 0": lambda r: layers.Conv1D((4, 3), 4, 3, rngs=r, strides=0),
    "parallelization is 0": lambda r: layers.Conv1D((4, 3), 4, 3, rngs=r, parallelization=0),
    "mask has shape": lambda r: layers.Dense(3, 2, rngs=r, mask=np.ones((2, 3))),
    "each label in two of its three": lambda r: layers.EinsumDense("tc,cd->t", (4, 3), (4,), rngs=r),
    "sizes that agree": lambda r: layers.EinsumDense("tc,cd->td", (4, 3), (5, 2), rngs=r),
    "one bias for each element": lambda r: layers.EinsumDense("tc,c->tc", (4, 3), (4, 3), rngs=r, batch_norm=NORM, bias_axes="t"),
    "always there": lambda r: layers.Dense(3, 2, rngs=r, batch_norm=NORM, use_bias=False),
    "function is 'softmax'": lambda r: layers.Table("softmax", (2,)),
    "at most 16": lambda r: layers.Table("tanh", (2,), input_quantizer=Kif(f0=20.0, overflow="SAT")).tabulate(),
    "gives -inf for 0.0|gives nan for": lambda r: layers.Table(jnp.log, (2,), input_quantizer=Kif(overflow="SAT")).tabulate(),
    "negative values": lambda r: layers.Table("tanh", (2,), input_quantizer=SAT, output_quantizer=Kif(keep_negative=False)).tabulate(),
    "at most 24 bits": lambda r: layers.Table("tanh", (2,), input_quantizer=SAT, output_quantizer=Kif(f0=24.0)).tabulate(),
    "depends on the other values": lambda r: layers.Table(jax.nn.softmax, (2,), input_quantizer=Kif(overflow="SAT")).tabulate(),
    "two layers come to the name 'a_0'": lambda r: SameNames(r).operations_cost(),
    "only a power of two": lambda r: layers.average_pool(jnp.ones((1, 6, 2)), 3),
    "nothing but padding": lambda r: layers.max_pool(jnp.ones((1, 6, 2)), 2, padding=(2, 0)),
    "as many elements": lambda r: layers.reshape(jnp.ones((1, 6)), (4,)),
    "each of 0 .. 1 once": lambda r: layers.transpose(jnp.ones((1, 6, 2)), (1, 1)),
    "whole number or a slice": lambda r: layers.select(jnp.ones((1, 6)), 0, 0),
    "at least one axis": lambda r: layers.select(jnp.ones((1, 6)), 0),
    "differ in that one alone": lambda r: layers.concatenate([jnp.ones((1, 6, 2)), jnp.ones((1, 5, 3))]),
    "inputs is 3; 2": lambda r: layers.Subtract((2,), 3),
    "may differ only where one has an axis of size 1": lambda r: layers.Add(((2, 3), (2, 2))),
    "2 shapes are given; leave inputs out": lambda r: layers.Add(((2, 3), (2, 1)), 3),
    "is given 1": lambda r: layers.Add((2,))(jnp.ones((1, 2))),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_fit_is_refused(message):
    with pytest.raises(ValueError, match=message) as info:
        REFUSED[message](nnx.Rngs(0))
    assert "\n" not in str(info.value)
