"""Runs that do not end by themselves: killed at any moment and gone on with, claimed by two processes, checkpoints of constant cost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import training
from hgqjax.reports import reader
from hgqjax.runs import folders
from hgqjax.training import checkpoints
from hgqjax.training.population import Archive, Point, SweepResult, TrainingError

DRIVER = Path(__file__).parents[1] / "durability_driver.py"
UNLIKE = ("projects/", "manifest", ".lock", "jobs/")  # have times in them


# one process at a time

HOLDER = "import sys, time; from hgqjax.runs import folders\nwith folders.hold(sys.argv[1]): print('held', flush=True); time.sleep(60)"


@pytest.fixture
def run(tmp_path):
    """A run folder with nothing in it yet."""
    folder = tmp_path / "run"
    folder.mkdir()
    manifest = {"schema": 1, "status": "running", "experiment": "none", "config": {}, "data": {"name": "none"}, "seconds": 0}
    folders.Run(folder, manifest).save()
    return folder


def test_a_run_is_held_by_one_process_until_it_ends(run, tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(run)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        start = time.monotonic()
        for path in (run, run / "models" / "p00_hls4ml"):  # what is written below the run, too
            with pytest.raises(folders.RunError, match=f"{run} is being written by process {process.pid} on .*; wait"), folders.hold(path):
                pass
        assert time.monotonic() - start < 1 and reader.read(run).points == []  # at once; reading stays free
        process.kill()
        process.wait()
    with folders.hold(run):
        assert f"process {os.getpid()} on" in (run / folders.LOCK).read_text()
    with folders.hold(run), pytest.raises(folders.RunError, match=f"process {os.getpid()}"), folders.hold(run):
        pass
    with folders.hold(tmp_path):  # in no run: nothing to keep, nothing written
        assert not (tmp_path / folders.LOCK).exists()


def test_resume_is_refused_while_another_is_at_it(run, capsys):
    from hgqjax import cli

    with folders.hold(run):
        assert cli.main(["resume", str(run)]) == 2
    assert f"hgqjax: {run} is being written by process {os.getpid()} on" in capsys.readouterr().err


# checkpoints

TREE = jax.tree.structure(({"w": 0}, {}))


def checked(store, checks, states, result=None, first=0):
    """A sweep of two members that has been saved after each of `checks` checks; every other check has a point of the front."""
    result = result or SweepResult(Archive(), [], {}, TREE)
    for check in range(first, checks):
        result.history += [{"member": m, "check": check, "beta_member": 0.1, "seed": 0, "val_score": check + m / 3} for m in range(2)]
        if check % 2:
            result.archive.add([Point(m, check, check + m / 3, 100.0 + m - check / 9, [np.full(3, check + m)]) for m in range(2)])
        store.save(check + 1, states, result)
    return result


@pytest.fixture
def states():
    return training.State({"w": jnp.arange(3.0)}, {}, {}, jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32))


def same(ours, theirs):
    assert ours.history == theirs.history and ours.failed == theirs.failed and len(ours.archive.points) == len(theirs.archive.points)
    for a, b in zip(ours.archive.points, theirs.archive.points, strict=True):
        assert (a.member, a.check, a.merit, a.cost) == (b.member, b.check, b.merit, b.cost)
        assert all(np.array_equal(x, y) for x, y in zip(a.leaves, b.leaves, strict=True))


def test_what_came_after_the_last_checkpoint_is_made_again(states, tmp_path):
    whole = checked(checkpoints.Checkpoints(tmp_path / "whole"), 6, states)
    checked(checkpoints.Checkpoints(tmp_path / "cut"), 3, states)
    with open(tmp_path / "cut" / "history.jsonl", "ab") as file:  # killed after these writes, before the checkpoint
        file.write(b'{"member": 0, "check": 3}\n{"mem')
    (tmp_path / "cut" / "point_000003_0000.npz").write_bytes(b"PK")
    (tmp_path / "cut" / ".point_000003_0001.npz.part").write_bytes(b"PK")
    (tmp_path / "cut" / "4.orbax-checkpoint-tmp").mkdir()
    again, store = SweepResult(Archive(), [], {}, TREE), checkpoints.Checkpoints(tmp_path / "cut")
    done, found = store.restore(states, again)
    assert done == 3 and jnp.array_equal(found.params["w"], states.params["w"]) and len(again.history) == 6
    same(checked(store, 6, found, again, first=3), whole)
    assert (tmp_path / "cut" / "history.jsonl").read_bytes() == (tmp_path / "whole" / "history.jsonl").read_bytes()
    assert {p.name for p in (tmp_path / "cut").glob("[!.]*")} == {p.name for p in (tmp_path / "whole").iterdir()}


def test_a_checkpoint_costs_the_same_after_many(states, tmp_path):
    store, result, sizes = checkpoints.Checkpoints(tmp_path), SweepResult(Archive(), [], {}, TREE), []
    for checks in (4, 40):
        checked(store, checks, states, result, first=len(result.history) // 2)
        sizes.append((tmp_path / str(checks) / "record" / "metadata").stat().st_size)  # beside it are the states alone
    assert sizes[1] < sizes[0] + 20 and len(list(tmp_path.glob("point_*"))) == len(result.archive.points) == 2
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 80


def test_checkpoints_that_cannot_be_gone_on_with_are_named(states, tmp_path):
    store = checkpoints.Checkpoints(tmp_path)
    checked(store, 2, states)

    def refused(message):
        with pytest.raises(TrainingError, match=message) as info:
            checkpoints.Checkpoints(tmp_path).restore(states, SweepResult(Archive(), [], {}, TREE))
        assert "\n" not in str(info.value)

    (tmp_path / "point_000001_0001.npz").rename(tmp_path / "kept")
    refused("is damaged, start the sweep again: .*point_000001_0001.npz")
    (tmp_path / "kept").rename(tmp_path / "point_000001_0001.npz")
    os.truncate(tmp_path / "history.jsonl", 100)
    refused("is damaged, start the sweep again: ")
    with pytest.raises(TrainingError, match="does not fit this sweep: its arrays have other shapes"):
        store.restore(states._replace(cost=jnp.zeros(2)), SweepResult(Archive(), [], {}, TREE))
    (tmp_path / "2" / "record" / "metadata").write_text(json.dumps({"history": [], "failed": {}, "points": []}))  # as it was before
    refused("is of another version of hgqjax; start the sweep again")


# kill -9


class Runs:
    """The driver on one run folder after another, with the same rows and compiled programs."""

    def __init__(self, place: Path):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(600, 4)).astype(np.float32)
        np.savez(place / "rows.npz", x=x, y=np.argmax(x[:, :3] + 0.3 * x[:, 1:], axis=1))
        self.place, self.number, self.kills = place, 0, 0

    @property
    def root(self) -> Path:
        return self.place / f"results{self.number}"

    def go(self, fault=None, seconds=None) -> list[str] | None:
        """Begins the run or goes on with it; the labels of its writes, or None where it was killed, at `fault` or after `seconds`."""
        self.root.mkdir(exist_ok=True)
        argv = [sys.executable, DRIVER, self.root, self.place / "rows.npz", self.place / "cache"] + ([json.dumps(fault)] if fault else [])
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            try:
                _, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                _, err = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), err
        self.kills += process.returncode != 0
        return None if process.returncode else json.loads((self.root / "labels.json").read_text())

    def outcome(self):
        """What the run in `root` has come to: every file but those with times in them; then the next `go` begins a new run."""
        (manifest,) = self.root.glob("*/*/manifest.json")
        folder, self.number = manifest.parent, self.number + 1
        paths = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*")}
        assert not [name for name in paths if ".part" in name or "tmp" in name or "checkpoint" in name or "frozen" in name]
        gates = [json.loads(p.read_text()) for p in folder.glob("projects/*/hgqjax_gate.json")]
        told = json.loads(manifest.read_text())
        return SimpleNamespace(
            folder=folder,
            files={n: p.read_bytes() for n, p in paths.items() if p.is_file() and not n.startswith(UNLIKE)},
            manifest={name: told.get(name) for name in ("status", "error", "warnings", "config", "data")},
            projects=[sorted(p.name for p in folder.glob("projects/*")), [(g["verified"], g["gate"]["words"]) for g in gates]],
        )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(the runs, what an undisturbed one comes to, the labels of its writes, its seconds)"""
    import polars as pl

    runs = Runs(tmp_path_factory.mktemp("durability"))
    start = time.monotonic()
    labels = runs.go()
    seconds, expected = time.monotonic() - start, runs.outcome()
    metrics = pl.read_parquet(expected.folder / "metrics.parquet")
    assert not metrics.select("member", "epoch", "split", "metric").is_duplicated().any() and metrics["epoch"].max() == 20
    assert any(name.startswith("models/") for name in expected.files)  # how many points there are depends on the CPU
    assert expected.projects[1][0][0]
    return runs, expected, labels, seconds


def assert_equal(ours, expected):
    assert ours.files.keys() == expected.files.keys()
    assert [name for name in ours.files if ours.files[name] != expected.files[name]] == []
    assert ours.manifest == expected.manifest and ours.projects == expected.projects


def faults(labels):
    """Where to kill, in the order in which a run comes there: before each kind of rename or removal, with each kind of file half written.

    Of the files inside folders that appear by one rename in the end (those of Orbax, of hls4ml) only some are torn.
    """
    found = []
    for kind in dict.fromkeys(labels):
        if "projects/." in kind and not kind.endswith("myproject.cpp"):
            continue
        if any(part in kind for part in ("/record.", "array_metadatas", "mkdir models", "mkdir checkpoints/", "remove checkpoints/#")):
            continue
        every_check = labels.count(kind) > 10
        found.append({"label": kind, "nth": 1 + every_check * len(found) % 2, "torn": kind.startswith("open"), "wait": 0})
        if kind.endswith("description.json"):  # and while the leftovers of a kill are removed
            found.append({"label": "os.rmdir models/.p#.*.part", "nth": 1, "torn": False, "wait": 0})
        if kind.endswith("states.orbax-checkpoint-tmp/_METADATA"):
            found.append({"label": "os.rmdir checkpoints/#.orbax-checkpoint-tmp", "nth": 1, "torn": False, "wait": 0})
        if kind == "os.mkdir projects":  # while g++ runs, which then outlives its caller
            found.append({"label": "open projects/.p#.*.part/build_gate.sh", "nth": 1, "torn": False, "wait": 1.0})
    early = ("os.mkdir ", "os.mkdir checkpoints")  # are made once; points are seldom late
    return sorted(found, key=lambda fault: 0 if fault["label"] in early else 1 if "point_" in fault["label"] else 2)


@pytest.mark.slow
def test_killed_at_every_kind_of_write(undisturbed):
    runs, expected, labels, _ = undisturbed
    for fault in faults(labels):
        if runs.go(fault) is not None:  # over before it came there: the next one begins a new run
            assert_equal(runs.outcome(), expected)
    runs.go()
    assert_equal(runs.outcome(), expected)
    assert runs.kills >= 30


@pytest.mark.slow
def test_killed_at_random_moments(undisturbed):
    runs, expected, _, seconds = undisturbed
    rng, enough, deadline = np.random.default_rng(0), runs.kills + 6, time.monotonic() + 5 * seconds
    while runs.kills < enough and time.monotonic() < deadline:
        if runs.go(seconds=rng.uniform(0.02, 0.3) * seconds) is not None:
            assert_equal(runs.outcome(), expected)
    runs.go()
    assert_equal(runs.outcome(), expected)
