"""Searches: bits of tensors, agents against the formulas of the paper, budgets, whole searches down to exported words."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import data as data_
from hgqjax import export, layers, methods, quantizers, ranges, resources, runs, training
from hgqjax.config import ConfigError
from hgqjax.methods import search
from hgqjax.methods.search.ddpg import choice_of
from hgqjax.quantizers import Search
from hgqjax.runs import checks, networks
from hgqjax.training.objective import Objective
from hgqjax.training.search import lowered

BITS = (2, 3, 4, 5, 6, 7, 8)
SITES = tuple(
    quantizers.Site(f"s{n}", f"l{n // 2}", "activation" if n % 2 else "weight", BITS, (0.0, 16.0 + n, *(1.0,) * 5, n // 2))
    for n in range(6)
)
KEY = jax.random.key(0)


def test_bits_are_counted_with_the_sign_where_there_is_one():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(300, 2)) * 3, jnp.float32)
    for quantizer, data, k in (
        (quantizers.Searched(), x, 1),
        (quantizers.Searched(), abs(x), 0),
        (quantizers.Searched(signed=True), abs(x), 1),
        (quantizers.Searched(overflow="WRAP"), x, 1),
    ):
        for bits in (2, 5, 8):
            params = quantizer.with_bits(quantizer.init((1, 1), sample=data), bits)
            seen = ranges.observe(data, (1, 1))
            fmt = quantizer.format(params, seen)
            assert (int(fmt.k[0, 0]), int(sum(fmt)[0, 0])) == (k, bits)
            levels = np.unique(quantizer.quantize(data, params, ranges=seen))
            assert len(levels) <= 2**bits and levels.max() >= float(jnp.max(data)) / 4
        decayed = ranges.Range(jnp.full((1, 1), -1e-9), seen.high)  # ranges of early steps never come to 0
        assert int(quantizer.format(params, decayed).k[0, 0]) == int(quantizer.signed)
    with pytest.raises(NotImplementedError, match="Kif has no bits to be searched"):
        quantizers.Kif().with_bits({}, 3)


def test_sites_go_through_the_layers_and_take_bits():
    rngs, signed = nnx.Rngs(0), quantizers.Searched(signed=True)
    of = {"kernel_quantizer": signed, "input_quantizer": quantizers.Searched(choices=(8, 4)), "rngs": rngs}
    model = layers.Sequential(layers.Conv1D((10, 3), 4, 3, strides=2, **of), layers.flatten, layers.Dense(16, 2, **of))
    found = layers.sites(model)
    assert [(site.layer, site.role) for site in found] == [("layer_0", r) for r in ("weight", "activation")] + [
        ("layer_2", r) for r in ("weight", "activation")
    ]
    assert found[1].choices == (4, 8)
    assert [site.about for site in found[::2]] == [(0, 3, 4, 2, 3, 36, 10, 0), (0, 16, 2, 0, 1, 32, 1, 1)]
    layers.assign(model, jnp.array([3, 8, 6, 4]))
    formats = [layer.format() for part in (model.layer[0], model.layer[2]) for layer in (part.kernel_quantizer, part.input_quantizer)]
    assert [int(jnp.max(sum(fmt))) for fmt in formats] == [3, 8, 6, 4]


# budgets


def walked(bits, budget, cost, choices):
    """As the paper lowers bits, step by step."""
    bits, sites = list(bits), len(bits)
    for step in itertools.count():
        if cost(np.array(bits)) <= budget or all(b == c[0] for b, c in zip(bits, choices, strict=True)):
            return bits
        at = sites - 1 - step % sites
        bits[at] = max([c for c in choices[at] if c < bits[at]], default=bits[at])


def test_bits_are_lowered_from_the_last_layer_until_the_budget_holds():
    choices = [(2, 4, 8), BITS, (3,), BITS]
    problem = quantizers.Problem(tuple(s._replace(choices=c) for s, c in zip(SITES, choices, strict=False)), 1, 1)

    def cost(bits):  # of pairs of weights and inputs, as EBOPs are
        bits = [1.0 * b for b in (bits.astype(jnp.float32) if isinstance(bits, jax.Array) else bits)]
        return 2.0 * bits[0] * bits[1] + 3.0 * bits[2] * bits[3]

    found = jax.jit(jax.vmap(lambda bits, budget: lowered(bits, budget, problem, cost)))
    starts = [s for s in itertools.product((2, 8), (2, 5, 8), (3,), (2, 6, 8)) for _ in range(4)]
    budgets = [10.0, 26.0, 60.0, 130.0] * (len(starts) // 4)
    lows = np.asarray(found(jnp.array(starts), jnp.array(budgets)))
    assert lows.tolist() == [walked(*pair, cost, choices) for pair in zip(starts, budgets, strict=True)]
    costs = np.array([cost(bits) for bits in lows])
    within = np.array(budgets) >= 26.0  # what the fewest bits cost
    assert (costs[within] <= np.array(budgets)[within]).all() and (costs[~within] == 26.0).all()


# agents


def test_actions_fall_on_all_choices_alike():
    levels = np.asarray(choice_of(jnp.linspace(0, 1, 100_001), jnp.float32(7)))
    counts = np.bincount(levels.astype(int), minlength=7)
    assert counts.sum() == 100_001 and np.ptp(counts) <= 2  # with the authors' rounding a = 0 gives a choice below the first


AGENT = search.Ddpg(warmup=5, hidden=6, batch=4, sigma=0.3)


@functools.cache
def asked(agent=AGENT, candidates=4):
    """A problem, compiled functions of an agent, and its memory at first."""
    problem = quantizers.Problem(SITES, candidates, 9)
    calls = [functools.partial(jax.jit(f, static_argnums=0), problem) for f in (agent.begin, agent.propose, agent.learn)]
    with jax.numpy_dtype_promotion("standard"):
        return problem, calls[0](KEY), *calls[1:]


def net(layers, x):
    for weight, bias in layers[:2]:
        x = np.maximum(x @ np.asarray(weight) + np.asarray(bias), 0)
    return x @ np.asarray(layers[2][0]) + np.asarray(layers[2][1])


def judged(critic, state, action):
    (w1, b1), (w2, b2), (w3, b3), (wa, ba) = [[np.asarray(part) for part in layer] for layer in critic]
    hidden = np.maximum(state @ w1 + b1 + action[:, None] @ wa + ba, 0)
    return (np.maximum(hidden @ w2 + b2, 0) @ w3 + b3)[:, 0]


def test_an_episode_walks_the_sites_and_is_rewarded_as_a_whole():
    with jax.numpy_dtype_promotion("standard"):
        _, memory, propose, learn = asked()
        bits, memory = propose(memory, KEY)
        states, actions = (np.asarray(part) for part in memory["walked"])
        np.testing.assert_array_equal(bits, 2 + np.clip(np.round(7 * actions - 0.5), 0, 6))
        before = np.concatenate([np.ones((4, 1)), np.asarray(bits)[:, :-1] / 8], 1)
        np.testing.assert_allclose(states[..., 8], before, rtol=1e-6)
        np.testing.assert_array_equal(states[..., 9], np.tile([1, 0], (4, 3)))
        np.testing.assert_allclose(states[0, :, 1], np.arange(6) / 5, rtol=1e-6)  # channels, scaled
        np.testing.assert_array_equal(states[..., 0], 0)
        gains = jnp.array([0.1, -0.2, 0.0, 0.3])
        memory = learn(memory, KEY, bits, gains, gains)
    state, _, reward, following, end = (np.asarray(part)[:24] for part in memory["replay"])
    np.testing.assert_allclose(reward.reshape(4, 6), np.repeat(10 * np.asarray(gains)[:, None], 6, 1), rtol=1e-6)
    np.testing.assert_array_equal(following.reshape(4, 6, 10)[:, :-1], state.reshape(4, 6, 10)[:, 1:])
    np.testing.assert_array_equal(end.reshape(4, 6), [[0] * 5 + [1]] * 4)
    assert int(memory["episodes"]) == 4 and int(memory["updates"]) == 0  # all of the warm-up


def test_the_agent_learns_by_the_formulas_of_the_paper():
    with jax.numpy_dtype_promotion("standard"):
        _, memory, propose, learn = asked()
        for gains in (jnp.array([0.1, -0.2, 0.0, 0.3]), jnp.array([0.2, 0.1, 0.05, 0.0])):
            bits, memory = propose(memory, KEY)
            memory = learn(memory, KEY, bits, gains, gains)
        assert int(memory["updates"]) == 3 * 6  # episodes 5, 6, 7
        noisy = np.asarray(memory["walked"][1])
        after = jax.jit(AGENT._update)(memory, KEY)
    assert ((noisy >= 0) & (noisy <= 1)).all()
    rows = np.asarray(jax.random.randint(KEY, (4,), 0, 48))
    state, action, reward, following, end = (np.asarray(part)[rows] for part in memory["replay"])
    average = float(memory["average"]) + 0.5 * (reward.mean() - float(memory["average"]))
    assert float(after["average"]) == pytest.approx(average, rel=1e-5)
    sure = 1 / (1 + np.exp(-net(memory["targets"]["actor"], following)[:, 0]))
    wanted = reward - average + (1 - end) * judged(memory["targets"]["critic"], following, sure)
    error = judged(memory["nets"]["critic"], state, action) - wanted
    old, new = (m["adams"]["critic"][0] for m in (memory, after))  # Adam's mean has the gradient: here of the last bias
    slope = (float(new.mu[2][1][0]) - 0.9 * float(old.mu[2][1][0])) / 0.1
    assert slope == pytest.approx(2 * error.mean(), rel=1e-3)
    for name in ("actor", "critic"):
        trees = zip(*(jax.tree.leaves(m["targets" if t else "nets"][name]) for m, t in ((memory, 1), (after, 0), (after, 1))), strict=True)
        for target, now, follows in trees:
            np.testing.assert_allclose(follows, 0.99 * np.asarray(target) + 0.01 * np.asarray(now), rtol=1e-4, atol=1e-7)


@functools.cache
def compiled(agent):
    return [jax.jit(f, static_argnums=0) for f in (agent.propose, agent.learn)]


WEIGHTS = np.array([3.0, 0.05, 4.0, 0.5])
LEAST = min((WEIGHTS * 4.0 ** -np.array(bits)).sum() for bits in itertools.product(BITS, repeat=4) if sum(bits) <= 18)


def searched(agent, seed, rounds=20, candidates=16):
    """Errors of all candidates, round by round, in a toy: 4 sites of 7 choices, a budget of bits, and an error of 4^-bits."""
    with jax.numpy_dtype_promotion("standard"):
        problem = quantizers.Problem(SITES[:4], candidates, rounds)
        propose, learn = compiled(agent)
        key = jax.random.key(seed)
        memory, every = agent.begin(problem, key), []
        for number in range(rounds):
            asks, learns = (jax.random.fold_in(key, 2 * number + n) for n in range(2))
            bits, memory = propose(problem, memory, asks)
            low = np.array([walked(b, 18, np.sum, [BITS] * 4) for b in np.asarray(bits)])
            every.append((WEIGHTS * 4.0**-low).sum(1))
            told = jnp.asarray(-every[-1], jnp.float32)
            memory = learn(problem, memory, learns, jnp.asarray(low), told, jnp.ones(candidates))
    return np.array(every)


def test_evolution_finds_more_than_chance():
    evolved, chance = searched(search.Evolution(), 0), searched(search.Random(), 0)
    assert LEAST <= evolved.min() < 1.05 * LEAST and np.median(evolved[-1]) < np.median(chance) / 2


@pytest.mark.slow
def test_ddpg_learns_what_to_propose():
    found, chance = searched(search.Ddpg(hidden=64), 0), searched(search.Random(), 0)
    assert found.min() == pytest.approx(LEAST, rel=1e-6) and found[-4:].mean() < chance.mean() / 4


# whole searches

ROWS = np.random.default_rng(0).normal(size=(700, 4)).astype(np.float32)
LABELS = np.argmax(ROWS[:, :3] + 0.3 * ROWS[:, 1:], axis=1).astype(np.int32)
DATA = training.Data(*(jnp.asarray(v) for v in (ROWS[:512], LABELS[:512], ROWS[512:], LABELS[512:])))
HOW = Search(policy=AGENT, rounds=3, candidates=3, rate=0.3)
CONFIG = training.Config(epochs=4, epochs_per_check=2, batch_size=64, objective=Objective(cost=resources.Ebops()))


def member(budget):
    return training.Member(*(jnp.float32(v) for v in (1.0, 1e-2, budget)))


@pytest.fixture(scope="module")
def train():
    return training.make_train(CONFIG, networks.Mlp(method=methods.Haq(), hidden=(8,)).build((4,), 3))


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """(what a search found, its checkpoints, how often the steps of a run were traced for it and a second budget)"""
    traces, steps = [], training.Train.steps

    def counted(self, *args):
        traces.append(self.config.epochs)
        return steps(self, *args)

    place = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Train, "steps", counted)
        training.search(train, DATA, HOW, member(2000.0), 0)
        result = training.search(train, DATA, HOW, member(900.0), 0, checkpoints=place)
    return result, place, traces


@pytest.mark.slow
def test_a_search_has_rounds_within_the_budget_and_two_programs(train, whole):
    result, _, traces = whole
    assert sorted(traces) == [1, 4]  # of a candidate, of a network alone
    checks = [(row["check"], row["member"], row["epoch"]) for row in result.history]
    alone = [(0, 0, 2), (1, 0, 4)], [(5, 0, 9), (6, 0, 11)]
    assert checks == [*alone[0], *((2 + r, m, 5 + r) for r in range(3) for m in range(3)), *alone[1]]
    costs = [row["cost"] for row in result.history]
    assert costs[0] == costs[1] > 2000 and max(costs[2:]) <= 900  # 8 bits everywhere, then the budget, not the penalty of beta 1
    tuned = result.history[2:-2]
    best = max(tuned, key=lambda row: row["val_score"])
    assert costs[-2:] == [best["cost"]] * 2
    assert {p.check for p in result.archive.points} & set(range(2, 5)) or best["val_score"] <= result.history[-1]["val_score"]


@pytest.mark.slow
def test_an_interrupted_search_goes_on_to_equal_bytes(train, whole, tmp_path):
    result, place, _ = whole

    class StopError(Exception):
        pass

    def stops(at):
        def report(check, sweep):
            if check == at:
                raise StopError

        return report

    for at in (1, 4, 6):  # in the start, in the rounds, in the last training
        with pytest.raises(StopError):
            training.search(train, DATA, HOW, member(900.0), 0, checkpoints=tmp_path, report=stops(at))
    again = training.search(train, DATA, HOW, member(900.0), 0, checkpoints=tmp_path)
    for found in (again, training.restored(train, DATA, HOW, member(900.0), 0, tmp_path)):
        assert found.history == result.history
    for name in ("history.jsonl", *(path.name for path in place.glob("point_*"))):
        assert (tmp_path / name).read_bytes() == (place / name).read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in place.iterdir()}
    other = training.search(train, DATA, HOW, member(900.0), 1)
    assert [row["cost"] for row in other.history] != [row["cost"] for row in result.history]


@pytest.mark.slow
def test_points_are_exported_with_the_bits_that_were_searched(train, whole):
    result, _, _ = whole
    for point in result.archive.points:
        model = train.model(result.state(point))
        description, frozen = export.describe(model, ROWS), layers.calibrate(model, ROWS)
        np.testing.assert_array_equal(description.evaluate(ROWS), np.asarray(frozen(jnp.asarray(ROWS)), np.float64))
        given = [int(q.params["bits"].ravel()[0]) for part in model.layer for q in (part.kernel_quantizer, part.input_quantizer)]
        kernels = [op.kernel for op in description.operations if hasattr(op, "kernel")]
        for kernel, bits in zip(kernels, given[::2], strict=True):
            assert int(np.max(kernel.bits)) <= bits - 1  # magnitude bits
        assert float(resources.ebops(description).total) <= point.cost


@pytest.mark.slow
def test_what_a_search_cannot_do_is_named(train):
    class Greedy(quantizers.AbstractPolicy):
        def begin(self, problem, key):
            return ()

        def propose(self, problem, memory, key):
            return jnp.full((problem.candidates, len(problem.sites)), 9), memory

    class Halves(Greedy):
        def propose(self, problem, memory, key):
            return jnp.full((problem.candidates, len(problem.sites)), 2.5), memory

    config = dataclasses.replace(CONFIG, epochs=1, epochs_per_check=1, batch_size=512)
    short = training.make_train(config, train.build)
    with pytest.raises(training.TrainingError, match=r"the budget is 10 EBOPs, which this network cannot reach; the least possible is \d+"):
        training.search(short, DATA, HOW, member(10.0), 0)
    for policy, words in (
        (Greedy(), "the policy Greedy proposes 9 bits for layer_0_kernel_quantizer of layer layer_0; legal are 2, 3, 4, 5, 6, 7, 8"),
        (Halves(), r"the policy Halves proposes an array of shape \(3, 4\) and type float32; whole numbers of shape \(3, 4\)"),
    ):
        with pytest.raises(training.TrainingError, match=words):
            training.search(short, DATA, dataclasses.replace(HOW, policy=policy), member(900.0), 0)
    ends = training.search_problem(short, dataclasses.replace(HOW, keep_ends=True))
    assert [site.choices for site in ends.sites] == [(8,)] * 4
    nothing = training.make_train(config, networks.Mlp(method=methods.Uniform(), hidden=()).build((4,), 3))
    with pytest.raises(ValueError, match="this network has no quantizer with choices of bits"):
        training.search(nothing, DATA, HOW, member(900.0), 0)


# runs


def of_run(**fields):
    method = methods.Haq(candidates=3, rounds=2)
    train = training.Config(batch_size=64, epochs=4, objective=Objective(cost=resources.Ebops()))
    return runs.Sweep(rows=600, model=networks.Mlp(method=method, hidden=(8,)), train=train, **fields)


def test_a_run_has_a_group_for_each_search():
    config = of_run(points_at=(3000.0, 9000.0), seeds=(0, 7))
    assert [(part.start, part.stop) for part in config.division()] == [(0, 3), (3, 6), (6, 9), (9, 12)]
    members, seeds = config.members()
    assert seeds == (0, 0, 0, 7, 7, 7) * 2 and members.budget.tolist() == [3000.0] * 6 + [9000.0] * 6
    assert config.checks == 4 + 2 + 4 and dataclasses.replace(config, start="a").checks == 2 + 4
    with pytest.raises(ValueError, match="groups is 2 with a search; leave it out, or give 4, one for each point, seed and network"):
        dataclasses.replace(config, groups=2)


def test_runs_that_cannot_search_are_refused():
    rows = data_.load("jets", rows=600)
    for config, devices, words in (
        (of_run(), 1, "points_at is empty, and this method needs a cost to reach"),
        (of_run(points_at=(10.0,)), 1, r"points_at has 10 EBOPs, which this network cannot reach; the least possible is \d+"),
        (of_run(points_at=(9000.0,)), 2, "a search runs in one process, whose devices divide its candidates; leave out rows_devices"),
    ):
        with pytest.raises(ConfigError, match=words):
            checks.before_training(config, rows, "", devices)
    for fields, words in (
        ({"tuning": 0}, "tuning is 0; at least 1"),
        ({"weight_bits": (1, 4)}, r"weight_bits is \(1, 4\); one or more different whole numbers within 2..16"),
    ):
        with pytest.raises(ValueError, match=words):
            methods.Haq(**fields)
