"""Many runs at once: members (penalty x seed) are a vmapped axis of one compiled program, on one device or divided over a mesh of them."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hgqjax.scores import AbstractScore
from hgqjax.training.archive import Archive, DivergedError, Point, SweepResult, TrainingError
from hgqjax.training.checkpoints import Checkpoints
from hgqjax.training.devices import Layout, gather
from hgqjax.training.front import pareto
from hgqjax.training.programs import Segments
from hgqjax.training.rows import Data
from hgqjax.training.streaming import Stream
from hgqjax.training.train import Member, State, Train


def sweep(
    train: Train,
    data: Data | Stream,
    members: Member,
    seeds: Sequence[int],
    *,
    checkpoints: Path | None = None,
    report: Callable[[int, SweepResult], None] = lambda check, sweep: None,
    mesh: Mesh | None = None,
    group: int | None = None,
) -> SweepResult:
    """Trains all members in one compiled program and keeps every point of the front.

    With several processes (`jax.distributed`) each calls it with the same arguments and a mesh of all their devices, and gets the same.

    Args:
      train: of `make_train`. data: rows on the device, or those in files, of which a part at a time goes there; the numbers are the same.
      members: arrays of shape (members,). seeds: one initialisation seed for each member.
      checkpoints: folder; after each check the states are saved there (Orbax), beside what the check adds to history and front, which is
        written once; a sweep that finds a checkpoint goes on from it, to the same end, bit for bit on the same machine.
      report: called after each check with the number of checks done.
      mesh: devices, as `device_mesh` divides them: the axis "members" has a part of the members each, the axis "rows", if there is one,
        a part of the rows of each batch. By default everything is on the default device.
      group: members that a device trains side by side, in one vmap; by default all that it has, on a mesh of CPUs 1. With the same `group`
        members have the same numbers on however many devices; a checkpoint keeps its own.

    A member whose network collapses is set back and its penalty halved (`training.guard`); its row of the history has ``collapsed`` 1.
    One whose loss or parameters stop being finite is left out of the front and named, with the layer, in `failed`.
    Raises: ValueError where shapes differ, or the mesh does not fit; ScoreError, a ValueError, where labels do not fit the network's
    outputs; DivergedError, a TrainingError, when every member has failed.
    """
    n = len(seeds)
    if n < 1 or any(v.shape != (n,) for v in members):
        raise ValueError(f"members have shapes {[v.shape for v in members]}; each needs one value for each of the {n} seeds")
    train.check(data.rows if isinstance(data, Stream) else data)
    store = Checkpoints(checkpoints) if checkpoints is not None else None
    resumed = store if store is not None and store.latest is not None else None
    layout = Layout.of(mesh, n, group if resumed is None else resumed.group or n, train.config.batch_size)
    varied = layout.spread(members)
    keys = jax.vmap(jax.random.key)(layout.spread(jnp.asarray(seeds, jnp.uint32)))
    segment = Segments(train, data, layout)
    start = keys, varied, segment.head
    begun = segment.programs.init.trace(*start)
    result = nothing_yet(begun.out_info)
    done, states = 0, None
    if resumed is not None:
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((n, *leaf.shape[1:]), leaf.dtype), begun.out_info)
        done, states = resumed.restore(like, result, layout.stored)
        states = layout.pad(states)
    if done < train.config.checks:
        segment.compile(begun if resumed is None else None, begun.out_info, varied)
    if states is None:
        states = segment.programs.init(*start)
    report(done, result)
    for check in range(done, train.config.checks):
        states, metrics = segment(states, varied, check)
        recorded = _record(train, result, check, gather(metrics), members, seeds)
        keep_points(train.config.objective.score, result, recorded, states)
        if store is not None:
            store.save(check + 1, layout.trim(states), result, layout.group)
        report(check + 1, result)
        _refuse_when_all_failed(result, n)
    _refuse_when_all_failed(result, n)
    return result


def restore(train: Train, data: Data | Stream, members: Member, seeds: Sequence[int], checkpoints: Path) -> SweepResult:
    """What a `sweep` with these arguments has at its last checkpoint; nothing is trained. Raises TrainingError where there is none."""
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    rows, steps = data, None
    if isinstance(data, Stream):
        rows, steps = data.head(train.config.batch_size), train.steps_per_epoch(data.rows)
    init = jax.vmap(lambda key, member, rows: train.init(key, member, rows, steps), in_axes=(0, 0, None))
    like = jax.eval_shape(init, keys, members, rows)
    result = nothing_yet(like)
    store = Checkpoints(checkpoints, alone=True)
    if store.latest is None:
        raise TrainingError(f"there is no checkpoint in {checkpoints}")
    store.restore(like, result)
    return result


def merge(sweeps: Sequence[SweepResult]) -> SweepResult:
    """One sweep of the members of `sweeps`, each trained by itself, numbered on from one to the next; as one sweep of all would have it.

    Raises: DivergedError when every member has failed.
    """
    starts = np.cumsum([0] + [1 + max([*(row["member"] for row in sweep.history), *sweep.failed]) for sweep in sweeps]).tolist()
    result = SweepResult(Archive(), [], {}, sweeps[0].treedef)
    candidates: list[Point] = []
    for start, sweep in zip(starts, sweeps, strict=False):
        result.history += [row | {"member": start + row["member"]} for row in sweep.history]
        result.failed |= {start + member: reason for member, reason in sweep.failed.items()}
        candidates += [dataclasses.replace(point, member=start + point.member) for point in sweep.archive.points]
    result.history.sort(key=lambda row: (row["check"], row["member"]))
    result.archive.add(sorted(candidates, key=lambda point: (point.check, point.member)))  # of equals the earliest is kept
    _refuse_when_all_failed(result, starts[-1])
    return result


def _refuse_when_all_failed(result: SweepResult, members: int) -> None:
    if len(result.failed) == members:
        member, reason = next(iter(result.failed.items()))
        raise DivergedError(f"all {members} members diverged; member {member}: {reason}; lower the learning rate or beta")


def nothing_yet(states: State) -> SweepResult:
    """A sweep of `states`, or of their shapes, before its first check."""
    return SweepResult(Archive(), [], {}, jax.tree.structure((states.params, states.observed)))


def decimal(value: Any) -> float:
    """The shortest decimal number that is `value` as float32: what people gave, and can look for.

    >>> decimal(np.float32(1e-4)), float(np.float32(1e-4))
    (0.0001, 9.999999747378752e-05)
    """
    return float(str(np.float32(value)))


def _record(train: Train, result: SweepResult, check: int, metrics: dict[str, np.ndarray], members: Member, seeds) -> list[dict]:
    """Appends a row for each member to the history and names the members that diverged; returns the rows."""
    rows = rows_of(train, check, metrics, members, seeds)
    result.history += rows
    for member in range(len(seeds)):
        if metrics["broken"][member] and member not in result.failed:
            name = train.layer_names[metrics["broken"][member] - 1]
            result.failed[member] = f"before check {check + 1}, layer {name!r} had a NaN or infinity"
    return rows


def rows_of(train: Train, check: int, metrics: dict[str, np.ndarray], members: Member, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """A row of the history for each member."""
    rows = []
    for member in range(len(seeds)):
        row: dict[str, Any] = {name: float(values[member]) for name, values in metrics.items() if not name.startswith(("broken", "dead/"))}
        row["dead"] = [name for name in train.layer_names if f"dead/{name}" in metrics and metrics[f"dead/{name}"][member]]
        who = {"member": member, "check": check, "beta_member": decimal(members.beta[member]), "seed": int(seeds[member])}
        rows.append(who | row)
    return rows


def keep_points(score: AbstractScore, result: SweepResult, rows: list[dict[str, Any]], states: State) -> None:
    """Offers the members' present points, `rows` of the history, to the archive."""
    held = result.archive.points
    sound = [row for row in rows if row["member"] not in result.failed and not row["collapsed"]]  # whose state is that of the row
    fresh = [Point(row["member"], row["check"], score.merit(row["val_score"]), row["cost"], []) for row in sound]
    everyone = [*held, *fresh]
    kept = set(pareto([p.merit for p in everyone], [p.cost for p in everyone]))
    if not any(n >= len(held) for n in kept):
        return
    leaves = gather(jax.tree.leaves((states.params, states.observed)))
    result.archive.add([dataclasses.replace(p, leaves=[np.array(leaf[p.member]) for leaf in leaves]) for p in fresh])
