"""Gates on neurons: rules against their formulas, costs and exports against networks without the missing neurons, wide starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers, methods, resources
from hgqjax.description.start import start_of
from hgqjax.layers.gates import Gate
from hgqjax.methods.channels.expansion import Expansion
from hgqjax.methods.channels.scales import Scales
from hgqjax.runs import networks
from hgqjax.runs.particle_networks import JediLinear

X = np.random.default_rng(0).normal(size=(96, 3)).astype(np.float32)
NCE, SQUEEZE = methods.Nce(choices=2), methods.Squeeze()


def network(method, hidden=(4, 2), batch_norm=False, seed=0):
    model = networks.Mlp(method=method, hidden=hidden, batch_norm=batch_norm).build((3,), 2)(nnx.Rngs(seed))
    layers.adapt(model, jnp.asarray(X))
    return model


def with_kept(model, kept):
    """The gates decided: each layer has its first neurons of these numbers."""
    for (_, gate), n in zip(model.named(Gate), kept, strict=True):
        if isinstance(gate.gate, Expansion):
            numbers = gate.gate.numbers(gate.n)
            gate.set_params({"logits": jnp.where(numbers == n, 30.0, -30.0), "offered": jnp.full((1,), float(numbers.size))})
        else:
            gate.set_params({"keep": (jnp.arange(gate.n) < n).astype(jnp.float32), "done": jnp.ones((1,))})
    return model


def test_the_number_of_neurons_is_a_soft_choice():
    gate = Expansion(choices=2, threshold=0.4)
    params = gate.init(8) | {"logits": jnp.array([0.3, 1.0, 5.0, 5.0])}
    p = np.exp([0.3, 1.0]) / np.exp([0.3, 1.0]).sum()
    np.testing.assert_allclose(gate.expected(params, 8), [1, 1, p[1], p[1], 0, 0, 0, 0], rtol=1e-6)
    noise = np.asarray(jax.random.gumbel(jax.random.key(3), (4,)))[:2]
    raised = np.exp((np.log(p) + noise) / 0.7)
    share = raised[1] / raised.sum()
    found = gate.sample(params, 8, key=jax.random.key(3), temperature=jnp.float32(0.7))
    np.testing.assert_allclose(found, [1, 1, share, share, 0, 0, 0, 0], rtol=1e-5)
    assert gate.keep(params, 8).tolist() == [True] * 4 + [False] * 4
    slope = jax.grad(lambda v: gate.expected(params | {"logits": v}, 8).sum())(params["logits"])
    assert slope[1] > 0 > slope[0] and slope[2] == slope[3] == 0
    found = [float(gate.temperature(jnp.float32(p))) for p in (0.0, 0.3, 0.6, 0.9)]
    np.testing.assert_allclose(found, [10.0, 5.05, 0.1, 0.1], rtol=1e-5)


def test_more_neurons_are_offered_where_the_largest_number_is_liked_and_then_one_is_chosen():
    gate = Expansion(choices=2, threshold=0.4)
    params = gate.init(8) | {"logits": jnp.array([0.3, 1.0, 5.0, 5.0])}
    grown = gate.reassign(params, progress=jnp.float32(0.1))
    assert grown["offered"] == 3 and grown["logits"].tolist()[2] == 1.0  # as likely as the largest so far
    assert gate.reassign(params | {"logits": -params["logits"]}, progress=jnp.float32(0.1))["offered"] == 2
    assert [bool(gate.reassigns(jnp.int32(epoch), 10)) for epoch in range(9)] == [True] * 7 + [False] * 2
    chosen = gate.reassign(grown | {"logits": jnp.array([0.3, 1.0, 1.2, 5.0])}, progress=jnp.float32(0.6))
    assert gate.keep(chosen, 8).sum() == 6
    for found in (gate.expected(chosen, 8), gate.sample(chosen, 8, key=jax.random.key(0), temperature=jnp.float32(0.1))):
        np.testing.assert_array_equal(np.asarray(found) > 1e-6, np.arange(8) < 6)
        np.testing.assert_array_equal(found[:6], 1.0)
    assert gate.numbers(2).tolist() == [1, 1, 2, 2]  # a layer always has a neuron
    assert gate.keep(gate.narrowest(params), 8).sum() == 2


def test_neurons_with_small_factors_are_removed_and_one_is_left():
    gate = Scales(threshold=0.25)
    params = gate.init(4) | {"fall": jnp.array([4.0, 7.5, 6.5, 7.25])}
    np.testing.assert_array_equal(gate.factor(params, 4), [0.5, 0.0625, 0.1875, 0.09375])
    np.testing.assert_array_equal(gate.expected(params, 4), [1.0, 0.0625, 0.1875, 0.09375])  # the largest counts whole
    once = gate.reassign(params, progress=jnp.float32(0.2))
    assert gate.keep(once, 4).tolist() == [True, False, True, False] and once["done"] == 0
    back = once | {"fall": jnp.zeros(4)}
    assert gate.keep(gate.reassign(back, progress=jnp.float32(0.3)), 4).tolist() == [True, False, True, False]  # for good
    over = gate.reassign(once, progress=jnp.float32(0.6))
    np.testing.assert_array_equal(gate.expected(over, 4), [1, 0, 1, 0])
    slope = jax.grad(lambda v: gate.expected(params | v, 4).sum())({"fall": params["fall"], "keep": params["keep"]})
    assert slope["fall"].tolist() == [0.0, -0.125, -0.125, -0.125] and not slope["keep"].any()
    none = gate.reassign(params | {"fall": jnp.full(4, 8.0)}, progress=jnp.float32(0.6))
    assert gate.keep(none, 4).sum() == 1 == gate.keep(gate.narrowest(params), 4).sum()


@pytest.mark.parametrize(
    ("method", "batch_norm"),
    [(NCE, False), (SQUEEZE, True), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((NCE, True), (SQUEEZE, False)))],
    ids=repr,
)
def test_missing_neurons_are_nowhere(method, batch_norm):
    wide = with_kept(network(method, batch_norm=batch_norm), (6, 2) if method is NCE else (5, 1))
    if method is SQUEEZE:
        fall = wide.layer[0].neurons.fall
        fall[...] = fall[...].at[1].set(4.0)
    sizes = (3, *(len(gate.kept()) for _, gate in wide.named(Gate)), 2)
    plain = methods.Uniform(bits=4)
    settings = plain.of_layers() | {"bias_quantizer": method.biases()}
    narrow = layers.mlp(sizes, rngs=nnx.Rngs(1), batch_norm=None, **settings)
    copy = nnx.clone(wide)
    copy.set_mode("observe")
    for ours, theirs in zip(narrow.layer, copy.layer, strict=True):
        kernel, bias = theirs.weights()
        n_in, n_out = ours.kernel[...].shape
        assert not kernel[n_in:].any() and not kernel[:, n_out:].any() and not bias[n_out:].any()
        ours.load(kernel[:n_in, :n_out], bias[:n_out])
    ours, theirs = export.describe(narrow, X), export.describe(wide, X)
    assert [op.name for op in ours.operations] == [op.name for op in theirs.operations]
    assert [op.shape for op in ours.operations] == [op.shape for op in theirs.operations]
    np.testing.assert_array_equal(ours.evaluate(X), theirs.evaluate(X))
    frozen = layers.calibrate(wide, X)
    np.testing.assert_array_equal(frozen(jnp.asarray(X)), theirs.evaluate(X))
    for cost in (resources.Ebops(), resources.Ebops(definition="paper_v1"), resources.Luts(), resources.WeightBits()):
        assert float(cost(ours).total) == float(cost(theirs).total)
        if cost != resources.Ebops(definition="paper_v1"):  # which counts the enclosed bits of a description
            assert float(cost(frozen).total) == pytest.approx(float(cost(theirs).total), rel=1e-6)


def test_filters_of_convolutions_go_with_what_reads_them():
    method = methods.Nce(choices=2, bits=5)
    rows = np.random.default_rng(1).normal(size=(40, 6, 6, 2)).astype(np.float32)
    model = networks.Cnn(method=method, filters=(2, 2), size=2, pool=1, hidden=(2,)).build((6, 6, 2), 3)(nnx.Rngs(0))
    layers.adapt(model, jnp.asarray(rows))
    with_kept(model, (3, 1, 2))
    description = export.describe(model, rows)
    kernels = [op.kernel.integers.shape for op in description.operations if hasattr(op, "kernel")]
    assert kernels == [(2, 2, 2, 3), (2, 2, 3, 1), (16, 2), (2, 3)]
    frozen = layers.calibrate(model, rows)
    np.testing.assert_array_equal(frozen(jnp.asarray(rows)), description.evaluate(rows))
    assert float(resources.ebops(frozen).total) == pytest.approx(float(resources.ebops(description).total), rel=1e-6)


@pytest.mark.parametrize("expand", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
def test_a_widened_network_gives_the_very_same_words(expand):
    plain = methods.Squeeze(bits=5, expand=1)
    trained = export.describe(network(plain, hidden=(6, 5)), X)
    wide = network(methods.Squeeze(bits=5, expand=expand), hidden=(6, 5), seed=7)
    start_of(trained).begin(wide, jnp.asarray(X))
    found = export.describe(wide, X)
    assert [op.kernel.integers.shape for op in found.operations if hasattr(op, "kernel")] == [
        (3, 6 * expand),
        (6 * expand, 5 * expand),
        (5 * expand, 2),
    ]
    assert np.any(trained.evaluate(X)) and np.sum(found.evaluate(X) != trained.evaluate(X)) == 0
    kernel = found["layer_1"].kernel.values.reshape(expand, 6, expand, 5)
    np.testing.assert_array_equal(kernel.sum(0), np.broadcast_to(trained["layer_1"].kernel.values[:, None], (6, expand, 5)))
    if expand > 1:  # copies are not alike, so that they learn different things
        assert np.mean(kernel[0] != kernel[1]) > 0.3


def test_wide_starts_of_floats_and_of_new_neurons():
    rng = np.random.default_rng(2)
    shapes = [(3, 4), (4, 2), (2, 2)]
    floats = {f"{n}/kernel": rng.normal(size=s).astype(np.float32) for n, s in enumerate(shapes)}
    floats |= {f"{n}/bias": rng.normal(size=s[-1:]).astype(np.float32) for n, s in enumerate(shapes)}
    hidden = X
    for n in range(3):
        hidden = hidden @ floats[f"{n}/kernel"] + floats[f"{n}/bias"]
        hidden = np.maximum(hidden, 0) if n < 2 else hidden
    for method in (SQUEEZE, NCE):
        model = network(method)
        layers.FloatStart(floats).begin(model, jnp.asarray(X))
        if method is NCE:  # its own neurons first
            np.testing.assert_array_equal(model.layer[1].kernel[...][:4, :2], floats["1/kernel"])
            with_kept(model, (4, 2))
        model.set_mode("float")
        np.testing.assert_allclose(model(jnp.asarray(X)), hidden, rtol=1e-4, atol=1e-5)
    with pytest.raises(layers.FloatError, match=r"kernel of shape \(3, 8\), the float weights of '0' one of \(3, 5\)"):
        layers.FloatStart(floats | {"0/kernel": np.ones((3, 5), np.float32)}).check(network(SQUEEZE))


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: methods.Squeeze(expand=3), "expand is 3; a power of two"),
        (lambda: methods.Squeeze(threshold=0.0), "threshold is 0.0; a share between 0 and 1"),
        (lambda: methods.Squeeze(weight_bits=1), "weight_bits is 1; 2 .. 16 are legal"),
        (lambda: methods.Nce(expand=0), "expand is 0; a whole number within 1..16"),
        (lambda: methods.Nce(choices=0), "choices is 0; a whole number within 1..64"),
        (lambda: methods.Nce(search=1.0), "search is 1.0; a share between 0 and 1"),
        (lambda: methods.Nce(threshold=1.0), "threshold is 1.0; a probability"),
        (lambda: Expansion(t1=10.0), "t0 is 10.0, t1 10.0; temperatures above 0"),
        (lambda: JediLinear(method=NCE), "method 'nce' decides how many neurons hidden layers have, which JediLinear does not support"),
        (lambda: Gate(Scales(), 3), "n is 3; a multiple of expand, 2"),
        (lambda: layers.Dense(4, 2, rngs=nnx.Rngs(0), neurons=Scales(), mask=np.ones((4, 2))), "mask is given together with neurons"),
        (lambda: layers.Conv1D((5, 4), 2, 2, rngs=nnx.Rngs(0), groups=2, neurons=Scales()), "groups is 2, together with neurons"),
        (lambda: layers.Dense(3, 2, rngs=nnx.Rngs(0), present=Gate(Scales(), 2)), "present has 2 neurons, x 3 features"),
    ],
)
def test_mistakes_are_named(made, sentence):
    with pytest.raises(ValueError, match=sentence):
        made()
