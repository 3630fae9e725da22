"""Mutated files of every kind that is read: a value or one sentence of the project's own, never a crash, and bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).parents[1] / "fuzz_driver.py"
MEGABYTES = 2000
"""What reading may take besides what the imports took."""


def run(folder, seed, count):
    command = [sys.executable, str(DRIVER), str(folder), str(seed), str(count), str(MEGABYTES)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DRIVER.parents[1], timeout=1200)
    last = (folder / "last").read_text() if (folder / "last").exists() else "none"
    assert done.returncode == 0, f"died of {last}: {done.stderr[-2000:]}"
    failures = json.loads(done.stdout.splitlines()[-1])
    assert not failures, f"{len(failures)} failures, the first: {failures[0]}"


def test_two_hundred_mutated_files(tmp_path):
    run(tmp_path, 0, 200)


@pytest.mark.slow  # two minutes
def test_ten_thousand_mutated_files(tmp_path):
    run(tmp_path, 1, 10_000)
