"""Searches: a policy proposes bits for candidates, each a short fine-tuning of one trained network; the best one is trained again."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from hgqjax import layers
from hgqjax.quantizers import AbstractPolicy, Problem, Search
from hgqjax.training.archive import DivergedError, SweepResult, TrainingError
from hgqjax.training.checkpoints import Checkpoints
from hgqjax.training.devices import ROWS, Layout, compiled, gather
from hgqjax.training.population import keep_points, nothing_yet, rows_of
from hgqjax.training.programs import Segments
from hgqjax.training.rows import Data
from hgqjax.training.schedules import Constant
from hgqjax.training.streaming import Stream
from hgqjax.training.train import Config, Member, State, Train, make_train

STREAM = 0x5EA7C
"""Folded into a seed's key: what a policy draws is not what weights were drawn with."""


class Searching(NamedTuple):
    """What a search carries from check to check."""

    now: State
    """The one network that is trained: before the rounds the start, after them the best candidate; a leading axis of 1."""
    memory: Any
    """The policy's."""
    best: Int[Array, " sites"]
    """Bits of the best candidate so far."""
    merit: Float[Array, ""]
    """Of that candidate."""


def checks_of(config: Config, how: Search, begun: bool) -> tuple[int, int, int]:
    """Looks at the validation rows: at the network to start from, one a round, at the best candidate, trained again.

    Args:
      begun: whether there is a network to start from already.
    """
    return 0 if begun else config.checks, how.rounds, config.checks


def search(
    train: Train,
    data: Data | Stream,
    how: Search,
    member: Member,
    seed: int,
    *,
    checkpoints: Path | None = None,
    report: Callable[[int, SweepResult], None] = lambda check, sweep: None,
    mesh: Mesh | None = None,
    group: int | None = None,
) -> SweepResult:
    """Searches the bits of the tensors whose quantizers have `choices`, within a budget, and keeps every point of the front.

    A network of the most bits is trained, unless `train` has a start. In each round the policy proposes bits for all candidates; they are
    lowered, one bit after the other from the last layer to the first, until the budget holds (`lowered`). The candidates are fine-tuned
    from the trained network side by side, and the policy learns what came of it. The bits of the best one are then trained from the same
    network for the length of a run. Penalties have no part in it.

    In the result a member is a candidate, and the networks that are trained alone are member 0; the checks are those of `checks_of`.

    Args:
      train: of `make_train`. data: as in `sweep`. how: policy, rounds, candidates.
      member: scalars; the budget is in units of the objective's cost. seed: of the weights, and of all that the policy draws.
      checkpoints, report, group: as in `sweep`; a checkpoint has the policy's memory, so that a search goes on to the same
        end, bit for bit.
      mesh: devices that the candidates are divided over, its only axis "members".

    Raises: ValueError where nothing can be searched, for several processes or a mesh that divides rows; TrainingError for a budget that no
    bits reach, and for proposals that are not legal; its DivergedError where the network to start from is not finite.
    """
    if jax.process_count() > 1 or (mesh is not None and mesh.shape.get(ROWS, 1) > 1):
        raise ValueError("a search runs in one process, whose devices divide the candidates; leave out further processes and rows_devices")
    train.check(data.rows if isinstance(data, Stream) else data)
    task = _Task(train, data, how, member, seed, mesh, checkpoints, group)
    result, done, found = task.begin()
    if result.failed:
        raise DivergedError(next(iter(result.failed.values())))
    least = float(task.cost(found.now, np.array([site.choices[0] for site in task.problem.sites])))
    if task.budget < least:
        unit = train.config.objective.cost.unit
        raise TrainingError(f"the budget is {task.budget:g} {unit}, which this network cannot reach; the least possible is {least:.4g}")
    report(done, result)
    first, rounds, last = task.checks
    for check in range(done, first + rounds + last):
        if first <= check < first + rounds:
            found = task.round(found, result, check, check - first)
        else:
            found = task.alone(found, result, check, check if check < first else check - first - rounds, check == first + rounds)
        task.save(check + 1, found, result)
        if result.failed:
            raise DivergedError(next(iter(result.failed.values())))
        report(check + 1, result)
    return result


def restored(train: Train, data: Data | Stream, how: Search, member: Member, seed: int, checkpoints: Path) -> SweepResult:
    """What a `search` with these arguments has at its last checkpoint; nothing is trained. Raises TrainingError where there is none."""
    task = _Task(train, data, how, member, seed, None, checkpoints, None)
    if task.store is None or task.store.latest is None:
        raise TrainingError(f"there is no checkpoint in {checkpoints}")
    return task.begin()[0]


class _Task:
    """The parts of a search, and its compiled programs."""

    def __init__(self, train: Train, data: Data | Stream, how: Search, member: Member, seed: int, mesh: Any, checkpoints: Any, group: Any):
        self.how, self.seed, self.problem, self.score = how, seed, search_problem(train, how), train.config.objective.score
        self.checks = checks_of(train.config, how, train.begun is not None)
        self.budget, self.agent = float(member.budget), _agent(how.policy)
        self.key = jax.random.fold_in(jax.random.key(seed), STREAM)
        self.store = Checkpoints(checkpoints) if checkpoints is not None else None
        if self.store is not None and self.store.latest is not None:
            group = self.store.group
        one = Layout.of(None, 1, None, train.config.batch_size)
        self.layout = Layout.of(mesh, how.candidates, group, train.config.batch_size)
        run, tuning = _phases(train, how.epochs)
        self.run, self.tuning = Segments(run, data, one), Segments(tuning, data, self.layout)
        self.of_run, self.of_tuning = (_programs(part.train, part.layout, part.count) for part in (self.run, self.tuning))
        beta = jnp.zeros(())
        self.member = jax.tree.map(lambda value: jnp.reshape(jnp.asarray(value, jnp.float32), 1), member._replace(beta=beta))
        every = jax.tree.map(lambda value: jnp.repeat(value, how.candidates), self.member)
        self.members = every
        self.tuned = self.layout.spread(every._replace(learning_rate=every.learning_rate * how.rate))

    def begin(self) -> tuple[SweepResult, int, Searching]:
        """(result, checks done, what is carried), of the last checkpoint or of a new search."""
        init = jax.random.key(self.seed)[None], self.member, self.run.head
        sites = len(self.problem.sites)
        like = jax.eval_shape(self.run.programs.init, *init)
        result = nothing_yet(like)
        if self.store is not None and self.store.latest is not None:
            memory = jax.eval_shape(functools.partial(self.agent.begin, self.problem), self.key)
            shapes = jax.eval_shape(lambda: (jnp.zeros(sites, jnp.int32), jnp.zeros((), jnp.float32)))
            done, found = self.store.restore(Searching(like, memory, *shapes), result)
            return result, done, found
        least = jnp.array([site.choices[0] for site in self.problem.sites], jnp.int32)
        memory = self.agent.begin(self.problem, self.key)
        return result, 0, Searching(self.run.programs.init(*init), memory, least, jnp.full((), -jnp.inf, jnp.float32))

    def cost(self, now: State, bits: Any) -> Array:
        """The objective's, of the network to start from with these bits."""
        return self.of_run.cost(_single(now), jnp.asarray(bits, jnp.int32))

    def alone(self, found: Searching, result: SweepResult, check: int, own: int, anew: bool) -> Searching:
        """A check of the one network, the number `own` of its run; with `anew` the best candidate's bits are given first."""
        now = found.now
        if anew:
            now = self.of_run.begin(found.best[None], self.member, _single(now), self.run.head)
        now, metrics = self.run(now, self.member, own)
        metrics = gather(metrics)
        rows = self._rows(self.run.train, check, metrics, self.member)
        result.history += rows
        if metrics["broken"][0]:
            layer = self.run.train.layer_names[metrics["broken"][0] - 1]
            reason = f"before check {check + 1}, layer {layer!r} had a NaN or infinity; lower the learning rate"
            result.failed.update(dict.fromkeys(range(self.how.candidates), reason))
        keep_points(self.score, result, rows, now)
        return found._replace(now=now)

    def round(self, found: Searching, result: SweepResult, check: int, number: int) -> Searching:
        """Proposals, fine-tuning, and what the policy learns of it."""
        asks, learns = (jax.random.fold_in(jax.random.fold_in(self.key, number), n) for n in range(2))
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # people's policies, and optax
            proposed, memory = self.agent.propose(self.problem, found.memory, asks)
        self._check(proposed)
        single = _single(found.now)
        bits = np.asarray(self.of_run.lowered(single, proposed, jnp.float32(self.budget), self.problem))
        states = self.of_tuning.begin(self.layout.spread(bits), self.tuned, self.layout.share(single), self.tuning.head)
        states, metrics = self.tuning(states, self.tuned, 0)
        metrics = gather(metrics)
        rows = self._rows(self.tuning.train, check, metrics, self.members)
        result.history += rows
        finite = [row for row in rows if not metrics["broken"][row["member"]]]
        keep_points(self.score, result, finite, states)
        merits = np.array([self.score.merit(row["val_score"]) for row in rows], np.float32)
        merits[[not np.isfinite(m) or bool(metrics["broken"][n]) for n, m in enumerate(merits)]] = np.nan
        costs = np.array([row["cost"] for row in rows], np.float32)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            told = bits, self._gains(found.now, merits), jnp.asarray(costs / self.budget)
            memory = self.agent.learn(self.problem, memory, learns, jnp.asarray(told[0]), *told[1:])
        best = int(np.argmax(np.where(np.isnan(merits), -np.inf, merits)))
        if merits[best] > float(found.merit):
            found = found._replace(best=jnp.asarray(bits[best], jnp.int32), merit=jnp.asarray(merits[best]))
        return found._replace(memory=memory)

    def _rows(self, train: Train, check: int, metrics: dict[str, np.ndarray], members: Member) -> list[dict[str, Any]]:
        """Rows of the history, which say how many epochs were trained one after the other until then."""
        first, rounds, _ = self.checks
        searched, own = min(max(check + 1 - first, 0), rounds), self.run.train.config.epochs_per_check
        epoch = searched * self.how.epochs + (check + 1 - searched) * own
        return [row | {"epoch": epoch} for row in rows_of(train, check, metrics, members, (self.seed,) * len(members.beta))]

    def _gains(self, now: State, merits: np.ndarray) -> Array:
        """As `AbstractPolicy.learn` has them; of a network that is not finite the worst of the round."""
        start = float(self.score.merit(gather(self.run.look(now, self.member)[1])["val_score"][0]))
        gains = merits - start if self.score.higher_is_better else (merits - start) / max(abs(start), 1e-30)
        worst = np.nanmin(gains) if np.isfinite(gains).any() else -1.0
        return jnp.asarray(np.where(np.isnan(gains), worst, gains), jnp.float32)

    def _check(self, proposed: Array) -> None:
        """Refuses proposals that are not legal."""
        name, shape = type(self.how.policy).__name__, (self.how.candidates, len(self.problem.sites))
        if proposed.shape != shape or proposed.dtype.kind not in "iu":
            found = f"an array of shape {proposed.shape} and type {proposed.dtype}"
            raise TrainingError(f"the policy {name} proposes {found}; whole numbers of shape {shape} are needed")
        for site, bits in zip(self.problem.sites, np.asarray(proposed).T, strict=True):
            illegal = sorted(set(bits.tolist()) - set(site.choices))
            if illegal:
                legal = ", ".join(map(str, site.choices))
                raise TrainingError(
                    f"the policy {name} proposes {illegal[0]} bits for {site.name} of layer {site.layer}; legal are {legal}"
                )

    def save(self, done: int, found: Searching, result: SweepResult) -> None:
        """Writes the checkpoint, where there is a place for it."""
        if self.store is not None:
            self.store.save(done, found, result, self.layout.group)


def search_problem(train: Train, how: Search) -> Problem:
    """What a policy is asked about. Raises: ValueError where the network has no quantizer with choices."""
    if not train.sites:
        raise ValueError("this network has no quantizer with choices of bits; give it a method that searches, or such quantizers")
    sites = train.sites
    if how.keep_ends:
        ends = {sites[0].layer, sites[-1].layer}
        sites = tuple(site._replace(choices=site.choices[-1:]) if site.layer in ends else site for site in sites)
    return Problem(sites, how.candidates, how.rounds)


def lowered(
    bits: Int[Array, " sites"], budget: Float[Array, ""], problem: Problem, cost: Callable[[Int[Array, " sites"]], Float[Array, ""]]
) -> Int[Array, " sites"]:
    """`bits`, from the last site to the first and around lowered to the next choice each, until the cost is within the budget.

    Source: HAQ, arXiv:1811.08886, whose order over the layers this is: of a layer first the activations.
    """
    sites = len(problem.sites)
    table = problem.bits(jnp.broadcast_to(jnp.arange(max(problem.counts))[:, None], (max(problem.counts), sites)))
    levels = jnp.argmax(table == bits[None], 0)

    def beyond(carry):
        levels, _ = carry
        return jnp.any(levels > 0) & (cost(problem.bits(levels)) > budget)

    def lower(carry):
        levels, step = carry
        at = sites - 1 - step % sites
        return levels.at[at].set(jnp.maximum(levels[at] - 1, 0)), step + 1

    return problem.bits(lax.while_loop(beyond, lower, (levels, jnp.zeros((), jnp.int32)))[0]).astype(jnp.int32)


class _Programs(NamedTuple):
    """Compiled beside those of `training.programs`."""

    begin: Any
    cost: Any
    lowered: Any


@functools.lru_cache(maxsize=4)
def _programs(train: Train, layout: Layout, count: int) -> _Programs:
    def having(state, bits):
        model = train.model(state)
        layers.assign(model, bits)
        return model

    def begin(bits, member, state, data):
        _, weights, widths, observed = nnx.split(having(state, bits), nnx.Param, layers.BitWidth, ...)
        return train.start({"weights": weights, "widths": widths}, observed, member, data, count)

    def cost(state, bits):
        model = having(state, bits)
        model.set_mode("observe")
        return jnp.asarray(train.config.objective.costs(model).total)

    def low(state, bits, budget, problem):
        return jax.vmap(lambda own: lowered(own, budget, problem, functools.partial(cost, state)))(bits)

    mapped = functools.wraps(begin)(jax.vmap(begin, in_axes=(0, 0, None, None)))
    return _Programs(compiled(mapped, layout.mesh, layout.group, 2), jax.jit(cost), jax.jit(low, static_argnums=3))


@functools.lru_cache(maxsize=4)
def _phases(train: Train, epochs: int) -> tuple[Train, Train]:
    """A whole run without a penalty, and the fine-tuning of a candidate."""

    def of(**changes: Any) -> Train:
        return make_train(dataclasses.replace(train.config, penalty=Constant(), **changes), train.build, train.begun)

    return of(), of(epochs=epochs, epochs_per_check=epochs, cycles=1)


class _Agent(NamedTuple):
    """The compiled functions of a policy."""

    begin: Any
    propose: Any
    learn: Any


@functools.lru_cache(maxsize=4)
def _agent(policy: AbstractPolicy) -> _Agent:
    return _Agent(*(jax.jit(function, static_argnums=0) for function in (policy.begin, policy.propose, policy.learn)))


def _single(states: State) -> State:
    """The one network of a leading axis of 1."""
    return jax.tree.map(lambda leaf: leaf[0], states)
