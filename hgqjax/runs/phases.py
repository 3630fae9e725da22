"""The phases of a run: train the groups of members, freeze points of the front, write projects behind the gate."""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from hgqjax import export, training
from hgqjax.export.hls4ml.config import write_config
from hgqjax.runs import chosen, folders, jobs
from hgqjax.runs import cluster as cluster_
from hgqjax.runs import reference as reference_
from hgqjax.runs.progress import Progress, cells
from hgqjax.training import devices


def _map(context: jobs.RunContext, workers: cluster_.Cluster, job, work: dict[str, tuple], **how: Any) -> dict[str, Any]:
    """The results of `job` by name, with this context here, or on the cluster's workers with theirs."""
    if workers.client is None:
        return workers.map(functools.partial(job, context), work, **how)
    theirs = {name: (str(context.folder), context.config, *arguments) for name, arguments in work.items()}
    return workers.map(functools.partial(jobs.on_worker, job), theirs, **how)


def proceed(folder: folders.Run, context: jobs.RunContext, workers: cluster_.Cluster, bar: Progress) -> None:
    """The phases of a run, from wherever it is; what they leave is in the folder."""
    config = context.config
    checks, groups = config.checks, len(config.division())
    bar.phase("train", checks * groups, "check")
    sweep = _train(folder, context, workers, bar)
    steps = len(context.dataset.x_train) // config.train.batch_size
    folder.write_metrics(folders.tidy(sweep.history, config.train.epochs_per_check, steps))
    reference = _reference(context, workers, bar)
    summary, notes = _freeze(context, sweep, reference, workers, bar)
    folder.write_summary(summary)  # before the gate, which may stop the run
    _export(context, summary, workers, bar)
    folder.write_summary(summary)
    warnings = _warnings(sweep, config)
    folder.save(status="done", seconds=folder.seconds, warnings=warnings, notes=notes, error="")
    for member, reason in warnings.items():
        bar.say(f"member {member}: {reason}")


def _warnings(sweep: training.SweepResult, config: Any) -> dict[str, str]:
    """What is said of members, by number: that they diverged, collapsed and were set back, or ended with a dead layer."""
    said: dict[int, list[str]] = {}
    fell: dict[int, list[int]] = {}
    for row in sweep.history:
        if row["member"] in sweep.failed:
            continue
        if row["collapsed"] and config.search is None:  # a candidate that does is none to go on with
            fell.setdefault(row["member"], []).append(folders.epoch_of(row, config.train.epochs_per_check))
        elif row["check"] == config.checks - 1 and row["dead"]:
            said[row["member"]] = [f"pruned away: layer {', '.join(row['dead'])}"]
    for member, epochs in fell.items():
        times = f"{len(epochs)} times, " if len(epochs) > 1 else ""
        said.setdefault(member, []).insert(
            0, f"collapsed {times}first at epoch {epochs[0]}: set back, and its penalty divided by {2 ** len(epochs)}"
        )
    lines = {member: "; ".join(parts) for member, parts in said.items()} | sweep.failed
    return {str(member): lines[member] for member in sorted(lines)}


def _train(folder: folders.Run, context: jobs.RunContext, workers: cluster_.Cluster, bar: Progress) -> training.SweepResult:
    """All groups trained, as one sweep."""
    numbers = range(len(context.config.division()))
    work = {jobs.group_name(n): (n,) for n in numbers}

    begun = set()

    def report(number: int, check: int, sweep: training.SweepResult) -> None:
        if number not in begun:
            begun.add(number)
            bar.going()
        bar(number * context.config.checks + check, cells(sweep, *context.members(number), context.config.train.objective))
        folder.save(seconds=folder.seconds)
        if check == context.config.checks and number + 1 < len(numbers):
            bar.compiling()  # of another group, which may be of another size

    def tick() -> None:
        done = [jobs.checks_done(context.folder, n) for n in numbers]
        if bar(sum(done), [f"checks by group: {' '.join(map(str, done))}"]):
            folder.save(seconds=folder.seconds)

    def done(name: str, result: dict[str, Any]) -> None:
        if workers.client is None:  # which a group that an interrupted run had trained does not report
            bar((list(work).index(name) + 1) * context.config.checks, ["trained before"])

    train = functools.partial(jobs.train_group, report=report) if workers.client is None else jobs.train_group
    if workers.client is None:
        bar.compiling()
    _map(context, workers, train, work, done=done, tick=tick)
    devices.leave()
    return training.merge([context.group(n) for n in numbers])


def _reference(context: jobs.RunContext, workers: cluster_.Cluster, bar: Progress) -> dict[str, Any]:
    """Scores of the network that `accuracy_drop` is counted from; nothing without it."""
    if not context.config.accuracy_drop:
        return {}
    bar.phase("reference", 1, "network")
    return _map(context, workers, reference_.train_reference, {"reference": ()})["reference"]


def _freeze(
    context: jobs.RunContext, sweep: training.SweepResult, reference: dict[str, Any], workers: cluster_.Cluster, bar: Progress
) -> tuple[list[dict[str, Any]], list[str]]:
    """Describes the selected points: rows of those that no other dominates, and a line for each penalty that has none, and each drop."""
    config, work = context.config, {}
    for point in chosen.to_freeze(context, sweep, reference):
        group = next(n for n, part in enumerate(config.division()) if part.start <= point.member < part.stop)
        name = jobs.point_name(point)
        work[name] = (group, name)
    bar.phase("freeze", len(work), "point")
    rows = _map(context, workers, jobs.freeze_point, work, done=lambda *_: bar(bar.done + 1))
    if config.refine:
        bar.phase("refine", len(rows), "point")
        better = {f"refine_{name}": (name, row | {"refined": None}) for name, row in rows.items()}
        found = _map(context, workers, jobs.refine_point, better, done=lambda *_: bar(bar.done + 1), at_once=devices.cores())
        rows = {name: row for name, (_, row) in zip(rows, better.values(), strict=True)} | {
            k: v for part in found.values() for k, v in part.items()
        }
    names, table = list(rows), list(rows.values())
    summary = []
    for number, n in enumerate(chosen.kept(table, config.train.objective.score, config.each_seed)):
        name, row = f"p{number:02d}", table[n]
        path = context.folder / "models" / name
        if not path.exists():
            frozen = export.ModelDescription.load(jobs.frozen_path(context.folder, names[n]))
            dataclasses.replace(frozen, name=name).save(path)  # known by its point from here on
        curves = folders.curves_path(jobs.frozen_path(context.folder, names[n]))
        if curves.exists():  # else a run that was interrupted after it was moved
            os.replace(curves, folders.curves_path(path))
        found = {key.removeprefix("test_"): value for key, value in row.items() if key.startswith("test_")}
        result = config.train.objective.score.text(found, len(context.dataset.y_test), context.dataset.unit)
        said = f"{row['ebops']:7.0f} EBOPs, {row['luts_predicted']:7.0f} LUTs predicted, test {result} ({context.dataset.name})"
        bar.say(f"{name}: {row['network']}, {said}" if config.models else f"{name}: {said}")
        summary.append({"point": name, **row, "model": f"models/{name}", "project": "", "rows_checked": None, "differing_words": None})
    notes = list(chosen.missing(config, sweep, table, summary, len(context.dataset.y_val), context.dataset.unit))
    if reference:
        notes += reference_.lines(config, reference, summary, context.dataset.unit)
    for note in notes:
        bar.say(note)
    return summary, notes


def _export(context: jobs.RunContext, summary: list[dict[str, Any]], workers: cluster_.Cluster, bar: Progress) -> None:
    """A YAML file for each point, and hls4ml projects of points spread over the front; each passes the gate or stops the run."""
    config, work = context.config, {}
    spread = {round(v) for v in np.linspace(0, len(summary) - 1, min(config.projects, len(summary)))}
    for n, point in enumerate(row["point"] for row in summary):
        settings = context.folder / "models" / f"{point}.yml"
        if not settings.exists():
            relative = Path("..") / "projects" / point
            write_config(
                settings, model=point, output_dir=relative, backend=config.backend, strategy=config.strategy, io_type=config.io_type
            )
        if n in spread:
            work[point] = (point,)

    def done(point: str, project: dict[str, Any]) -> None:
        bar.say(f"{point}: {project['text']}")
        bar(bar.done + 1)

    if work:
        bar.phase("gate", len(work), "project")
    projects = _map(context, workers, jobs.write_project, work, done=done, at_once=devices.cores())
    for row in summary:
        if row["point"] in projects:
            project = projects[row["point"]]
            row |= {"project": f"projects/{row['point']}"} | {key: project[key] for key in ("rows_checked", "differing_words")}
