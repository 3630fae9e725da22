"""The command `hgqjax`: sweep, resume, export, summary, report, table, compare, synth, zoo."""

import contextlib
import functools
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130


def main(argv: list[str] | None = None) -> int:
    """Runs the command; bad input gives one sentence on standard error and exit code 2, an interrupt another one and 130."""
    code = guarded(lambda: _parsed(argv)())
    if code == EXIT_INTERRUPTED and argv is None:  # the program itself: its interpreter would wait for JAX's threads, or crash with them
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(code)
    return code


def _parsed(argv: list[str] | None) -> Callable[[], None]:
    """The command that is asked for, with its arguments; ValueError where a nested configuration refuses a value."""
    try:
        import tyro
    except ImportError as error:
        raise ImportError("the command needs tyro and others; pip install 'hgqjax[run]'") from error
    app = tyro.extras.SubcommandApp()
    for function in _commands(tyro):
        app.command(_later(function))
    about = "Fixed-point networks with learned bit-widths: train a front, export it, verify it."
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return app.cli(prog="hgqjax", args=argv, description=about, registry=costs_by_name(tyro))
    except SystemExit as stop:
        refused = stop.__context__
        if isinstance(where := getattr(refused, "arg", None), str):  # else it is an option, which tyro names as it is typed
            said.truncate(0)
            fields = ".".join(where.split(".")[2:])  # after a name of tyro's own and the command's parameter
            raise ValueError(f"{fields}: {refused.message}".removeprefix(": ")) from None
        raise
    finally:
        print(said.getvalue(), end="", file=sys.stderr)


def _later(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """Gives `function` with its arguments, and does nothing."""

    @functools.wraps(function)
    def bound(*args, **kwargs):
        return functools.partial(function, *args, **kwargs)

    return bound


def costs_by_name(tyro):
    """A tyro registry in which a cost model is given by its name: ``--train.objective.cost luts``."""
    from hgqjax import resources

    names = {"ebops": resources.Ebops(), "ebops_paper_v1": resources.Ebops(definition="paper_v1"), "luts": resources.Luts()}
    names["weight_bits"] = resources.WeightBits()
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def cost(info):
        if info.type is not resources.AbstractCost:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="|".join(names),
            choices=tuple(names),
            instance_from_str=lambda given: names[given[0]],
            is_instance=lambda value: isinstance(value, resources.AbstractCost),
            str_from_instance=lambda value: [next((name for name, known in names.items() if known == value), repr(value))],
        )

    return registry


def guarded(command: Callable[[], None]) -> int:
    """Exit code of `command`; bad input gives one sentence on standard error and code 2, an interrupt another one and code 130."""
    try:
        with _heard():
            command()
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:  # a RecursionError is a RuntimeError
        from hgqjax.errors import sentence

        print(f"hgqjax: {sentence(error)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt as stop:
        print("; ".join(["hgqjax: interrupted", *getattr(stop, "__notes__", [])]), file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


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


def print_report(run: Path) -> None:
    """Draws the figures of a run folder, writes its report.html and prints where it is."""
    from hgqjax.reports.page import report
    from hgqjax.runs import folders

    with folders.hold(run):
        print(report(run))


def _commands(tyro):
    from hgqjax import runs
    from hgqjax.data import Columns
    from hgqjax.reports.zoo import zoo
    from hgqjax.synth.command import synth
    from hgqjax.training.devices import Machines, is_first

    Positional = tyro.conf.Positional
    runs.Sweep.__annotations__["columns"] = Annotated[Columns, tyro.conf.arg(name="")]  # --target, not --columns.target

    def sweep(
        config: Annotated[runs.Sweep, tyro.conf.arg(name="")] = runs.Sweep(),
        *,
        results: Path = Path("results"),
        cluster: str = "",
        machines: Annotated[Machines, tyro.conf.arg(name="")] = Machines(),
    ) -> None:
        """Train a front of quantized networks, one for each penalty and seed, in one compiled program.

        Every network is a member of the sweep. A larger beta (penalty, loss per bit operation) gives a smaller network. The points of the
        front are frozen, calibrated on training and validation rows, measured on the test rows with exact integers, and saved as model
        descriptions; --projects N turns N of them into hls4ml projects whose compiled C++ is checked word for word.

        Args:
            config: the sweep.
            results: folder for results; the run makes <results>/sweep/<UTC time>-<hash>/ in it.
            cluster: train groups of members, measure points and check projects over the workers of a Dask cluster: "local" or "local:N"
                starts N processes here; or a scheduler's address (tcp://host:8786), or its scheduler file. A killed worker loses nothing.
            machines: where it is trained.
        """
        machines.join()
        folder = runs.run(config, root=results, cluster=cluster, rows_devices=machines.rows_devices)
        if is_first():
            print_report(folder)

    def resume(run: Positional[Path], *, cluster: str = "", machines: Annotated[Machines, tyro.conf.arg(name="")] = Machines()) -> None:
        """Go on with a sweep that was interrupted, from its last checkpoint, to the same front.

        Args:
            run: the run folder, results/<experiment>/<time>-<hash>.
            cluster: as for sweep; any, whatever the run began with.
            machines: where it is trained.
        """
        machines.join()
        folder = runs.resume(run, cluster=cluster, rows_devices=machines.rows_devices)
        if is_first():
            print_report(folder)

    def export(
        model: Positional[Path | None] = None,
        *,
        config: Path | None = None,
        output: Path | None = None,
        backend: str | None = None,
        strategy: str | None = None,
        part: str | None = None,
        clock_ns: float | None = None,
        io_type: str | None = None,
        latency_cutoff: float | None = None,
        max_cost: float | None = None,
        data: str | None = None,
        rows: int | None = None,
        verify: bool = True,
    ) -> None:
        """Turn a model description or a network of HGQ2 into an hls4ml project, or into Verilog or VHDL, that gives exactly the same words.

        C++ is compiled with g++, Verilog simulated in Verilator, on at least 10 000 rows, VHDL in ghdl on 1000: data, and random words at
        and beyond the limits of every input. Any differing word aborts the export and removes the project.

        Args:
            model: folder of a model description, e.g. results/.../models/p03, or a .keras file of HGQ2; or give --config.
            config: an hls4ml-style YAML file with the key HGQModel instead; sweeps write one beside each exported model.
            output: folder of the new project; by default the model's path, without .keras, with _hls4ml, _verilog or _vhdl.
            backend: Vitis (default) or Vivado for hls4ml; verilog or vhdl for RTL of adder graphs, fully unrolled (needs hgqjax[rtl]).
            strategy: latency (default; multipliers) or distributed_arithmetic (adder graphs, needs hgqjax[da]).
            part: FPGA part, by default the one of the HGQ papers.
            clock_ns: target clock period, ns, by default 5.
            io_type: io_parallel (default) or io_stream (convolutional networks with one width a layer).
            latency_cutoff: of RTL: adder levels in a clock cycle, 0 for no registers at all; by default as many as fit into clock_ns.
            max_cost: of RTL: largest design that is taken on, in EBOPs with every position of a convolution unrolled; by default 50 000.
            data: further rows for the check: a data set or file of the same features, as sweep takes it.
            rows: how many rows the check runs, at least; 10 000 by default. Fewer where C++ takes long, e.g. 25 ms for an image of SVHN.
            verify: --no-verify leaves the check out, which the project then records.
        """
        settings = {"backend": backend, "strategy": strategy, "part": part, "clock_ns": clock_ns, "io_type": io_type}
        settings |= {"latency_cutoff": latency_cutoff, "max_cost": max_cost}
        _export(model, config, settings | {"output": output, "min_rows": rows}, data, verify)

    def summary(model: Positional[Path], *, data: str | None = None, window: float | None = None) -> None:
        """Print a model description: operations, bit-widths, pruned shares, EBOPs; with --data its accuracy or resolution there.

        Args:
            model: folder of a model description, or a .keras file of HGQ2.
            data: a data set ("jets", "openml", "svhn", "muon", ...) or a file with rows of the same features: the accuracy on all its
                rows, or of a regression the resolution (root mean square of the residuals) and the share of outliers. A .keras file
                holds neither scaler nor classes: those of the data set are taken; for a file those of jets or muon tracks, whichever fit.
            window: of a regression: residuals of this size and more are outliers, where the model itself does not say.
        """
        from hgqjax.evaluation.rows import RowReader
        from hgqjax.interop.models import open_model

        description = open_model(model)
        print(description.summary())
        if data is not None:
            found = _measure(model, description, data, RowReader(), window)
            print(f"on {data}: {found} ({found.rows} rows{', training rows among them' if found.training_rows else ''})")

    def report(run: Positional[Path]) -> None:
        """Make the figures and report.html of a run folder again, of an unfinished one too. The page is one file that opens offline.

        Args:
            run: the run folder, results/<experiment>/<time>-<hash>.
        """
        print_report(run)

    def table(
        name: Positional[str],
        *,
        runs: tuple[Path, ...] = (),
        models: tuple[Path, ...] = (),
        data: str | None = None,
        data_name: str | None = None,
        window: float | None = None,
        format: Literal["markdown", "csv", "latex"] = "markdown",
        output: Path | None = None,
    ) -> None:
        """Print a table of the HGQ paper, every published number with its source, and beside it what was measured here.

        Args:
            name: jets, svhn, muon, plf (jets by their particles), or artifact (the networks that the authors released).
            runs: run folders whose points are rows, each beside the nearest published one, with its difference on the same data. The
                caption says the rule.
            models: model descriptions, .keras files of HGQ2, or folders of them, to be measured on the rows of --data.
            data: a data set ("jets", "openml", ...) or a file: all its rows.
            data_name: what the rows of a file are, e.g. "OpenML 42468": so the table calls them, and finds published rows on the same.
            window: of a regression: residuals of this size and more are outliers, where the model itself does not say; of published
                ones 30 mrad.
            format: markdown, csv (all columns, numbers as they are) or latex.
            output: a file instead of standard output.
        """
        from hgqjax.reports import paper_table

        paper_table.check(name, output)
        paper_table.write(paper_table.build(name, runs, _measured(models, data, data_name, window)).text(format), output)

    def compare(
        runs: Positional[tuple[Path, ...]],
        *,
        output: Path = Path("compare.png"),
        at: tuple[float, ...] = (),
        reference: tuple[float, float] | None = None,
    ) -> None:
        """Lay the fronts of runs over each other: a figure, hypervolumes, scores at fixed costs, spread over seeds, differing fields.

        Args:
            runs: two or more run folders of one task, data set and cost.
            output: the figure: .png, .svg or .pdf.
            at: costs (EBOPs, or LUTs if these are the objective's cost) at which scores are compared; by default up to four.
            reference: reference point of the hypervolume: cost, and accuracy in % or resolution; by default
                outside of all points: twice the largest cost, a tenth of the span below the worst score.
        """
        from hgqjax.reports.compare import compare

        print(compare(runs, output, at, reference), end="")

    return sweep, resume, export, summary, report, table, compare, synth, zoo


def _export(model, config, settings, data, verify) -> None:
    from hgqjax.evaluation.rows import RowReader
    from hgqjax.export import backends
    from hgqjax.export.hls4ml.config import read_config
    from hgqjax.interop.models import open_model
    from hgqjax.runs import folders

    if settings["min_rows"] is not None and settings["min_rows"] < 1:
        raise ValueError(f"--rows is {settings['min_rows']}; at least 1 is needed")
    if (model is None) == (config is None):
        raise ValueError("give either the folder of a model description or --config FILE")
    given = {name: value for name, value in settings.items() if value is not None}
    if config is not None and set(given) - {"min_rows"}:
        raise ValueError(f"--config {config} says all about the project; leave out {', '.join(set(given) - {'min_rows'})}")
    if config is not None:
        model, found = read_config(config)
        given |= found
    output = given.pop("output_dir", given.pop("output", None))
    backends.check_backend(given)
    output = output or backends.default_output(model, given)
    description = open_model(model)
    rows = None if data is None else RowReader()(description, data)[0]
    with folders.hold(output):
        print(backends.export(description, output, given | {"rows": rows, "verify": verify}))


def _measure(path, description, data, reader, window):
    """The model on all rows of `data`; a window is refused for a classification, which has none."""
    from hgqjax.evaluation.measurement import measured

    found = measured(description, data, reader, window=window)
    if window is not None and found.objective.task == "classification":
        raise ValueError(f"--window is of a regression, but {path} is a model of classes; leave it out")
    return found


def _measured(models: tuple[Path, ...], data: str | None, data_name: str | None, window: float | None) -> Iterator:
    """Rows of a table: each model on all rows of `data`."""
    from hgqjax import resources
    from hgqjax.data import NAMES
    from hgqjax.evaluation.rows import RowReader
    from hgqjax.interop.models import open_model
    from hgqjax.reports import paper_table

    if bool(models) != (data is not None) or ((data_name, window) != (None, None) and data is None):
        raise ValueError("--models and --data go together: models to measure, and the rows to measure them on, which --data-name names")
    if data_name is not None and data in NAMES:
        raise ValueError(f"--data-name names the rows of a file, but --data {data} is a data set that has its name; leave it out")
    reader = RowReader()
    for path in _model_paths(models):
        description = open_model(path)
        here = _measure(path, description, data, reader, window)
        name = f"{path.parent.parent.name} {path.name}" if path.parent.name == "models" else path.stem
        kind = "accuracy" if here.objective.task == "classification" else "resolution"
        about = {"window": here.objective.window, "outliers": here.outliers, "training_rows": here.training_rows, "unit": here.unit}
        numbers = here.rows, here.score, here.error, float(resources.ebops(description).total)
        yield paper_table.of_model(name, data_name or reader.name(data), kind, *numbers, **about)


def _model_paths(paths: tuple[Path, ...]) -> list[Path]:
    """The models that are given, and those in folders of models; ValueError for a path with none."""
    from hgqjax.interop.models import MODELS, instead_of_model, is_model

    found = []
    for path in paths:
        models = [p for p in ([path, *sorted(path.iterdir())] if path.is_dir() else [path]) if is_model(p)]
        if not models:
            raise ValueError(instead_of_model(path, f"{MODELS}, or a folder of such,"))
        found += models
    return found


if __name__ == "__main__":
    sys.exit(main())
