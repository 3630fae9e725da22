"""Fixed-point networks for FPGAs with a learned bit-width for every weight and activation, in JAX.

The public rooms are attributes, imported when first used: ``hgqjax.quantizers``, ``hgqjax.layers``, ``hgqjax.export``, ...
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hgqjax import (
        config,
        data,
        description,
        evaluation,
        export,
        fixed_point,
        interop,
        layers,
        methods,
        quantizers,
        refine,
        reports,
        resources,
        runs,
        scores,
        synth,
        testing,
        training,
    )
    from hgqjax.evaluation import Network

__version__ = "0.2.0"
__all__ = ["config", "data", "description", "evaluation", "export", "fixed_point", "interop", "layers", "methods", "quantizers"]
__all__ += ["refine", "reports", "resources", "runs", "scores", "synth", "testing", "training"]


def load(path: str | os.PathLike[str]) -> "Network":
    """The network of a folder ``results/.../models/p03``, or of a file of another tool, to use: see `hgqjax.evaluation.Network`. Of a
    run folder it is the point that is best on the validation rows.

    ``hgqjax.load(path).predict(rows)`` takes raw rows. Raises: DescriptionError, one sentence, where there is no network; ReportError for a
    run folder that is not sound.
    """
    if os.path.isfile(os.path.join(path, "summary.csv")):
        path = importlib.import_module("hgqjax.reports.reader").best_model(path)
    return importlib.import_module("hgqjax.evaluation").load(path)


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"hgqjax.{name}")
    raise AttributeError(f"hgqjax has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__", "load"]
