"""What there is to synthesise: RTL projects, and the models that become one; found by their paths, known by their content."""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import re
from pathlib import Path
from typing import Any

from hgqjax import resources
from hgqjax.archives import read_json_file
from hgqjax.config import to_json
from hgqjax.description import ModelDescription
from hgqjax.export.gate import ExportError
from hgqjax.export.project import MODEL_FOLDER, RTL_FILE, check_clock, check_part
from hgqjax.files import MANIFEST
from hgqjax.interop import kanele, models
from hgqjax.reports.reader import read as read_run
from hgqjax.synth import vitis
from hgqjax.synth.settings import Settings, SynthError, Synthesis

LIMITS = ("time_limit", "max_luts")
"""Settings that change whether there is a result, but not which."""
FURTHER = ("timing", "verify")
"""Settings that ask for more than the counts, and change none of them."""
BENCH_FILES = ("stimulus.hex", "expected.hex")
DEFAULT_CLOCK_NS = 5.0
ABOUT_RTL = ("bench.py", "simulate.py", "plugin.py")
"""Of our RTL back end, what the design does not depend on."""
_TOP, _SOURCE = re.compile(r"[A-Za-z]\w{0,99}", re.ASCII), re.compile(r"[A-Za-z_][\w./-]{0,199}", re.ASCII)
MODELS = "models"
"""Folder of a run with the models of its points."""
MIN_ROWS = 100
"""Rows of the test bench of RTL that is made here."""
DESCRIPTION = "description.json"
"""Of a model description's folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rtl:
    """An RTL project of `hgqjax.export.to_rtl`, as its hgqjax_rtl.json says."""

    folder: Path
    top: str
    flavor: str
    sources: tuple[Path, ...]
    latency_cycles: int
    clock_ns: float
    latency_cutoff: float | None
    adder_cost: float
    part: str
    testbench: str = ""
    output_formats: tuple[tuple[int, ...], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """One thing to synthesise: `source` is an RTL project, a model description or a file of one; results go to ``base/synth/<point>``."""

    base: Path
    point: str
    source: Path

    @property
    def is_rtl(self) -> bool:
        """Whether the RTL is there already."""
        return (self.source / RTL_FILE).exists()


def find(path: Path, output: Path | None = None, tool: str = "yosys") -> list[Design]:
    """The designs that `path` is or holds.

    Args:
      path: a run folder (all its points), a model description, a .keras or .onnx file, or an RTL project; for the tool vitis a run folder
        with projects, or an hls4ml project.
      output: where results go; by default into the run folder, for a model of a run too, or beside any other model as ``<model>_synth``.
    Raises: SynthError for anything else; ReportError for a run whose points cannot be read.
    """
    path, output = tidy(path), None if output is None else tidy(output)
    hls = tool == "vitis"
    if (path / MANIFEST).exists():
        run = read_run(path)
        points = [(p.point, p.project if hls else p.model) for p in run.points if (p.project if hls else p.model)]
        if not points:
            raise SynthError(f"{path} has no points with {'an hls4ml project' if hls else 'a saved model'} yet")
        return [Design(base=output or path, point=point, source=path / source) for point, source in points]
    is_model = models.is_model(path)
    if not (vitis.is_project(path) if hls else is_model or (path / RTL_FILE).exists()):
        legal = "an hls4ml project" if hls else f"a model description, a .keras or .onnx file, or an RTL project (with {RTL_FILE})"
        legal = f"{path} is none of what {tool} synthesises: a run folder, {legal}"
        raise SynthError(legal if path.exists() else f"{path} does not exist")
    beside = path.parents[1] if is_model and is_run_of(path) else path.with_name(f"{name(path)}_synth")
    return [Design(base=output or beside, point=name(path), source=path)]


def is_run_of(model: Path) -> bool:
    """Whether a model lies where a run keeps those of its points."""
    return model.parent.name == MODELS and (model.parents[1] / MANIFEST).is_file()


def tidy(path: str | os.PathLike) -> Path:
    """`path`, absolute and without ``..``, of which symbolic links keep their names where that does not lead elsewhere."""
    path = Path(path).absolute()
    short = Path(os.path.normpath(path))
    return short if short.resolve() == path.resolve() else path.resolve()


def name(path: Path) -> str:
    """Of a design by its path, a file without its suffix."""
    return models.stem(path)


def load(source: Path) -> ModelDescription | None:
    """The model of a description's folder, of a .keras or .onnx file, or of RTL where that holds it."""
    if (source / RTL_FILE).exists():
        source = source / MODEL_FOLDER
        if not source.exists():
            return None
    return models.open_model(source)


def read_rtl(folder: Path) -> Rtl:
    """The RTL project in `folder`; raises SynthError where it is not one, or not whole."""
    try:
        about = read_json_file(folder / RTL_FILE)
        sources = tuple(folder / name for name in about["sources"])
        rtl = Rtl(
            folder=folder,
            top=str(about["top"]),
            flavor=str(about["flavor"]),
            sources=sources,
            latency_cycles=int(about["latency_cycles"]),
            clock_ns=float(about["clock_ns"]),
            latency_cutoff=None if about["latency_cutoff"] is None else float(about["latency_cutoff"]),
            adder_cost=float(about["adder_cost"]),
            part=str(about["part"]),
            testbench=str(about.get("testbench", "")),
            output_formats=tuple(tuple(map(int, kif)) for kif in about.get("output_formats", [])),
        )
        check_part(rtl.part)
        check_clock(rtl.clock_ns)
    except ExportError as error:
        raise SynthError(f"{folder} is no RTL project: {RTL_FILE} has what cannot be legal: {error}") from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise SynthError(f"{folder} is no RTL project: {RTL_FILE} cannot be read ({error!r})") from error
    strange = [name for name in (rtl.top, rtl.testbench or "x") if not _TOP.fullmatch(name)]
    strange += [name for name in about["sources"] if not _SOURCE.fullmatch(str(name)) or ".." in name]
    if strange or rtl.flavor not in ("verilog", "vhdl"):  # they are written into scripts of Tcl and Yosys
        what = f"the name {strange[0][:80]!r}" if strange else f"the flavor {rtl.flavor[:80]!r}"
        raise SynthError(f"{folder} is no RTL project: {RTL_FILE} has {what}; letters, digits, _ (and - . / in sources) are legal")
    missing = [path.name for path in sources if not path.is_file()]
    if missing or not sources:
        raise SynthError(f"{folder} lacks the source {missing[0]!r} that {RTL_FILE} names" if missing else f"{folder} names no sources")
    return rtl


def make_rtl(description: ModelDescription, folder: Path, settings: Settings) -> Rtl:
    """The RTL of a model, in `folder`, with a test bench of the rows that its netlist is checked on."""
    from hgqjax.export.rtl.convert import to_rtl

    rows = max(settings.verify, MIN_ROWS)
    to_rtl(description, folder, **_clock(settings), verify=False, min_rows=rows, max_cost=math.inf)  # its size was checked before
    return read_rtl(folder)


def target(design: Design, settings: Settings) -> dict[str, float | None]:
    """Clock and adder levels a clock of a design, as columns of `Synthesis`, as they are known before it is made."""
    if settings.tool == "vitis":
        return {"clock_ns": None, "latency_cutoff": None}
    if design.is_rtl:
        rtl = read_rtl(design.source)
        return {"clock_ns": rtl.clock_ns, "latency_cutoff": rtl.latency_cutoff}
    return _clock(settings)


def _clock(settings: Settings) -> dict[str, Any]:
    from hgqjax.export.rtl.convert import cutoff

    clock_ns = settings.clock_ns or DEFAULT_CLOCK_NS
    return {"clock_ns": clock_ns, "latency_cutoff": float(cutoff(clock_ns) if settings.latency_cutoff is None else settings.latency_cutoff)}


def estimate(description: ModelDescription) -> float:
    """EBOPs of the fully unrolled design, which its RTL is; a model of multiplications alone takes about as many LUTs, or fewer."""
    from hgqjax.export.rtl.convert import check_size

    return check_size(description, math.inf)


def costs(description: ModelDescription) -> dict[str, float]:
    """EBOPs by both definitions, as columns of `Synthesis`."""
    by: dict[str, resources.Definition] = {"ebops": "hgq2", "ebops_paper_v1": "paper_v1"}
    return {name: float(resources.ebops(description, definition).total) for name, definition in by.items()}


def content(design: Design, settings: Settings, versions: dict[str, str]) -> str:
    """SHA-256 over all that a design's counts depend on: the sources or the model, the tools' versions, the settings and our own recipe.

    Raises: SynthError where the design cannot be synthesised with `settings`, OSError where it cannot be read; nothing is written.
    """
    files = [*_recipe("synth", f"{settings.tool}.py"), *_recipe("synth", "netlist.py")]
    if settings.tool == "vitis":
        files += sorted(path for path in design.source.rglob("*") if path.is_file() and path.suffix in (".cpp", ".h", ".tcl", ".txt"))
    else:
        files += [*_recipe("resources", "*.py"), *_recipe("description/operations", "*.py"), *_recipe("description", "costs.py")]  # EBOPs
        files += _recipe("description", "integers.py")
    if design.is_rtl and settings.tool != "vitis":
        if settings.clock_ns is not None or settings.latency_cutoff is not None:
            raise SynthError(f"{design.source} is RTL already; its clock_ns and latency_cutoff are its own, so leave them out")
        rtl = read_rtl(design.source)
        if settings.tool == "yosys" and rtl.flavor != "verilog":
            raise SynthError(f"{rtl.folder} is {rtl.flavor}, and Yosys reads Verilog; export it with flavor verilog")
        files += [design.source / RTL_FILE, *rtl.sources, *_about_model(design.source)]
    elif settings.tool != "vitis":
        files += _model_files(design.source)
        files += [path for path in _recipe("export/rtl", "*.py") if path.name not in ABOUT_RTL]
        files += [] if design.source / DESCRIPTION in files else _recipe("interop", "*.py")
        versions = versions | {"alkaid": _version("alkaid")}
    kept = {name: value for name, value in to_json(settings).items() if name not in (*LIMITS, *FURTHER)}
    return _hash(files, kept, versions)


def _model_files(source: Path) -> list[Path]:
    """What a model is in: its file, of a description what has the checksum of the arrays, else (KANELE) the files of its tables."""
    if source.is_file():
        return [source]
    tables = [source / kanele.CONFIG, source / kanele.TABLES]
    return tables if tables[0].is_file() and tables[1].is_file() else [source / DESCRIPTION]


def key(design: Design, settings: Settings, versions: dict[str, str]) -> str:
    """SHA-256 over all that a row of the table depends on: `content`, and what is asked for besides the counts."""
    files = _recipe("synth", "ecp5.py") if settings.timing else []
    if settings.verify:
        files += [*_recipe("synth", "verify.py"), *_recipe("synth", "simulate.py")]
        if design.is_rtl:
            rtl = read_rtl(design.source)
            files += [path for name in BENCH_FILES if (path := rtl.folder / rtl.testbench / name).is_file()]
        else:  # its rows are made here
            files += [*_recipe("export", "gate.py"), *(path for name in ABOUT_RTL for path in _recipe("export/rtl", name))]
    columns = [field.name for field in dataclasses.fields(Synthesis)]
    further = {name: getattr(settings, name) for name in FURTHER}
    return _hash(
        files, content(design, settings, {name: versions[name] for name in versions if name == settings.tool}), further, versions, columns
    )


def _about_model(project: Path) -> list[Path]:
    """What tells the model that RTL holds, for its EBOPs."""

    path = project / MODEL_FOLDER / DESCRIPTION
    return [path] if path.is_file() else []


def _hash(files: list[Path], *values: Any) -> str:
    found = hashlib.sha256()
    for path in files:
        found.update(hashlib.sha256(path.read_bytes()).digest())
    found.update(json.dumps(values, sort_keys=True).encode())
    return found.hexdigest()


def _recipe(room: str, pattern: str) -> list[Path]:
    return sorted((Path(__file__).parents[1] / room).glob(pattern))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
