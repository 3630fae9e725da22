"""``python -m experiments NAME [--field value ...]``: a configuration by its name, any field of it changed on the command line.

`float_jets` is the floating-point reference; it has a configuration of its own."""

import sys
from pathlib import Path

import tyro

from experiments import float_jets, jets
from hgqjax import cli, experiment

RESULTS = Path("results")


def main() -> int:
    """Runs the experiment that the command line names."""
    name, config = None, None
    if sys.argv[1:2] == ["float_jets"]:
        config = tyro.cli(float_jets.Config, args=sys.argv[2:], description=float_jets.__doc__)
        return cli.guarded(lambda: float_jets.run(config))
    config = tyro.extras.overridable_config_cli(jets.CONFIGS, prog="python -m experiments", description=__doc__)
    name = sys.argv[1]
    return cli.guarded(lambda: cli.print_report(experiment.run(config, name=name, root=RESULTS)))


if __name__ == "__main__":
    sys.exit(main())
