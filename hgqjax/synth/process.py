"""A tool in a process group of its own, with its output in a log and a limit of time; the whole group ends with it."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from hgqjax.synth.settings import ToolError

PARENT_DIES = "import ctypes, sys\nif sys.platform == 'linux': ctypes.CDLL(None).prctl(1, 9)\n"
"""A Python child gets SIGKILL when its parent is gone: a worker that is killed leaves no synthesis behind."""
TAIL_BYTES = 4000
_running: set[subprocess.Popen] = set()
_lock = threading.Lock()


class TimeLimitError(ToolError):
    """A tool that was ended because its time was over."""


def run(argv: Sequence[str], *, log: Path, seconds: float, cwd: Path, tool: str) -> float:
    """Runs `argv` in `cwd`, output into `log`; returns the seconds it took.

    Raises: TimeLimitError after `seconds`, when it and all it has started are killed; ToolError where it fails, with its last error.
    """
    start = time.monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        with _lock:
            _running.add(process)
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise TimeLimitError(f"{tool} was ended after {seconds:g} s (time_limit)") from None
        finally:
            _kill(process)  # also what it has left behind
            with _lock:
                _running.discard(process)
    if code:
        raise ToolError(f"{tool} failed: {last_error(log) or f'exit code {code}'} (log: {log.name})")
    return time.monotonic() - start


def python(code: str, *arguments: str) -> list[str]:
    """Command line of a Python child that runs `code` and dies with its parent."""
    return [sys.executable, "-c", PARENT_DIES + code, *arguments]


def need_module(module: str, what: str) -> None:
    """Raises ToolError where `module` is not installed."""
    if importlib.util.find_spec(module) is None:
        raise ToolError(f"{what} needs the Python package {module.replace('_', '-')}; pip install 'hgqjax[synth]'")


def end_all() -> None:
    """Kills every tool that runs, for a caller that is interrupted."""
    with _lock:
        for process in _running:
            _kill(process)


def last_error(log: Path) -> str:
    """The last line of a log that says ERROR, or its last line."""
    lines = [line.strip() for line in log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [""])[-1][:300].rstrip(".")


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.poll() is None:
        process.wait()
