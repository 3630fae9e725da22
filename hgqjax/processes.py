"""Programs that this package starts: each ends, with all that it has started, when it is no longer wanted or this process is killed."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_WATCHED = """
import os, signal, subprocess, sys, threading
def watch():
    os.read(0, 1)  # returns when the last process that could write there is gone
    os.killpg(0, signal.SIGKILL)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def run(
    command: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None, seconds: float | None = None
) -> tuple[int, str]:
    """Runs `command`, for `seconds` at most; its code, minus the number of the signal that ended it, and what it wrote to both outputs.

    It has a process group of its own with a watchdog in it, which reads from a pipe that this process holds: where this process dies,
    whatever way, the group is killed, compilers that a script has started included.

    Raises: TimeoutError where its time was over; then, too, nothing of it goes on.

    >>> run(["sh", "-c", "echo hello; exit 3"])
    (3, 'hello\\n')
    """
    ours, theirs = os.pipe()[::-1]
    try:
        argv = [sys.executable, "-S", "-c", _WATCHED, *command]
        ends = theirs, subprocess.PIPE, subprocess.STDOUT
        process = subprocess.Popen(argv, stdin=ends[0], stdout=ends[1], stderr=ends[2], cwd=cwd, env=environment, start_new_session=True)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    try:
        said = process.communicate(timeout=seconds)[0]
        return process.returncode, said.decode(errors="replace")
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} was ended after {seconds:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it has left behind, or all of it after an interrupt
        process.wait()
        os.close(ours)
