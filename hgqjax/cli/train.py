"""The command `hgqjax sweep`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from hgqjax import runs
from hgqjax.cli.machines import Machines
from hgqjax.cli.pages import report
from hgqjax.data import Columns
from hgqjax.runs import batch as batch_
from hgqjax.training.devices import is_first

runs.Sweep.__annotations__["columns"] = Annotated[Columns, arg(name="")]  # --target, not --columns.target


def sweep(
    config: Annotated[runs.Sweep, arg(name="")] = runs.Sweep(),
    *,
    results: Path = Path("results"),
    cluster: str = "",
    batch: batch_.System | None = None,
    machines: Annotated[Machines, arg(name="")] = Machines(),
) -> None:
    """Train a front of quantized networks, one for each penalty and seed, in one compiled program.

    Every network is a member of the sweep. A larger beta (penalty, loss per predicted LUT) gives a smaller network. The points of the
    front are frozen, calibrated on training and validation rows, measured on the test rows with exact integers, and saved as model
    descriptions; --projects N turns N of them into hls4ml projects whose compiled C++ is checked word for word.

    Args:
        config: the sweep.
        results: folder for results; the run makes <results>/sweep/<UTC time>-<hash>/ in it.
        cluster: train groups of members, measure points and check projects over the workers of a Dask cluster: "local" or "local:N"
            starts N processes here; or a scheduler's address (tcp://host:8786), or its scheduler file. A killed worker loses nothing.
        batch: train nothing now; write the files of this batch system (a job array, a task for each of --groups, and a job that waits for
            it) into the run folder, and print the command that submits them.
        machines: where it is trained.
    """
    machines.join()
    if batch is not None:
        if cluster or machines != Machines():
            raise ValueError("--batch writes files for later; leave out --cluster and the options of machines")
        print(batch_.write(runs.prepare(config, root=results), batch))
        return
    folder = runs.run(config, root=results, cluster=cluster, rows_devices=machines.rows_devices, memory=machines.bytes)
    if is_first():
        report(folder)
