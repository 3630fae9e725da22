"""The shape of the package in numbers: ``python scripts/house.py [PACKAGE]``, by default hgqjax of this checkout.

Entries at the top; rooms (modules and folders at the top) that import one another; modules that do; imports inside functions that would
close a cycle at the top of the file; public functions and classes with and without a docstring; branches that ask for the kind of a task.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = {"classification", "regression", "accuracy", "resolution"}


def modules(package: Path) -> dict[str, ast.Module]:
    """Syntax trees by dotted name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        found[".".join(part for part in parts if part != "__init__")] = ast.parse(path.read_text())
    return found


def imports(trees: dict[str, ast.Module], name: str) -> tuple[set[str], set[str]]:
    """Modules of the package that `name` imports when it is imported, and those that its functions import later."""
    package, now, later = next(iter(trees)).split(".")[0], set(), set()
    top = {id(node) for node in trees[name].body}
    for node in ast.walk(trees[name]):
        targets = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package:
            targets = [f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in trees else node.module for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names if alias.name in trees]
        (now if id(node) in top else later).update(target for target in targets if target != name)
    return now, later


def reaches(graph: dict[str, set[str]], start: str) -> set[str]:
    """All that `start` leads to."""
    seen, todo = set(), [start]
    while todo:
        for following in graph.get(todo.pop(), ()):
            if following not in seen:
                seen.add(following)
                todo.append(following)
    return seen


def in_cycles(graph: dict[str, set[str]]) -> list[str]:
    """The nodes that lead to themselves."""
    return sorted(node for node in graph if node in reaches(graph, node))


def kinds_asked(tree: ast.Module) -> int:
    """Comparisons with the name of a kind of task or score."""
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    return sum(any(isinstance(part, ast.Constant) and part.value in KINDS for part in [c.left, *c.comparators]) for c in compared)


def main() -> None:
    """Prints the numbers."""
    package = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "hgqjax")
    trees = modules(package)
    both = {name: imports(trees, name) for name in trees}
    at_once = {name: now for name, (now, _) in both.items()}
    ever = {name: now | later for name, (now, later) in both.items()}
    own = {name for name in trees if name != package.name}
    rooms: dict[str, set[str]] = {}
    for name in own:
        room = name.split(".")[1]
        rooms.setdefault(room, set()).update({target.split(".")[1] for target in ever[name] if "." in target} - {room})
    upward = sorted(f"{name} -> {target}" for name, (_, later) in both.items() for target in later if name in reaches(at_once, target))
    named = [node for tree in trees.values() for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [node for node in named if not node.name.startswith("_")]
    silent = [node.name for node in public if not ast.get_docstring(node)]
    asked = {name: count for name, tree in trees.items() if (count := kinds_asked(tree))}
    print("entries at the top:", sum(path.name != "__pycache__" for path in package.iterdir()))
    print("rooms that lead to themselves:", len(in_cycles(rooms)), *in_cycles(rooms))
    print("modules that lead to themselves, imports in functions counted:", len(in_cycles(ever)), *in_cycles(ever))
    print("imports in functions that would close a cycle:", len(upward), *upward, sep="\n  ")
    print("public functions and classes:", len(public), "of them without a docstring:", len(silent), *silent)
    print("comparisons with the kind of a task:", sum(asked.values()), "in", len(asked), "files")


if __name__ == "__main__":
    main()
