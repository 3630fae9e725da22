"""Members and batches over several devices and processes: the same numbers. JAX starts with its devices, so these are other processes."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from hgqjax import cli
from hgqjax.training import devices

DRIVER = Path(__file__).parents[1] / "mesh_driver.py"


class Devices:
    """The driver: one process with several virtual devices, or several processes on this machine."""

    def __init__(self, place: Path):
        self.place = place

    def start(self, scenarios, count=8, coordinator="none", processes=1, identity=0):
        texts = [json.dumps({"name": name} | scenario) for name, scenario in scenarios.items()]
        argv = [sys.executable, DRIVER, self.place, count, coordinator, processes, identity, *texts]
        return subprocess.Popen([str(a) for a in argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def play(self, count=8, **scenarios):
        """What each scenario comes to in one process."""
        process = self.start(scenarios, count)
        _, err = process.communicate()
        assert process.returncode == 0, err
        return self.outcomes(scenarios)

    def both(self, *scenarios, count=1):
        """Two processes; (return codes, in the order in which they end, with the number of the process, and the errors)."""
        address = f"127.0.0.1:{free_port()}"
        running = {n: self.start(scenario, count, address, 2, n) for n, scenario in enumerate(scenarios)}
        codes = []
        while running:
            for n in [n for n, process in running.items() if process.poll() is not None]:
                codes.append((n, running[n].returncode, running.pop(n).communicate()[1]))
            time.sleep(0.1)
        return codes

    def outcomes(self, names, identity=0):
        return {name: json.loads((self.place / f"{name}.{identity}.json").read_text()) for name in names}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """The driver, and five members on eight devices, on one device, and with a broken member on eight."""
    driver = Devices(tmp_path_factory.mktemp("mesh"))
    five = {"members": 5, "mesh": [8, 1]}
    found = driver.play(five=five, alone={"members": 5, "mesh": None, "group": 1}, broken=five | {"broken": 4}, hlo=five | {"hlo": True})
    return driver, found


def test_members_over_eight_devices_are_those_of_one(eight):
    _, found = eight
    assert found["five"] == found["alone"] and found["five"]["points"] and not found["five"]["failed"]
    assert [(row["member"], row["check"]) for row in found["five"]["history"]] == [(m, check) for check in range(4) for m in range(5)]
    assert found["hlo"] == []  # the devices have nothing to tell each other


def test_copies_that_fill_the_devices_count_nowhere(eight):
    _, found = eight
    assert set(found["broken"]["failed"]) == {"4"}  # the last one, of which three copies fill eight devices
    others = [row for row in found["five"]["history"] if row["member"] != 4]
    assert [row for row in found["broken"]["history"] if row["member"] != 4] == others


@pytest.mark.slow
def test_the_same_on_any_number_of_devices(eight):
    twelve = {"members": 12, "sizes": [4, 6, 3], "group": 2}
    found = eight[0].play(
        one=twelve | {"mesh": None},
        three=twelve | {"mesh": [3]},  # two groups on each
        filled=twelve | {"mesh": [8, 1]},  # six groups, and two of copies
        side_by_side=twelve | {"mesh": None, "group": None},
    )
    assert found["one"] == found["three"] == found["filled"]
    first, other = (np.array([row["train_loss"] for row in found[name]["history"][:12]]) for name in ("one", "side_by_side"))
    np.testing.assert_allclose(first, other, rtol=1e-4)  # other shapes are compiled to other orders of addition


@pytest.mark.slow
def test_a_checkpoint_goes_on_anywhere(eight):
    driver, before = eight
    (driver.place / "up").mkdir()
    five, alone = {"members": 5, "mesh": [8, 1]}, {"members": 5, "mesh": None}
    found = driver.play(
        up_begun=alone | {"group": 1, "checkpoints": "up", "until": 2},
        up=five | {"checkpoints": "up"},
        down_begun=five | {"checkpoints": "down", "until": 2},
        down=alone | {"checkpoints": "down"},
        whole=alone,
        all_begun=alone | {"checkpoints": "all", "until": 2},
        all=five | {"checkpoints": "all"},
    )
    assert found["up_begun"] == found["down_begun"] and len(found["up_begun"]["history"]) == 10
    assert found["up"] == found["down"] == before["five"]
    assert found["all"] == found["whole"]  # all five go on side by side, as they began


@pytest.mark.slow
def test_rows_of_a_batch_over_devices(eight):
    four = {"members": 4, "sizes": [4, 6, 3], "batch": 256}  # one step a check
    meshes = {"rows": [1, 4], "both": [4, 2]}
    found = eight[0].play(
        alone=four | {"mesh": None}, hlo=four | {"mesh": [4, 2], "hlo": 1}, **{n: four | {"mesh": m} for n, m in meshes.items()}
    )
    assert found["hlo"] == ["all-reduce"]
    for name in meshes:
        for metric, tolerance in (("train_loss", 2e-6), ("cost", 0.0), ("val_loss", 2e-3)):  # Adam's first step is a sign, even of noise
            ours, theirs = ([row[metric] for row in found[n]["history"][:4]] for n in (name, "alone"))
            np.testing.assert_allclose(ours, theirs, rtol=tolerance)
        assert len(found[name]["history"]) == 16 and not found[name]["failed"]


FIVE = {"members": 5, "mesh": [2, 1], "group": 1}


def test_devices_of_a_cpu_have_one_copy_of_the_rows(tmp_path):
    assert Devices(tmp_path).play(4, found={"members": 4, "mesh": [4], "addresses": True})["found"] == [1, 1, 1, 1]


@pytest.mark.slow
def test_rows_in_files_on_two_devices(tmp_path):
    whole = {"members": 3, "mesh": [2]}
    found = Devices(tmp_path).play(2, whole=whole, streamed=whole | {"stream": 2000})
    assert found["streamed"] == found["whole"] and len(found["whole"]["history"]) == 12


@pytest.mark.slow
def test_two_processes_come_to_the_same_front(eight):
    driver, before = eight
    scenario = {"two": FIVE | {"mesh": [4, 1], "checkpoints": "two"}}
    codes = driver.both(scenario, scenario, count=2)
    assert [code for _, code, _ in codes] == [0, 0], codes
    assert driver.outcomes(["two"]) == driver.outcomes(["two"], identity=1) == {"two": before["five"]}


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "members"), [(1, 5), (2, 4)], ids=["one", "two"])  # of 5 each process saves all, of 4 its own
def test_a_killed_process_takes_the_others_along_and_all_go_on(eight, processes, members):
    driver, found = eight
    name = f"killed{processes}"
    scenario = FIVE | {"members": members, "checkpoints": name}
    first, second = driver.both({name: scenario | {"kill": 2}}, {name: scenario})
    assert first[:2] == (0, -signal.SIGKILL) and second[0] == 1 and second[1] != 0
    assert [p.name for p in (driver.place / name).glob("[0-9]")] == ["2"]
    if processes == 1:
        driver.play(count=1, **{name: scenario | {"mesh": None}})
    else:
        assert [code for _, code, _ in driver.both({name: scenario}, {name: scenario})] == [0, 0]
        found = driver.play(count=1, five=FIVE | {"members": members, "mesh": None})
    assert driver.outcomes([name]) == {name: found["five"]}


# the command


def write_rows(path):
    x = np.random.default_rng(0).normal(size=(800, 4)).astype(np.float32)
    np.savez(path, x=x, y=np.argmax(x[:, :3] + 0.3 * x[:, 1:], axis=1))


def command(place, *argv, count=1, processes=1):
    """`hgqjax` in one or several processes; (return code, error) of each."""
    code = "import sys; from hgqjax.cli import main; sys.exit(main())"
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}", "JAX_PLATFORMS": "cpu"}
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(place / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    address, started = f"127.0.0.1:{free_port()}", []
    for n in range(processes):
        several = ["--coordinator", address, "--processes", processes, "--process-id", n] if processes > 1 else []
        line = [sys.executable, "-c", code, *(str(a) for a in (*argv, *several))]
        started.append(subprocess.Popen(line, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate()[1] for process in started]
    return [(process.returncode, error) for process, error in zip(started, errors, strict=True)]


@pytest.mark.slow
def test_the_command_in_two_processes(tmp_path):
    write_rows(tmp_path / "rows.npz")
    argv = ["sweep", "--data", "rows.npz", "--train.epochs", 3, "--train.batch-size", 64, "--model.hidden", "--betas", 1e-6, 1e-4, 1e-2]
    files = {}
    for root, where in (("one", {"count": 2}), ("two", {"processes": 2})):
        ended = command(tmp_path, *argv, "--projects", 1, "--results", root, **where)
        assert [code for code, _ in ended] == [0] * len(ended), ended
        (folder,) = (tmp_path / root / "sweep").iterdir()
        assert not (folder / "checkpoints").exists() and (folder / "report.html").exists()
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["status"] == "done" and manifest["devices"] == {"members": 2, "rows": 1, "processes": where.get("processes", 1)}
        files[root] = {name: (folder / name).read_bytes() for name in ("summary.csv", "metrics.parquet")}
    assert files["one"] == files["two"]
    for code, error in command(tmp_path, *argv, "--results", "rows.npz", processes=2):  # which the first process alone finds out
        assert code == 2 and "hgqjax: " in error and "rows.npz" in error
    done = command(tmp_path, "resume", folder, processes=2)
    assert [code for code, _ in done] == [0, 0] and (folder / "summary.csv").read_bytes() == files["two"]["summary.csv"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--process-id", "0"], "coordinator, processes and process_id go together; give all three or none"),
        (["--coordinator", "here", "--processes", "2", "--process-id", "0"], "coordinator is 'here'; HOST:PORT is needed"),
        (["--coordinator", "here:1", "--processes", "2", "--process-id", "2"], "process_id is 2; a number within 0..1 is needed"),
        (["--rows-devices", "99"], "rows, devices for each batch, is 99, which does not divide the"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_that_do_not_fit(flags, message, tmp_path, capsys):
    write_rows(tmp_path / "rows.npz")
    code = cli.main(["sweep", "--data", str(tmp_path / "rows.npz"), "--results", str(tmp_path), "--train.batch-size", "64", *flags])
    err = capsys.readouterr().err
    assert code == 2 and message in err and err.count("\n") == 1 and not (tmp_path / "sweep").exists()


# how devices are divided


@dataclasses.dataclass(frozen=True)
class Device:
    id: int
    process_index: int


def some_devices(*processes):
    return [Device(*pair) for pair in enumerate(processes)]


@pytest.mark.parametrize(
    ("members", "rows", "found", "shape"),
    [
        (12, 1, some_devices(*[0] * 8), (6, 1)),  # two on each; on eight devices it would be two, too
        (5, 1, some_devices(*[0] * 8), (5, 1)),
        (5, 2, some_devices(*[0] * 8), (3, 2)),
        (1, 8, some_devices(*[0] * 8), (1, 8)),
        (5, 2, some_devices(0, 0, 0, 0, 1, 1, 1, 1), (4, 2)),  # every process takes part
    ],
)
def test_devices_are_divided(members, rows, found, shape):
    mesh = devices.device_mesh(members, rows, devices=found)
    assert mesh.devices.shape == shape and mesh.axis_names == ("members", "rows")
    assert all(len({device.process_index for device in group}) == 1 for group in mesh.devices)


def test_meshes_that_do_not_fit_are_named():
    here = np.asarray(jax.devices()[:1], object)
    with pytest.raises(ValueError, match="is 3, which does not divide the 8 devices"):
        devices.device_mesh(4, 3, devices=some_devices(*[0] * 8))
    with pytest.raises(ValueError, match="members is 0; at least 1 is needed"):
        devices.device_mesh(0)
    with pytest.raises(ValueError, match="the mesh has the axes \\('data',\\); 'members' and, if any other, 'rows' are needed"):
        devices.Layout.of(jax.sharding.Mesh(here, ("data",)), 4, None, 32)
    with pytest.raises(ValueError, match="batch_size is 30, which the 4 devices of the mesh axis 'rows' do not divide"):
        devices.Layout.of(devices.device_mesh(2, 4, devices=some_devices(*[0] * 8)), 2, None, 30)
    with pytest.raises(ValueError, match="group is 0; at least 1 member is needed"):
        devices.Layout.of(None, 4, 0, 32)
