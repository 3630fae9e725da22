"""One small run, begun or gone on with, in a process that kills itself where `FAULT` says: for test_durability.py.

python durability_driver.py ROOT ROWS CACHE [FAULT]

FAULT is JSON: {"label": which kind of write, "nth": which of them in this process, "torn": whether its file is left half written, "wait":
seconds from then to the kill}. In the end labels.json in ROOT has the labels of all writes into the run folder: what there is to be hit.
"""

import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

WRITES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")


class Faults:
    """Hears of every write that Python code makes below `root`, just before it is made; that in C++ (tensorstore) goes unheard."""

    def __init__(self, root: Path, fault: dict | None):
        self.root, self.fault, self.labels, self.deaf = str(root), fault, [], False
        sys.addaudithook(self.hear)

    def hear(self, event: str, args: tuple) -> None:
        if self.deaf or not args or not isinstance(args[0], str | os.PathLike):
            return
        flags = args[2] if event == "open" else 0
        if event not in WRITES and not (event == "open" and isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            return
        path = os.fspath(args[1] if event == "os.rename" else args[0])
        if not path.startswith(self.root):
            return
        run = os.path.relpath(path, self.root).partition("/")[2].partition("/")[2]  # ROOT/<experiment>/<run>/...
        label = f"{event} {re.sub(r'[.][0-9a-f]{8}[.]part', '.*.part', run)}"
        self.labels.append(re.sub(r"\d+", "#", label))
        if self.fault and self.labels[-1] == self.fault["label"] and self.labels.count(self.labels[-1]) == self.fault["nth"]:
            if self.fault["torn"]:
                self.deaf = True
                os.write(os.open(path, flags, 0o644), b'{"half')
            if self.fault["wait"]:
                threading.Timer(self.fault["wait"], os.kill, (os.getpid(), signal.SIGKILL)).start()
            else:
                os.kill(os.getpid(), signal.SIGKILL)


def config(rows: str):
    """The run's configuration: everything small but the number of checkpoints."""
    from hgqjax import runs, training
    from hgqjax.runs import networks
    from hgqjax.training import schedules

    penalty = schedules.LogRamp(start_ratio=0.1, hold=0.3)
    train = training.Config(epochs=20, batch_size=50, penalty=penalty)
    model = networks.Mlp(hidden=())
    return runs.Sweep(data=rows, model=model, train=train, betas=(1e-6, 1e-2), points=3, within=1.0, projects=1)


def main() -> None:
    """Begins the run, or goes on with the one in ROOT."""
    root, rows, cache, *fault = sys.argv[1:]
    import jax

    from hgqjax import runs

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    print("ready", flush=True)
    faults = Faults(Path(root), json.loads(fault[0]) if fault else None)
    begun = list(Path(root).glob("*/*/manifest.json"))
    if begun:
        runs.resume(begun[0].parent, progress=False)
    else:
        runs.run(config(rows), root=Path(root), progress=False)
    faults.deaf = True
    (Path(root) / "labels.json").write_text(json.dumps(faults.labels))


if __name__ == "__main__":
    main()
