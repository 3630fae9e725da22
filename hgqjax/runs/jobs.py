"""What a run is made of: train a group of members, freeze a point, write a project. Each is done once, by whichever process.

A job's arguments are the context (what the jobs of a run share in a process), names and numbers. A worker of a cluster makes a context of
its own (`on_worker`) from the run folder and the configuration (`runs.Sweep`).
"""

import dataclasses
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from hgqjax import data as data_
from hgqjax import export, refine, resources, training
from hgqjax.config import ConfigError, to_json
from hgqjax.data import inputs
from hgqjax.evaluation import measure, outputs
from hgqjax.files import write_atomically
from hgqjax.runs import folders, start
from hgqjax.scores import AbstractScore
from hgqjax.training import devices
from hgqjax.training.objective import Objective

STOP = "jobs/stop"
_lock = threading.Lock()  # workers of other people's clusters may have several threads


class StoppedError(RuntimeError):
    """A job that ends early, as the run it belongs to was interrupted."""


@dataclasses.dataclass(frozen=True, eq=False)
class RunContext:
    """What the jobs of one run share within a process: the rows, and the compiled programs that hang on `trains`."""

    folder: Path
    config: Any
    dataset: data_.Dataset
    trains: tuple[training.Train, ...]
    """Of each network."""
    rows: training.Data | training.Stream
    rows_devices: int = 0
    """Devices that share each batch; the members are divided among all that this process, or its fellow processes, have. 0 is for workers
    of a cluster: one device has everything."""
    _groups: dict[int, training.SweepResult] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, config: Any, dataset: data_.Dataset, rows_devices: int = 0) -> "RunContext":
        """With what follows from the configuration and the rows."""
        builds = [network.build(dataset.model_shape, output_count(config, dataset)) for network in config.networks()]
        begun = start.of_run(folder)
        trains = tuple(training.make_train(config.train, build, begun) for build in builds)
        rows = training.Data.of(dataset) if dataset.at_once is None else training.Stream.of(dataset)
        return cls(folder, config, dataset, trains, rows, rows_devices)

    def train(self, number: int) -> training.Train:
        """The run's functions for the network of a group."""
        return self.trains[self.config.network(self.config.division()[number].start)]

    def group(self, number: int) -> training.SweepResult:
        """A trained group, from its last checkpoint; its members are numbered from 0."""
        if number not in self._groups:
            how, found = self.config.search, (self.train(number), self.rows)
            if how is None:
                self._groups[number] = training.restore(*found, *self.members(number), self.checkpoints(number))
            else:
                self._groups[number] = training.restored(*found, how, *self.searched(number), self.checkpoints(number))
        return self._groups[number]

    def points(self) -> list[training.Point]:
        """Those of the fronts of all groups, with members numbered within the whole sweep, by member and check."""
        parts = [(self.config.division()[n].start, self.group(n)) for n in range(len(self.config.division()))]
        found = [dataclasses.replace(p, member=start + p.member) for start, sweep in parts for p in sweep.archive.points]
        return sorted(found, key=lambda p: (p.member, p.check))

    def members(self, number: int) -> tuple[training.Member, tuple[int, ...]]:
        """Arrays of what varies within a group, and the seed of each of its members."""
        members, seeds = self.config.members()
        part = self.config.division()[number]
        return training.Member(*(values[part] for values in members)), seeds[part]

    def searched(self, number: int) -> tuple[training.Member, int]:
        """What the candidates of a group, which are those of a search, have in common."""
        members, seeds = self.members(number)
        return training.Member(*(values[0] for values in members)), seeds[0]

    def mesh(self, number: int) -> jax.sharding.Mesh:
        """The devices that train a group."""
        members = len(self.members(number)[1])
        return devices.device_mesh(members, self.rows_devices or 1, devices=None if self.rows_devices else jax.local_devices()[:1])

    def checkpoints(self, number: int) -> Path:
        """Their folder."""
        place = self.folder / "checkpoints"
        return place if len(self.config.division()) == 1 else place / group_name(number)


_of_worker: list[RunContext] = []  # the one of the latest job that came to this worker of a cluster: the data set is read once


def on_worker(job: Callable[..., dict[str, Any]], folder: str, config: Any, *arguments: Any) -> dict[str, Any]:
    """``job(context, *arguments)`` in a worker of a cluster, which reads the rows of a run at its first job, and keeps them."""
    with _lock:
        if not _of_worker or _of_worker[0].folder != Path(folder):
            _of_worker.clear()
            dataset = check_data(data_.load(config.data, config.columns, rows=config.rows), config, folders.Run.open(Path(folder)))
            _of_worker.append(RunContext.of(Path(folder), config, dataset))
        context = _of_worker[0]
    return job(context, *arguments)


def output_count(config: Any, dataset: data_.Dataset) -> int:
    """How many outputs the network of a run has."""
    return config.train.objective.score.outputs(dataset.n_classes, len(dataset.target_names))


def check_data(dataset: data_.Dataset, config: Any, run: folders.Run) -> data_.Dataset:
    """The data set, which is refused where it is not that of the run."""
    if dataset.sha256 != run.manifest["data"]["sha256"]:
        raise ConfigError(f"data set {config.data!r} is not the one that {run.folder} began with (its sha256 differs)")
    return dataset


def group_name(number: int) -> str:
    """Name of a group's job and of its checkpoints."""
    return f"group_{number:02d}"


def point_name(point: training.Point) -> str:
    """Name of a point's job; its member is numbered within the whole sweep."""
    return f"point_{point.check:06d}_{point.member:04d}"


def train_group(context: RunContext, number: int, report: Callable[..., None] = lambda number, check, sweep: None) -> dict[str, Any]:
    """Trains a group of members as one compiled program, from its last checkpoint on; the checkpoints are the result.

    Of several processes (`jax.distributed`) the first has the job, and the others, which call this too, train their part of the members.
    """

    def work(note) -> dict[str, Any]:
        before = None

        def told(check: int, sweep: training.SweepResult) -> None:
            nonlocal before
            before = check if before is None else before
            note("check" if check > before else "from", done=check)
            report(number, check, sweep)
            if (context.folder / STOP).exists():
                raise StoppedError("the run was interrupted")

        try:
            where = {"checkpoints": context.checkpoints(number), "mesh": context.mesh(number)}
            train, how = context.train(number), context.config.search
            if how is None:
                training.sweep(train, context.rows, *context.members(number), report=told, **where)
            else:
                training.search(train, context.rows, how, *context.searched(number), report=told, **where)
        except training.DivergedError as error:  # as the others may not have; `training.merge` says so where all have
            return {"diverged": str(error)}
        return {}

    log = context.folder / "jobs" / f"{group_name(number)}.jsonl"
    trained = devices.first(lambda: any(line["event"] == "done" for line in folders.read_log(log)))
    if devices.is_first():
        return folders.do_once(context.folder, group_name(number), work)
    return {} if trained else work(lambda event, **what: None)


def checks_done(folder: Path, number: int) -> int:
    """Checks that a group has behind it, for a progress bar; from its log."""
    log = folders.read_log(folder / "jobs" / f"{group_name(number)}.jsonl")
    return max((line["done"] for line in log if "done" in line), default=0)


def freeze_point(context: RunContext, number: int, name: str) -> dict[str, Any]:
    """Describes, calibrates and measures a point of group `number`; its description is saved under `frozen_path`."""

    def work(note) -> dict[str, Any]:
        config = context.config
        first, sweep = config.division()[number].start, context.group(number)
        point = next(p for p in sweep.archive.points if name == point_name(dataclasses.replace(p, member=first + p.member)))
        origin = next(row for row in sweep.history if (row["member"], row["check"]) == (point.member, point.check))
        dataset, epoch = context.dataset, folders.epoch_of(origin, config.train.epochs_per_check)
        row = {"member": first + point.member, "beta": origin["beta_member"], "seed": origin["seed"], "epoch": epoch}
        row |= {"network": config.models[config.network(row["member"])]} if config.models else {}
        row |= {"budget": training.decimal(config.members()[0].budget[row["member"]])} if config.points_at else {}
        about = {
            "classes": list(dataset.classes),
            "features": list(dataset.feature_names),
            "targets": list(dataset.target_names),
            "kind": dataset.kind,
            "score": to_json(config.train.objective.score),
            "unit": dataset.unit,
            "columns": to_json(config.columns.of_rows()),
            "data": folders.Run.open(context.folder).manifest["data"],
            "scaler": {"mean": dataset.scaler.mean.tolist(), "scale": dataset.scaler.scale.tolist()},
            "trained": {key: row[key] for key in ("member", "epoch", "beta", "seed")} | ({"start": config.start} if config.start else {}),
        }
        about |= {"inputs": inputs.to_json(dataset.inputs)} if dataset.inputs else {}
        model = context.train(number).model(sweep.state(point))
        description = export.describe(model, dataset.of_model(dataset.calibration()), name=name, metadata=about)
        return row | {"cost_estimate": point.cost} | _saved(context, description)

    return folders.do_once(context.folder, name, work)


def refine_point(context: RunContext, name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Refines the tables of a frozen point with each of the configured strengths: rows as `freeze_point` gives `row`, by name."""

    def work(note) -> dict[str, Any]:
        dataset, strengths = context.dataset, context.config.refine
        description = export.ModelDescription.load(frozen_path(context.folder, name))
        rows = dataset.of_model(dataset.x_train), dataset.y_train, context.config.train.objective.score
        refined = refine.refine(description, *rows, strengths=strengths, weight=dataset.weight_train)
        found = {}
        for number, (strength, better) in enumerate(zip(strengths, refined, strict=True)):
            better = dataclasses.replace(better, name=f"{name}_r{number}")
            found[better.name] = row | {"refined": strength} | _saved(context, better)
        return found

    return folders.do_once(context.folder, f"refine_{name}", work)


def _saved(context: RunContext, description: export.ModelDescription) -> dict[str, Any]:
    """Saves a frozen network under `frozen_path`: what it costs, and its scores on validation and test rows."""
    dataset, objective = context.dataset, context.config.train.objective
    path = frozen_path(context.folder, description.name)
    shutil.rmtree(path, ignore_errors=True)  # of a process that was killed before it could say so
    description.save(path)
    val = measure(description, dataset.of_model(dataset.x_val), dataset.y_val, objective.score, dataset.weight_val)
    test = _test(description, dataset, objective.score, path)
    scored = {f"{split}_{name}": values[name] for name in val for split, values in (("val", val), ("test", test))}
    return _costs(description, objective) | scored


def _test(description: export.ModelDescription, dataset: data_.Dataset, score: AbstractScore, model: Path) -> dict[str, float]:
    """What `measure` gives of the test rows; what a report draws of them goes into a file beside the model."""
    rows = outputs(description, dataset.of_model(dataset.x_test)), dataset.y_test, dataset.weight_test
    drawn = score.curves(*rows, dataset.classes or dataset.target_names)
    if drawn and dataset.weight_test is not None:
        drawn["weighted"] = True
    write_atomically(folders.curves_path(model), json.dumps(drawn) + "\n")
    return score.measure(*rows)


def _costs(description: export.ModelDescription, objective: Objective) -> dict[str, float]:
    return {
        "ebops": float(resources.ebops(description).total),
        "ebops_paper_v1": float(resources.ebops(description, "paper_v1").total),
        "luts_predicted": float(resources.Luts()(description).total),
        "cost": float(objective.cost(description).total),
    }


def frozen_path(folder: Path, name: str) -> Path:
    """Where `freeze_point` saves a description, until the run is done."""
    return folder / "frozen" / name


def write_project(context: RunContext, point: str) -> dict[str, Any]:
    """The hls4ml project of a saved model, behind the gate: rows checked, differing words, and a line that says so."""

    def work(note) -> dict[str, Any]:
        config, path = context.config, context.folder / "projects" / point
        shutil.rmtree(path, ignore_errors=True)  # as above
        description = export.ModelDescription.load(context.folder / "models" / point)
        arguments = {name: getattr(config, name) for name in ("backend", "strategy", "io_type")}
        arguments |= {"min_rows": config.gate_rows, "rows": context.dataset.of_model(context.dataset.x_test[: config.gate_rows // 5])}
        project = export.to_hls4ml(description, path, **arguments)
        assert project.gate is not None, "it is exported behind the gate"
        return {"rows_checked": project.gate.rows, "differing_words": project.gate.differing_words, "text": str(project)}

    return folders.do_once(context.folder, f"project_{point}", work)
