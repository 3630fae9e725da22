"""The command `hgqjax resume`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from hgqjax.cli.machines import Machines


def resume(run: Positional[Path], *, cluster: str = "", machines: Annotated[Machines, arg(name="")] = Machines()) -> None:
    """Go on with a sweep that was interrupted, from its last checkpoint, to the same front.

    Args:
        run: the run folder, results/<experiment>/<time>-<hash>.
        cluster: as for sweep; any, whatever the run began with.
        machines: where it is trained.
    """
    from hgqjax import runs
    from hgqjax.cli.pages import report
    from hgqjax.training.devices import is_first

    machines.join()
    folder = runs.resume(run, cluster=cluster, rows_devices=machines.rows_devices)
    if is_first():
        report(folder)
