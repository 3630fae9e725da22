"""The C++ of a project as a shared library: compiled, run, and run beside a second one of other weights in the same process."""

import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from hgqjax import processes
from hgqjax.export.gate import ExportError, Rows, row_count

GATE_OPTIMIZATION = "-O1"
"""g++ level of the gate's own build. Seconds to build and to run 10 000 rows of a 16-64-32-32-5 network, two shared cores:
-O0 11 + 37, -O1 14 + 2, -O2 25 + 2, -O3 28 + 2; with distributed arithmetic -O1 110 + 8, -O0 139 + 111. The paper's network for house
numbers in io_stream, seconds to build and to run 1000 rows: -O0 7 + 560, -O1 10 + 25, -O3 12 + 29."""
WEIGHTS = Path("firmware", "weights")
"""In a project: what the compiled C++ reads when it is called for the first time."""
BESIDE_ROWS = 200
"""Rows of the run beside a second project."""

_RUN = """
import ctypes, json, os, sys
import numpy as np
about = json.loads(sys.argv[1])
inputs = [np.load(path) for path in about["inputs"]]
calls, rows, results = [], [], []
for library in about["libraries"]:  # symbols of the first stand in for those of the others
    calls.append(getattr(ctypes.CDLL(library["path"], ctypes.RTLD_GLOBAL), about["function"]))
    results.append([np.zeros((len(inputs[0]), size)) for size in about["sizes"]])
    rows.append([(a.ctypes.data, a.strides[0]) for a in (*inputs, *results[-1])])
for n in range(len(inputs[0])):
    for which, library in enumerate(about["libraries"]):
        moved = library["weights"] if n == 0 else None  # the first call reads the weights
        if moved:
            os.rename(moved[1], moved[1] + "_aside")
            os.rename(*moved)
        calls[which](*(ctypes.c_void_p(start + n * step) for start, step in rows[which]))
        if moved:
            os.rename(*moved[::-1])
            os.rename(moved[1] + "_aside", moved[1])
for which, result in enumerate(results):
    for number, values in enumerate(result):
        np.save(f"{about['out']}/{which}_{number}.npy", values)
"""


@dataclasses.dataclass(frozen=True)
class Library:
    """A compiled project; `weights`: the folder that it reads, and the place where it looks for that, if it does not lie there."""

    path: Path
    weights: tuple[Path, Path] | None = None


def build_library(project: Path, optimization: str = GATE_OPTIMIZATION, *, keep_objects: bool = False) -> Path:
    """Compile the C++ of `project` with hls4ml's own script at another g++ level; returns the shared library."""
    script, whole = project / "build_gate.sh", project / "build_gate.cpp"
    flags = f"{optimization} -w"  # a thousand warnings that nobody sees take a sixth of the time
    text = (project / "build_lib.sh").read_text().replace("-O3", flags)
    if (at_once := _at_once(text)) is not None:
        text, source = at_once
        whole.write_text(source)
    script.write_text(text.replace("rm -f *.o", "") if keep_objects else text)
    before = set(project.glob("firmware/*.so"))
    try:
        code, said = processes.run(["bash", script.name], cwd=project)
    finally:
        script.unlink()
        whole.unlink(missing_ok=True)
    if code:
        errors = [line for line in said.splitlines() if "error:" in line] or said.splitlines()[-1:] or ["no message"]
        raise ExportError(f"g++ could not compile the project: {errors[0].strip()}")
    (library,) = set(project.glob("firmware/*.so")) - before
    return library


def _at_once(script: str) -> tuple[str, str] | None:
    """The script that compiles network and bridge as one file, and that file: 18 and 28 % less time for two small projects.

    The standard stays hls4ml's: its io_stream headers call templates before they are declared, which C++ allows since 2020. None where
    hls4ml's script has other lines.
    """
    name = re.search(r"^PROJECT=(\w+)$", script, re.M)
    changes = (
        (r"-c firmware/\$\{PROJECT\}\.cpp -o", "-c build_gate.cpp -o"),
        (r"^.* -c \$\{PROJECT\}_bridge\.cpp -o \$\{PROJECT\}_bridge\.o$\n", ""),
        (r"(-shared \$\{PROJECT\}\.o) \$\{PROJECT\}_bridge\.o", r"\1"),
    )
    for pattern, new in changes:
        script, count = re.subn(pattern, new, script, flags=re.M)
        if count != 1:
            return None
    return None if name is None else (script, f'#include "firmware/{name[1]}.cpp"\n#include "{name[1]}_bridge.cpp"\n')


def run_library(library: Path, project_name: str, x: Rows, sizes: list[int]) -> list[np.ndarray]:
    """Output values (rows, size) of each output for rows `x` of each input, float64; in a process of its own, which C++ may abort."""
    return run_libraries([Library(library)], project_name, x, sizes)[0]


def run_libraries(libraries: list[Library], project_name: str, x: Rows, sizes: list[int]) -> list[list[np.ndarray]]:
    """Outputs of each library, all loaded into one process and called in turn for each row."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = []
        for n, part in enumerate(x if isinstance(x, tuple) else (x,)):
            inputs.append(f"{folder}/x{n}.npy")
            np.save(inputs[-1], np.ascontiguousarray(part, np.float64).reshape(len(part), -1))
        listed = [{"path": str(one.path), "weights": one.weights and [str(path) for path in one.weights]} for one in libraries]
        about = {"libraries": listed, "function": f"{project_name}_double", "inputs": inputs, "sizes": sizes, "out": folder}
        code, said = processes.run([sys.executable, "-c", _RUN, json.dumps(about)])
        if code:
            raise ExportError(f"the compiled C++ stopped with code {code}: {(said.splitlines() or ['no message'])[-1]}")
        return [[np.load(f"{folder}/{which}_{n}.npy") for n in range(len(sizes))] for which in range(len(libraries))]


# ---- two projects in one program ----


def check_symbols(library: str | Path, namespace: str) -> None:
    """Raises ExportError where a compiled project defines data outside its namespace, which another project could define, too.

    A program that holds both would then compute with the data of one, without a word.
    """
    listed = subprocess.run(
        ["nm", "-C", "--defined-only", "--extern-only", str(library)], text=True, capture_output=True, check=True
    ).stdout
    for line in listed.splitlines():
        *_, kind, name = line.split(maxsplit=2)
        shared = name.startswith(("nnet::trace_", "std::", "typeinfo ", "vtable ", "guard variable for std::"))
        if kind in "BDRVuGS" and namespace not in name and not shared:
            raise ExportError(f"the compiled project defines the data {name}, outside its namespace {namespace}")


def check_beside(project: Path, library: Path, project_name: str, namespace: str, x: Rows, sizes: list[int]) -> int | None:
    """Runs the project and a second one of other weights in one process; each must give there what it gives alone.

    The second one is what the compiler makes of the same layers under another name: the project's own object files, in which the digits of
    the namespace are others (so it takes no second compilation), with all weights of other signs in another order.

    Args:
      project: compiled by `build_library` with its object files kept, which are removed here.
      x: rows; `BESIDE_ROWS` of them are run, the rows of the two in turn, each library loaded first once.
    Returns: number of words of both that were compared; None where the weights are in the C++ itself, so that both compute the same.
    Raises: ExportError where a word differs.
    """
    chosen = np.unique(np.linspace(0, row_count(x) - 1, BESIDE_ROWS).astype(int))
    x = tuple(part[chosen] for part in x) if isinstance(x, tuple) else x[chosen]
    objects = sorted(project.glob("*.o"))
    with tempfile.TemporaryDirectory(dir=project) as folder:
        weights = Path(folder, "weights")
        first, second = Library(library), Library(Path(folder, "second.so"), (weights, project / WEIGHTS))
        _write_other_weights(project / WEIGHTS, weights)
        _link_renamed(objects, second.path, namespace)
        for path in objects:
            path.unlink()
        alone = {one: run_libraries([one], project_name, x, sizes)[0] for one in (first, second)}
        if all(np.array_equal(a, b) for a, b in zip(*alone.values(), strict=True)):
            return None
        words = 0
        for pair in ((first, second), (second, first)):
            for one, found in zip(pair, run_libraries(list(pair), project_name, x, sizes), strict=True):
                wrong = sum(int(np.sum(a != b)) for a, b in zip(alone[one], found, strict=True))
                if wrong:
                    which = "project" if one == first else "second project"
                    raise ExportError(
                        f"beside another project in one program the C++ computes with what is not its own: {wrong} of "
                        f"{sum(a.size for a in found)} output words of the {which} differ from those that it gives alone"
                    )
                words += sum(a.size for a in found)
    return words


def _write_other_weights(source: Path, folder: Path) -> None:
    """All files of weights in `source` with the values of each in turned order and of other sign."""
    folder.mkdir()
    for path in source.glob("*.txt"):
        values = [value.strip() for value in path.read_text().split(",")]
        turned = [value[1:] if value.startswith("-") else f"-{value}" for value in reversed(values)]
        (folder / path.name).write_text(", ".join(turned))


def _link_renamed(objects: list[Path], library: Path, namespace: str) -> None:
    """A library of the object files in which the namespace has another name of the same length: names there are plain text."""
    other = namespace[:-1] + ("1" if namespace[-1] == "0" else "0")
    renamed = [library.with_name(path.name) for path in objects]
    for path, copy in zip(objects, renamed, strict=True):
        copy.write_bytes(path.read_bytes().replace(namespace.encode(), other.encode()))
    code, said = processes.run(["g++", "-shared", *map(str, renamed), "-o", str(library)])
    if code:
        raise ExportError(f"g++ could not link a second project: {(said.splitlines() or ['no message'])[-1]}")
