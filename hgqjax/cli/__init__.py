"""The command `hgqjax`: a subcommand is a function of a module that is imported when it is asked for."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import hgqjax

EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_NOBODY_READS = 2, 130, 141
COMMANDS = {
    "demo": ("hgqjax.cli.demo", "train, export and report small networks on jets that come with the package, in about a minute"),
    "sweep": ("hgqjax.cli.train", "train a front of quantized networks, one for each penalty and seed, in one compiled program"),
    "resume": ("hgqjax.cli.resume", "go on with a sweep that was interrupted"),
    "refine": ("hgqjax.cli.refine", "change words of tables of a trained network, for less loss and fewer LUTs"),
    "export": ("hgqjax.cli.models", "turn a model into an hls4ml project, Verilog or VHDL that gives exactly the same words"),
    "summary": ("hgqjax.cli.models", "print a model: layers, bit-widths, EBOPs, and its score on rows of data"),
    "predict": ("hgqjax.cli.models", "print what a network gives for raw rows, exactly as its firmware does"),
    "report": ("hgqjax.cli.pages", "make the figures and report.html of a run folder again"),
    "table": ("hgqjax.cli.pages", "print a table of the HGQ paper, and measured rows beside it"),
    "compare": ("hgqjax.cli.pages", "lay the fronts of runs over each other"),
    "build": ("hgqjax.cli.build", "build an hls4ml project with Vitis HLS or Vivado HLS, and read what it reports"),
    "synth": ("hgqjax.cli.synth", "count LUTs and flip-flops of models with open synthesis tools"),
    "zoo": ("hgqjax.cli.zoo", "list, verify and measure a folder of networks"),
    "doctor": ("hgqjax.cli.doctor", "say what is installed, what each missing extra gives, and which devices there are"),
}
"""Each subcommand: the module with the function of its name, and what it does."""


def main(argv: list[str] | None = None) -> int:
    """Runs the command; bad input gives one sentence on standard error and exit code 2, an interrupt another one and 130."""
    code = guarded(lambda: _parsed(argv)())
    if code == EXIT_INTERRUPTED and argv is None:  # the program itself: its interpreter would wait for JAX's threads, or crash with them
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(code)
    return code


def overview() -> str:
    """What `hgqjax --help` prints."""
    lines = [f"  {name:9}{about}" for name, (_, about) in COMMANDS.items()]
    about = "Fixed-point networks with learned bit-widths: train a front, export it, verify it."
    return "\n".join(["usage: hgqjax COMMAND ...", "", about, "", *lines, "", "hgqjax COMMAND --help has its options; hgqjax --version."])


def _parsed(argv: list[str] | None) -> Callable[[], None]:
    """The command that is asked for, with its arguments; ValueError where there is no such command, or it refuses a value."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        return lambda: print(overview())
    if name == "--version":
        return lambda: print(f"hgqjax {hgqjax.__version__}")
    if name not in COMMANDS:
        raise ValueError(f"{name} is no command; legal are {', '.join(COMMANDS)}")
    from hgqjax.cli.parse import command

    return command(COMMANDS[name][0], name, rest)


def guarded(command: Callable[[], None]) -> int:
    """Exit code of `command`; bad input gives one sentence on standard error and code 2, an interrupt another one and code 130,
    a reader of the output who has gone code 141 and nothing."""
    try:
        with _heard():
            command()
            sys.stdout.flush()
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:  # a RecursionError is a RuntimeError
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return EXIT_NOBODY_READS
        from hgqjax.errors import sentence

        print(f"hgqjax: {sentence(error)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt as stop:
        print("; ".join(["hgqjax: interrupted", *getattr(stop, "__notes__", [])]), file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose reader has gone, as after `hgqjax ... | head`; what was left for it then goes nowhere."""
    try:
        poll, out = select.poll(), sys.stdout.fileno()
    except (OSError, ValueError):  # it is no file
        return False
    poll.register(out, select.POLLOUT)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), out)
    return True


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """An interrupt that falls into a callback, such as JAX's of the garbage collector, is ignored by Python: here it comes again."""
    before = sys.unraisablehook

    def again(ignored) -> None:
        if ignored.exc_type is KeyboardInterrupt:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()  # when this callback is over
        else:
            before(ignored)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before
