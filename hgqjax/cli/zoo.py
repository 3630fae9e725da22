"""The command `hgqjax zoo`."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def zoo(
    folder: Positional[Path],
    names: Positional[tuple[str, ...]] = (),
    *,
    data: tuple[str, ...] = (),
    rows: int | None = None,
    window: float | None = None,
    adder_graph: bool = False,
    export: Literal["hls4ml", "verilog", "vhdl"] | None = None,
    output: Path | None = None,
    verify: bool = False,
    gate_rows: int = 10_000,
    csv: Path | None = None,
) -> None:
    """List, verify and measure a folder of networks: .keras, .h5, .onnx files and our own model descriptions, in it and in all below.

    Every network is evaluated in exact integers. Where NAME.npz lies beside NAME.keras with what HGQ2 computed (x0, t/layer, y0), every
    word of every layer is compared with it. A network that fails has its reason, the others go on, and the exit code is 2.

    Args:
        folder: the networks.
        names: of the networks that are meant, as the table has them; by default all.
        data: data sets ("jets", "muon", ...) or files. Each network is measured on all rows of the first one that fits its inputs: accuracy
            +- sqrt(a(1 - a)/n), or resolution, with the error that its residuals show.
        rows: no more than the last so many rows of the data.
        window: of a resolution: residuals of this size and more are outliers, where the network itself does not say.
        adder_graph: also compile each network to adders for its cost (needs hgqjax[rtl]).
        export: write each network as a project into OUTPUT, behind the gate: hls4ml, verilog or vhdl.
        output: folder for these projects, NAME_hls4ml and so on.
        verify: run the gate and keep no project: hls4ml, for several inputs Verilog.
        gate_rows: how many rows the gate runs, at least.
        csv: also write the table as a file, with all columns and the histograms.
    """
    from hgqjax.reports.zoo import ZooOptions, run

    given = {"data": data, "rows": rows, "window": window, "adder_graph": adder_graph, "export": export, "output": output}
    run(folder, names, ZooOptions(**given, verify=verify, gate_rows=gate_rows), csv)
