"""The command: what it says of a wrong path or argument, before any work; how an interrupt ends it."""

import importlib.util
from pathlib import Path

import pytest

from hgqjax import cli

spec = importlib.util.spec_from_file_location("run_folders", Path(__file__).with_name("run_folders.py"))
run_folders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_folders)


def refusal(capsys, *argv):
    """What the command says when it refuses its arguments, which is one sentence."""
    try:
        code = cli.main([str(a) for a in argv])
    except SystemExit as stop:  # of tyro
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2 and not out and err.startswith("hgqjax: ") and err.count("\n") == 1, (code, out, err)
    return err.removeprefix("hgqjax: ").rstrip()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a run, one that has no models, a network of HGQ2 by its name, and what is none of these."""
    monkeypatch.chdir(tmp_path)
    run_folders.make_run(Path("results/sweep/a"))
    run_folders.make_run(Path("results/sweep/b"), checks=0, points=0, status="running")
    Path("nets").mkdir()
    Path("nets/x.keras").touch()
    Path("README.md").touch()
    return tmp_path


@pytest.mark.parametrize("command", [["summary"], ["export"], ["table", "jets", "--data", "jets", "--models"]], ids=lambda c: c[0])
def test_what_is_no_model_is_named(here, command, capsys):
    of_table = ", or a folder of such," if command[0] == "table" else ""
    needed = f"a folder with description.json or a .keras file of HGQ2{of_table} is needed"
    run, models = "results/sweep/a", "results/sweep/a/models"
    assert refusal(capsys, *command, run) == f"{run} is a run folder; its models are {models}/p00 ... {models}/p02"
    assert refusal(capsys, *command, "results/sweep/b") == "results/sweep/b is a run folder; it has no models yet"
    assert refusal(capsys, *command, "results/p00") == "there is no results/p00"
    assert refusal(capsys, *command, "x.keras") == "there is no x.keras"
    for path in ("README.md", "results") if of_table else ("README.md", "results", "nets"):
        assert refusal(capsys, *command, path) == f"{path} is no model: {needed}"


@pytest.mark.parametrize(
    "command", [["report"], ["resume"], ["table", "jets", "--runs"], ["compare", "results/sweep/a"]], ids=lambda c: c[0]
)
def test_what_is_no_run_folder_is_named(here, command, capsys):
    for path in ("results", "results/sweep"):
        sentence = f"{path} is not a run folder; run folders are below it, such as results/sweep/b"
        assert refusal(capsys, *command, path) == sentence
    for path in ("README.md", "nets", "results/sweep/a/models/p00"):
        assert refusal(capsys, *command, path) == f"{path} is not a run folder; one has manifest.json"
    assert refusal(capsys, *command, "result") == "there is no result"


def test_zoo_takes_a_folder(here, capsys):
    sentence = "nets/x.keras is a file; zoo takes its folder, nets, and the names of the networks that are meant"
    assert refusal(capsys, "zoo", "nets/x.keras") == sentence
    assert refusal(capsys, "zoo", "net") == "there is no net"
