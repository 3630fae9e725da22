"""Accuracy by LUT sites on the same rows: runs with `--each-seed` and released networks in one table and one figure."""

import dataclasses
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib import ticker

from experiments.methods_figure import front
from hgqjax import data, export, interop, resources, synth
from hgqjax.evaluation import measure
from hgqjax.evaluation.rows import RowReader
from hgqjax.files import write_atomically
from hgqjax.runs import folders
from hgqjax.scores import Accuracy
from hgqjax.training.front import pareto

matplotlib.use("Agg")
SCORE = Accuracy()
HEADS = ("network", "seed", "test %", "real %", "EBOPs", "`Luts`", "LUT", "LUT sites", "CARRY8", "FF", "cycles")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which networks, and on which rows."""

    runs: tuple[Path, ...] = ()
    """Run folders, each a line of the figure; their test rows must be those of `data`."""
    names: tuple[str, ...] = ()
    """What the runs are called in table and figure; by default the names of their experiments."""
    files: tuple[Path, ...] = ()
    """Networks of HGQ2 (.keras). Those of one folder are a line of the figure, which has the folder's name."""
    data: str = "jets"
    """Data set whose test rows measure accuracy."""
    real: Path | None = None
    """A file of further rows, all of which measure accuracy."""
    clock_ns: float = 5.0
    """As of `hgqjax synth`."""
    most_luts: float = 12_000.0
    """Networks with more predicted LUTs are in the table without synthesis."""
    output: Path = Path("results/lut_front")
    """Synthesis, table and figure; what is synthesised already is not done again."""
    jobs: int | None = None
    """Designs at a time, by default one for each core."""

    def __post_init__(self):
        if not (self.runs or self.files):
            raise ValueError("runs and files are empty; at least one run folder or network is needed")
        if self.names and len(self.names) != len(self.runs):
            raise ValueError(f"names is {self.names}; one is needed for each of the {len(self.runs)} runs, or none at all")


def run(config: Config) -> None:
    """Measures and synthesises the networks, prints the table, and draws the figure."""
    networks = _networks(config)
    small = {row["key"]: row["description"] for row in networks if row["luts"] <= config.most_luts}
    found = {
        row.point: row for row in synth.synthesize_many(small, config.output, jobs=config.jobs, progress=True, clock_ns=config.clock_ns)
    }
    reader, rows, dataset = RowReader(), [], data.load(config.data)
    test = data.split(sum(len(getattr(dataset, f"y_{part}")) for part in data.PARTS))[2]
    for network in networks:
        row = {key: network[key] for key in ("line", "network", "seed", "ebops", "luts", "val_score")}
        row |= {"test_score": _score(network["description"], config.data, reader, test)}
        row |= {"real_score": _score(network["description"], str(config.real), reader) if config.real else None}
        done = found.get(network["key"])
        if done is not None and not done.done:
            print(f"{network['key']}: {done.status}: {done.error}")
        names = ("lut", "lut_sites", "carry8", "ff", "latency_cycles")
        rows.append(row | {name: getattr(done, name) if done is not None and done.done else None for name in names})
    frame = pl.DataFrame(rows, infer_schema_length=None)
    text = "\n".join(_table(frame)) + "\n"
    print(text)
    write_atomically(config.output / "networks.csv", frame.write_csv())
    write_atomically(config.output / "table.md", text)
    print(_draw(frame, f"{dataset.name}, {len(test)} test rows", config.output))


def _networks(config: Config) -> list[dict[str, Any]]:
    """Those of the runs, then those of the files; `key` names a network's synthesis."""
    networks: list[dict[str, Any]] = []
    for n, folder in enumerate(config.runs):
        line = config.names[n] if config.names else folder.resolve().parent.name
        trained = folders.Run.open(folder).manifest["config"]
        if trained["data"] != config.data or trained["rows"] is not None:
            raise ValueError(f"run {folder} was not trained on all rows of {config.data}, so test rows may be among its training rows")
        for point in pl.read_csv(folder / "summary.csv").to_dicts():
            about = {"line": line, "network": f"{line}, {point['point']}", "seed": point["seed"], "val_score": point["val_score"]}
            about |= {"key": f"{folder.resolve().name}_{point['point']}", "ebops": point["ebops"], "luts": point["luts_predicted"]}
            networks.append(about | {"description": export.ModelDescription.load(folder / point["model"])})
    for path in config.files:
        description = interop.load_hgq2(path)
        about = {"line": path.resolve().parent.name, "network": path.stem, "seed": None, "val_score": None}
        costs = {"ebops": float(resources.ebops(description).total), "luts": float(resources.Luts()(description).total)}
        networks.append(about | costs | {"key": f"{path.resolve().parent.name}_{path.stem}".replace("=", "_"), "description": description})
    return networks


def _score(description: export.ModelDescription, name: str, reader: RowReader, rows: np.ndarray | None = None) -> float:
    x, y, *_ = reader(description, name)
    rows = np.arange(len(y)) if rows is None else rows
    return measure(description, x[rows], y[rows], SCORE)["score"]


def _table(frame: pl.DataFrame) -> list[str]:
    """Markdown: a line a network, the lines of the figure one after the other."""
    lines = [f"| {' | '.join(HEADS)} |", f"|---{'|---:' * (len(HEADS) - 1)}|"]
    for row in frame.to_dicts():
        scores = [f"{100 * row[key]:.2f}" if row[key] is not None else "" for key in ("test_score", "real_score")]
        whole = [row[key] for key in ("ebops", "luts", "lut", "lut_sites", "carry8", "ff", "latency_cycles")]
        numbers = ["" if value is None else f"{value:,.0f}".replace(",", " ") for value in whole]
        lines.append(f"| {' | '.join([row['network'], '' if row['seed'] is None else str(row['seed']), *scores, *numbers])} |")
    return lines


def _draw(frame: pl.DataFrame, rows: str, folder: Path) -> Path:
    """lut_front.png: of a run the mean over its seeds with a band from least to greatest, of files a line."""
    figure, axes = plt.subplots(figsize=(7.0, 4.5), layout="constrained")
    for n, (line, part) in enumerate(frame.filter(pl.col("lut_sites").is_not_null()).group_by("line", maintain_order=True)):
        own = part["seed"].is_not_null().all()
        merit = part["val_score"] if own else part["test_score"]
        fronts = {}
        for seed in sorted(part["seed"].unique()) if own else [0]:
            chosen = part.with_columns(merit=merit).filter(pl.col("seed") == seed) if own else part.with_columns(merit=merit)
            kept = chosen[pareto(chosen["merit"].to_list(), chosen["lut_sites"].cast(pl.Float64).to_list())]
            fronts[seed] = kept.sort("lut_sites")
        front(axes, fronts, "lut_sites", SCORE, f"C{n}", label=str(line[0]), style="-" if own else "--")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel("LUT sites (Yosys, UltraScale+)")
    axes.set_ylabel(f"accuracy in %, {rows}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path = folder / "lut_front.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
