"""Prints constraints for pip: `oldest`, the lower bounds of pyproject.toml's own dependencies; `newest`, none of them.

Usage: python scripts/oldest_newest.py oldest >oldest.txt && HGQJAX_VENV=.venv-oldest HGQJAX_CONSTRAINTS=oldest.txt bash scripts/test
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def constraints(which: str) -> list[str]:
    """Lines of a constraints file; ``jax>=0.8.1`` becomes ``jax==0.8.1.*``, the last release that begins so.

    What constraints.txt says of the tools that the tests themselves run (pytest, ruff, ...) stays: the question is what hgqjax needs.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tools = {re.match(r"[\w-]+", need)[0] for need in project["optional-dependencies"]["test"]} - {"hgqjax"}
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.partition("==")[0] in tools]
    for need in project["dependencies"] if which == "oldest" else ():
        name, bound = need.split(">=")
        marker = "; python_version < '3.13'" if name == "numpy" else ""  # numpy 2.0 has no files for later ones
        lines.append(f"{name}=={bound}.*{marker}")
    return lines


if __name__ == "__main__":
    if sys.argv[1:] not in (["oldest"], ["newest"]):
        sys.exit(f"usage: {sys.argv[0]} oldest|newest")
    print("\n".join(constraints(sys.argv[1])))
