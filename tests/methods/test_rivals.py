"""The rival methods: HMQ, ILMPQ and pruning against their formulas, in training, and down to exported words."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import data as data_
from hgqjax import export, layers, methods, quantizers, ranges, resources, runs, training
from hgqjax.config import ConfigError
from hgqjax.layers.quantize import QuantizeWeight, _Quantizer
from hgqjax.runs import checks, networks
from hgqjax.training import schedules
from hgqjax.training.objective import Objective

HMQ = quantizers.Hmq(bits=(4, 2), thresholds=2, i0=1.0)


def logits(b4_t2, b4_t1, b2_t2, b2_t1):
    return {"i": jnp.ones((1, 1)), "logits": jnp.array([[[[b4_t2, b4_t1], [b2_t2, b2_t1]]]], jnp.float32)}


@functools.partial(jax.jit, static_argnums=0)
def drawn(quantizer, params, x, key=0, temperature=1.0, **more):
    return quantizer.sample(x, params, key=jax.random.key(key), temperature=jnp.float32(temperature), **more)


def test_hmq_sample_is_the_mixture_of_the_paper():
    x = jnp.array([[0.3, -5.0, 0.9]])
    params = logits(0.5, -0.2, 0.1, 0.0)
    noise = np.asarray(jax.random.gumbel(jax.random.key(3), (1, 1, 2, 2)))  # one row of a kernel draws once
    raised = np.exp((np.asarray(jax.nn.log_softmax(params["logits"], (-2, -1))) + noise) / 0.7)
    p = (raised / raised.sum())[0, 0]
    threshold = (p * [[2.0, 1.0], [2.0, 1.0]]).sum()
    step = (p * [[2 / 8, 1 / 8], [2 / 2, 1 / 2]]).sum()
    expected = step * np.clip(np.round(np.asarray(x) / step), 1 - threshold / step, threshold / step - 1)
    np.testing.assert_allclose(drawn(HMQ, params, x, 3, 0.7), expected, rtol=1e-5)


@pytest.mark.parametrize("axis", [-2, 0])
@pytest.mark.parametrize("rows", [7, 6])
def test_hmq_slices_that_repeat_share_a_draw_and_its_gradients(rows, axis):
    quantizer, params = dataclasses.replace(HMQ, draws=3, sample_axis=axis), logits(0.5, -0.2, 0.1, 0.0)
    x = jax.random.normal(jax.random.key(1), (rows, 5)) * 1.5
    weight = jax.random.normal(jax.random.key(2), x.shape)
    steps, thresholds = jnp.array([[[[2 / 8, 1 / 8], [2 / 2, 1 / 2]]]]), jnp.array([[[[2.0, 1.0], [2.0, 1.0]]]])

    def formula(x, raw):
        noise = jax.random.gumbel(jax.random.key(0), (3, 1, 2, 2))
        p = jax.nn.softmax((jax.nn.log_softmax(raw, (-2, -1)) + noise) / 0.7, (-2, -1))
        step, threshold = (jnp.sum(p * v, (-2, -1))[np.arange(rows) % 3] for v in (steps, thresholds))
        v, most = x / step, threshold / step - 1
        whole = v + jax.lax.stop_gradient(jnp.round(v) - v)
        return jnp.sum(weight * step * jnp.where(whole > most, most, jnp.where(whole < -most, -most, whole)))

    def ours(x, raw):
        return jnp.sum(weight * drawn(quantizer, params | {"logits": raw}, x, 0, 0.7))

    expected, found = (jax.value_and_grad(of, (0, 1))(x, params["logits"]) for of in (formula, ours))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


def test_hmq_gradients_are_those_of_step_and_threshold():
    params, weight = logits(0.5, -0.2, 0.1, 0.0), jnp.array([[1.0, 2.0, -3.0]])

    def mixture(v):
        noise = jax.random.gumbel(jax.random.key(0), (1, 1, 2, 2))
        p = jax.nn.softmax((jax.nn.log_softmax(v, (-2, -1)) + noise) / 1.0, (-2, -1))[0, 0]
        return jnp.sum(p * jnp.array([[0.25, 0.125], [1.0, 0.5]])), jnp.sum(p * jnp.array([[2.0, 1.0], [2.0, 1.0]]))

    for x, inside in ((jnp.array([[0.3, -0.2, 0.4]]), True), (jnp.array([[9.0, -9.0, 9.0]]), False)):
        found = jax.grad(lambda v, x=x: jnp.sum(weight * drawn(HMQ, params | {"logits": v}, x)))(params["logits"])
        (step, threshold), pull = jax.vjp(mixture, params["logits"])
        of_step = jnp.sum(weight * ((jnp.floor(x / step + 0.5) - x / step) if inside else -jnp.sign(x)))
        of_threshold = 0.0 * threshold if inside else jnp.sum(weight * jnp.sign(x))
        np.testing.assert_allclose(found, pull((of_step, of_threshold))[0], rtol=1e-3, atol=1e-4)
        to_x = jax.grad(lambda x: jnp.sum(weight * drawn(HMQ, params, x)))(x)
        np.testing.assert_allclose(to_x, weight if inside else 0 * weight, rtol=1e-6)


@pytest.mark.parametrize("keep_negative", [True, False])
def test_hmq_at_low_temperature_is_one_of_the_grids(keep_negative):
    quantizer = dataclasses.replace(HMQ, keep_negative=keep_negative)
    x = jnp.linspace(-3, 3, 31)[None, :]
    grids = [quantizer.quantize(x, logits(*(9.0 * (n == m) for m in range(4)))) for n in range(4)]
    seen = set()
    for key in range(30):
        cold = np.asarray(drawn(quantizer, logits(0, 0, 0, 0), x, key, 1e-3))
        seen |= {n for n, grid in enumerate(grids) if np.allclose(cold, grid, atol=1e-4)}
        assert any(np.allclose(cold, grid, atol=1e-4) for grid in grids)
    assert seen == {0, 1, 2, 3}
    hot = np.asarray(drawn(quantizer, logits(5, 0, 0, 0), x, 0, 1e6))  # all pairs alike
    np.testing.assert_allclose(hot, drawn(quantizer, logits(0, 0, 0, 0), x, 1, 1e6), atol=1e-3)


def test_hmq_choice_takes_the_bits_first_and_is_exact_ever_after():
    params = logits(1.0, 1.0, 1.5, -9.0)  # 4 bits are likelier than 2, though 2 bits have the likeliest pair
    k, i, f = (float(v[0, 0]) for v in HMQ.format(params))
    assert (k, i, f) == (1.0, 1.0, 2.0)
    soft = HMQ.expected_format(params)
    assert 1.0 < float((soft.i + soft.f)[0, 0]) < 3.0 and float((soft.i + soft.f)[0, 0]) % 1 > 0
    chosen = HMQ.reassign(params, None, progress=jnp.float32(0.6), curvature=None)
    x = jax.random.normal(jax.random.key(1), (7, 5)) * 3
    for key in range(3):
        np.testing.assert_array_equal(drawn(HMQ, chosen, x, key, 1.0), HMQ.quantize(x, params))
    for a, b in zip(HMQ.expected_format(chosen), HMQ.format(params), strict=True):
        np.testing.assert_array_equal(a, b)
    gradient = jax.grad(lambda v: jnp.sum(drawn(HMQ, chosen | {"logits": v}, x)))(chosen["logits"])
    assert np.abs(gradient).max() < 1e-20


def test_hmq_slices_draw_by_themselves_and_a_key_decides():
    x, params = jnp.full((6, 5), 0.37), logits(0, 0, 0, 0)
    rows = np.asarray(drawn(HMQ, params, x))
    assert len(np.unique(rows)) > 3 and all(len(np.unique(row)) == 1 for row in rows)  # input channels of a kernel
    np.testing.assert_array_equal(rows, drawn(HMQ, params, x))
    assert not np.array_equal(rows, drawn(HMQ, params, x, key=1))
    twice = np.asarray(drawn(dataclasses.replace(HMQ, draws=3), params, x))
    np.testing.assert_array_equal(twice[:3], twice[3:])
    kernel = drawn(HMQ, {"i": jnp.ones((1, 1, 1)), "logits": params["logits"][None]}, jnp.full((3, 6, 5), 0.37))
    assert np.ptp(kernel, axis=(0, 2)).max() == 0 and np.ptp(kernel, axis=1).max() > 0


def test_hmq_temperature_is_a_saw_tooth():
    found = [float(HMQ.temperature(jnp.float32(p))) for p in np.arange(0, 0.6, 0.01)]
    assert found[0] == 1.0 and min(found) == 0.5 and np.sum(np.diff(found) > 0.3) == 5
    assert found[5] == pytest.approx(np.exp(-np.round(125 * 0.5) / 100), abs=0.02)
    assert [bool(HMQ.reassigns(epoch, 10)) for epoch in range(10)].index(True) == 6


def test_signs_of_an_activation_follow_its_range():
    params, x = logits(9, 0, 0, 0), jnp.array([[0.3, 1.9]])
    positive = ranges.Range(jnp.full((1, 1), -1e-7), jnp.ones((1, 1)))  # one that decays never comes to 0
    assert float(HMQ.format(params, positive).k[0, 0]) == 0 and float(HMQ.format(params, positive).f[0, 0]) == 3
    np.testing.assert_array_equal(HMQ.quantize(x, params, ranges=positive), [[0.25, 1.875]])


def test_rows_are_counted_and_assigned_by_curvature_and_variance():
    assert quantizers.row_counts((0.6, 0.35, 0.05), 64) == (39, 22, 3) and quantizers.row_counts((1.0, 0.0, 0.0), 5) == (5, 0, 0)
    quantizer = quantizers.RowWise(ratio=(0.5, 0.25, 0.25))
    weight = jax.random.normal(jax.random.key(0), (50, 4)) * jnp.array([[0.1, 1.0, 2.0, 0.5]])
    sensitive = jnp.array([[9.0, 1.0, 0.5, 2.0]])
    params = quantizer.init((1, 4), sample=weight)
    scheme = quantizer.reassign(params, weight, progress=0.0, curvature=lambda: sensitive)["scheme"]
    np.testing.assert_array_equal(scheme, [[2, 0, 1, 0]])  # 8 bits for the most sensitive; of the rest the least variances
    assert [bool(quantizer.reassigns(epoch, 30)) for epoch in (0, 5, 10, 20)] == [True, False, True, False]  # until 0.6
    q = quantizer.quantize(weight, params | {"scheme": scheme}, ranges=ranges.observe(weight, weight.shape))
    largest = np.abs(np.asarray(weight)).max(0)
    seen = [np.unique(np.abs(np.asarray(q)[:, n])) for n in range(4)]
    for n in (1, 3):
        assert np.all(np.log2(seen[n][seen[n] > 0]) % 1 == 0) and len(seen[n]) <= 8
        assert seen[n].max() == 2 ** np.round(np.log2(largest[n] / 1.5 * 2**0.5)) or seen[n].max() <= 1.5 * largest[n]
    assert len(seen[2]) <= 8 and 8 < len(seen[0]) <= 128


def test_row_curvatures_are_those_of_the_whole_hessian():
    model = networks.Mlp(method=methods.Ilmpq(), hidden=(4,)).build((6,), 3)(nnx.Rngs(0))
    x, y = jax.random.normal(jax.random.key(0), (64, 6)), jnp.arange(64) % 3
    layers.adapt(model, x)

    def loss(model):
        return Objective().score.loss(model(x), y)

    names = [name for name, _ in model.named(QuantizeWeight) if "kernel" in name]
    found = layers.row_curvatures(model, names, loss)

    def shifted(shift, name):
        copy = nnx.clone(model)
        copy.set_mode("float")
        dict(copy.named(_Quantizer))[name].probe = nnx.Variable(shift)
        return loss(copy)

    for name in names:
        shape = dict(model.named(_Quantizer))[name].shape
        hessian = np.asarray(jax.jit(jax.hessian(lambda shift, name=name: shifted(shift, name)))(jnp.zeros(shape)))
        for row in range(shape[1]):
            exact = np.abs(np.linalg.eigvalsh(hessian[:, row, :, row])).max()
            assert 0.85 * exact < float(found[name][0, row]) < 1.01 * exact  # a few iterations, from below


def test_hmq_gradients_are_whole_at_zero_and_at_the_largest_level():
    chosen = HMQ.reassign(logits(1, 0, 0, 0), None, progress=0.6, curvature=None)
    x = jnp.array([[0.01, 1.85, -1.7, 1.75, 5.0, -5.0]])
    slopes = jax.grad(lambda x: jnp.sum(drawn(HMQ, chosen, x)))(x)
    np.testing.assert_array_equal(slopes, [[1, 1, 1, 1, 0, 0]])
    positive = dataclasses.replace(HMQ, keep_negative=False)
    slopes = jax.grad(lambda x: jnp.sum(drawn(positive, chosen, x)))(x)
    np.testing.assert_array_equal(slopes, [[1, 1, 0, 1, 0, 0]])


def test_masked_weights_are_no_weights():
    weight = jnp.where(jnp.arange(40).reshape(8, 5) % 4 == 0, jax.random.normal(jax.random.key(0), (8, 5)), 0.0)
    pruned = quantizers.Pruned(sparsity=0.5)
    keep = pruned.reassign(pruned.init((8, 5)), weight, progress=jnp.float32(0.9), curvature=None)["keep"]
    assert int(jnp.sum(keep)) == 5  # of ten
    rows = quantizers.RowWise(ratio=(0.4, 0.6, 0.0))
    dense = rows.init((1, 5), sample=weight)
    scheme = rows.reassign(dense, weight, progress=0.0, curvature=lambda: jnp.zeros((1, 5)))["scheme"]
    spread = [np.var(column[column != 0]) for column in np.asarray(weight).T]
    assert set(np.argsort(spread)[:2]) == set(np.flatnonzero(np.asarray(scheme)[0] == 0))
    with pytest.raises(ValueError, match="row-wise schemes need granularity 'channel'"):
        rows.reassign(rows.init((8, 5)), weight, progress=0.0, curvature=lambda: jnp.zeros((1, 5)))


def test_pruning_keeps_the_largest_and_follows_its_schedule():
    quantizer = quantizers.Pruned(bits=4, sparsity=0.75, until=0.5)
    weight = jax.random.normal(jax.random.key(0), (8, 5))
    params = quantizer.init((8, 5), sample=weight)
    for progress, gone in ((0.0, 0), (0.25, round(0.75 * (1 - 0.5**3) * 40)), (0.5, 30), (0.9, 30)):
        keep = np.asarray(quantizer.reassign(params, weight, progress=jnp.float32(progress), curvature=None)["keep"])
        assert (keep == 0).sum() == gone
        size = np.abs(np.asarray(weight))
        assert not gone or size[keep == 0].max() <= size[keep == 1].min()
    with pytest.raises(ValueError, match="pruning needs granularity 'element'"):
        quantizer.reassign(quantizer.init((1, 5)), weight, progress=jnp.float32(0), curvature=None)


def test_target_is_the_gradient_of_the_papers_loss():
    target = schedules.Target(strength=32.0, steps=4, rise=0.4)
    start, budget = 8.0, 2.0
    carry = target.init(jnp.float32(start))
    for progress, rate in ((0.05, 1.0), (0.15, 1.75), (0.25, 2.5), (0.5, 4.0)):
        cost = jnp.float32(4.0)
        beta, _ = target.step(carry, jnp.float32(progress), cost, 0.0, jnp.float32(budget))
        gradient = jax.grad(lambda c, rate=rate: 32.0 * jnp.maximum((rate - start / c) / rate, 0.0) ** 2)(cost)
        assert float(beta) == pytest.approx(float(gradient), rel=1e-5, abs=1e-7)
    with pytest.raises(ValueError, match="Target has strength 0"):
        schedules.Target(strength=0.0)


def test_boards():
    assert resources.row_ratio("XC7Z020") == (0.6, 0.35, 0.05)  # the paper's
    assert all(sum(resources.row_ratio(name)) == pytest.approx(1) for name in resources.BOARDS)
    with pytest.raises(ValueError, match="board is 'ULTRA'; known are XC7Z010, "):
        methods.Ilmpq(board="ULTRA")
    assert methods.Ilmpq(board="XC7Z045").weights()[0].ratio == resources.row_ratio("XC7Z045")


ROWS = np.random.default_rng(0).normal(size=(700, 4)).astype(np.float32)
LABELS = np.argmax(ROWS[:, :3] + 0.3 * ROWS[:, 1:], axis=1).astype(np.int32)
DATA = training.Data(*(jnp.asarray(v) for v in (ROWS[:512], LABELS[:512], ROWS[512:], LABELS[512:])))


def trained(method, budgets=(0.0,), seeds=(0,), cost=resources.Ebops(), epochs=10, batch_norm=True):
    """Models of a short run for each budget and seed, and the metrics of the run."""
    steers = {"penalty": schedules.Target(), "width_rate": 10.0} if any(budgets) else {}
    config = training.Config(epochs=epochs, batch_size=64, epochs_per_check=2, objective=Objective(cost=cost), **steers)
    train = training.make_train(config, networks.Mlp(method=method, hidden=(8,), batch_norm=batch_norm).build((4,), 3))
    members = training.Member(jnp.zeros(len(budgets)), jnp.full(len(budgets), 1e-2), jnp.asarray(budgets, jnp.float32))
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    states, metrics = jax.jit(jax.vmap(train, (0, 0, None)))(keys, members, DATA)
    return [train.model(jax.tree.map(lambda leaf, n=n: leaf[n], states)) for n in range(len(budgets))], metrics


def words(model):
    """The exported network, whose evaluator agrees with the model bit for bit."""
    description = export.describe(model, ROWS)
    frozen = layers.calibrate(model, ROWS)
    np.testing.assert_array_equal(description.evaluate(ROWS), np.asarray(frozen(jnp.asarray(ROWS)), np.float64))
    return description


@pytest.fixture(scope="module")
def searched():
    """The second and the third member are the same, the fourth has another seed."""
    method = methods.Hmq(weight_bits=(8, 4, 2), activation_bits=(8, 4, 2))
    return trained(method, (250.0, 800.0, 800.0, 800.0), (0, 0, 0, 1), epochs=20, batch_norm=False)


@pytest.mark.slow
def test_hmq_widths_respond_to_the_target_and_are_exported(searched):
    models, metrics = searched
    costs = [float(resources.ebops(words(model)).total) for model in models[:2]]
    assert costs[0] < costs[1] < 0.6 * float(metrics["cost"][0][0])
    for model, last in zip(models, metrics["cost"][:, -1], strict=True):
        assert float(resources.ebops(model).total) == float(last)  # the smooth cost has become the hard one: all is chosen
        for _, quantizer in model.named(_Quantizer):
            if isinstance(quantizer.quantizer, quantizers.Hmq):
                assert np.abs(quantizer.params["logits"]).min() > 29  # Adam's momentum moves them a little
    assert np.all(np.asarray(metrics["cost"])[:, 6:] == np.asarray(metrics["cost"])[:, -1:])  # chosen after 12 of 20 epochs


@pytest.mark.slow
def test_hmq_is_decided_by_the_key(searched):
    _, metrics = searched
    assert all(np.array_equal(values[1], values[2]) for values in metrics.values())
    assert not np.array_equal(metrics["val_loss"][2], metrics["val_loss"][3])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "within"), [(methods.Dqa(), (250, 900)), (methods.Cpq(weight_bits=(2, 6), activation_bits=(1, 5)), (250, 900))], ids=repr
)
def test_mixtures_come_to_a_choice_that_a_key_decides(method, within):
    models, metrics = trained(method, (250.0, 900.0, 900.0), (0, 0, 0), epochs=20, batch_norm=False)
    costs = [float(resources.ebops(words(model)).total) for model in models]
    assert costs[0] <= within[0] < costs[1] <= within[1]  # CPQ drops slowly: its choice drops what is beyond
    for model, last in zip(models, metrics["cost"][:, -1], strict=True):
        assert float(resources.ebops(model).total) == float(last)  # what training sees is what the hardware has
    assert all(np.array_equal(values[1], values[2]) for values in metrics.values())


@pytest.mark.slow
@pytest.mark.parametrize("method", [methods.Squeeze(threshold=0.25), methods.Nce()], ids=repr)
def test_gates_decide_how_many_neurons_there_are(method):
    """Two members are the same, the other is to cost less."""
    models, metrics = trained(method, (200.0, 900.0, 900.0), (0, 0, 0), epochs=20)
    found = [words(model) for model in models]
    neurons = [description["layer_0"].kernel.integers.shape[1] for description in found]
    assert 1 <= neurons[0] < neurons[1] == neurons[2] <= 16, neurons
    for model, description, last in zip(models, found, metrics["cost"][:, -1], strict=True):
        assert float(resources.ebops(description).total) == float(last) == float(resources.ebops(layers.calibrate(model, ROWS)).total)
    assert all(np.array_equal(values[1], values[2]) for values in metrics.values())
    assert np.all(np.asarray(metrics["cost"])[:, 7:] == np.asarray(metrics["cost"])[:, -1:])  # chosen after 12 of 20 epochs
    assert float(metrics["val_score"][1][-1]) > 0.6


@pytest.mark.slow
def test_hmq_reaches_a_compression_rate():
    method = methods.Hmq(activation_bits=(8,))
    (model,), metrics = trained(method, (32 / 9,), cost=resources.WeightBits(), epochs=20)
    bits = float(resources.WeightBits()(words(model)).total)
    assert 2 < bits <= 32 / 9 < 6 < float(metrics["cost"][0][0])  # reached, by two choices of 32 and 24 weights, and not by the least bits


SLOW = [methods.Ilmpq(), methods.Pruning(bits=5, sparsity=0.5), methods.Hmq(granularity="channel")]


@pytest.mark.parametrize(
    ("method", "batch_norm"),
    [pytest.param(method, norm, marks=pytest.mark.slow) for method, norm in ((methods.Ilmpq(), False), *((m, True) for m in SLOW))],
    ids=repr,
)
def test_methods_train_and_are_exported(method, batch_norm):
    (model,), metrics = trained(method, batch_norm=batch_norm)
    assert float(metrics["val_score"][0][-1]) > 0.6
    kernels = [op.kernel for op in words(model).operations if hasattr(op, "kernel")]
    if isinstance(method, methods.Ilmpq):  # every layer, first and last included
        quantized = [q for name, q in model.named(QuantizeWeight) if "kernel" in name]
        for kernel, quantizer, rows in zip(kernels, quantized, (8, 3), strict=True):
            schemes = np.asarray(quantizer.params["scheme"]).ravel()
            assert tuple(int((schemes == n).sum()) for n in range(3)) == quantizers.row_counts((0.6, 0.35, 0.05), rows)
            bits = np.broadcast_to(kernel.bits, kernel.integers.shape)
            assert np.all(bits[:, schemes == 0] <= 1) and np.all(bits[:, schemes == 1] == 3) and np.all(bits[:, schemes == 2] == 7)
    if isinstance(method, methods.Pruning):
        assert [int((kernel.bits == 0).sum()) for kernel in kernels] == [16, 12]


def test_targets_out_of_reach_name_the_nearest():
    sweep = runs.Sweep(
        rows=600,
        model=networks.Mlp(method=methods.Hmq(), hidden=(8,)),
        train=training.Config(batch_size=64, objective=Objective(cost=resources.Ebops()), penalty=schedules.Target()),
        points_at=(10.0,),
    )
    with pytest.raises(ConfigError, match=r"points_at has 10 EBOPs, which this network cannot reach; the least possible is \d+"):
        checks.before_training(sweep, data_.load("jets", rows=600), "", 1)
