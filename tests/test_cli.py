"""The command: what it says of a wrong path or argument, before any work; how an interrupt ends it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import run_folders

from hgqjax import cli
from hgqjax.reports import zoo
from hgqjax.runs import folders, jobs
from hgqjax.training import checkpoints


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
    needed = "a folder with description.json, a .keras or .h5 file of HGQ2 or QKeras (or NAME.json of QKeras with NAME_weights.h5), "
    needed += "an .onnx file of QONNX, or a folder of KANELE (truth_tables.json, config.json)"
    needed += f"{of_table} is needed"
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


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--train.epochs", "0"], "train: epochs is 0; at least 1 is needed"),
        (["--model.hidden", "0"], "model: hidden is (0,); positive numbers of neurons are needed"),
        (
            ["--train.objective.gamma", "-1"],
            "train.objective: gamma is -1.0; at least 0 is needed",
        ),
        (["--betas", "-1"], "betas is (-1.0,); at least one is needed, each a finite number of at least 0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_nested_option_is_named_as_it_is_typed(argv, sentence, capsys):
    assert refusal(capsys, "sweep", *argv).startswith(sentence)


@pytest.mark.parametrize(
    "twice", [["--target", "a", "--target", "b"], ["--rows=3", "--rows", "4"], ["--gate_rows", "1", "--gate-rows", "2"]]
)
def test_an_option_is_given_once(twice, capsys):
    name = twice[-2]
    assert refusal(capsys, "sweep", *twice) == f"{name} is given 2 times; give it once, with all its values behind it"


def test_other_mistakes_are_told_by_tyro(capsys):
    for argv in (["--train.epoch", "3"], ["--train.epochs", "x"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["sweep", *argv])
        out, err = capsys.readouterr()
        assert not out and "--train.epochs INT" in err and "tyro" not in err


@pytest.mark.slow
def test_an_interrupted_sweep_says_how_it_goes_on(interruptible, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", x=rng.normal(size=(300, 4)).astype(np.float32), y=rng.integers(0, 2, 300))
    argv = [sys.executable, "-m", "hgqjax.cli", "sweep", "--data", tmp_path / "rows.npz", "--results", tmp_path, "--model.hidden", "4"]
    argv += ["--betas", "1e-5", "--train.epochs", "100000", "--train.batch-size", "50"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not any(jobs.checks_done(path, 0) >= 3 for path in tmp_path.glob("*/*")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    (folder,) = tmp_path.glob("sweep/*")
    *bar, last = [line for line in re.split(r"[\r\n]+", err) if line]
    assert last == f"hgqjax: interrupted; the run is not done; go on with: hgqjax resume {folder}"
    said = out.splitlines()
    assert process.returncode == 130 and bar[:2] == ["train: 0 of 100000 checks", "compile ..."]
    assert len(said) == 2 and said[0].startswith("arrays rows.npz: 300 rows")  # the data, before the training


def test_an_interrupt_waits_for_the_checkpoint_once(interruptible):
    done = []
    with pytest.raises(KeyboardInterrupt), checkpoints._uninterrupted():
        signal.raise_signal(signal.SIGINT)
        done.append(1)
    with pytest.raises(KeyboardInterrupt), checkpoints._uninterrupted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append(2)
    assert done == [1] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_in_a_callback_is_heard(interruptible, capsys):
    class Deaf:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    def command():
        Deaf()  # Python ignores what it raises
        time.sleep(30)

    assert cli.guarded(command) == 130 and capsys.readouterr().err == "hgqjax: interrupted\n"


def test_an_interrupted_program_waits_for_nothing():
    code = "import atexit; from hgqjax import cli; atexit.register(print, 'waited'); cli._parsed = interrupt; cli.main()"
    code = f"def interrupt(argv): print('said'); raise KeyboardInterrupt\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "said\n", "hgqjax: interrupted\n")


def test_an_interrupt_is_one_line(here, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "open_model", interrupt)
    assert cli.main(["zoo", "nets"]) == 130 and capsys.readouterr() == ("", "hgqjax: interrupted\n")
    for run, note in (("a", ""), ("b", f"; the run is not done; go on with: hgqjax resume {here}/results/sweep/b")):
        monkeypatch.setattr("hgqjax.reports.page.report", interrupt)
        assert cli.main(["report", f"results/sweep/{run}"]) == 130 and capsys.readouterr() == ("", f"hgqjax: interrupted{note}\n")
        assert folders.Run.open(here / "results/sweep" / run)


def test_networks_larger_than_memory_are_refused_before_they_are_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hgqjax.archives.available_memory", lambda: 20_000_000)
    (tmp_path / "t.csv").write_text("a,b,y\n" + "".join(f"{n / 7},{n % 5},{n % 2}\n" for n in range(60)))
    argv = ["sweep", "--data", str(tmp_path / "t.csv"), "--train.batch-size", "10", "--results", str(tmp_path / "results")]
    assert cli.main([*argv, "--model.hidden", "1000", "1000", "--betas", "1e-6", "1e-5"]) == 2
    said = capsys.readouterr().err
    assert "hgqjax: training 2 networks of " in said and said.endswith(" in memory; 4 times that is needed and 20 MB are free\n")
    assert cli.main([*argv, "--model.hidden", "4", "--projects", "1", "--gate-rows", "1000000000000"]) == 2
    assert "gate_rows is 1000000000000, which takes 32 TB in memory" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
