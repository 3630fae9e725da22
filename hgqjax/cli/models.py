"""The commands `hgqjax export` and `hgqjax summary`."""

from collections.abc import Iterator
from pathlib import Path

from tyro.conf import Positional


def export(
    model: Positional[Path | None] = None,
    *,
    config: Path | None = None,
    output: Path | None = None,
    backend: str | None = None,
    strategy: str | None = None,
    reuse_factor: tuple[str, ...] = (),
    part: str | None = None,
    board: str | None = None,
    clock_ns: float | None = None,
    io_type: str | None = None,
    latency_cutoff: float | None = None,
    max_cost: float | None = None,
    data: str | None = None,
    rows: int | None = None,
    headroom: int = 0,
    raw_inputs: bool = False,
    verify: bool = True,
) -> None:
    """Turn a model description or a network of HGQ2 into an hls4ml project, Verilog, VHDL or QONNX that gives exactly the same words.

    C++ is compiled with g++, Verilog simulated in Verilator, QONNX run in its own executor, on at least 10 000 rows, VHDL in ghdl on 1000:
    data, and random words at and beyond the limits of every input. Any differing word aborts the export and removes the project.

    Args:
        model: folder of a model description, e.g. results/.../models/p03, a file of HGQ2 or QKeras, or an .onnx file; or give --config.
        config: an hls4ml-style YAML file with the key HGQModel instead; sweeps write one beside each exported model.
        output: folder of the new project; by default the model's path, without suffix, with _hls4ml, _verilog, _vhdl, or the file
            _qonnx.onnx.
        backend: Vitis (default), Vivado, VivadoAccelerator, Catapult (strategies latency, resource) or oneAPI (resource) for hls4ml;
            verilog or vhdl for RTL of adder graphs, fully unrolled (needs hgqjax[rtl]);
            qonnx for one file that FINN, hls4ml's front end and onnx tools read (needs hgqjax[qonnx]).
        strategy: latency (default; multipliers), resource (shared multipliers, weights in memory) or distributed_arithmetic (adder
            graphs, needs hgqjax[da]).
        reuse_factor: uses of a multiplier in an inference: a factor for all layers with weights, and NAME=FACTOR for single ones.
        part: FPGA part, by default the one of the HGQ papers.
        board: instead of a part, such as pynq-z2: an accelerator for it (back end VivadoAccelerator) with wrapper, block design, driver.
        clock_ns: target clock period, ns, by default 5.
        io_type: io_parallel (default) or io_stream (convolutional networks with one width a layer).
        latency_cutoff: of RTL: adder levels in a clock cycle, 0 for no registers at all; by default as many as fit into clock_ns.
        max_cost: of RTL: largest design that is taken on, in EBOPs with every position of a convolution unrolled; by default 50 000.
        data: further rows for the gate: a data set or file of the same features, as sweep takes it.
        rows: how many rows the gate runs, at least; 10 000 by default. Fewer where C++ takes long, e.g. 25 ms for an image of SVHN.
        headroom: more integer bits for the ports and for what wraps between layers, so that rows beyond the calibrated ranges wrap later;
            hgqjax summary MODEL --data FILE says where rows wrap, and how often.
        raw_inputs: the project takes raw values: the scaling is its first layer, exact where all scales are powers of two, else in fixed
            point; the README of the project states the error.
        verify: --no-verify leaves the gate out, which the project then records.
    """
    from hgqjax.export.hls4ml.reuse import parse_reuse

    backend = "VivadoAccelerator" if board is not None and backend is None else backend
    settings = {"backend": backend, "strategy": strategy, "board": board, "part": part, "clock_ns": clock_ns, "io_type": io_type}
    settings |= {"latency_cutoff": latency_cutoff, "max_cost": max_cost, **parse_reuse(reuse_factor)}
    _export(model, config, settings | {"output": output, "min_rows": rows}, data, verify, headroom, raw_inputs)


def summary(
    model: Positional[Path],
    *,
    data: str | None = None,
    window: float | None = None,
    signal: str | None = None,
    background_rate: float = 0.01,
) -> None:
    """Print a model description: operations, bit-widths, pruned shares, EBOPs; with --data its score there: accuracy, resolution, ...

    Args:
        model: folder of a model description, a file of HGQ2 or QKeras (.keras, .h5, .json), or an .onnx file of QONNX.
        data: a data set ("jets", "openml", "svhn", "muon", "particles:16", ...) or a file with rows of the same features: the score on
            all its rows that the model was trained for, such as its accuracy, or its resolution and the share of outliers. Such a file
            holds neither scaler nor classes: those of the data set are taken; for a file those of jets or muon tracks, whichever fit.
        window: of a resolution: residuals of this size and more are outliers, where the model itself does not say.
        signal: of an autoencoder: rows that it was not trained for. How well the error of a row tells them from the rows of --data,
            the background: AUC, and signal efficiency.
        background_rate: share of the background that passes, for the signal efficiency.
    """
    from hgqjax.description import wraps
    from hgqjax.evaluation import RowReader, trigger
    from hgqjax.interop.models import open_model

    if signal is not None and data is None:
        raise ValueError("--signal goes with --data, the rows of the background")
    description, reader = open_model(model), RowReader()
    print(description.summary())
    if data is not None:
        found = measure(model, description, data, reader, window)
        print(f"on {data}: {found} ({found.rows} rows{', training rows among them' if found.training_rows else ''})")
        print(wraps.report(description, reader(description, data)[0]))
    if signal is not None and data is not None:
        print(f"{signal} against {data}: {trigger(description, data, signal, reader, background_rate)}")


def predict(model: Positional[Path], *, data: str, output: Path | None = None, rows: int | None = None) -> None:
    """Print what a network gives for rows of a file or data set, exactly as its firmware does, as csv: a line for each row.

    Of a classification the first column is the class, the others are its outputs (logits); else there is a column for each target.

    Args:
        model: folder of a model description, e.g. results/.../models/p03, a file of HGQ2 or QKeras, or an .onnx file.
        data: raw rows, with the columns that the network was trained on, in any order; a label is not needed. Or a data set by name.
        output: the csv file to write, instead of printing.
        rows: the first so many rows only.
    """
    import sys

    from hgqjax.description import wraps
    from hgqjax.evaluation import load
    from hgqjax.evaluation.rows import raw_rows
    from hgqjax.files import atomic

    if rows is not None and rows < 1:
        raise ValueError(f"--rows is {rows}; at least 1 is needed")
    network = load(model)
    x = raw_rows(network.description, data)[:rows]
    if (found := wraps.wraps(network.description, network.scale(x))).where:
        print(f"hgqjax: {wraps.text(found).splitlines()[0].removesuffix(' there:')}; hgqjax summary says where", file=sys.stderr)
    if output is None:
        for part in _predicted(network, x):
            print(part, end="")
        return
    with atomic(output) as file:
        file.writelines(part.encode() for part in _predicted(network, x))
    names = ["class", *network.targets] if network.classes else network.targets
    print(f"{output}: {len(x)} rows, columns {', '.join(names)}")


def _predicted(network, x) -> Iterator[str]:
    """The lines of a csv file, many at a time: names, then the outputs for each row."""
    import csv
    import io

    head = [["class"] * bool(network.classes) + list(network.targets)]
    for start in range(0, len(x), 20_000):
        rows = x[start : start + 20_000]
        y = network.predict(rows)
        parts = [part.reshape(len(rows), -1) for part in (y if isinstance(y, tuple) else (y,))]
        columns = [column.tolist() for part in parts for column in part.T]
        if network.classes:
            columns.insert(0, network.classify(rows).tolist())
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*head, *zip(*columns, strict=True)])
        head = []
        yield text.getvalue()


def _export(model, config, settings, data, verify, headroom, raw_inputs) -> None:
    from hgqjax.evaluation.rows import RowReader
    from hgqjax.export import backends, ports
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
    description = ports.widened(description, headroom)
    if raw_inputs:
        description = ports.with_raw_inputs(description)
        rows = None if rows is None else ports.raw_rows(description, rows)
    with folders.hold(output):
        print(backends.export(description, output, given | {"rows": rows, "verify": verify}))


def measure(path, description, data, reader, window):
    """The model on all rows of `data`; a window is refused for a score that can have none."""
    from hgqjax.evaluation.measurement import measured

    found = measured(description, data, reader, window=window)
    if window is not None and found.score.window is None:
        raise ValueError(f"--window is of a resolution, but the score of {path} is its {found.score.name}; leave it out")
    return found
