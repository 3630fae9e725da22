"""Jobs over a Dask cluster: the numbers are those without one, a killed worker loses nothing, and nothing is done twice."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from hgqjax import cli, runs, training
from hgqjax.runs import cluster, folders, jobs
from hgqjax.runs import sweep as sweep_
from hgqjax.training.population import Archive, Point, SweepResult

HERE = Path(__file__).parents[1]  # of cluster_jobs, which workers import too
import cluster_jobs  # noqa: E402

TREE = jax.tree.structure(({"w": 0}, {}))


@pytest.fixture(scope="module")
def workers():
    with cluster.connect("local:2") as found:
        yield found


def counted(folder, text):
    return (folder / "log").read_text().splitlines().count(text)


# in threads of this process


def test_jobs_at_once_run_at_the_same_time_and_come_in_order():
    both, done = threading.Barrier(2, timeout=30), []

    def job(name):
        both.wait()  # for the other
        return {"was": name}

    found = cluster.Cluster().map(job, {"a": ("A",), "b": ("B",)}, done=lambda name, result: done.append((name, result["was"])), at_once=2)
    assert list(found.items()) == [("a", {"was": "A"}), ("b", {"was": "B"})] and sorted(done) == [("a", "A"), ("b", "B")]


def test_after_an_error_no_job_at_once_begins():
    began = []

    def job(name):
        began.append(name)
        raise ValueError(f"{name} is wrong")

    with pytest.raises(cluster.JobError, match="^(a: a|b: b) is wrong"):
        cluster.Cluster().map(job, {name: (name,) for name in "abcdefgh"}, tick=lambda: time.sleep(0.1), at_once=2)
    assert set(began) <= {"a", "b"}


# done once


def test_a_job_is_done_once_and_its_file_is_lock_log_and_result(tmp_path):
    began, both = threading.Event(), []

    def slow(note):
        began.set()
        time.sleep(1.0)
        note("check", done=1)
        return {"n": len(both)}

    threads = [threading.Thread(target=lambda: both.append(folders.do_once(tmp_path, "job", slow))) for _ in range(2)]
    for thread in threads:  # the second comes while the first is at it, and waits
        thread.start()
        began.wait()
    for thread in threads:
        thread.join()
    assert both == [{"n": 0}, {"n": 0}] and folders.do_once(tmp_path, "job", lambda note: 1 / 0) == {"n": 0}
    assert [line["event"] for line in folders.read_log(tmp_path / "jobs" / "job.jsonl")] == ["begun", "check", "done"]


def test_what_a_killed_process_left_of_a_line_is_no_result(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "job.jsonl").write_text('{"event": "begun"}\n{"event": "done", "resu')
    assert folders.do_once(tmp_path, "job", lambda note: {"n": 2}) == {"n": 2}
    with pytest.raises(ZeroDivisionError):
        folders.do_once(tmp_path, "other", lambda note: 1 / 0)
    assert folders.do_once(tmp_path, "job", lambda note: {"n": 3}) == {"n": 2} and folders.do_once(tmp_path, "other", lambda note: {}) == {}
    assert [line["event"] for line in folders.read_log(tmp_path / "jobs" / "job.jsonl")] == ["begun", "begun", "done"]


# jobs in this process, and over workers


def test_without_a_cluster_jobs_run_here_in_order(tmp_path):
    seen = []
    with cluster.connect() as here:
        assert here.slots == 1
        found = here.map(jobs.group_name, {"b": (1,), "a": (2,)}, done=lambda name, result: seen.append((name, result)))
        with pytest.raises(cluster.JobError, match=r"^second: KeyError: 'k1'$"):
            here.map(cluster_jobs.wrong, {"first": (str(tmp_path), 0), "second": (str(tmp_path), 1)})
    assert list(found.items()) == seen == [("b", "group_01"), ("a", "group_02")]


def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(workers, tmp_path):
    assert workers.slots == 2
    seen, ticks = [], []
    work = {f"n{n}": (str(tmp_path), n) for n in range(6)}
    found = workers.map(cluster_jobs.square, work, done=lambda name, result: seen.append(name), tick=lambda: ticks.append(1))
    assert list(found.items()) == [(f"n{n}", {"square": n * n}) for n in range(6)] and sorted(seen) == sorted(work) and ticks
    assert all(counted(tmp_path, f"did {n}") == 1 for n in range(6)) and counted(tmp_path, "began 2") == 2
    assert workers.map(cluster_jobs.square, work) == found and counted(tmp_path, "did 0") == 1


def test_errors_of_jobs_are_one_sentence_and_not_tried_again(workers, tmp_path):
    with pytest.raises(cluster.JobError) as info:
        workers.map(cluster_jobs.wrong, {name: (str(tmp_path), n) for n, name in enumerate(("first", "second", "third"))})
    assert str(info.value) == "second: KeyError: 'k1'" and "cluster_jobs.py" in info.value.__notes__[0] and counted(tmp_path, "tried") == 1
    (tmp_path / "log").unlink()
    assert workers.map(cluster_jobs.two_before, {"flaky": (str(tmp_path), 2)}) == {"flaky": 3}
    with pytest.raises(cluster.JobError, match=r"^flaky: cannot read or write rows.npz: Stale file handle\n"):
        workers.map(cluster_jobs.two_before, {"flaky": (str(tmp_path), 99)})
    assert counted(tmp_path, "tried") == 6


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_given_up(workers, tmp_path):
    with pytest.raises(cluster.JobError, match="^fatal was given up, as all 4 workers that had it died, the last one tcp://"):
        workers.map(cluster_jobs.fatal, {"fatal": (str(tmp_path),)})
    assert counted(tmp_path, "tried") == 4


@pytest.mark.slow
def test_a_scheduler_of_ones_own_by_its_file_and_one_that_goes_away(rows, tmp_path):
    place, started = tmp_path / "scheduler.json", []

    def start(tool, *arguments):
        argv = [sys.executable, "-m", f"distributed.cli.dask_{tool}", "--scheduler-file", place, "--no-dashboard", *arguments]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
        started.append(subprocess.Popen(argv, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL))

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        while not place.exists():
            time.sleep(0.1)
        with cluster.connect(str(place)) as found:
            assert found.slots == 0
            with pytest.raises(ValueError, match=r"has no workers yet; say how many groups of members there shall be \(--groups\)"):
                runs.run(runs.Sweep(data=rows, train=training.Config(batch_size=50)), root=tmp_path, cluster=str(place))
            start("worker", "--nthreads", "1")
            assert found.map(cluster_jobs.square, {"a": (str(tmp_path), 5)}) == {"a": {"square": 25}}
            with pytest.raises(cluster.ClusterError, match=f"the cluster at {place} went away; what its jobs had done is kept"):
                found.map(cluster_jobs.endless, {"b": (str(tmp_path),)}, tick=started[0].kill)
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_worker_has_the_versions_and_settings_of_its_caller():
    context = cluster._context()
    assert cluster._attempt(len, ("ab",), context).value == 2
    for package, here in context["versions"].items():
        outcome = cluster._attempt(len, ("ab",), context | {"versions": {package: "0.0.1"}})
        assert (
            outcome.error.startswith("the worker on ")
            and f"has {package} {here}, its caller 0.0.1; start the workers again" in outcome.error
        )
    assert context["config"]["jax_numpy_dtype_promotion"] == "strict"


# groups of members


def drawn(rng, members, checks):
    """(score, cost) of each member at each check; they tie often, and some are NaN."""
    scores = np.where(rng.random((checks, members)) < 0.1, np.nan, rng.integers(4, size=(checks, members)) / 4)
    return np.stack([scores, rng.integers(1, 5, size=(checks, members))], axis=-1).tolist()


def filled(table, first, last):
    """The sweep of members `first` to `last` of a table of (score, cost)."""
    result = SweepResult(Archive(), [], {}, TREE)
    for check, row in enumerate(table):
        part = list(enumerate(row[first:last]))
        result.history += [{"member": m, "check": check, "val_score": score} for m, (score, _) in part]
        result.archive.add([Point(m, check, score, cost, []) for m, (score, cost) in part])
    return result


def test_merged_groups_are_as_one_sweep_has_them():
    rng = np.random.default_rng(0)
    for _ in range(100):
        table = drawn(rng, 5, 6)
        whole, parts = filled(table, 0, 5), [filled(table, *ends) for ends in ((0, 2), (2, 3), (3, 5))]
        parts[1].failed[0], whole.failed[2] = "layer 'a' had a NaN", "layer 'a' had a NaN"
        merged = training.merge(parts)
        assert str(merged.history) == str(whole.history) and merged.failed == whole.failed  # as text: NaN is NaN
        assert merged.archive.points == whole.archive.points
    parts[0].failed, parts[2].failed = {0: "x", 1: "x"}, {0: "x", 1: "x"}
    with pytest.raises(training.DivergedError, match="all 5 members diverged"):
        training.merge(parts)


def test_members_are_divided_evenly():
    for groups, expected in ((None, [5]), (1, [5]), (2, [2, 3]), (3, [1, 2, 2]), (9, [1] * 5)):
        division = runs.Sweep(groups=groups).division()
        assert [part.stop - part.start for part in division] == expected and (division[0].start, division[-1].stop) == (0, 5)
    with pytest.raises(ValueError, match="groups is 0; at least 1 is needed"):
        runs.Sweep(groups=0)


# errors of the command


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4)).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "rows.npz"
    np.savez(path, x=x, y=np.argmax(x[:, :3] + 0.3 * x[:, 1:], axis=1))
    return str(path)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://127.0.0.1:1", "cannot connect to a Dask scheduler at tcp://127.0.0.1:1: "),
        ("nowhere://x", "cannot connect to a Dask scheduler at nowhere://x: "),
        ("local:0", "cluster is 'local:0'; legal are"),
        ("scheduler.json", "cluster is 'scheduler.json', which is no file; legal are"),
        (str(HERE / "conftest.py"), "cannot connect to a Dask scheduler at "),
    ],
)
def test_a_cluster_that_is_not_there_is_one_sentence(address, message, rows, tmp_path, capsys):
    start = time.monotonic()
    code = cli.main(["sweep", "--data", rows, "--train.batch-size", "50", "--results", str(tmp_path), "--cluster", address])
    err = capsys.readouterr().err
    assert code == 2 and message in err and err.count("\n") == 1 and time.monotonic() - start < 30
    assert list(tmp_path.iterdir()) == []  # no run was begun


def test_a_missing_dask_is_named(rows, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    code = cli.main(["sweep", "--data", rows, "--train.batch-size", "50", "--results", str(tmp_path), "--cluster", "local:2"])
    assert code == 2 and capsys.readouterr().err == "hgqjax: a cluster needs Dask; pip install 'hgqjax[dask]'\n"


# whole runs


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def outcome(folder):
    """What a run comes to, but for times and places."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    told = json.loads((folder / "manifest.json").read_text())
    assert told["status"] == "done" and not [name for name in files if ".part" in name or name.startswith(("frozen", "checkpoints"))]
    skipped = ("projects/", "manifest", ".lock", "jobs/", "figures/", "report")
    found = {name: path.read_bytes() for name, path in files.items() if not name.startswith(skipped)}
    told["config"].pop("groups")
    return found | {"config": told["config"], "projects": sorted(p.name for p in folder.glob("projects/*"))}


def logs(folder):
    return {path.stem: folders.read_log(path) for path in (folder / "jobs").glob("*.jsonl")}


def assert_nothing_was_done_twice(folder, killed):
    """Each job was begun once, each of `killed` once more; no check, point or project was done again."""
    for name, log in logs(folder).items():
        events = [line["event"] for line in log]
        assert events.count("done") == 1 and events.count("begun") == 1 + killed.count(name), (name, events)
        checks = [line["done"] for line in log if line["event"] == "check"]
        assert len(checks) == len(set(checks)) and (not name.startswith("group") or len(checks) >= 30 - killed.count(name)), (name, checks)


@pytest.fixture(scope="module")
def undisturbed(rows, tmp_path_factory):
    """The run without a cluster, as one program."""
    folder = runs.run(dataclasses.replace(cluster_jobs.small(rows), groups=1), root=tmp_path_factory.mktemp("results"), progress=False)
    assert_nothing_was_done_twice(folder, [])
    return outcome(folder)


def killer(root, done, killed):
    """A thread that kills the worker of a group after three checks, then that of a project while it is made."""

    def watch():
        for what, after in (("group_00", 3), ("project_p00", 0)):
            while not done.is_set():
                for path in root.glob(f"*/*/jobs/{what}.jsonl"):
                    log = folders.read_log(path)
                    if log and log[-1]["event"] != "done" and sum(line["event"] == "check" for line in log) >= after:
                        time.sleep(0.0 if after else 1.0)  # g++ is at work
                        os.kill(log[0]["process"], signal.SIGKILL)
                        killed.append(what)
                        break
                else:
                    time.sleep(0.02)
                    continue
                break

    return threading.Thread(target=watch, daemon=True)


@pytest.mark.slow
def test_a_run_over_workers_is_the_run_without(workers, undisturbed, rows, tmp_path, capsys):
    address = workers.client.scheduler.address
    arguments = cluster_jobs.small(rows)
    folder = runs.run(arguments, root=tmp_path, cluster=address)
    assert outcome(folder) == undisturbed
    assert_nothing_was_done_twice(folder, [])
    assert "checks by group: 30 30" in capsys.readouterr().err
    before = logs(folder)
    assert runs.resume(folder, cluster="local:7") == folder and logs(folder) == before  # nothing to do, no cluster started


@pytest.mark.slow
def test_workers_are_killed_in_a_group_and_in_a_project(workers, undisturbed, rows, tmp_path):
    done, killed = threading.Event(), []
    thread = killer(tmp_path, done, killed)
    thread.start()
    folder = runs.run(cluster_jobs.small(rows), root=tmp_path, progress=False, cluster=workers.client.scheduler.address)
    done.set()
    thread.join()
    assert killed == ["group_00", "project_p00"] and outcome(folder) == undisturbed
    assert_nothing_was_done_twice(folder, killed)


@pytest.mark.slow
@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_the_caller_is_stopped_and_the_run_gone_on_with_elsewhere(undisturbed, rows, cache, tmp_path, with_signal, interruptible):
    argv = [sys.executable, HERE / "cluster_jobs.py", tmp_path, rows]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    with subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while not any(jobs.checks_done(path, 0) >= 3 for path in tmp_path.glob("*/*")):
            assert process.poll() is None
            time.sleep(0.05)
        (folder,) = tmp_path.glob("*/*")
        if with_signal == signal.SIGKILL:
            process.send_signal(with_signal)
        else:
            os.killpg(process.pid, with_signal)  # as Ctrl-C in a terminal does
        process.wait(timeout=60)
    workers = {line["process"] for log in logs(folder).values() for line in log if line["event"] == "begun"}
    deadline = time.monotonic() + 60
    while workers and time.monotonic() < deadline:
        workers = {pid for pid in workers if Path(f"/proc/{pid}").exists()}
        time.sleep(0.1)
    assert not workers  # they end with their caller
    runs.resume(folder, progress=False)
    assert outcome(folder) == undisturbed
    for log in logs(folder).values():
        checks = [line["done"] for line in log if line["event"] == "check"]
        assert len(checks) == len(set(checks)) and [line["event"] for line in log].count("done") == 1


@pytest.mark.slow
def test_a_run_that_fails_on_its_workers_is_one_sentence(workers, rows, tmp_path, capsys, monkeypatch):
    address = workers.client.scheduler.address
    path = tmp_path / "rows.npz"
    path.write_bytes(Path(rows).read_bytes())
    right = sweep_._divided

    def broken(*arguments):  # after this process has read it
        path.write_bytes(b"PK no zip")
        return right(*arguments)

    monkeypatch.setattr("hgqjax.runs.sweep._divided", broken)
    argv = [
        "sweep",
        "--data",
        path,
        "--train.batch-size",
        "50",
        "--train.epochs",
        "2",
        "--results",
        tmp_path / "results",
        "--cluster",
        address,
    ]
    assert cli.main([str(a) for a in argv]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("hgqjax: group_0") and "rows.npz" in err[-1]
    (manifest,) = (tmp_path / "results").glob("*/*/manifest.json")
    assert json.loads(manifest.read_text())["status"] == "failed"
    with contextlib.suppress(FileNotFoundError):
        assert [line["event"] for line in logs(manifest.parent).get("group_00", [])].count("begun") <= 1
