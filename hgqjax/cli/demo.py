"""The command `hgqjax demo`."""

import dataclasses
from pathlib import Path


def demo(*, results: Path = Path("results"), rows: int | None = None, epochs: int | None = None) -> None:
    """Train a front of twelve small networks on jets that come with the package, export two of them as verified hls4ml projects, and
    write a report. About a minute on two cores.

    Args:
        results: folder for results; the run makes <results>/demo/<UTC time>-<hash>/ in it.
        rows: use the first so many rows only, for a shorter look.
        epochs: passes over the training rows, an even number; fewer for a shorter look.
    """
    from hgqjax import runs
    from hgqjax.cli.machines import Machines
    from hgqjax.cli.pages import report
    from hgqjax.runs.demo import DEMO

    Machines().join()
    train = dataclasses.replace(DEMO.train, epochs=epochs or DEMO.train.epochs)
    report(runs.run(dataclasses.replace(DEMO, rows=rows or DEMO.rows, train=train), name="demo", root=results))
