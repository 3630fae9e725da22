"""Networks of any shape through both gates: plain arithmetic, layers that are called again, several inputs and outputs, decoders."""

import os

import jax.numpy as jnp
import numpy as np
import pytest
from any_networks import interpreted, joined, random_description, size
from flax import nnx
from hls4ml_networks import verified

from hgqjax import export, layers
from hgqjax.export.rtl.convert import to_rtl
from hgqjax.quantizers import Kif


class Pair(layers.Module):
    """Two inputs that share an encoder, what they have in common and how far they are apart; three results, one of them given twice."""

    def __init__(self, rngs):
        self.left, self.right = layers.Quantize((3, 2), Kif(f0=2.0)), layers.Quantize((1, 2), Kif(f0=3.0, overflow="SAT"))
        self.encode = layers.Dense(2, 2, rngs=rngs, input_shape=(3, 2), input_quantizer=Kif(f0=2.0))
        self.score = layers.Dense(2, 1, rngs=rngs)

    def __call__(self, left, right):
        left, right = self.left(left), self.right(right)
        both = self.encode(left), self.encode(left - right * 0.75 + 1)
        far = both[0] - both[1]
        nearest = layers.max(-(far**2), 0)
        mean = layers.mean(layers.concatenate([*both, left[:, ::-1]], axis=0), 0)
        return self.score(nearest + mean), mean, far[:, np.array([2, 0]), None] / 2, mean


class Decoder(layers.Module):
    """A causal convolution, then what makes longer: zeros, copies, transposed convolutions of one axis and of two."""

    def __init__(self, rngs):
        settings = {"rngs": rngs, "input_quantizer": Kif(f0=2.0)}
        self.causal = layers.Conv1D((3, 2), 2, 2, padding="CAUSAL", **settings)
        self.longer = layers.ConvTranspose1D((3, 2), 2, 3, strides=2, padding="SAME", activation="relu", **settings)
        self.image = layers.ConvTranspose2D((2, 3, 2), 1, 2, strides=(1, 2), **settings)
        self.last = layers.Quantize((5, 8, 1), Kif(f0=2.0))

    def __call__(self, x):
        x = self.longer(self.causal(x))
        image = self.image(layers.reshape(x, (2, 3, 2)))
        return layers.zero_pad(layers.upsample(x, 2), (1, 0)), self.last(layers.zero_pad(image, ((1, 1), (0, 2))))


class Stream(layers.Module):
    """What io_stream has of a decoder and of arithmetic, over one axis."""

    def __init__(self, rngs):
        settings = {"rngs": rngs, "input_quantizer": Kif(f0=2.0), "input_granularity": "tensor", "parallelization": 1}
        self.first = layers.Quantize((4, 2), Kif(f0=3.0), "tensor")
        self.causal = layers.Conv1D((6, 2), 2, 2, padding="CAUSAL", **settings)
        self.longer = layers.ConvTranspose1D((6, 2), 3, 3, **settings)
        self.last = layers.Quantize((16, 3), Kif(f0=3.0), "tensor")

    def __call__(self, x):
        x = layers.zero_pad(self.first(x) * jnp.asarray([[[0.5, -3.0]]]) + 0.25, (1, 1))
        x = layers.upsample(self.longer(self.causal(x)), 2)
        return self.last(-x) * 0.75


class Image(layers.Module):
    """The same over two axes, and of a single row of features."""

    def __init__(self, rngs):
        self.first = layers.Quantize((2, 3, 2), Kif(f0=3.0), "tensor")
        self.conv = layers.Conv2D((5, 6, 2), 2, 2, rngs=rngs, input_granularity="tensor", parallelization=1)
        self.out = layers.Dense(40, 3, rngs=rngs, input_granularity="tensor")

    def __call__(self, x):
        x = layers.zero_pad(layers.upsample(1 - self.first(x), 2), ((1, 0), (0, 0)))
        return 2 * self.out(layers.flatten(self.conv(x))) - 0.5


def described(model, *shapes, seed=0):
    rng = np.random.default_rng(seed)
    rows = tuple(rng.normal(0, 1.5, (200, *shape)).astype(np.float32) for shape in shapes)
    layers.adapt(model, tuple(map(jnp.asarray, rows)))
    return export.describe(model, rows if len(rows) > 1 else rows[0])


@pytest.fixture(scope="module")
def pair():
    return described(Pair(nnx.Rngs(0)), (3, 2), (1, 2))


@pytest.fixture(scope="module")
def decoder():
    return described(Decoder(nnx.Rngs(0)), (3, 2))


@pytest.mark.parametrize("name", ["pair", "decoder"])
def test_words_of_the_adder_graph(name, request):
    description = request.getfixturevalue(name)
    assert interpreted(description) > 600 * size(description)


@pytest.mark.parametrize("name", ["pair", pytest.param("decoder", marks=pytest.mark.slow)])
def test_words_of_cpp(name, request, tmp_path):
    verified(request.getfixturevalue(name), tmp_path / "p", min_rows=1000)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "shape"), [(Stream, (4, 2)), (Image, (2, 3, 2))])
def test_words_of_streams(make, shape, tmp_path):
    verified(described(make(nnx.Rngs(0)), shape), tmp_path / "p", min_rows=500, io_type="io_stream")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pair", "decoder"])
def test_words_of_distributed_arithmetic(name, request, tmp_path):
    verified(request.getfixturevalue(name), tmp_path / "p", min_rows=500, strategy="distributed_arithmetic")


@pytest.mark.synth
@pytest.mark.parametrize("flavor", ["verilog", "vhdl"])
@pytest.mark.parametrize("name", ["pair", "decoder"])
def test_words_of_simulated_rtl(name, flavor, request, tmp_path):
    description = request.getfixturevalue(name)
    project = to_rtl(description, tmp_path / "p", flavor=flavor, clock_ns=2.0, simulated_rows=2000 if flavor == "verilog" else 300)
    assert project.gate.words == project.gate.rows * size(description) and project.latency_cycles > 0


# ---- random ones: layers that are called again, several inputs and outputs, axes that repeat, arithmetic ----


@pytest.mark.exact
def test_a_random_network():
    description = random_description(0)
    assert len(description.inputs) > 1 and len(description.outputs) > 1
    assert interpreted(description) > 600 * size(description)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, int(os.environ.get("HGQJAX_NETWORKS", "12")), 6))
def test_many_random_networks(first, tmp_path):
    """Each by itself through alkaid's interpreter, six at a time through compiled C++; HGQJAX_NETWORKS=60 takes six minutes."""
    descriptions = [random_description(seed) for seed in range(first, first + 6)]
    for description in descriptions:
        assert interpreted(description) > 600 * size(description)
    verified(joined(descriptions), tmp_path / "p", min_rows=1000)


@pytest.mark.synth
@pytest.mark.parametrize("seed", range(3))
def test_random_networks_in_verilator(seed, tmp_path):
    description = random_description(seed)
    project = to_rtl(description, tmp_path / "p", clock_ns=2.0, min_rows=2000)
    assert project.gate.words == project.gate.rows * size(description)
