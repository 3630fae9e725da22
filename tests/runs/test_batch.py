"""Files for batch systems: what they start gives the numbers of one sweep."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hgqjax import cli
from hgqjax.runs import batch


@pytest.fixture
def rows(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x, y=(x[:, 0] > x[:, 1]).astype(np.int64))
    return tmp_path / "rows.npz"


def options(rows):
    sweep = ["--data", rows, "--betas", "1e-5", "1e-3", "--groups", "2", "--train.epochs", "2", "--train.batch-size", "64"]
    return [str(word) for word in (*sweep, "--model.hidden", "4")]


def printed(capsys):
    return capsys.readouterr().out.splitlines()[-1]


def test_nothing_is_trained_and_the_files_say_what_to_do(rows, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", *options(rows), "--batch", "htcondor"]) == 0
    *command, dag = printed(capsys).split()
    folder = Path(dag).parent
    assert command == ["condor_submit_dag", "-usedagdir"] and folder.parent.parent == tmp_path / "results" / "sweep"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["batch", "manifest.json"]
    submit = dict(line.split(" = ", 1) for line in (folder / "train.sub").read_text().splitlines() if " = " in line)
    assert submit["arguments"] == f"\"'-m' 'hgqjax.cli' 'resume' '{folder.parent}' '--group' '$(Process)'\""
    assert batch.write(folder.parent, "slurm") == f"bash {folder}/submit.sh"
    assert "#SBATCH --array=0-1\n" in (folder / "train.sbatch").read_text()
    assert (folder / "train.sub").read_text().endswith("queue 2\n") and submit["output"].endswith("train_$(Process).output")
    assert "PARENT train CHILD finish" in (folder / "run.dag").read_text()


@pytest.mark.slow
def test_the_tasks_of_slurm_give_the_front_of_one_sweep(rows, tmp_path, capsys, monkeypatch):
    """`sbatch` of this test runs a task at once, in a shell of its own; the job that waits comes last."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", *options(rows), "--results", str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    assert cli.main(["sweep", *options(rows), "--batch", "slurm"]) == 0
    submit = printed(capsys)
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "sbatch"
    fake.write_text(
        "#!/bin/bash\nset -e\nfor last; do :; done\n"
        'if grep -q array "$last"; then for n in 1 0; do SLURM_ARRAY_TASK_ID=$n bash "$last" >/dev/null; done; echo "7;here"\n'
        'else [ "$1" = --dependency=afterok:7 ] && bash "$last"; fi\n'
    )
    fake.chmod(0o755)
    done = subprocess.run(["bash", "-c", f'PATH="{tmp_path}/bin:$PATH" {submit}'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (whole,), (parts,) = (list((tmp_path / name / "sweep").iterdir()) for name in ("whole", "results"))
    assert json.loads((parts / "manifest.json").read_text())["status"] == "done" and (parts / "report.html").is_file()
    assert (whole / "summary.csv").read_bytes() == (parts / "summary.csv").read_bytes()


def test_a_group_that_is_not_there_and_options_that_exclude_each_other(rows, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", *options(rows), "--batch", "slurm"]) == 0
    folder = Path(printed(capsys).split()[1]).parent.parent
    assert cli.main(["resume", str(folder), "--group", "2"]) == 2
    assert capsys.readouterr().err == f"hgqjax: group is 2; {folder} has groups 0 to 1\n"
    assert cli.main(["sweep", *options(rows), "--batch", "slurm", "--cluster", "local:2"]) == 2
    assert "leave out --cluster" in capsys.readouterr().err
