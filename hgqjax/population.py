"""Many runs at once: members (penalty x seed) are a vmapped axis of one compiled program; a Pareto archive; checkpoints and resume."""

import dataclasses
import functools
import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgqjax.training import Data, Member, State, Train

LEAF = "leaf_{:04d}"
CHECKPOINT_FORMAT = 2


class TrainingError(RuntimeError):
    """A sweep that cannot go on: every member diverged, or a checkpoint does not fit."""


def pareto(scores: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Indices of the members that no other dominates, by rising cost.

    One dominates another when it is at least as good in both (greater score, lower cost) and better in one; of equals the first is kept.
    A NaN dominates nothing and is never kept.

    >>> pareto([0.7, 0.8, 0.7, 0.6, 0.8], [10.0, 20.0, 10.0, 15.0, 30.0])
    [0, 1]
    """
    kept, best = [], -math.inf
    order = sorted((n for n in range(len(scores)) if not math.isnan(scores[n] + costs[n])), key=lambda n: (costs[n], -scores[n], n))
    for n in order:
        if scores[n] > best:
            kept.append(n)
            best = scores[n]
    return kept


@dataclasses.dataclass(frozen=True)
class Point:
    """A candidate of the front: who (`member`), when (`check`), validation `score`, estimated `ebops`, and its parameters."""

    member: int
    check: int
    score: float
    ebops: float
    leaves: list[np.ndarray] = dataclasses.field(repr=False)


@dataclasses.dataclass
class Archive:
    """The points that no other dominates, with their parameters."""

    points: list[Point] = dataclasses.field(default_factory=list)

    def add(self, candidates: Sequence[Point]) -> None:
        """Takes `candidates` in and lets go of what is dominated; a point already held stays when an equal one comes."""
        points = [*self.points, *candidates]
        self.points = [points[n] for n in pareto([p.score for p in points], [p.ebops for p in points])]

    def select(self, count: int, within: float = math.inf) -> list[Point]:
        """At most `count` points, none more than `within` below the best score: both ends, between them equal steps of log EBOPs."""
        points = [p for p in self.points if p.score >= self.points[-1].score - within]
        if len(points) <= count or count == 1:
            return points[-count:]
        logs = [math.log(max(p.ebops, 1.0)) for p in points]
        chosen: list[int] = []
        for target in np.linspace(logs[0], logs[-1], count):
            free = [n for n in range(len(logs)) if n not in chosen]
            chosen.append(min(free, key=lambda n: abs(logs[n] - target)))
        return [points[n] for n in sorted(chosen)]


@dataclasses.dataclass
class Sweep:
    """What a sweep has so far: `archive`, `history` (one dict of metrics for each member and check), `failed` members with the reason."""

    archive: Archive
    history: list[dict[str, Any]]
    failed: dict[int, str]
    treedef: Any = dataclasses.field(repr=False)

    def state(self, point: Point) -> State:
        """The state of `point`, without its optimiser: for `Train.model`."""
        params, observed = jax.tree.unflatten(self.treedef, [jnp.asarray(leaf) for leaf in point.leaves])
        return State(params, observed, None, jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32))


def sweep(
    train: Train,
    data: Data,
    members: Member,
    seeds: Sequence[int],
    *,
    checkpoints: Path | None = None,
    report: Callable[[int, Sweep], None] = lambda check, sweep: None,
) -> Sweep:
    """Trains all members in one compiled program and keeps every point of the front.

    Args:
      train: of `make_train`. data: rows on the device.
      members: arrays of shape (members,). seeds: one initialisation seed for each member.
      checkpoints: folder; after each check the states are saved there (Orbax), beside what the check adds to history and front, which is
        written once; a sweep that finds a checkpoint goes on from it, to the same end, bit for bit on the same machine.
      report: called after each check with the number of checks done.

    A member whose loss or parameters stop being finite is left out of the front and named, with the layer, in `failed`.
    Raises: ValueError where shapes differ; TrainingError when every member has failed.
    """
    n = len(seeds)
    if n < 1 or any(v.shape != (n,) for v in members):
        raise ValueError(f"members have shapes {[v.shape for v in members]}; each needs one value for each of the {n} seeds")
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    init, segment = _compiled(train)
    states = jax.eval_shape(init, keys, members, data)
    result = Sweep(Archive(), [], {}, jax.tree.structure((states.params, states.observed)))
    store = _Checkpoints(checkpoints) if checkpoints is not None else None
    done = 0
    if store is not None and store.latest is not None:
        done, states = store.restore(states, result)
    else:
        states = init(keys, members, data)
    report(done, result)
    for check in range(done, train.config.checks):
        states, metrics = segment(states, members, data, jnp.int32(check))
        rows = _record(train, result, check, jax.device_get(metrics), members, seeds)
        _archive(result, rows, states)
        if store is not None:
            store.save(check + 1, states, result)
        report(check + 1, result)
        _refuse_when_all_failed(result, n)
    _refuse_when_all_failed(result, n)
    return result


def _refuse_when_all_failed(result: Sweep, members: int) -> None:
    if len(result.failed) == members:
        member, reason = next(iter(result.failed.items()))
        raise TrainingError(f"all {members} members diverged; member {member}: {reason}; lower the learning rate or beta")


@functools.lru_cache(maxsize=4)
def _compiled(train: Train):
    """The two programs of a sweep; kept, so that a second sweep of the same `train` compiles nothing."""
    init = jax.jit(jax.vmap(train.init, in_axes=(0, 0, None)))
    return init, jax.jit(jax.vmap(train.segment, in_axes=(0, 0, None, None)), donate_argnums=0)


def _record(train: Train, result: Sweep, check: int, metrics: dict[str, np.ndarray], members: Member, seeds) -> list[dict]:
    """Appends a row for each member to the history and names the members that diverged; returns the rows."""
    for member in range(len(seeds)):
        row: dict[str, Any] = {name: float(values[member]) for name, values in metrics.items() if not name.startswith(("broken", "dead/"))}
        row["dead"] = [name for name in train.layer_names if metrics[f"dead/{name}"][member]]
        who = {"member": member, "check": check, "beta_member": float(members.beta[member]), "seed": int(seeds[member])}
        result.history.append(who | row)
        if metrics["broken"][member] and member not in result.failed:
            name = train.layer_names[metrics["broken"][member] - 1]
            result.failed[member] = f"before check {check + 1}, layer {name!r} had a NaN or infinity"
    return result.history[-len(seeds) :]


def _archive(result: Sweep, rows: list[dict[str, Any]], states: State) -> None:
    """Offers the members' present points, `rows` of the history, to the archive."""
    held = result.archive.points
    fresh = [Point(row["member"], row["check"], row["val_score"], row["ebops"], []) for row in rows if row["member"] not in result.failed]
    everyone = [*held, *fresh]
    kept = set(pareto([p.score for p in everyone], [p.ebops for p in everyone]))
    if not any(n >= len(held) for n in kept):
        return
    leaves = jax.device_get(jax.tree.leaves((states.params, states.observed)))
    result.archive.add([dataclasses.replace(p, leaves=[np.array(leaf[p.member]) for leaf in leaves]) for p in fresh])


class _Checkpoints:
    """A sweep on disk. Its last states are Orbax's, which writes under a temporary name and renames.

    What a check adds to the history (lines of history.jsonl) and to the front (a file for each point) is written once, before the
    checkpoint that counts on it: so a checkpoint costs the same however many came before, and what a killed process wrote after its last
    one is cut off or written again.
    """

    def __init__(self, folder: Path):
        try:
            import orbax.checkpoint as ocp
        except ImportError as error:
            raise TrainingError("checkpoints need orbax-checkpoint; install hgqjax[run]") from error
        self.ocp, self.folder = ocp, folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False, cleanup_tmp_directories=True)
        self.manager = ocp.CheckpointManager(self.folder, options=options)
        self.rows = self.bytes = 0  # of the history, as the last checkpoint has it

    @property
    def latest(self) -> int | None:
        return self.manager.latest_step()

    def save(self, done: int, states: State, result: Sweep) -> None:
        points = result.archive.points
        save = self.ocp.args.StandardSave
        named = {LEAF.format(n): leaf for n, leaf in enumerate(jax.tree.leaves(states))}
        record = {
            "format": CHECKPOINT_FORMAT,
            "kinds": _kinds(states),
            "rows": len(result.history),
            "failed": {str(member): reason for member, reason in result.failed.items()},
            "points": [[p.member, p.check, p.score, p.ebops] for p in points],
        }
        try:
            record["bytes"] = self._append(result.history[self.rows :])
            for point in points:
                if point.check == done - 1:
                    self._write(point)
            self.manager.save(done, args=self.ocp.args.Composite(states=save(named), record=self.ocp.args.JsonSave(record)))
        except Exception as error:  # Orbax wraps a full disk in errors of many kinds
            raise TrainingError(f"cannot write the checkpoint in {self.folder}: {str(error)[:200]}") from error
        self.rows, self.bytes = record["rows"], record["bytes"]
        kept = {self._path(point) for point in points}
        for path in self.folder.glob("point_*.npz"):
            if path not in kept:
                path.unlink()

    def restore(self, like: State, result: Sweep) -> tuple[int, State]:
        """Fills `result`; (checks done, states)."""
        done, leaves, args = self.latest, jax.tree.leaves(like), self.ocp.args
        record = self._restore(done, record=args.JsonRestore())["record"]
        if record.get("format") != CHECKPOINT_FORMAT:
            raise TrainingError(f"the checkpoint in {self.folder} is of another version of hgqjax; start the sweep again")
        if record["kinds"] != _kinds(like):  # seen here, before Orbax begins to read what it then has to give up
            raise TrainingError(f"the checkpoint in {self.folder} does not fit this sweep: its arrays have other shapes")
        target = {LEAF.format(n): leaf for n, leaf in enumerate(leaves)}
        found = self._restore(done, states=args.StandardRestore(target))["states"]
        try:
            result.history.extend(self._read_history(record["rows"], record["bytes"]))
            result.archive.points = [Point(*point, leaves=[]) for point in record["points"]]
            result.archive.points = [dataclasses.replace(p, leaves=self._read(p)) for p in result.archive.points]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise TrainingError(f"the checkpoint in {self.folder} is damaged, start the sweep again: {error}") from error
        result.failed.update({int(member): reason for member, reason in record["failed"].items()})
        self.rows, self.bytes = record["rows"], record["bytes"]
        return done, jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in target])

    def _restore(self, done: int, **items: Any) -> Any:
        try:
            return self.manager.restore(done, args=self.ocp.args.Composite(**items))
        except Exception as error:  # of many kinds, as above
            raise TrainingError(f"cannot read the checkpoint in {self.folder}: {str(error)[:200]}") from error

    def _append(self, rows: list[dict[str, Any]]) -> int:
        """Adds rows to the history on disk, after those of the last checkpoint; its length in bytes."""
        with open(self.folder / "history.jsonl", "ab") as file:
            file.truncate(self.bytes)
            file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def _read_history(self, rows: int, length: int) -> list[dict[str, Any]]:
        with open(self.folder / "history.jsonl", "rb") as file:
            found = [json.loads(line) for line in file.read(length).splitlines()]
        if len(found) != rows:
            raise ValueError(f"history.jsonl has {len(found)} of {rows} rows")
        return found

    def _path(self, point: Point) -> Path:
        return self.folder / f"point_{point.check:06d}_{point.member:04d}.npz"

    def _write(self, point: Point) -> None:
        buffer, path = io.BytesIO(), self._path(point)
        np.savez(buffer, *point.leaves)
        temporary = path.with_name(f".{path.name}.part")
        with open(temporary, "wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def _read(self, point: Point) -> list[np.ndarray]:
        with np.load(self._path(point), allow_pickle=False) as npz:
            return [npz[f"arr_{n}"] for n in range(len(npz.files))]


def _kinds(states: State) -> list[list[Any]]:
    """Type and shape of each array, as JSON has them."""
    return [[str(leaf.dtype), *leaf.shape] for leaf in jax.tree.leaves(states)]
