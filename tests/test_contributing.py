"""What contributors and other tools read: citation, hooks, the workflow, versions that are tested."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

import hgqjax

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text()


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == hgqjax.__version__ and citation["license"] == "Apache-2.0"
    assert f"\n## {hgqjax.__version__} ({citation['date-released']})\n" in (ROOT / "CHANGELOG.md").read_text()
    assert "arXiv:2405.00645" in str(citation["references"][0])
    assert all(work["title"] and work["authors"] and work["year"] for work in citation["references"])


def test_hooks_are_tools_of_the_environment():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]  # nothing is downloaded
    for hook in hooks[0]["hooks"]:
        tool = hook["entry"].split()[0]
        assert hook["language"] == "system" and tool.startswith(".venv/bin/")
        assert re.search(rf'^  "{Path(tool).name}\b', PROJECT, re.MULTILINE), f"{tool} is in no extra"


def test_the_workflow_runs_the_tests_on_the_versions_that_are_promised():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]
    assert workflow["strategy"]["matrix"] == {"python": ["3.11", "3.13"], "dependencies": ["oldest", "pinned", "newest"]}
    assert f'requires-python = ">={workflow["strategy"]["matrix"]["python"][0]}"' in PROJECT
    scripts = re.findall(r"(?:bash|python) (scripts/\w+(?:\.py)?)", str(workflow["steps"]))
    assert set(scripts) == {"scripts/oldest_newest.py", "scripts/test"} and all((ROOT / script).is_file() for script in scripts)


def test_the_workflow_of_hls4mls_development_version_finds_what_it_runs():
    job = yaml.safe_load((ROOT / ".github/workflows/hls4ml.yml").read_text())["jobs"]["export"]
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    assert "hls4ml[da] @ git+https://github.com/fastmachinelearning/hls4ml@main" in commands
    assert all((ROOT / path).exists() for path in ("scripts/setup", "tests/export")) and commands.count("source scripts/setup test\n") == 2
    assert commands.endswith('-m "" -W "ignore:hls4ml:UserWarning" tests/export\n')  # of versions that are not known


def test_constraints_of_the_oldest_are_the_lower_bounds():
    spec = importlib.util.spec_from_file_location("oldest_newest", ROOT / "scripts/oldest_newest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    oldest, newest = module.constraints("oldest"), module.constraints("newest")
    jax = re.search(r'^  "jax>=([\d.]+)"', PROJECT, re.MULTILINE)[1]
    assert f"jax=={jax}.*" in oldest
    assert {line.split("==")[0] for line in oldest} - {line.split("==")[0] for line in newest} == {
        "jax",
        "flax",
        "optax",
        "numpy",
        "jaxtyping",
    }
    assert all(line in (ROOT / "constraints.txt").read_text().splitlines() for line in newest) and any("ruff==" in line for line in newest)


def test_scripts_take_another_file_of_constraints(tmp_path):
    """`scripts/setup` with an environment that exists: the file that is named is the one that pip is given."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    (tmp_path / "pins.txt").write_text("jax==0.8.1.*\n")
    environment = os.environ | {"HGQJAX_VENV": os.path.relpath(tmp_path / "venv", ROOT), "HGQJAX_CONSTRAINTS": str(tmp_path / "pins.txt")}
    done = subprocess.run(["bash", "-c", "source scripts/setup run"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert f"--constraint {tmp_path}/pins.txt" in done.stdout, (done, sys.version)
