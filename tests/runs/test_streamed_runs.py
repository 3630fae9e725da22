"""Whole runs on rows that memory has no room for: the files that rows in memory give, from less memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hgqjax import cli, export
from hgqjax.archives import bytes_of
from hgqjax.runs import jobs

pl = pytest.importorskip("polars")
DRIVER = Path(__file__).parents[1] / "memory_driver.py"
FILES = ("summary.csv", "models/p00/arrays.npz", "models/p00_test.json")


def same_runs(one, other):
    """Whether two run folders hold the same numbers."""
    tables = [pl.read_parquet(Path(folder) / "metrics.parquet") for folder in (one, other)]
    assert tables[0].equals(tables[1], null_equal=True) and tables[0].height > 5
    for name in FILES:
        assert (Path(one) / name).read_bytes() == (Path(other) / name).read_bytes()
    operations = [json.loads((Path(folder) / "models/p00/description.json").read_text())["operations"] for folder in (one, other)]
    assert operations[0] == operations[1]


@pytest.mark.slow
def test_a_run_takes_less_memory_than_its_rows_and_gives_the_same(tmp_path):
    rng = np.random.default_rng(0)
    records = np.empty(6_000_000, [(name, "f4") for name in "abcdefghij"] + [("label", "i4")])  # 264 MB
    for name in "abcdefghij":
        records[name] = rng.normal(size=len(records))
    records["label"] = records["a"] + records["b"] > 0.3
    np.save(tmp_path / "rows.npy", records)
    found = {}
    for memory in (0, 60_000_000):
        argv = [sys.executable, DRIVER, tmp_path / "rows.npy", tmp_path / "results", memory]
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
        assert done.returncode == 0, done.stderr
        found[memory] = json.loads(done.stdout.splitlines()[-1])
    same_runs(*(run["folder"] for run in found.values()))
    assert found[60_000_000]["growth"] + records.nbytes < found[0]["growth"]


@pytest.mark.slow
def test_the_command_says_that_it_streams_and_a_run_goes_on_in_any_memory(tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 5))
    frame = pl.DataFrame({**{f"f{n}": x[:, n] for n in range(5)}, "energy": x[:, 0] - x[:, 1], "mass": x[:, 2] * 2, "weight": x[:, 4] ** 2})
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=700)
    argv = ["sweep", "--data", str(tmp_path / "rows.parquet"), "--target", "energy", "mass", "--train.objective.score", "resolution"]
    argv += ["--train.epochs", "2", "--train.batch-size", "100", "--betas", "1e-6", "--results", str(tmp_path / "results")]
    argv += ["--model.hidden", "4", "--projects", "1", "--gate-rows", "500"]

    def refuse(*arguments):
        raise export.GateError("3 words differ")

    assert cli.main(argv) == 0
    with monkeypatch.context() as gate:
        gate.setattr(jobs, "write_project", refuse)
        assert cli.main([*argv, "--memory", "300 kB"]) == 2
    said = capsys.readouterr().out
    assert said.count("of rows are streamed from a scratch file, 75 kB at a time, as memory has no room for them (--memory)") == 1
    whole, streamed = sorted((tmp_path / "results" / "sweep").iterdir())
    assert json.loads((streamed / "manifest.json").read_text())["status"] == "failed"
    assert cli.main(["resume", str(streamed)]) == 0
    same_runs(whole, streamed)


def test_amounts_of_memory():
    assert [bytes_of(text) for text in ("8GB", "1.5 kb", "12", "3 bytes")] == [8 * 10**9, 1500, 12, 3]
    for wrong in ("", "GB", "1.2.3 GB", "8 GiB", "-1", "9" * 30):
        with pytest.raises(ValueError, match="is no amount of memory; a number and one of bytes, kB, MB, GB, TB, PB, EB is, such as 8GB"):
            bytes_of(wrong)


def test_the_command_refuses_an_amount_that_is_none(capsys):
    assert cli.main(["sweep", "--memory", "lots"]) == 2
    assert "'lots' is no amount of memory" in capsys.readouterr().err
    assert cli.main(["sweep", "--memory", "0"]) == 2
    assert "memory is '0'; more than 0 is needed" in capsys.readouterr().err
