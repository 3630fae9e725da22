"""`hgqjax zoo`: a folder of released networks, listed, verified, measured, and exported again through the same gate."""

import csv
import dataclasses
import io
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hgqjax import data as data_
from hgqjax import export, resources, scores
from hgqjax.archives import Npz
from hgqjax.description import layer_table
from hgqjax.description.layer_table import Widths
from hgqjax.errors import sentence
from hgqjax.evaluation import Measured, measured
from hgqjax.evaluation.rows import RowReader
from hgqjax.export import backends, gate
from hgqjax.export.project import GATE_FILE, RTL_FILE
from hgqjax.export.rtl import trace
from hgqjax.files import write_atomically
from hgqjax.interop.models import is_file, is_model, open_model
from hgqjax.runs import folders

BACKENDS = {"hls4ml": "Vitis", "verilog": "verilog", "vhdl": "vhdl"}
BROKEN = (ValueError, OSError, RuntimeError, ImportError)
"""What a file, a gate or a missing tool raises: the row's reason, and the others go on."""
TRIAL_ROWS = 100


class ZooError(ValueError):
    """A folder without networks, a name that is not there, options that do not go together, or networks that failed; one sentence."""


@dataclasses.dataclass
class Entry:
    """One network and what was found; None and "" where it was not asked for, or not reached. `reason` is a sentence where it failed."""

    name: str
    path: Path
    reason: str = ""
    note: str = ""
    """Why it was not measured, where that is no fault of its own: the rows are of another task."""
    kind: str = ""
    """What its score is: accuracy, resolution, ..."""
    inputs: str = ""
    outputs: str = ""
    data: str = ""
    rows: int | None = None
    score: float | None = None
    score_error: float | None = None
    unit: str = ""
    """Of y."""
    shares: dict[str, float] = dataclasses.field(default_factory=dict)
    """Further shares of the score, such as that of outliers."""
    training_rows: bool = False
    """Whether the score is of rows that the network was trained on, too."""
    measured: Measured | None = None
    ebops: float | None = None
    ebops_paper_v1: float | None = None
    luts_predicted: float | None = None
    adder_cost: float | None = None
    weights: Widths = Widths()
    activations: Widths = Widths()
    golden_words: int | None = None
    project: str = ""
    project_rows: int | None = None
    project_simulated_rows: int | None = None
    """Of RTL: rows that a simulator ran; the compiler's interpreter ran all."""
    project_words: int | None = None
    seconds: float = 0.0

    @property
    def checked(self) -> str:
        """What its words were compared with."""
        golden = "" if self.golden_words is None else f"{self.golden_words} golden words"
        project = "" if self.project_words is None else f"{self.project}: {self.project_words} words"
        if self.project_simulated_rows not in (None, self.project_rows):
            project += f" ({self.project_simulated_rows} of {self.project_rows} rows simulated)"
        return "FAILED" if self.reason else ", ".join(text for text in (golden, project) if text) or "evaluates"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZooOptions:
    """What is done with each network."""

    data: tuple[str, ...] = ()
    rows: int | None = None
    window: float | None = None
    adder_graph: bool = False
    export: str | None = None
    output: Path | None = None
    verify: bool = False
    gate_rows: int = 10_000


def find(folder: Path, names: Sequence[str] = ()) -> list[tuple[str, Path]]:
    """The networks in a folder and all folders below it, with their names: their paths from there; sorted. The suffix of a file is part
    of a name only where another network has the name without it.

    Hidden folders, linked folders and exported projects are not entered, as these hold copies of their models.

    Raises: ZooError where there is no network, or none of a name that is asked for.
    """
    if not folder.exists():
        raise ZooError(f"there is no {folder}")
    if not folder.is_dir():
        raise ZooError(f"{folder} is a file; zoo takes its folder, {folder.parent}, and the names of the networks that are meant")
    found: dict[str, Path] = {}
    for path in sorted(_walk(folder), key=Path.is_file):  # descriptions before files
        whole = path.relative_to(folder).as_posix() if path != folder else path.resolve().name
        short = whole[: -len(path.suffix)] if path.is_file() else whole
        found[whole if short in found else short] = path
    found = dict(sorted(found.items()))
    missing = [name for name in names if name not in found]
    if missing or not found:
        had = f"; it has {', '.join(found)}" if found else ""
        what = f"network {missing[0]!r}" if missing else "network: no .keras, .h5 or .onnx file of a network and no model description"
        raise ZooError(f"{folder} has no {what}{had}")
    return [(name, path) for name, path in found.items() if not names or name in names]


def _walk(folder: Path) -> Iterator[Path]:
    if is_model(folder):
        yield folder
        return
    if any((folder / record).exists() for record in (GATE_FILE, RTL_FILE)):
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _walk(path)
        elif is_file(path):
            yield path


def visit(name: str, path: Path, wanted: ZooOptions, reader: RowReader) -> Entry:
    """One network: read, evaluated in exact integers, and what else is `wanted`. A broken one raises nothing: `Entry.reason` says why."""
    entry, start = Entry(name, path), time.monotonic()
    try:
        description = open_model(path)
        entry.kind = known.name if (known := scores.of_model(description.metadata)) else ""
        entry.inputs = " ".join(layer_table.shape_text(op.shape) for op in description.inputs)
        entry.outputs = " ".join(layer_table.shape_text(description[name].shape) for name in description.outputs)
        rows = layer_table.layer_rows(description)
        entry.weights, entry.activations = layer_table.weight_widths(rows), layer_table.activation_widths(description)
        entry.ebops, entry.ebops_paper_v1 = (float(resources.ebops(description, d).total) for d in ("hgq2", "paper_v1"))
        entry.luts_predicted = float(resources.Luts()(description).total)
        _check_grids(description)
        if path.is_file():
            entry.golden_words = golden_words(description, path.with_suffix(".npz"))
        if wanted.data:
            _measure(entry, description, wanted, reader)
        if wanted.adder_graph:
            entry.adder_cost = export.adder_graph(description).cost
        if wanted.export or wanted.verify:
            _export(entry, description, wanted)
    except BROKEN as error:
        entry.reason = sentence(error)
    entry.seconds = round(time.monotonic() - start, 1)
    return entry


def _check_grids(description: export.ModelDescription) -> None:
    """Evaluates the gate's rows, and finds each whole number within the interval that the description promises."""
    values = description.integers(gate.gate_rows(description, min_rows=TRIAL_ROWS))
    for op in description.operations:
        grid = description.grids[op.name]
        if op.kind != "input" and not (np.all(values[op.name] >= grid.low) and np.all(values[op.name] <= grid.high)):
            raise ZooError(f"layer {op.name!r} leaves the interval of its grid")


def golden_words(description: export.ModelDescription, path: Path) -> int | None:
    """How many words of layers and outputs equal those in ``path``, which holds what another program computed; None where there is none.

    Args:
      description: of a file. path: an .npz with inputs ``x0``, ``x1``, ..., values ``t/<layer>`` and outputs ``y0``, ``y1``, ...
    Raises: ZooError where a value differs, or the file cannot be read.
    """
    if not path.is_file():
        return None
    try:
        file = Npz(path)
        if "x0" not in file.names:
            return None
        arrays = file.read(key for key in file.names if key[:1] in ("x", "y", "t"))
    except Exception as error:  # whatever a damaged zip file raises
        raise ZooError(f"{path.name} cannot be read: {error}") from error
    values = description.integers(tuple(arrays[f"x{n}"] for n in range(len(description.inputs))))
    named = {
        f"t/{layer}": name
        for layer, name in (description.metadata.get("hgq2") or description.metadata.get("qkeras") or {}).get("results", {}).items()
    }
    named |= {f"y{n}": name for n, name in enumerate(description.outputs)}
    words = 0
    for key, name in named.items():
        if key in arrays and description[name].kind != "input":
            ours = np.ldexp(values[name].astype(np.float64), -description.grids[name].f.astype(np.int64))
            wrong = ours.size if ours.shape != arrays[key].shape else int(np.sum(ours != arrays[key]))
            if wrong:
                raise ZooError(f"{wrong} of {ours.size} words of {key.removeprefix('t/')!r} are not those of {path.name}")
            words += ours.size
    return words


def _measure(entry: Entry, description: export.ModelDescription, wanted: ZooOptions, reader: RowReader) -> None:
    """On the first of the data sets whose rows the network takes."""
    why = []
    for data in wanted.data:
        try:
            found = measured(description, data, reader, rows=wanted.rows, window=wanted.window)
        except ValueError as error:
            why.append(str(error))
            continue
        entry.kind, entry.data, entry.rows, entry.unit = found.score.name, reader.name(data), found.rows, found.unit
        entry.measured, entry.training_rows = found, found.training_rows
        entry.score, entry.score_error = found.found["score"], found.error
        entry.shares = {name: found.found[name] for name in found.score.shares}
        return
    entry.note = "; ".join(dict.fromkeys(why))


def _export(entry: Entry, description: export.ModelDescription, wanted: ZooOptions) -> None:
    """Writes the project into `output`; for `verify` alone into a folder that is removed again."""
    backend = wanted.export or ("hls4ml" if len(description.inputs) == 1 else "verilog")
    settings = {"backend": BACKENDS[backend], "min_rows": wanted.gate_rows}
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) if wanted.output is None else wanted.output
        path = base.absolute() / _project_name(entry.name, backend)
        with folders.hold(path):
            project = backends.export(description, path, settings)
    assert project.gate is not None, "it is exported behind the gate"
    entry.project, entry.project_rows, entry.project_words = backend, project.gate.rows, project.gate.words
    entry.project_simulated_rows = getattr(project, "simulated_rows", None)


def _project_name(network: str, backend: str) -> str:
    return f"{network.replace('/', '_')}_{backend}"


def _check_projects(names: Iterable[str], backend: str) -> None:
    """Raises ZooError where two networks would be exported into one folder."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_project_name(name, backend), name)
        if other != name:
            raise ZooError(f"networks {other!r} and {name!r} would both become {_project_name(name, backend)}; rename one, or name others")


def show(entries: Iterable[Entry]) -> str:
    """The table for a terminal; what failed, or was not measured, has its reason below."""
    entries = list(entries)
    heads = ("network", "inputs", "outputs", "score", "EBOPs", "paper_v1", "LUTs", "adder cost", "weights", "0, 1, ... bits", "pruned")
    lines: list[tuple[str, ...]] = [(*heads, "activations", "0, 1, ... bits", "checked")]
    for e in entries:
        costs = ("" if n is None else f"{n:.0f}" for n in (e.ebops, e.ebops_paper_v1, e.luts_predicted, e.adder_cost))
        weights = _bits(e.weights), layer_table.sparkline(e.weights), f"{e.weights.pruned:.1%}" if e.weights.size else ""
        activations = _bits(e.activations), layer_table.sparkline(e.activations)
        lines.append((e.name, e.inputs, e.outputs, _score(e), *costs, *weights, *activations, e.checked))
    shown = [n for n, column in enumerate(zip(*lines[1:], strict=True)) if any(column)]
    table = layer_table.aligned([tuple(line[n] for n in shown) for line in lines])
    notes = [f"{e.name}: {why}" for e in entries for why in (e.reason, e.note and f"not measured: {e.note}") if why]
    return "\n".join([*table, *notes])


def _bits(widths: Widths) -> str:
    return f"{widths.mean:.2f} bits" if widths.size else ""


def _score(e: Entry) -> str:
    where = f"({e.data}{', training rows among them' if e.training_rows else ''})"
    return "" if e.measured is None else f"{e.measured} {where}"


def csv_text(entries: Iterable[Entry]) -> str:
    """All that is known, a network a row; histograms as ``bits:count`` with spaces between."""
    buffer = io.StringIO()
    lines = [_flat(e) for e in entries]
    heads = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(buffer, heads, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _flat(e: Entry) -> dict[str, Any]:
    line: dict[str, Any] = {"name": e.name, "status": "failed" if e.reason else "done"}
    for field in dataclasses.fields(e):
        value = getattr(e, field.name)
        if isinstance(value, Widths):
            line[f"{field.name}_bits_mean"] = f"{value.mean:.6g}" if value.size else ""
            line[f"{field.name}_pruned"] = f"{value.pruned:.6g}" if value.size else ""
            line[f"{field.name}_histogram"] = " ".join(f"{bits}:{n}" for bits, n in enumerate(value.counts) if n)
        elif isinstance(value, dict):
            line |= value
        elif field.name not in ("path", "measured"):
            line[field.name] = "" if value is None else value
    return line


def _check(wanted: ZooOptions, csv: Path | None) -> None:
    """What would fail for every network, or after the work, is refused before it."""
    if (wanted.export is None) != (wanted.output is None):
        raise ZooError("--export and --output go together: what to write, and where")
    for option, count in (("--rows", wanted.rows), ("--gate-rows", wanted.gate_rows)):
        if count is not None and count < 1:
            raise ZooError(f"{option} is {count}; at least 1 is needed")
    if csv is not None and not csv.absolute().parent.is_dir():
        raise ZooError(f"{csv.parent} is not a folder, so {csv.name} cannot be written there")
    if csv is not None and csv.is_dir():
        raise ZooError(f"--csv is {csv}, which is a folder; a file is needed")
    if wanted.output is not None and wanted.output.exists() and not wanted.output.is_dir():
        raise ZooError(f"--output is {wanted.output}, which is a file; a folder is needed")
    for name in wanted.data:
        data_.check(name)
    if wanted.adder_graph or wanted.export in ("verilog", "vhdl"):
        trace.check_alkaid()


def run(folder: Path, names: tuple[str, ...], wanted: ZooOptions, csv: Path | None) -> None:
    """What `hgqjax zoo` does: prints the table, writes projects and the csv file; ZooError after it where a network failed."""
    reader = RowReader()
    _check(wanted, csv)
    found = find(folder, names)
    if wanted.export is not None:
        _check_projects((name for name, _ in found), wanted.export)
    entries = [visit(name, path, wanted, reader) for name, path in found]
    print(show(entries))
    if csv is not None:
        write_atomically(csv, csv_text(entries))
    if wanted.data and all(e.score is None for e in entries):
        raise ZooError(f"no network could be measured: {next((e.note for e in entries if e.note), 'all of them failed')}")
    failed = [e.name for e in entries if e.reason]
    if failed:
        raise ZooError(f"{len(failed)} of {len(entries)} networks failed: {', '.join(failed)}")
