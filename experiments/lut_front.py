"""Accuracy by LUT sites on the same rows: runs with `--each-seed` and released networks in one table and one figure."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib import ticker

from experiments.methods_figure import front
from hgqjax import data, export, resources, synth
from hgqjax.evaluation import measure
from hgqjax.evaluation.rows import RowReader
from hgqjax.files import write_atomically
from hgqjax.interop.models import open_model
from hgqjax.runs import folders
from hgqjax.scores import AbstractScore, Accuracy, Resolution
from hgqjax.training.front import pareto

matplotlib.use("Agg")
COLUMNS = {"ebops": "EBOPs", "luts": "`Luts`", "lut": "LUT", "lut_sites": "LUT sites", "carry8": "CARRY8", "ff": "FF"}
COLUMNS |= {"latency_cycles": "cycles"}
"""Whole numbers of the table."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which networks, and on which rows."""

    runs: tuple[Path, ...] = ()
    """Run folders, each a line of the figure; their test rows must be those of `data`."""
    names: tuple[str, ...] = ()
    """What the runs are called in table and figure; by default the names of their experiments. Runs of one name are one line."""
    files: tuple[Path, ...] = ()
    """Networks: files of HGQ2 (.keras), or folders of model descriptions. Those of one folder are a line of the figure, named as it is."""
    data: Literal["jets", "muon"] = "jets"
    """Data set whose test rows measure accuracy, or the resolution of angles."""
    real: Path | None = None
    """A file of further rows, all of which are measured, too."""
    clock_ns: float = 5.0
    """As of `hgqjax synth`."""
    most_luts: float = 12_000.0
    """Networks with more predicted LUTs are in the table without synthesis."""
    output: Path = Path("results/lut_front")
    """Synthesis, table and figure; what is synthesised already is not done again."""
    jobs: int | None = None
    """Designs at a time, by default one for each core."""

    @property
    def score(self) -> AbstractScore:
        """What is measured: the one that the published tables of the task have."""
        return Resolution(window=30.0) if self.data == "muon" else Accuracy()

    def __post_init__(self):
        if not (self.runs or self.files):
            raise ValueError("runs and files are empty; at least one run folder or network is needed")
        if self.names and len(self.names) != len(self.runs):
            raise ValueError(f"names is {self.names}; one is needed for each of the {len(self.runs)} runs, or none at all")


def run(config: Config) -> None:
    """Measures and synthesises the networks, prints the table, and draws a figure of those that were synthesised."""
    networks = _networks(config)
    small = {row["key"]: row["description"] for row in networks if row["luts"] <= config.most_luts}
    found = {
        row.point: row for row in synth.synthesize_many(small, config.output, jobs=config.jobs, progress=True, clock_ns=config.clock_ns)
    }
    reader, rows, dataset, test = RowReader(), [], data.load(config.data), None
    for network in networks:
        description = network["description"]
        row = {key: network[key] for key in ("line", "network", "seed", "ebops", "luts", "val_score")}
        x, y, *_ = reader(description, config.data)
        test = _test_rows(y, dataset.y_test) if test is None else test
        x = tuple(part[test] for part in x) if isinstance(x, tuple) else x[test]
        row |= {"test_score": measure(description, x, y[test], config.score)["score"], "real_score": None}
        if config.real:
            row["real_score"] = measure(description, *reader(description, str(config.real))[:2], config.score)["score"]
        done = found.get(network["key"])
        if done is not None and not done.done:
            print(f"{network['key']}: {done.status}: {done.error}")
        names = [name for name in COLUMNS if name not in row]
        rows.append(row | {name: getattr(done, name) if done is not None and done.done else None for name in names})
    frame = pl.DataFrame(rows, infer_schema_length=None)
    label = config.score.label(dataset.unit)
    text = "\n".join([*_table(frame, config.score, label), "", *_compared(frame, config.score, label)]) + "\n"
    print(text)
    config.output.mkdir(parents=True, exist_ok=True)
    write_atomically(config.output / "networks.csv", frame.write_csv())
    write_atomically(config.output / "table.md", text)
    if frame["lut_sites"].is_not_null().any():
        print(_draw(frame, config.score, f"{label}: {dataset.name}, {len(dataset.y_test)} test rows", config.output))


def _networks(config: Config) -> list[dict[str, Any]]:
    """Those of the runs, then those of the files; `key` names a network's synthesis."""
    networks: list[dict[str, Any]] = []
    lines = config.names or tuple(folder.resolve().parent.name for folder in config.runs)
    names = [f"{lines[:n].count(line) + 1}/" if lines.count(line) > 1 else "" for n, line in enumerate(lines)]
    for n, (line, folder) in enumerate(zip(lines, config.runs, strict=True)):
        trained = folders.Run.open(folder).manifest["config"]
        if trained["data"] != config.data or trained["rows"] is not None:
            raise ValueError(f"run {folder} was not trained on all rows of {config.data}, so test rows may be among its training rows")
        if not trained["each_seed"]:
            raise ValueError(f"run {folder} has one front of all seeds; one of each seed (--each-seed) is needed")
        for point in pl.read_csv(folder / "summary.csv").to_dicts():
            about = {"line": line, "network": f"{line} {names[n]}{point['point']}", "seed": point["seed"], "val_score": point["val_score"]}
            about |= {"key": f"{folder.resolve().name}_{point['point']}", "ebops": point["ebops"], "luts": point["luts_predicted"]}
            networks.append(about | {"description": export.ModelDescription.load(folder / point["model"])})
    for path in config.files:
        description = open_model(path)
        about = {"line": path.resolve().parent.name, "network": path.stem, "seed": None, "val_score": None}
        costs = {"ebops": float(resources.ebops(description).total), "luts": float(resources.Luts()(description).total)}
        if about["line"] in lines:
            raise ValueError(f"a run and the folder of {path} are both called {about['line']}; name the run otherwise (--names)")
        networks.append(about | costs | {"key": f"{path.resolve().parent.name}_{path.stem}".replace("=", "_"), "description": description})
    keys = [network["key"] for network in networks]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"{twice[0]} is given twice, by folders or files of one name; give each network once")
    return networks


def _test_rows(y: np.ndarray, of_test: np.ndarray) -> np.ndarray:
    """Numbers of the test rows among all rows of a data set, which are drawn, or the last ones."""
    for rows in (data.split(len(y))[2], np.arange(len(y) - len(of_test), len(y))):
        if np.array_equal(y[rows], of_test):
            return rows
    raise ValueError("the rows are not those of the data set that has the test rows")


def _table(frame: pl.DataFrame, score: AbstractScore, label: str) -> list[str]:
    """Markdown: a line a network, the lines of the figure one after the other."""
    heads = ["network", "seed", label, f"{label}, real rows", *COLUMNS.values()]
    lines = [f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|"]
    for row in frame.to_dicts():
        scores = ["" if row[key] is None else score.cell(row[key]) for key in ("test_score", "real_score")]
        numbers = ["" if row[name] is None else f"{row[name]:,.0f}".replace(",", " ") for name in COLUMNS]
        lines.append(f"| {' | '.join([row['network'], '' if row['seed'] is None else str(row['seed']), *scores, *numbers])} |")
    return lines


def _fronts(part: pl.DataFrame, score: AbstractScore, cost: str) -> dict[int, pl.DataFrame]:
    """Of a line of the figure the front of each seed by rising cost; validation rows choose its points, of files test rows."""
    merit = score.merit(part["val_score" if part["seed"].is_not_null().all() else "test_score"])
    fronts = {}
    for (seed,), own in part.with_columns(merit=merit).sort("seed").group_by("seed", maintain_order=True):
        fronts[seed] = own[pareto(own["merit"].to_list(), own[cost].cast(pl.Float64).to_list())].sort(cost)
    return fronts


def needed(costs: np.ndarray, merits: np.ndarray, merit: float) -> float | None:
    """The cost at which a front, by rising cost, first has this merit; on a line over the logarithm of the cost between two points.

    It is that of the cheapest point, where that has it already, and None where no point has it.

    >>> needed(np.array([100.0, 400.0]), np.array([0.5, 0.7]), 0.6), needed(np.array([100.0]), np.array([0.5]), 0.6)
    (200.0, None)
    """
    best = np.maximum.accumulate(merits)
    costs, n = np.maximum(costs, 1.0), int(np.searchsorted(best, merit))
    if n == len(best):
        return None
    if n == 0:
        return float(costs[0])
    share = (merit - best[n - 1]) / (best[n] - best[n - 1])
    return float(np.exp(np.log(costs[n - 1]) + share * np.log(costs[n] / costs[n - 1])))


def _compared(frame: pl.DataFrame, score: AbstractScore, label: str) -> list[str]:
    """Markdown: for each released network the cost of each run at the same test score, mean over the seeds (geometric), and the range."""
    runs = frame.filter(pl.col("seed").is_not_null())
    names = runs["line"].unique(maintain_order=True).to_list()
    released = frame.filter(pl.col("seed").is_null()).to_dicts()
    if not names or not released:
        return []
    lines = [f"| network | {label} | cost | released | {' | '.join(names)} |", f"|---|---:|---|---:|{'---:|' * len(names)}"]
    for network in released:
        for cost in ("lut_sites", "luts", "ebops"):
            if network[cost] is None:
                continue
            cells = []
            for name in names:
                own = runs.filter(pl.col("line") == name)
                fronts = _fronts(own.filter(pl.col(cost).is_not_null()), score, cost).values()
                merit, seeds = score.merit(network["test_score"]), own["seed"].n_unique()
                found = [needed(f[cost].to_numpy(), score.merit(f["test_score"].to_numpy()), merit) for f in fronts]
                there = [v for v in found if v is not None]
                mean = math.exp(np.mean(np.log(there))) if len(there) == seeds else None
                kept = f"{len(there)} of {seeds} seeds" if mean is None else f"{mean:,.0f} ({min(there):,.0f} .. {max(there):,.0f})"
                cells.append(kept.replace(",", " ") + ("" if mean is None else f", x{mean / network[cost]:.2f}"))
            about = (network["network"], score.cell(network["test_score"]), COLUMNS[cost], f"{network[cost]:,.0f}".replace(",", " "))
            lines.append(f"| {' | '.join([*about, *cells])} |")
    return lines


def _draw(frame: pl.DataFrame, score: AbstractScore, label: str, folder: Path) -> Path:
    """lut_front.png: of a run the mean over its seeds with a band from least to greatest, of files a line."""
    figure, axes = plt.subplots(figsize=(7.0, 4.5), layout="constrained")
    for n, (line, part) in enumerate(frame.filter(pl.col("lut_sites").is_not_null()).group_by("line", maintain_order=True)):
        of_run = part["seed"].is_not_null().all()
        front(axes, _fronts(part, score, "lut_sites"), "lut_sites", score, f"C{n}", label=str(line[0]), style="-" if of_run else "--")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel("LUT sites (Yosys, UltraScale+)")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path = folder / "lut_front.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
