"""The README's Python is run, its commands exist."""

import re
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
