"""Fixed-point networks for FPGAs with a learned bit-width for every weight and activation, in JAX.

The public rooms are attributes, imported when first used: ``hgqjax.quantizers``, ``hgqjax.layers``, ``hgqjax.export``, ...
"""

import importlib

__all__ = ["cluster", "data", "experiment", "export", "fixed_point", "interop", "layers", "methods", "networks", "objective", "population"]
__all__ += ["quantizers", "resources", "results", "schedules", "testing", "training"]


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"hgqjax.{name}")
    raise AttributeError(f"hgqjax has no {name!r}; it has {', '.join(__all__)}")
