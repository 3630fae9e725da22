"""What a run is made of: train a group of members, freeze a point, write a project. Each is done once, by whichever process.

A job's arguments are the run folder, the configuration (`experiment.Sweep`) and names and numbers; what it needs besides, it reads there.
"""

import dataclasses
import math
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hgqjax import data as data_
from hgqjax import devices, export, population, resources, results, training
from hgqjax.config import ConfigError
from hgqjax.objective import Objective

STOP = "jobs/stop"
_lock = threading.Lock()  # workers of other people's clusters may have several threads


class StoppedError(RuntimeError):
    """A job that ends early, as the run it belongs to was interrupted."""


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """What the jobs of one run share within a process: the rows, and the compiled programs that hang on `train`."""

    folder: Path
    config: Any
    dataset: data_.Dataset
    train: training.Train
    rows: training.Data
    rows_devices: int = 0
    """Devices that share each batch; the members are divided among all that this process, or its fellow processes, have. 0 is for workers
    of a cluster: one device has everything."""
    _groups: dict[int, population.Swept] = dataclasses.field(default_factory=dict)

    def group(self, number: int) -> population.Swept:
        """A trained group, from its last checkpoint; its members are numbered from 0."""
        if number not in self._groups:
            self._groups[number] = population.restore(self.train, self.rows, *self.members(number), self.checkpoints(number))
        return self._groups[number]

    def members(self, number: int) -> tuple[training.Member, tuple[int, ...]]:
        """Arrays of what varies within a group, and the seed of each of its members."""
        members, seeds = self.config.members()
        part = self.config.division()[number]
        return training.Member(*(values[part] for values in members)), seeds[part]

    def mesh(self, number: int) -> jax.sharding.Mesh:
        """The devices that train a group."""
        members = len(self.members(number)[1])
        return devices.device_mesh(members, self.rows_devices or 1, devices=None if self.rows_devices else jax.local_devices()[:1])

    def checkpoints(self, number: int) -> Path:
        """Their folder."""
        place = self.folder / "checkpoints"
        return place if len(self.config.division()) == 1 else place / group_name(number)


_bench: list[Bench] = []  # the one of the latest job: the data set is read once in each process


def bench(folder: str, config: Any, dataset: data_.Dataset | None = None, rows_devices: int = 0) -> Bench:
    """The bench of a run in this process; without `dataset` its rows are loaded when its first job comes here."""
    with _lock:
        if not _bench or _bench[0].folder != Path(folder):
            clear_bench()
            dataset = dataset or _load(folder, config)
            train = training.make_train(config.train, config.model.build(dataset.input_shape, dataset.n_outputs))
            _bench.append(Bench(Path(folder), config, dataset, train, training.Data.of(dataset), rows_devices))
        return _bench[0]


def clear_bench() -> None:
    """Lets go of the rows and programs of the run that is over."""
    _bench.clear()


def _load(folder: str, config: Any) -> data_.Dataset:
    return check_data(data_.load(config.data, rows=config.rows), config, results.Run.open(Path(folder)))


def check_data(dataset: data_.Dataset, config: Any, run: results.Run) -> data_.Dataset:
    """The data set, which is refused where it is not that of the run."""
    if dataset.sha256 != run.manifest["data"]["sha256"]:
        raise ConfigError(f"data set {config.data!r} is not the one that {run.folder} began with (its sha256 differs)")
    return dataset


def group_name(number: int) -> str:
    """Name of a group's job and of its checkpoints."""
    return f"group_{number:02d}"


def point_name(point: population.Point) -> str:
    """Name of a point's job; its member is numbered within the whole sweep."""
    return f"point_{point.check:06d}_{point.member:04d}"


def train_group(folder: str, config: Any, number: int, report: Callable[..., None] = lambda number, check, sweep: None) -> dict[str, Any]:
    """Trains a group of members as one compiled program, from its last checkpoint on; the checkpoints are the result.

    Of several processes (`jax.distributed`) the first has the job, and the others, which call this too, train their part of the members.
    """

    def work(note) -> dict[str, Any]:
        here, start = bench(folder, config), None

        def told(check: int, sweep: population.Swept) -> None:
            nonlocal start
            start = check if start is None else start
            note("check" if check > start else "from", done=check)
            report(number, check, sweep)
            if (Path(folder) / STOP).exists():
                raise StoppedError("the run was interrupted")

        try:
            where = {"checkpoints": here.checkpoints(number), "mesh": here.mesh(number)}
            population.sweep(here.train, here.rows, *here.members(number), report=told, **where)
        except population.DivergedError as error:  # as the others may not have; `population.merge` says so where all have
            return {"diverged": str(error)}
        return {}

    log = Path(folder) / "jobs" / f"{group_name(number)}.jsonl"
    trained = devices.first(lambda: any(line["event"] == "done" for line in results.read_log(log)))
    if devices.is_first():
        return results.once(Path(folder), group_name(number), work)
    return {} if trained else work(lambda event, **what: None)


def checks_done(folder: Path, number: int) -> int:
    """Checks that a group has behind it, for a progress bar; from its log."""
    log = results.read_log(folder / "jobs" / f"{group_name(number)}.jsonl")
    return max((line["done"] for line in log if "done" in line), default=0)


def freeze_point(folder: str, config: Any, number: int, name: str) -> dict[str, Any]:
    """Describes, calibrates and measures a point of group `number`; its description is saved under `frozen_path`."""

    def work(note) -> dict[str, Any]:
        here = bench(folder, config)
        first, sweep = config.division()[number].start, here.group(number)
        point = next(p for p in sweep.archive.points if name == point_name(dataclasses.replace(p, member=first + p.member)))
        origin = next(row for row in sweep.history if (row["member"], row["check"]) == (point.member, point.check))
        dataset, epoch = here.dataset, (point.check + 1) * config.train.epochs_per_check
        row = {"member": first + point.member, "beta": origin["beta_member"], "seed": origin["seed"], "epoch": epoch}
        row |= {"budget": population.decimal(config.members()[0].budget[row["member"]])} if config.budgets else {}
        about = {
            "classes": list(dataset.classes),
            "features": list(dataset.feature_names),
            "data": results.Run.open(here.folder).manifest["data"],
            "scaler": {"mean": dataset.scaler.mean.tolist(), "scale": dataset.scaler.scale.tolist()},
            "trained": {key: row[key] for key in ("member", "epoch", "beta", "seed")},
        }
        objective = config.train.objective
        if objective.task == "regression":
            about |= {"task": objective.task, "unit": dataset.unit, "window": objective.window}
        model = here.train.model(sweep.state(point))
        description = export.describe(model, dataset.calibration(), name=f"member{row['member']}_epoch{epoch}", metadata=about)
        path = frozen_path(here.folder, name)
        shutil.rmtree(path, ignore_errors=True)  # of a process that was killed before it could say so
        description.save(path)
        row |= _costs(description, objective) | {"cost_estimate": point.cost}
        val = measure(description, dataset.x_val, dataset.y_val, objective)
        test = measure(description, dataset.x_test, dataset.y_test, objective)
        return row | {f"{split}_{name}": values[name] for name in val for split, values in (("val", val), ("test", test))}

    row = results.once(Path(folder), name, work)
    if "cost" in row and "luts_predicted" in row:
        return row
    description = export.ModelDescription.load(frozen_path(Path(folder), name))  # an earlier version froze it, without these two
    return _costs(description, config.train.objective) | row


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


def write_project(folder: str, config: Any, point: str) -> dict[str, Any]:
    """The hls4ml project of a saved model, behind the gate: rows checked, differing words, and a line that says so."""

    def work(note) -> dict[str, Any]:
        here = bench(folder, config)
        path = here.folder / "projects" / point
        shutil.rmtree(path, ignore_errors=True)  # as above
        description = export.ModelDescription.load(here.folder / "models" / point)
        arguments = {name: getattr(config, name) for name in ("backend", "strategy", "io_type")}
        arguments |= {"min_rows": config.gate_rows, "rows": here.dataset.x_test[: config.gate_rows // 5]}
        project = export.to_hls4ml(description, path, **arguments)
        return {"rows_checked": project.gate.rows, "differing_words": project.gate.differing_words, "text": str(project)}

    return results.once(Path(folder), f"project_{point}", work)


def measure(description: export.ModelDescription, x: Any, y: np.ndarray, objective: Objective) -> dict[str, float]:
    """``score`` of the frozen model on rows `x`, as `Objective.score` says, by the exact evaluator; with a window ``outliers``, too.

    Of a regression also ``error``, the statistical one of its resolution r: the standard error of the squares of the residuals over 2 r,
    whatever their distribution; NaN of fewer than two. Of a model with several inputs `x` is a tuple of their rows.
    """
    parts = x if isinstance(x, tuple) else (x,)
    words = sum(math.prod(op.shape) for op in description.operations)
    batch = min(20_000, max(1, 2**25 // words))  # so many rows of a large network that their words take 256 MiB
    starts = range(0, len(y), batch)
    outputs = np.concatenate([description.evaluate(tuple(part[start : start + batch] for part in parts)) for start in starts])
    if objective.task == "classification":
        return {"score": int(np.sum(np.argmax(outputs, axis=-1) == y)) / len(y)}
    residual = outputs.reshape(len(y), -1) - y.reshape(len(y), -1)
    if objective.window is None:
        return _resolution(residual)
    inside = np.abs(residual) < objective.window
    found = _resolution(residual[inside]) if inside.any() else {"score": -objective.window, "error": math.nan}
    return found | {"outliers": float(np.mean(~inside))}


def _resolution(residuals: np.ndarray) -> dict[str, float]:
    squares = residuals.astype(np.float64) ** 2
    resolution = float(np.sqrt(np.mean(squares)))
    spread = float(np.std(squares)) if len(squares) > 1 else math.nan
    return {"score": -resolution, "error": spread / (2 * resolution * len(squares) ** 0.5) if resolution else 0.0}
