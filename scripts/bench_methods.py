"""The part `methods` of the bench: what a step of each method costs beside one of HGQ."""

from typing import get_args

import numpy as np
from bench_runs import N_IN, N_OUT, OBJECTIVE, RUN, SHARE, alternate, epochs_of, jets

from hgqjax import methods, training
from hgqjax.runs import networks

PHASES = {"batch": "batch statistics", "kept": "kept statistics"}


def part(options, sizes, report):
    """Training steps of each method, in turn with HGQ's: before it chooses bits for good, its moves within the epochs included."""
    batch, rows = sizes.methods
    config, data = training.Config(batch_size=batch, epochs=RUN, batch_statistics=SHARE, objective=OBJECTIVE), jets(rows)

    def epochs(method):
        return epochs_of(training.make_train(config, networks.Mlp(hidden=sizes.hidden, method=method).build((N_IN,), N_OUT)), data)

    hgq, where = epochs(methods.Hgq()), f"batch {batch:,} of {rows:,} rows"
    kinds = [kind for kind in get_args(methods.Method) if kind is not methods.Hgq]
    for kind in kinds[:2] if options.quick else kinds:
        name, other = kind.__name__.lower(), epochs(kind())
        runs = {(who, phase): run[phase] for phase in PHASES for who, run in (("hgq", hgq), (name, other))}
        spent = alternate(runs, options.rounds)
        for phase, statistics in PHASES.items():
            wall, cpu = np.transpose(spent[name, phase] / spent["hgq", phase])
            report.add("methods", f"{where}: step of {name} / of hgq, {statistics}, processor time", cpu, "x", ("<=", 2))
            report.add("methods", f"{where}: step of {name} / of hgq, {statistics}", wall, "x")
