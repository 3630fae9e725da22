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
    monkeypatch.setattr("hgqjax.experiment.run", lambda config, root: seen.append(config) or tmp_path)
    monkeypatch.setattr(cli, "print_report", lambda run: None)
    assert cli.main(shlex.split(line)[1:]) == 0 and len(seen) == 1
