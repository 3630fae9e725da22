"""The part `tables` of the bench: steps of layers of tables, whose functions are computed once for each key, or for each row."""

import contextlib
from typing import get_args

from bench_runs import N_IN, N_OUT, OBJECTIVE, RUN, SHARE, alternate, epochs_of, jets, whole

from hgqjax import training
from hgqjax.layers import edges
from hgqjax.runs import networks


@contextlib.contextmanager
def most_keys(count):
    """Functions are computed for at most so many keys while this holds; for each row where it is 0."""
    before, edges.MOST_KEYS = edges.MOST_KEYS, count
    try:
        yield
    finally:
        edges.MOST_KEYS = before


def part(options, sizes, report):
    """Training steps of 16-20-5 for each kind of function, each in turn with the same step without tables of keys."""
    rows = sizes.tables_rows
    for batch in sizes.tables:
        data, steps = jets(rows), rows // batch
        for function in get_args(edges.EdgeName)[: 1 if options.quick else None]:
            network = networks.Lut(hidden=(N_OUT,) if options.quick else (20,), function=function)
            config = training.Config(batch_size=batch, epochs=RUN, batch_statistics=SHARE, objective=OBJECTIVE)
            runs = {}
            for name, count in (("keys", edges.MOST_KEYS), ("rows", 0)):
                with most_keys(count):
                    found = epochs_of(training.make_train(config, network.build((N_IN,), N_OUT)), data)
                    runs |= {(name, phase): epoch for phase, epoch in found.items()}
                    for epoch in found.values():
                        epoch()  # is traced here
            spent = alternate(runs, options.rounds)
            run = {name: whole({phase: spent[name, phase] for phase in found}) for name in ("keys", "rows")}
            where = f"{function}, batch {batch:,}"
            report.add("tables", f"{where}: HGQ, mean of a run", 1e3 * run["keys"][:, 0] / steps, "ms/step")
            ratio = run["keys"] / run["rows"]
            report.add("tables", f"{where}: computed for each key / for each row, processor time", ratio[:, 1], "x")
