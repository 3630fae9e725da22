import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ["step", "population", "front", "compile", "memory", "growth", "cnn", "particles", "methods", "tables"]


@pytest.mark.slow
def test_the_bench_runs_and_its_numbers_are_numbers(tmp_path):
    out = tmp_path / "results" / "bench.json"
    command = [sys.executable, "scripts/bench.py", "--quick", "--rounds", "1", "--out", str(out), "--parts", *PARTS]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in out.parent.iterdir()] == ["bench.json"]
    content = json.loads(out.read_text())
    assert content["machine"]["cpus"] >= 1 and content["machine"]["against"] is None
    assert {row["part"] for row in content["rows"]} == set(PARTS)
    for row in content["rows"]:
        assert row["what"] in done.stdout
        for sample in [row["value"], *row["samples"]]:
            assert math.isfinite(sample) and sample > 0, row
    traces = [row for row in content["rows"] if row["unit"] == "traces"]
    assert [(row["value"], row["goal"], row["met"]) for row in traces] == [(1, "<= 1", True)]  # a count, not a time
    assert all(row["part"] == "front" and "not reached in" in row["reason"] for row in content["skipped"])  # a quick look reaches nothing
