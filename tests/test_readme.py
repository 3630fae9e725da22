"""The README's Python is run, its commands exist."""

import re
import shlex
from pathlib import Path

import pytest

from hgqjax import cli

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_python_blocks_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert (tmp_path / "my_project").is_dir() == ("my_project" in code)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "file", "new", "case"),
    [
        ("quantizers", "stepped", "Stepped", "    quantizers.Stepped(),\n"),
        ("resources", "weight_memory", "WeightMemory", "    resources.WeightMemory(),\n"),
        ("layers", "scale", "Scale", '    "scale": (lambda rngs: layers.Scale(3), (3,)),\n'),
    ],
)
def test_one_file_one_line_in_the_index_one_in_the_table(room, file, new, case, package_copy):
    """Adds the README's part to the package: while it is missing from the table a test fails, then all of its tests pass."""
    (code,) = [block for block in BLOCKS if f"class {new}(" in block]
    code = code.partition("\n\nobjective = ")[0]
    code = code.replace("from hgqjax.objective import Objective\n", "").replace("resources, training", "resources")
    docstring = "" if code.startswith('"""') else f'"""{new}, from the README."""\n\n'
    (package_copy.path / "hgqjax" / room / f"{file}.py").write_text(docstring + code)
    index = package_copy.path / "hgqjax" / room / "__init__.py"
    index.write_text(index.read_text() + f"\nfrom hgqjax.{room}.{file} import {new}  # noqa\n")
    table = f"tests/{room}/test_contract.py"
    missing = package_copy.pytest(table, "-k", "public")
    assert missing.returncode == 1 and new in missing.stdout
    opening = re.search(r"^CASES = [\[{]", (package_copy.path / table).read_text(), re.M).group()
    package_copy.replace(table, opening, opening + "\n" + case)
    there = package_copy.pytest(table, "-k", f"{new} or {new.lower()} or public")
    assert there.returncode == 0, there.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", there.stdout).group(1)) >= 3


@pytest.mark.parametrize("name", sorted(set(re.findall(r"^hgqjax (\w+)", README, re.M))))
def test_commands_have_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0 and "usage: hgqjax" in capsys.readouterr().out


def test_scripts_that_are_named_exist():
    root = Path(__file__).resolve().parents[1]
    named = set(re.findall(r"scripts/\w+(?:\.py)?", README)) | set(re.findall(r"experiments/\w+\.md", README))
    assert named and all((root / name).exists() for name in named)


def test_no_number_is_left_to_fill_in():
    root = Path(__file__).resolve().parents[1]
    for name in ("README.md", "experiments/README.md"):
        assert not re.search("_PLACEHOLDER|_PARAGRAPH|_TIME|_EXPECTED", (root / name).read_text())


@pytest.mark.parametrize("line", re.findall(r"^hgqjax sweep [^#\n]*", README, re.M) + re.findall(r"`(hgqjax sweep --[^`]*)`", README))
def test_sweeps_of_the_readme_are_understood(line, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("hgqjax.experiment.run", lambda config, root, **how: seen.append(config) or tmp_path)
    monkeypatch.setattr("hgqjax.devices.Machines.join", lambda machines: None)  # there is no other process
    monkeypatch.setattr(cli, "print_report", lambda run: None)
    assert cli.main(shlex.split(line)[1:]) == 0 and len(seen) == 1
