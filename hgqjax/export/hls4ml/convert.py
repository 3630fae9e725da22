"""Model description to an hls4ml project (C++); the compiled C++ must equal the description word for word.

What is refused: checks.py. What becomes of operations that hls4ml has not: rewrite.py. The layers of the others:
layers.py. How the graph is made, and why hls4ml infers nothing in it: graph.py.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.description.readers import input_readers
from hgqjax.export import gate, readme
from hgqjax.export.gate import ExportError, GateReport
from hgqjax.export.hls4ml import accelerator, backends, catapult, compiled, namespaces, testbench
from hgqjax.export.hls4ml.checks import check_operations, check_types
from hgqjax.export.hls4ml.graph import model_graph, quiet
from hgqjax.export.hls4ml.masks import mask_functions
from hgqjax.export.hls4ml.reuse import check_reuse_factors
from hgqjax.export.hls4ml.reuse import reuse_factors as reuse_factors_of
from hgqjax.export.hls4ml.rewrite import rewrite
from hgqjax.export.project import GATE_FILE, MODEL_FOLDER, check_clock, check_part
from hgqjax.files import new_folder

KNOWN_HLS4ML = "1.3."
CONFIG_FILE = "hls4ml_config.yml"
"""What `link_existing_project` reads."""


@dataclasses.dataclass(frozen=True)
class Project:
    """A written project. `gate` is None where the caller left the gate out."""

    path: Path
    backend: str
    strategy: str
    gate: GateReport | None

    def __str__(self) -> str:
        proof = backends.BACKENDS[self.backend].proof
        proof = f" ({proof})" if proof else ""
        checked = f"{self.gate.words} words on {self.gate.rows} rows equal{proof}" if self.gate else "not verified"
        return f"{self.path} ({self.backend}, {self.strategy}): {checked}"


def to_hls4ml(
    description: ModelDescription,
    output_dir: str | os.PathLike,
    *,
    backend: str = "Vitis",
    io_type: str = "io_parallel",
    strategy: str = "latency",
    part: str | None = None,
    board: str | None = None,
    clock_ns: float = 5.0,
    project_name: str = "myproject",
    rows: gate.Rows | None = None,
    verify: bool = True,
    min_rows: int = 10_000,
    seed: int = 0,
    reuse_factor: int = 1,
    reuse_factors: Mapping[str, int] | None = None,
) -> Project:
    """Write an hls4ml project that computes exactly what `description` does, and prove it on `min_rows` rows or more.

    Args:
      description: the model.
      output_dir: must not exist yet; it appears only after the gate has passed.
      backend: "Vitis", "Vivado", "VivadoAccelerator" (io_parallel; a wrapper with AXI streams of floats, a block design, a driver),
        "Catapult" (latency, resource) or "oneAPI" (resource; the gate compiles it with g++ and a stand-in for SYCL).
      io_type: "io_parallel" (all elements at once, any formats) or "io_stream" (position after position, one format for each tensor).
      strategy: "latency" (multipliers), "resource" (multipliers that are shared, weights in memory) or "distributed_arithmetic" (adder
        graphs of da4ml).
      part: the device, by default that of the HGQ papers; of oneAPI Agilex7.
      board: of VivadoAccelerator instead of a part, by default "pynq-z2"; `accelerator.boards()` has all.
      clock_ns: target clock period, ns.
      project_name: name of the top function.
      rows: data (n, *input shape) for the gate besides `description.sample`; a tuple where the model has several inputs.
      verify: False leaves the gate out, and the project says so.
      min_rows: least number of rows of the gate. An image of 32x32x3 takes the C++ 25 ms, so a few hundred may do for those.
      seed: of the gate's random words.
      reuse_factor: uses of one multiplier per inference, of all layers with weights; see `hls4ml.reuse.legal_factors`.
      reuse_factors: other ones for single layers, by their names.
    Raises:
      ExportError: the model or an argument does not fit this route (found before anything is written), or g++ fails.
      GateError: a word differs. In either case nothing is left on disk.

    An input that is quantized with RND_CONV has a port with 24 fractional bits or more; rows finer than that are cut first.
    """
    strategy, reuse_factors = strategy.lower(), reuse_factors or {}
    _check_arguments(backend, io_type, strategy, project_name)
    check_reuse_factors(reuse_factor, reuse_factors, strategy)
    gate.check_rows(description, min_rows=min_rows)
    part = _device(backend, part, board)
    check_clock(clock_ns)
    output_dir = Path(output_dir).absolute()
    if output_dir.exists():
        raise ExportError(f"{output_dir} exists already; name a folder that does not")
    check_operations(description, io_type, strategy)
    rewritten = rewrite(description, io_type)
    rewritten = backends.prepared(rewritten, backend, io_type)
    check_types(rewritten, strategy)
    if backend == accelerator.NAME:
        accelerator.check(description)
    reuse = reuse_factors_of(description, rewritten, strategy, reuse_factor, reuse_factors)
    _check_tools(strategy, verify)
    config = {"part": part, "clock_period": clock_ns, "io_type": io_type, "project_name": project_name, "backend": backend}
    config |= {"board": board or accelerator.DEFAULT_BOARD} if backend == accelerator.NAME else {}
    with new_folder(output_dir) as folder:
        description.save(folder / MODEL_FOLDER)
        namespace = _namespace(folder / MODEL_FOLDER, config | {"strategy": strategy, "reuse": reuse})
        graph = _written(rewritten, strategy, reuse, {**config, "output_dir": str(folder), "namespace": namespace})
        x = gate.gate_rows(description, rows=rows, min_rows=min_rows, seed=seed)
        x = _port_rows(x, rewritten, graph, floats=backend == accelerator.NAME)
        testbench.write(description, folder, x)
        report, beside = _run_gate(description, graph, folder, namespace, x, seed) if verify else (None, None)
        about = {"backend": backend, "io_type": io_type, "strategy": strategy, "reuse_factors": reuse, "namespace": namespace}
        _finish(description, folder, about | {"words_beside_second_project": beside, "board": config.get("board")}, report)
    return Project(output_dir, backend, strategy, report)


def _written(rewritten: ModelDescription, strategy: str, reuse: dict[str, int], config: dict[str, str]):
    """hls4ml's graph, after it wrote the project into ``config["output_dir"]``."""
    folder = Path(config["output_dir"])
    graph = model_graph(rewritten, strategy, reuse, config)
    with quiet(), _without_keras(), mask_functions():
        graph.write()
    if not backends.BACKENDS[config["backend"]].build:
        namespaces.make_private(folder)
    if finish := backends.BACKENDS[config["backend"]].finish:
        finish(folder, config["project_name"], config["namespace"])
    if strategy == "distributed_arithmetic" or config["backend"] == catapult.NAME:
        namespaces.place_generated(folder, config["namespace"])
    return graph


def _device(backend: str, part: str | None, board: str | None) -> str:
    if backend != accelerator.NAME:
        if board is not None:
            raise ExportError(f"board {board!r} is of back end {accelerator.NAME}; {backend} takes a part")
        part = part or backends.BACKENDS[backend].default_part
        check_part(part)
        return part
    if part is not None:
        raise ExportError(f"back end {backend} takes a board, which has its part; leave part out")
    _check_tools("latency", verify=False)
    return accelerator.part_of(board or accelerator.DEFAULT_BOARD)


def _namespace(model: Path, settings: dict) -> str:
    """C++ namespace of all that a project defines: another one for each model and setting, so that two projects may be one program."""
    digest = hashlib.sha256(f"{folder_sha256(model)}{sorted(settings.items())}".encode()).hexdigest()
    return f"{settings['project_name']}_{digest[:12]}"


def link_project(folder: str | os.PathLike):
    """hls4ml's object for a written project, wherever it lies now: `compile()`, `predict(x)`, `build()`.

    `hls4ml.converters.link_existing_project(".")` does the same in the folder itself: a project holds no absolute path.

    Raises: ExportError where `folder` has no such project.
    """
    folder = Path(folder).absolute()
    if not (folder / CONFIG_FILE).is_file():
        raise ExportError(f"{folder} is no hls4ml project: it has no {CONFIG_FILE}")
    _check_tools("latency", verify=False)
    from hls4ml.converters import link_existing_project

    linked = link_existing_project(folder)
    linked.config.config["OutputDir"] = str(folder)
    return linked


@contextlib.contextmanager
def _without_keras():
    """hls4ml's writer imports keras where it finds one, only to save Keras models."""
    before = {"keras": sys.modules["keras"]} if "keras" in sys.modules else {}
    cast(dict[str, types.ModuleType | None], sys.modules)["keras"] = None  # an import of it fails
    try:
        yield
    finally:
        del sys.modules["keras"]
        sys.modules.update(before)


# ---- what is refused before anything is written ----


def check_settings(backend: str, strategy: str, io_type: str = "io_parallel") -> None:
    """Raises ExportError where an export with these would fail whatever the model: unknown names, missing tools."""
    _check_arguments(backend, io_type, strategy, "myproject")
    _check_tools(strategy, True)


def _check_arguments(backend: str, io_type: str, strategy: str, project_name: str):
    backends.check_settings(backend, io_type, strategy)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", project_name) or project_name in ("main", "nnet"):
        raise ExportError(f"project_name {project_name!r} cannot name a C++ function; use letters, digits and _")


def _check_tools(strategy: str, verify: bool):
    if importlib.util.find_spec("hls4ml") is None:
        raise ExportError("hls4ml is not installed; pip install 'hgqjax[hls4ml]'")
    if strategy == "distributed_arithmetic" and importlib.util.find_spec("da4ml") is None:
        raise ExportError("strategy distributed_arithmetic needs da4ml; pip install 'hgqjax[da]'")
    if verify and shutil.which("g++") is None:
        raise ExportError("the gate needs the compiler g++; install the package g++ (apt install g++), or leave the gate out")
    version = importlib.metadata.version("hls4ml")
    if not version.startswith(KNOWN_HLS4ML):
        warnings.warn(f"hls4ml {version} is not a version hgqjax knows ({KNOWN_HLS4ML}x); the gate still checks every export", stacklevel=3)


# ---- compare ----


def _port_rows(x: gate.Rows, rewritten: ModelDescription, graph, *, floats: bool) -> gate.Rows:
    """Rows without the bits that the port of an input with RND_CONV cuts off, or (`floats`) those that float32 has not."""
    parts = list(x) if isinstance(x, tuple) else [x]
    parts = [accelerator.rows(part) for part in parts] if floats else parts
    for n, (source, port) in enumerate(zip(rewritten.inputs, graph.get_input_variables(), strict=True)):
        if any(reader.rounding == "RND_CONV" for reader in input_readers(rewritten, source)):
            f = port.type.precision.fractional
            parts[n] = np.ldexp(np.floor(np.ldexp(parts[n], f)), -f)
    return tuple(parts) if isinstance(x, tuple) else parts[0]


def _run_gate(
    description: ModelDescription, graph, project: Path, namespace: str, x: gate.Rows, seed: int
) -> tuple[GateReport, int | None]:
    """The report, and the number of words that a second project beside this one left as they are."""
    start = time.perf_counter()
    name, sizes = graph.config.get_project_name(), [var.size() for var in graph.get_output_variables()]
    own = backends.BACKENDS[graph.config.backend.name].build
    library = own(project, name) if own else compiled.build_library(project, keep_objects=True)
    compiled.check_symbols(library, namespace)
    values = compiled.run_library(library, name, x, sizes)
    words = tuple(gate.to_words(v, description.grids[output]) for v, output in zip(values, description.outputs, strict=True))
    total = gate.check_words(description, x, words, tool=f"hls4ml {graph.config.backend.name} C++")
    beside = None if own else compiled.check_beside(project, library, name, namespace, x, sizes)
    library.unlink()
    return GateReport(gate.row_count(x), total, seed, time.perf_counter() - start), beside


# ---- what else the project holds ----


def _finish(description: ModelDescription, project: Path, arguments: dict[str, Any], report: GateReport | None):
    """Make the project self-contained, and right for any place."""
    import yaml

    settings = project / CONFIG_FILE
    config = yaml.safe_load(settings.read_text())
    config["OutputDir"] = "."
    settings.write_text(yaml.safe_dump(config))
    compiler = subprocess.run(["g++", "--version"], text=True, capture_output=True).stdout.splitlines()[0] if report else None
    record = {
        "verified": report is not None,
        "model_sha256": folder_sha256(project / MODEL_FOLDER),
        **arguments,
        "gate": dataclasses.asdict(report) if report else None,
        "proof": backends.BACKENDS[arguments["backend"]].proof,
        "hls4ml": importlib.metadata.version("hls4ml"),
        "compiler": compiler,
    }
    (project / GATE_FILE).write_text(json.dumps(record, indent=2) + "\n")
    build = f"An hls4ml project for {arguments['backend']} HLS, strategy {arguments['strategy']}. {readme.compared(report)}.\n"
    build += "`hgqjax.export.link_project(folder)` takes it over in Python, `hls4ml.converters.link_existing_project('.')` from\n"
    build += "within the folder: `compile()`, `predict(x)`, `build()`. The folder may be moved. All C++ is in the namespace\n"
    build += f"`{arguments['namespace']}`, so that programs may hold several projects.\n"
    if beside := arguments["words_beside_second_project"]:
        build += f"The gate ran it beside a second project of other weights in one process: {beside} words of both stay the same.\n"
    if arguments["board"]:
        build += f"Accelerator for the board {arguments['board']}: `firmware/*_axi.cpp` wraps the network in AXI streams of floats.\n"
        build += "The gate runs the wrapper. `design.tcl` (Vivado's block design) and the driver are hls4ml's; they\n"
        build += "were run nowhere, since they need Vivado and the board.\n"
    known = backends.BACKENDS[arguments["backend"]]
    if known.proof:
        build += f"The words were compared {known.proof}.\n"
    readme.write(description, project, f"{build}By hand: `{known.by_hand}`.")


def folder_sha256(folder: Path) -> str:
    """One hash over the names and contents of the files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
