"""``python -m experiments NAME [--field value ...] [--cluster local:2]``: a configuration by its name, any field of it changed on the
command line; `--cluster` as for `hgqjax sweep`.

`float_jets` (the floating-point reference), `lut_front` (accuracy by LUT sites, runs and released networks), `lut_models` (what predicts
LUTs) and `methods` (rival methods side by side) have a configuration of their own."""

import argparse
import sys
from pathlib import Path

import tyro

from experiments import float_jets, jets, lut, lut_front, lut_models, methods, muon, particles, svhn
from hgqjax import runs
from hgqjax.cli import guarded
from hgqjax.cli.pages import report
from hgqjax.cli.parse import by_name, check_once
from hgqjax.training import devices

RESULTS = Path("results")


def main() -> int:
    """Runs the experiment that the command line names."""
    if code := guarded(lambda: check_once(sys.argv[1:])):
        return code
    apart = {"float_jets": float_jets, "lut_front": lut_front, "lut_models": lut_models, "methods": methods}
    if module := apart.get(sys.argv[1] if len(sys.argv) > 1 else ""):
        config = tyro.cli(module.Config, args=sys.argv[2:], description=module.__doc__)
        return guarded(lambda: module.run(config))
    how = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # no field of a configuration
    how.add_argument("--cluster", default="")
    where, arguments = how.parse_known_args()
    config = configuration(arguments)
    devices.use_cores()
    devices.use_cache()
    return guarded(lambda: report(runs.run(config, name=arguments[0], root=RESULTS, cluster=where.cluster)))


def configuration(arguments: list[str]) -> runs.Sweep:
    """The configuration with this name and its changed fields; costs to reach stand instead of an experiment's own betas."""
    configs = jets.CONFIGS | svhn.CONFIGS | muon.CONFIGS | particles.CONFIGS | lut.CONFIGS
    given = {word.partition("=")[0].replace("_", "-") for word in arguments}
    if "--points-at" in given and "--betas" not in given:
        arguments = [*arguments, "--betas"]
    with by_name(tyro):
        return tyro.extras.overridable_config_cli(configs, args=arguments, prog="python -m experiments", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
