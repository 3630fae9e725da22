"""A run folder as tables, checked, for people who draw or report it; the folder is only read."""

import contextlib
import dataclasses
import importlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hgqjax import resources
from hgqjax.description import DescriptionError, ModelDescription
from hgqjax.errors import first_line
from hgqjax.evaluation.measurement import accuracy_error
from hgqjax.export.project import GATE_FILE, RTL_FILE
from hgqjax.reports.published import Published
from hgqjax.runs.folders import Run, RunError, tidy

METRIC_COLUMNS = {"member": "Int64", "beta": "Float64", "seed": "Int64", "step": "Int64", "epoch": "Int64"}
METRIC_COLUMNS |= {"split": "String", "metric": "String", "value": "Float64"}


class ReportError(ValueError):
    """A folder that is no sound run, or nothing in it to show; one sentence."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A selected model, frozen and calibrated: a row of summary.csv; None or "" where it was not exported, or outliers do not count."""

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
    val_outliers: float | None = None
    test_outliers: float | None = None
    val_error: float | None = None
    """Statistical error of the score, of a regression."""
    test_error: float | None = None
    budget: float | None = None
    """Cost that the penalty schedule steered to, instead of a beta."""


@dataclasses.dataclass(frozen=True)
class RunView:
    """`metrics` is a polars frame with the columns `METRIC_COLUMNS`, empty in a run that has none yet; `points` rise in EBOPs."""

    folder: Path
    manifest: dict[str, Any]
    metrics: Any
    points: list[Point]

    @property
    def dataset(self) -> str:
        """Name of the data set, exactly as in the manifest."""
        return self.manifest["data"]["name"]

    @property
    def cost_unit(self) -> str:
        """What the objective's cost counts: EBOPs, LUTs, ..."""
        kind = (_find(self.manifest.get("config"), "cost") or {}).get("type", "Ebops")
        return getattr(getattr(resources, kind, None), "unit", kind)

    @property
    def is_accuracy(self) -> bool:
        """Whether scores are accuracies, 0 .. 1 (else minus a root mean square error)."""
        return _find(self.manifest.get("config"), "task") != "regression"

    @property
    def each_seed(self) -> bool:
        """Whether the points are a front of each seed, and not one of all."""
        return bool(_find(self.manifest.get("config"), "each_seed"))

    @property
    def window(self) -> float | None:
        """Residuals of this size and more are outliers; None where none is."""
        return _find(_find(self.manifest.get("config"), "objective"), "window")

    @property
    def score_label(self) -> str:
        """What `shown` gives, with its unit."""
        unit = self.manifest["data"].get("unit")
        return "accuracy (%)" if self.is_accuracy else f"resolution ({unit})" if unit else "resolution"

    def shown(self, score: Any) -> Any:
        """A score, or an array of them, as tables and figures have it: accuracy in percent, or resolution, of which less is better."""
        return 100 * score if self.is_accuracy else -score

    def beside(self, published: Sequence[Published]) -> list[Published]:
        """Those of `published` whose score is of the same kind and unit as this run's."""
        of_this_kind = self.is_accuracy or self.manifest["data"].get("unit") == "mrad"
        return [p for p in published if of_this_kind and p.score is not None and (p.accuracy is not None) == self.is_accuracy]

    def in_words(self, score: float) -> str:
        """`shown`, with its unit."""
        unit = "%" if self.is_accuracy else self.manifest["data"].get("unit", "")
        return (f"{self.shown(score):.2f}" if self.is_accuracy else f"{self.shown(score):.4g}") + f" {unit}".rstrip()

    def error(self, point: Point, split: str = "test") -> float | None:
        """Statistical error of the score of `point` on the rows of `split`, as `shown` has it; None where it is not known."""
        if not self.is_accuracy:
            error = getattr(point, f"{split}_error")
            return None if error is None or math.isnan(error) else error
        return accuracy_error(getattr(point, f"{split}_score"), self.manifest["data"].get("rows", {}).get(split))

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
    metrics = _metrics(folder / "metrics.parquet", None if needed else _history(folder, manifest))
    return RunView(folder, manifest, metrics, _points(folder / "summary.csv", needed))


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
            about = json.loads(path.read_text())
            names = ("flavor",) if path.name == RTL_FILE else ("backend", "io_type", "strategy")
            gate = about["gate"] or {}
            what = ", ".join(str(about[name]) for name in names)
            numbers = (gate["rows"], gate["words"], gate["differing_words"]) if gate else (None, None, None)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{path} cannot be read as the record of an export: {first_line(error)}") from error
        found.append(Gate(path.parent.relative_to(folder).as_posix(), what, *numbers))
    return found


def require(module: str) -> Any:
    """The module, or an ImportError of one sentence that names the extra which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module.partition('.')[0]} is not installed; pip install 'hgqjax[run]'") from error


def _history(folder: Path, manifest: dict[str, Any]) -> list[dict[str, Any]] | None:
    """What ``metrics.parquet`` of a sweep that still trains would have by now; None where that file is there."""
    path = folder / "checkpoints" / "history.jsonl"
    if (folder / "metrics.parquet").exists():
        return None
    if not path.exists():
        return []
    rows, train = manifest["data"].get("rows", {}), manifest["config"]["train"]
    checks = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # of the last line, which may be half written
            checks.append(json.loads(line))
    return list(tidy(checks, train["epochs_per_check"], rows["train"] // train["batch_size"]))


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


def _points(path: Path, needed: bool) -> list[Point]:
    pl = require("polars")
    if not needed and (not path.exists() or not path.read_bytes().strip()):
        return []
    kinds = {str: pl.String, int: pl.Int64, float: pl.Float64, int | None: pl.Int64, float | None: pl.Float64}
    schema = {field.name: kinds[field.type] for field in dataclasses.fields(Point)}
    frame = _texts(path)
    for field in dataclasses.fields(Point):
        if field.default is None and field.name not in frame.columns:
            del schema[field.name]
    frame = _cast(frame, schema, path).with_columns(pl.col("model", "project").fill_null(""))
    optional = {field.name for field in dataclasses.fields(Point) if field.type in (int | None, float | None)}
    empty = [name for name in schema if name not in optional and frame[name].null_count()]
    if empty:
        raise ReportError(f"{path} has an empty cell in column {empty[0]}")
    return sorted((Point(**row) for row in frame.to_dicts()), key=lambda p: (p.ebops, p.point))


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


def _find(config: Any, key: str) -> Any:
    """The first value under `key` in nested JSON, None where there is none."""
    if isinstance(config, dict):
        if key in config:
            return config[key]
        config = list(config.values())
    if isinstance(config, list):
        return next((v for v in (_find(item, key) for item in config) if v is not None), None)
    return None
