"""A sweep on a large file, and the most memory that it takes: for runs/test_streamed_runs.py, which needs a process of its own.

python memory_driver.py FILE RESULTS MEMORY: prints JSON, the run folder and the growth of the process's own memory (pages of files do not
count, as the system takes them back) from before the data is read to its peak, in bytes. MEMORY is that of `runs.run`, or 0.
"""

import json
import sys
import threading
from pathlib import Path


def own_memory() -> int:
    """Bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def main() -> None:
    """Runs the sweep."""
    from hgqjax import runs, training
    from hgqjax.runs.networks import Mlp
    from hgqjax.training import schedules

    path, results, memory = sys.argv[1:]
    train = training.Config(epochs=1, batch_size=10_000, penalty=schedules.Constant())
    config = runs.Sweep(data=path, model=Mlp(hidden=(), batch_norm=False), train=train, betas=(1e-6,), points=1, projects=0)
    before, peak, over = own_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.005):
            peak = max(peak, own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        folder = runs.run(config, root=Path(results), progress=False, memory=int(memory) or None)
    finally:
        over.set()
        watcher.join()
    print(json.dumps({"folder": str(folder), "growth": peak - before}))


if __name__ == "__main__":
    main()
