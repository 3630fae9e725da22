"""Programs that end with the process that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hgqjax import processes


def running(mark):
    """Whether a process with this text in its command line is alive."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                return True
        except OSError:
            continue
    return False


def wait_until(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_nothing_running(sent):
    mark = f"sleep 987{os.getpid()}"  # of a script's child, as g++ is one of hls4ml's script
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # ignored in what a shell has put in the background
    code += f"from hgqjax import processes; processes.run(['bash', '-c', '{mark}; true'])"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    wait_until(lambda: running("\0".join(mark.split())))
    parent.send_signal(sent)
    parent.wait(timeout=20)
    wait_until(lambda: not running("\0".join(mark.split())))


def test_a_limit_of_time_ends_it():
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="sh was ended after 0.3 s"):
        processes.run(["sh", "-c", "sleep 60; true"], seconds=0.3)
    assert time.monotonic() - start < 30


def test_codes_signals_and_both_outputs():
    assert processes.run(["sh", "-c", "echo out; echo err >&2; exit 7"]) == (7, "out\nerr\n")
    assert processes.run(["sh", "-c", "kill -ABRT $$"])[0] == -signal.SIGABRT
