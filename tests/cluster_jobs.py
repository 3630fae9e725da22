"""Jobs for test_cluster.py, of a module that workers can import. Each adds a line to the file `log`, for how often it was done."""

import os
import signal
import time
from pathlib import Path

from hgqjax import runs, training
from hgqjax.runs import folders, networks
from hgqjax.training import schedules


def _log(folder: str, text: str) -> int:
    """Lines in the log with this one."""
    with open(Path(folder) / "log", "a+") as file:
        file.write(text + "\n")
        file.flush()
        file.seek(0)
        return file.read().splitlines().count(text)


def square(folder: str, n: int) -> dict:
    """Done once; its process is killed in the middle of number 2, the first time."""

    def work(note):
        if _log(folder, f"began {n}") == 1 and n == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        _log(folder, f"did {n}")
        return {"square": n * n}

    return folders.do_once(Path(folder), f"square_{n}", work)


def two_before(folder: str, times: int) -> int:
    """Fails with an OSError so many times, as a shared file system might."""
    n = _log(folder, "tried")
    if n <= times:
        raise OSError(116, "Stale file handle", "rows.npz")
    return n


def wrong(folder: str, n: int) -> int:
    """Number 1 fails for good, at once."""
    if n == 1:
        _log(folder, "tried")
        raise KeyError("k1")
    time.sleep(0.2)
    return n


def fatal(folder: str) -> None:
    """Kills whichever worker it comes to."""
    _log(folder, "tried")
    os.kill(os.getpid(), signal.SIGKILL)


def endless(folder: str) -> None:
    """Takes a minute."""
    time.sleep(60)


def small(rows: str) -> runs.Sweep:
    """A sweep of three members in two groups."""
    train = training.Config(epochs=30, batch_size=50, penalty=schedules.LogRamp(start_ratio=0.1, hold=0.3))
    model = networks.Mlp(hidden=())
    return runs.Sweep(data=rows, model=model, train=train, betas=(1e-6, 1e-4, 1e-2), points=3, within=1.0, projects=2, groups=2)


def main() -> None:
    """A run over two workers, for a test that kills this process: cluster_jobs.py ROOT ROWS."""
    import sys

    runs.run(small(sys.argv[2]), root=Path(sys.argv[1]), progress=False, cluster="local:2")


if __name__ == "__main__":
    main()
