"""The command `hgqjax resume`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from hgqjax.cli.machines import Machines


def resume(
    run: Positional[Path],
    *,
    group: int | None = None,
    cluster: str = "",
    machines: Annotated[Machines, arg(name="")] = Machines(),
) -> None:
    """Go on with a sweep that was interrupted, from its last checkpoint, to the same front.

    Args:
        run: the run folder, results/<experiment>/<time>-<hash>.
        group: train only this group of members, from its last checkpoint, as a task of a batch system does. A resume without it does the
            rest.
        cluster: as for sweep; any, whatever the run began with.
        machines: where it is trained.
    """
    from hgqjax import runs
    from hgqjax.cli.pages import report
    from hgqjax.training.devices import is_first

    machines.join()
    if group is not None:
        runs.train_group(run, group)
        return
    folder = runs.resume(run, cluster=cluster, rows_devices=machines.rows_devices, memory=machines.bytes)
    if is_first():
        report(folder)
