"""Runs and populations: one trace, learning, members alone and together, archive, checkpoints, divergence."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import layers, resources, training
from hgqjax.quantizers import Fixed, Kif
from hgqjax.scores import Resolution
from hgqjax.training import schedules
from hgqjax.training import train as train_
from hgqjax.training.devices import Layout
from hgqjax.training.front import pareto
from hgqjax.training.objective import Objective
from hgqjax.training.population import Archive, Point
from hgqjax.training.programs import Segments

CONFIG = training.Config(epochs=4, batch_size=64, width_rate=2.0, objective=Objective(cost=resources.Ebops()), penalty=schedules.Constant())


def build(rngs):
    return layers.mlp((4, 8, 3), rngs=rngs, batch_norm=layers.BatchNorm(momentum=0.5))


def one_layer(rngs):
    return layers.mlp((4, 3), rngs=rngs, batch_norm=layers.BatchNorm(momentum=0.5))


def plain(*sizes, **dense):
    """A network without batch norms, which compiles in half the time."""
    return lambda rngs: layers.mlp(sizes, rngs=rngs, batch_norm=None, **dense)


def data(n=512, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + 128, 4)).astype(np.float32)
    y = np.argmax(x[:, :3] + 0.3 * x[:, 1:], axis=1).astype(np.int32)
    return training.Data(*(jnp.asarray(v) for v in (x[:n], y[:n], x[n:], y[n:])))


def members(*betas, rate=2e-2, budget=0.0):
    full = [jnp.full(len(betas), v, jnp.float32) for v in (rate, budget)]
    return training.Member(jnp.asarray(betas, jnp.float32), *full)


@pytest.fixture(scope="module")
def train():
    return training.make_train(CONFIG, build)


@pytest.fixture(scope="module")
def swept(train):
    return training.sweep(train, data(), members(0.0, 1e-5, 1e-3), [0, 0, 1])


def history(sweep, member, name):
    return [row[name] for row in sweep.history if row["member"] == member]


def test_it_learns_and_the_penalty_acts(swept):
    scores = history(swept, 2, "val_score")
    assert scores[-1] > 0.85 and scores[-1] > scores[0] and not swept.failed
    assert history(swept, 2, "cost")[-1] < 0.8 * history(swept, 0, "cost")[-1]


def test_batch_statistics_are_kept_and_used_after_their_share_of_the_run():
    train = training.make_train(dataclasses.replace(CONFIG, epochs=3, batch_statistics=1 / 3), one_layer)
    member, segment = jax.tree.map(lambda v: v[0], members(1e-5)), jax.jit(train.segment)
    rows = data()
    states = [jax.jit(train.init)(jax.random.key(0), member, rows)]
    for check in range(3):
        states.append(segment(states[-1], member, rows, jnp.int32(check))[0])
    means = [np.asarray(train.model(state).layer[0].norm.mean[...]) for state in states]
    assert np.any(means[0] != means[1]) and np.any(means[1] != means[2])  # the first step after the share still takes them in
    assert np.array_equal(means[2], means[3])

    def kernel_after(check, shift):
        model = train.model(states[check])
        model.layer[0].norm.mean[...] = model.layer[0].norm.mean[...] + shift
        state = states[check]._replace(observed=train_._split(model)[3])
        return train.model(segment(state, member, rows, jnp.int32(check))[0]).layer[0].kernel[...]

    assert np.array_equal(kernel_after(0, 0.0), kernel_after(0, 1.0))
    assert np.any(kernel_after(2, 0.0) != kernel_after(2, 1.0))


def test_a_whole_run_is_one_function_and_a_member_equals_its_single_run(train, swept):
    state, metrics = jax.jit(train)(jax.random.key(0), jax.tree.map(lambda v: v[1], members(0.0, 1e-5, 1e-3)), data())
    assert set(metrics) >= {"train_loss", "val_loss", "beta", "cost/layer_0"}
    np.testing.assert_allclose(metrics["train_loss"][0], history(swept, 1, "train_loss")[0], rtol=1e-5)
    np.testing.assert_allclose(metrics["val_score"], history(swept, 1, "val_score"), atol=2 / 128)  # an ulp may flip a rounding later
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


def test_one_trace_for_the_whole_sweep(train):
    traces = []

    def steps(*arguments):
        traces.append(1)
        return train.steps(*arguments)

    counted = training.make_train(CONFIG, build)
    counted.steps = steps
    training.sweep(counted, data(), members(0.0, 1e-5, 1e-3), [0, 0, 1])  # the programs of `swept`, which are compiled already
    assert len(traces) == 1


def test_points_of_the_archive_hold_their_parameters(train, swept):
    for point in swept.archive.points:
        metrics = jax.jit(train.validate)(swept.state(point), data())
        assert float(metrics["val_score"]) == pytest.approx(point.merit, abs=1e-6)
        assert float(metrics["cost"]) == pytest.approx(point.cost, rel=1e-6)


def test_a_budget_is_reached():
    config = dataclasses.replace(CONFIG, epochs=40, penalty=schedules.Budget())
    sweep = training.sweep(training.make_train(config, plain(4, 8, 3)), data(), members(3e-4, budget=300.0, rate=2e-2), [0])
    assert history(sweep, 0, "cost")[0] > 600 and 250 < history(sweep, 0, "cost")[-1] < 350


@pytest.mark.slow
def test_statistics_are_kept_at_the_end():
    short = training.make_train(dataclasses.replace(CONFIG, batch_statistics=0.0), one_layer)
    segment = jax.jit(short.segment)
    first, _ = segment(jax.jit(short.init)(jax.random.key(0), *_single()), *_single(), jnp.int32(0))
    second, _ = segment(first, *_single(), jnp.int32(1))
    means = [np.asarray(short.model(state).layer[0].norm.mean[...]) for state in (first, second)]
    assert np.array_equal(*means)


def _single():
    return jax.tree.map(lambda v: v[0], members(0.0)), data()


@pytest.mark.slow
def test_a_member_that_collapses_is_set_back_and_its_penalty_halved():
    config = dataclasses.replace(CONFIG, epochs=24, width_rate=10.0)
    sweep = training.sweep(training.make_train(config, plain(4, 8, 3)), data(), members(1e-5, 0.05), [0, 0])
    fell = history(sweep, 1, "collapsed")
    assert sum(history(sweep, 0, "collapsed")) == 0 and 1 <= sum(fell) < 24
    halved = [float(np.float32(0.05)) / 2 ** sum(fell[:check]) for check in range(24)]
    assert history(sweep, 1, "beta") == halved and set(history(sweep, 0, "beta")) == {float(np.float32(1e-5))}
    assert all(np.isfinite(history(sweep, 1, "train_loss"))) and history(sweep, 1, "val_score")[-1] > 0.5 and not fell[-1]
    assert not {(p.member, p.check) for p in sweep.archive.points} & {(1, check) for check in range(24) if fell[check]}


def test_a_diverging_member_is_left_out_and_named(train):
    sweep = training.sweep(train, data(), members(0.0, float("nan"), 1e-3), [0, 0, 0])
    assert set(sweep.failed) == {1} and "had a NaN or infinity" in sweep.failed[1]
    assert {p.member for p in sweep.archive.points} <= {0, 2} and sweep.archive.points


@pytest.mark.parametrize("n", [0, 1])
def test_the_layer_that_broke_first_is_named(train, n):
    segment = Segments(train, data(), Layout(None, 3, 3))  # as a sweep on one device has them
    keys, three = jax.vmap(jax.random.key)(jnp.arange(3, dtype=jnp.uint32)), members(0.0, 1e-5, 1e-3)
    states = segment.programs.init(keys, three, data())
    kernel = states.params["weights"]["layer"][n]["kernel"]
    kernel.set_value(kernel.get_value().at[1, 0, 0].set(jnp.nan))
    _, metrics = segment(states, three, 0)
    assert metrics["broken"].tolist() == [0, 1 + train.layer_names.index(f"layer_{n}"), 0]


def test_a_sweep_compiles_each_of_its_programs_once(caplog):
    once = training.make_train(dataclasses.replace(CONFIG, epochs=1), plain(4, 3))
    with jax.log_compiles():
        training.sweep(once, data(), members(0.0), [0])
    lines = [record.getMessage() for record in caplog.records]  # of this thread: the other one, which compiles the rest, logs nothing
    for name, here in (("jit(init)", 0), ("jit(steps)", 1), ("jit(outputs)", 0), ("jit(look)", 0)):
        assert sum(line.startswith(f"Compiling {name}") for line in lines) == 1
        assert sum(line.startswith(f"Finished XLA compilation of {name}") for line in lines) == here


def test_all_members_diverged(train):
    with pytest.raises(training.TrainingError, match="all 3 members diverged; member 0: before check 1, layer"):
        training.sweep(train, data(), members(*[float("nan")] * 3), [0, 0, 0])


def test_dead_layers_are_named():
    pruned = Kif(b0=4.0, f_limits=(-24.0, -20.0))
    dead = training.make_train(CONFIG, plain(4, 3, kernel_quantizer=pruned))
    assert training.sweep(dead, data(), members(0.0), [0]).history[-1]["dead"] == ["layer_0"]


class Killed(BaseException):
    pass


def test_an_interrupted_sweep_ends_with_the_same_front(train, swept, tmp_path):
    for stop in (1, 3):
        folder = tmp_path / str(stop)

        def kill(check, _, stop=stop):
            if check == stop:
                raise Killed

        with pytest.raises(Killed):
            training.sweep(train, data(), members(0.0, 1e-5, 1e-3), [0, 0, 1], checkpoints=folder, report=kill)
        again = training.sweep(train, data(), members(0.0, 1e-5, 1e-3), [0, 0, 1], checkpoints=folder)
        assert again.history == swept.history
        for ours, theirs in zip(again.archive.points, swept.archive.points, strict=True):
            assert (ours.member, ours.check, ours.merit, ours.cost) == (theirs.member, theirs.check, theirs.merit, theirs.cost)
            assert all(np.array_equal(a, b) for a, b in zip(ours.leaves, theirs.leaves, strict=True))


def test_a_checkpoint_of_another_sweep_is_refused(train, tmp_path):
    training.sweep(train, data(), members(0.0, 0.0, 0.0), [0, 1, 2], checkpoints=tmp_path)
    other = training.make_train(CONFIG, lambda rngs: layers.mlp((4, 9, 3), rngs=rngs))
    with pytest.raises(training.TrainingError, match="does not fit this sweep"):
        training.sweep(other, data(), members(0.0, 0.0, 0.0), [0, 1, 2], checkpoints=tmp_path)


def test_pareto_dominance():
    assert pareto([1.0, 1.0, 2.0], [5.0, 5.0, 5.0]) == [2] and pareto([1.0, 1.0], [5.0, 5.0]) == [0]
    assert pareto([float("nan"), 1.0, 0.5], [1.0, 2.0, float("nan")]) == [1]
    rng = np.random.default_rng(0)
    scores, costs = rng.integers(0, 6, 40).astype(float), rng.integers(0, 6, 40).astype(float)
    kept = pareto(scores.tolist(), costs.tolist())

    def dominated(n):
        return any(scores[m] >= scores[n] and costs[m] <= costs[n] and (scores[m], costs[m]) != (scores[n], costs[n]) for m in range(40))

    assert {(scores[n], costs[n]) for n in kept} == {(scores[n], costs[n]) for n in range(40) if not dominated(n)}
    assert len({(scores[n], costs[n]) for n in kept}) == len(kept)


def test_archive_keeps_the_first_of_equals_and_selects_evenly():
    archive = Archive()
    archive.add([Point(0, 0, 0.5, 100.0, [])])
    archive.add([Point(1, 1, 0.5, 100.0, []), Point(2, 1, 0.4, 150.0, [])])
    assert [p.member for p in archive.points] == [0]
    archive.add([Point(n, 2, 0.5 + n / 100, 100.0 * 2**n, []) for n in range(1, 9)])
    assert [p.member for p in archive.select(3)] == [0, 4, 8] and len(archive.select(99)) == 9
    assert [p.member for p in archive.select(2, within=0.031)] == [5, 8] and [p.member for p in archive.select(1)] == [8]


def test_regression_and_the_paper_definition():
    config = dataclasses.replace(CONFIG, objective=Objective(score=Resolution(), gamma=1e-6, cost=resources.Ebops(definition="paper_v1")))
    rows = data()
    rows = rows._replace(y_train=rows.x_train[:, 0] * 2, y_val=rows.x_val[:, 0] * 2)
    sweep = training.sweep(training.make_train(config, plain(4, 1)), rows, members(1e-7), [0])
    assert 0 < history(sweep, 0, "val_score")[-1] < history(sweep, 0, "val_score")[0]
    assert history(sweep, 0, "val_score")[-1] < 2 and max(p.merit for p in sweep.archive.points) == -min(history(sweep, 0, "val_score"))


def test_half_precision_rows_train_as_single_precision_ones_and_outliers_are_recorded():
    config = dataclasses.replace(CONFIG, epochs=2, objective=Objective(score=Resolution(window=0.5), cost=resources.Ebops()))
    rows = data()
    x_train, x_val = (jnp.round(x * 8) / 8 for x in (rows.x_train, rows.x_val))
    rows = training.Data(x_train, x_train[:, 0] * 2, x_val, x_val[:, 0] * 2)
    halves = rows._replace(x_train=x_train.astype(jnp.float16), x_val=x_val.astype(jnp.float16))
    train = training.make_train(config, plain(4, 1))
    single, half = (training.sweep(train, part, members(1e-6), [0]) for part in (rows, halves))
    assert single.history == half.history
    assert 0 < history(single, 0, "val_outliers")[-1] < 1 and 0 < history(single, 0, "val_score")[-1] <= 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights(resources.AbstractCost):
    """A Python number, without a gradient."""

    def operation(self, op):
        return math.prod(op.kernel.shape)


def test_any_cost_model_can_be_the_penalty():
    config = dataclasses.replace(CONFIG, objective=Objective(cost=Weights()))
    sweep = training.sweep(training.make_train(config, plain(4, 3)), data(), members(1e-7), [0])
    assert set(history(sweep, 0, "cost")) == {4 * 3}


@pytest.mark.slow
def test_a_penalty_on_luts_makes_weights_of_few_digits():
    config = dataclasses.replace(CONFIG, epochs=10, objective=Objective(cost=resources.Luts()))
    train = training.make_train(
        config, lambda rngs: layers.mlp((4, 8, 3), rngs=rngs, batch_norm=layers.BatchNorm(momentum=0.5), kernel_quantizer=Kif(b0=6.0))
    )
    sweep = training.sweep(train, data(), members(0.0, 3e-4), [0, 0])
    luts = [history(sweep, member, "cost") for member in (0, 1)]
    assert luts[1][-1] < 0.5 * luts[0][-1] and history(sweep, 1, "val_score")[-1] > 0.6
    digits = [float(resources.signed_digits(layer.kernel_quantizer(layer.kernel[...])).mean()) for layer in _dense(train, sweep)]
    assert max(digits) > 1  # of the network that no penalty touched


def _dense(train, sweep):
    """Layers of the most expensive network of a front."""
    model = train.model(sweep.state(max(sweep.archive.points, key=lambda p: p.cost)))
    return [layer for _, layer in model.named(layers.Dense)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: training.Config(epochs=0), "epochs is 0; at least 1"),
        (lambda: Objective(gamma=-1.0), "gamma is -1.0"),
        (lambda: Resolution(window=0.0), "window is 0.0"),
    ],
)
def test_bad_configurations_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_shapes_and_sizes_are_checked(train):
    with pytest.raises(ValueError, match="each needs one value for each of the 2 seeds"):
        training.sweep(train, data(), members(0.0), [0, 1])
    with pytest.raises(ValueError, match="batch_size is 64, but there are only 32 training rows"):
        train.init(jax.random.key(0), _single()[0], data(32))


def test_a_model_without_widths_is_trained():
    fixed = {name: Fixed(i=2, f=5) for name in ("input_quantizer", "kernel_quantizer", "bias_quantizer")}
    train = training.make_train(training.Config(epochs=1, batch_size=32), lambda rngs: layers.Dense(4, 3, rngs=rngs, **fixed))
    state, metrics = jax.jit(train)(jax.random.key(0), *_single())
    assert jnp.all(jnp.isfinite(metrics["val_loss"])) and state.params["widths"] is not None
