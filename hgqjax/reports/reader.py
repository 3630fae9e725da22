"""A run folder as tables, checked, for people who draw or report it; the folder is only read."""

import contextlib
import dataclasses
import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hgqjax import training
from hgqjax.archives import read_json_file
from hgqjax.config import ConfigError, from_json
from hgqjax.description import DescriptionError, ModelDescription
from hgqjax.errors import first_line
from hgqjax.export.project import GATE_FILE, RTL_FILE
from hgqjax.reports.published import Published
from hgqjax.runs.folders import Run, RunError, curves_path, tidy
from hgqjax.scores import AbstractScore

METRIC_COLUMNS = {"member": "Int64", "beta": "Float64", "seed": "Int64", "step": "Int64", "epoch": "Int64"}
METRIC_COLUMNS |= {"split": "String", "metric": "String", "value": "Float64"}


class ReportError(ValueError):
    """A folder that is no sound run, or nothing in it to show; one sentence."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A selected model, frozen and calibrated: a row of summary.csv; None or "" where it was not exported."""

    point: str
    member: int
    beta: float
    seed: int
    epoch: int
    ebops: float
    ebops_paper_v1: float
    cost_estimate: float
    """Cost of the objective, as training saw it."""
    cost: float
    """Exact cost of the objective, by which the front was chosen."""
    luts_predicted: float
    val_score: float
    test_score: float
    model: str
    project: str
    rows_checked: int | None
    differing_words: int | None
    val_error: float | None = None
    """Statistical error of the score, where its rows and value do not tell it."""
    test_error: float | None = None
    budget: float | None = None
    """Cost that the penalty schedule steered to, instead of a beta."""
    network: str | None = None
    """Which of several networks, by its hidden layers."""
    shares: dict[str, float] = dataclasses.field(default_factory=dict)
    """Further shares that the score has, such as ``test_outliers``."""

    def found(self, split: str = "test") -> dict[str, float | None]:
        """Score, error and further shares on the rows of `split`, as `AbstractScore.measure` gives them."""
        further = {name.removeprefix(f"{split}_"): value for name, value in self.shares.items() if name.startswith(f"{split}_")}
        return {"score": getattr(self, f"{split}_score"), "error": getattr(self, f"{split}_error"), **further}


@dataclasses.dataclass(frozen=True)
class RunView:
    """`metrics` is a polars frame with the columns `METRIC_COLUMNS`, empty in a run that has none yet; `points` rise in EBOPs."""

    folder: Path
    manifest: dict[str, Any]
    metrics: Any
    points: list[Point]
    train: training.Config
    each_seed: bool
    """Whether the points are a front of each seed, and not one of all."""

    @property
    def dataset(self) -> str:
        """Name of the data set, exactly as in the manifest."""
        return self.manifest["data"]["name"]

    @property
    def score(self) -> AbstractScore:
        """What the scores are: how they are shown, and which is better."""
        return self.train.objective.score

    @property
    def cost_unit(self) -> str:
        """What the objective's cost counts: EBOPs, LUTs, ..."""
        return self.train.objective.cost.unit

    @property
    def unit(self) -> str:
        """Of y; "" of labels."""
        return self.manifest["data"].get("unit", "")

    def rows(self, split: str = "test") -> int | None:
        """How many rows a split has; None where that was not recorded."""
        return self.manifest["data"].get("rows", {}).get(split)

    @property
    def score_label(self) -> str:
        """What `shown` gives, with its unit."""
        return self.score.label(self.unit)

    def beside(self, published: Sequence[Published]) -> list[Published]:
        """Those of `published` whose score is of the same kind and unit as this run's."""
        return [p for p in published if p.label == self.score_label]

    def in_words(self, score: float) -> str:
        """A score as people read it, with its unit."""
        return self.score.number(score, self.unit)

    def error(self, point: Point, split: str = "test") -> float | None:
        """Statistical error of the score of `point` on the rows of `split`, in its units; None where it is not known."""
        return self.score.error(point.found(split), self.rows(split))

    def curves(self, point: Point) -> dict[str, Any]:
        """What was kept to draw of `point` on the test rows, as `AbstractScore.curves` gives it; nothing where there is no such file.

        Raises: ReportError where it cannot be read.
        """
        path = curves_path(self.folder / point.model)
        if not point.model or not path.exists():
            return {}
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ReportError(f"{path} cannot be read: {first_line(error)}") from error
        if not isinstance(found, dict):
            raise ReportError(f"{path} does not hold what a report draws of test rows")
        return found

    def model(self, point: Point) -> ModelDescription | None:
        """The model description of `point`; None where the summary names none, ReportError where it cannot be read."""
        try:
            return ModelDescription.load(self.folder / point.model) if point.model else None
        except DescriptionError as error:
            raise ReportError(f"point {point.point} has no sound model: {error}") from error


def read(run_folder: Path) -> RunView:
    """Reads manifest.json, metrics.parquet and summary.csv; a run that is not done may lack the last two, and has the checks of its last
    checkpoint instead of metrics, unless it trains its members in groups.

    Raises: ReportError for a folder that is no run, a file that cannot be read, missing columns; ImportError without polars.
    """
    folder = Path(run_folder)
    try:
        manifest = Run.open(folder).manifest
    except RunError as error:
        raise ReportError(str(error)) from error
    data = manifest.get("data")
    if not (isinstance(data, dict) and isinstance(data.get("name"), str) and isinstance(manifest.get("status"), str)):
        raise ReportError(f"{folder / 'manifest.json'} does not name its status and its data set")
    needed = manifest["status"] == "done"
    train, each_seed = _config(folder, manifest)
    metrics = _metrics(folder / "metrics.parquet", None if needed else _history(folder, manifest, train))
    return RunView(folder, manifest, metrics, _points(folder / "summary.csv", needed, train.objective.score), train, each_seed)


def best_model(run_folder: str | os.PathLike[str]) -> Path:
    """The model of the point that is best on the validation rows. Raises: ReportError for a run without models, or as `read`."""
    run = read(Path(run_folder))
    having = [p for p in run.points if p.model]
    if not having:
        raise ReportError(f"{run_folder} is a run folder without models")
    return run.folder / max(having, key=lambda p: run.score.merit(p.val_score)).model


def synthesis(folder: Path) -> list[dict[str, Any]]:
    """Rows of synth.csv, as `hgqjax synth` writes it; none where it was not run. ReportError where it cannot be read."""
    pl = require("polars")
    path = folder / "synth.csv"
    if not path.exists():
        return []
    texts, counts = ("point", "status", "tool", "tool_version", "family", "fmax_family"), ("lut", "lut_sites", "ff", "srl", "carry8", "dsp")
    numbers = ("bram", "clock_ns", "latency_cutoff", "adder_cost", "ebops", "fmax_mhz")
    schema = dict.fromkeys(texts, pl.String) | dict.fromkeys((*counts, "latency_cycles"), pl.Int64) | dict.fromkeys(numbers, pl.Float64)
    frame = _texts(path)
    absent = {name: pl.lit(None) for name in ("srl", "latency_cutoff") if name not in frame.columns}  # a table of before they were shown
    frame = frame.with_columns(**absent)
    return _cast(frame, schema, path).with_columns(pl.col(texts).fill_null("")).to_dicts()


@dataclasses.dataclass(frozen=True)
class Gate:
    """A project in a run folder and the gate that it passed; `rows`, `words` and `differing_words` are None where that was left out."""

    project: str
    what: str
    rows: int | None
    words: int | None
    differing_words: int | None


def gates(folder: Path) -> list[Gate]:
    """The exported projects that lie in a run folder, by name: those of the run, and later ones beside its models.

    Raises: ReportError where what an export wrote about itself cannot be read.
    """
    found = []
    for path in sorted([*folder.glob(f"*/*/{GATE_FILE}"), *folder.glob(f"*/*/{RTL_FILE}")]):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):  # one that is being written
            continue
        try:
            about = read_json_file(path)
            names = ("flavor",) if path.name == RTL_FILE else ("backend", "io_type", "strategy")
            gate = about["gate"] or {}
            what = ", ".join(str(about[name]) for name in names)
            numbers = (gate["rows"], gate["words"], gate["differing_words"]) if gate else (None, None, None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReportError(f"{path} cannot be read as the record of an export: {first_line(error)}") from error
        found.append(Gate(path.parent.relative_to(folder).as_posix(), what, *numbers))
    return found


def require(module: str) -> Any:
    """The module, or an ImportError of one sentence that names the extra which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module.partition('.')[0]} is not installed; pip install 'hgqjax[run]'") from error


def _config(folder: Path, manifest: dict[str, Any]) -> tuple[training.Config, bool]:
    """What reports need of a run's configuration: how it was trained, by which score and cost, and `Sweep.each_seed`.

    The network is not rebuilt, so that a report needs no module of it; one of a score or cost of the user's own is imported.
    """
    config = manifest["config"] if isinstance(manifest["config"], dict) else {}
    try:
        train = from_json(training.Config, config.get("train", {}), "config.train")
        return train, from_json(bool, config.get("each_seed", False), "config.each_seed")
    except ConfigError as error:
        raise ReportError(f"{folder / 'manifest.json'}: {error}") from error


def _history(folder: Path, manifest: dict[str, Any], train: training.Config) -> list[dict[str, Any]] | None:
    """What ``metrics.parquet`` of a sweep that still trains would have by now; None where that file is there."""
    path = folder / "checkpoints" / "history.jsonl"
    if (folder / "metrics.parquet").exists():
        return None
    if not path.exists():
        return []
    checks = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # of the last line, which may be half written
            checks.append(json.loads(line))
    return list(tidy(checks, train.epochs_per_check, manifest["data"]["rows"]["train"] // train.batch_size))


def _metrics(path: Path, instead: list[dict[str, Any]] | None) -> Any:
    pl = require("polars")
    schema = {name: getattr(pl, kind) for name, kind in METRIC_COLUMNS.items()}
    if instead is not None:
        return pl.DataFrame(instead, schema=schema)
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ReportError(f"{path} cannot be read as parquet: {first_line(error)}") from error
    return _cast(frame, schema, path)


def _points(path: Path, needed: bool, score: AbstractScore) -> list[Point]:
    pl = require("polars")
    if not needed and (not path.exists() or not path.read_bytes().strip()):
        return []
    kinds = {str: pl.String, int: pl.Int64, float: pl.Float64, int | None: pl.Int64, float | None: pl.Float64}
    kinds |= {str | None: pl.String}
    schema = {field.name: kinds[field.type] for field in dataclasses.fields(Point) if field.type in kinds}
    frame = _texts(path)
    shares = [name for share in score.shares for name in (f"val_{share}", f"test_{share}") if name in frame.columns]
    for field in dataclasses.fields(Point):
        if field.default is None and field.name not in frame.columns:
            del schema[field.name]
    schema |= dict.fromkeys(shares, pl.Float64)
    frame = _cast(frame, schema, path).with_columns(pl.col("model", "project").fill_null(""))
    optional = set(shares) | {field.name for field in dataclasses.fields(Point) if field.type in (int | None, float | None, str | None)}
    empty = [name for name in schema if name not in optional and frame[name].null_count()]
    if empty:
        raise ReportError(f"{path} has an empty cell in column {empty[0]}")
    rows = [row | {"shares": {name: row.pop(name) for name in shares}} for row in frame.to_dicts()]
    return sorted((Point(**row) for row in rows), key=lambda p: (p.ebops, p.point))


def _texts(path: Path) -> Any:
    """A csv file as it stands, every value a text."""
    pl = require("polars")
    try:
        return pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ReportError(f"{path} cannot be read as csv: {first_line(error)}") from error


def _cast(frame: Any, schema: dict[str, Any], path: Path) -> Any:
    """The columns of `schema`, of their types."""
    pl = require("polars")
    missing = [name for name in schema if name not in frame.columns]
    if missing:
        raise ReportError(f"{path} lacks the columns {', '.join(missing)}")
    try:
        return frame.select(list(schema)).cast(schema)
    except pl.exceptions.PolarsError as error:
        raise ReportError(f"{path} has a value of the wrong type: {first_line(error)}") from error
