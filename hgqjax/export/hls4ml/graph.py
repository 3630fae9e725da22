"""A model description as an hls4ml graph with every type given, so that nothing is left for hls4ml to infer.

hls4ml 1.3 infers the widths of a network with quantizers in a pass, `bit_exact`, that shrinks quantizers and is wrong in a number of cases
(saturation behind a coarser producer, truncation of tiny negative numbers, quantizers without live elements, two quantizers in a row, ...;
tests/export/test_hls4ml.py pins them). The description knows the exact interval of every value, so every result, accumulator, weight and
bias type is written into hls4ml's own per-layer configuration and the pass is switched off.
"""

import contextlib
import io
import itertools
import re
import sys
import threading
from typing import Any

from hgqjax.description.model import ModelDescription
from hgqjax.export.hls4ml import generated
from hgqjax.export.hls4ml.backends import BACKENDS
from hgqjax.export.hls4ml.layers import Target, layers
from hgqjax.export.hls4ml.masks import mask_functions
from hgqjax.export.hls4ml.types import tensor_types

_alone = threading.RLock()


def layer_names(description: ModelDescription) -> dict[str, str]:
    """Names for C++: unique without regard to case, and, where they become identifiers (inputs, quantizers), unlike any of hls4ml's."""
    names: dict[str, str] = {}
    for op in description.operations:
        suffix = {"input": "_input", "quantize": "_quantizer"}.get(op.kind, "_" + op.kind)
        base = re.sub(r"[^A-Za-z0-9]+", "_", op.name).strip("_") or "x"
        base = f"x{base}" if base[0].isdigit() else base
        base = base if base.endswith(suffix) else base + suffix
        taken = {name.lower() for name in names.values()}
        candidates = itertools.chain([base], (f"{base}_{n}" for n in itertools.count(2)))
        names[op.name] = next(name for name in candidates if name.lower() not in taken)
    return names


def model_graph(description: ModelDescription, strategy: str, reuse: dict[str, int], config: dict[str, Any]):
    """hls4ml's ModelGraph of a rewritten description, with every type given; `reuse` has the reuse factors of layers."""
    with quiet():
        from hls4ml.model.graph import ModelGraph
        from hls4ml.utils.config import create_config

        generated.register()
        names, io_type = layer_names(description), config["io_type"]
        has_latency = "latency" in BACKENDS[config["backend"]].strategies
        target = Target(description, names, tensor_types(description, io_type), io_type, strategy, reuse, has_latency)
        nodes = [node for op in description.operations for node in layers(op, target)]
        settings = create_config(**{key: value for key, value in config.items() if key != "namespace"})
        settings.setdefault("WriterConfig", {})["Namespace"] = config.get("namespace")
        model = {"Precision": "ap_fixed<16,6>", "ReuseFactor": 1, "Strategy": strategy, "BitExact": False}
        settings["HLSConfig"] = {"Model": model, "LayerName": {layer["name"]: entry for layer, entry in nodes}}
        inputs = [names[op.name] for op in description.inputs]
        outputs = [names[name] for name in description.outputs]
        with mask_functions():
            return ModelGraph.from_layer_list(settings, [layer for layer, _ in nodes], inputs=inputs, outputs=outputs)


class _Muted(io.TextIOBase):
    """Standard output without what the thread that makes this one prints."""

    def __init__(self):
        self.out, self.thread = sys.stdout, threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self.thread else self.out.write(text)

    def flush(self) -> None:
        self.out.flush()


@contextlib.contextmanager
def quiet():
    """hls4ml and da4ml print progress; warnings and what other threads print stay visible. One thread at a time: neither knows threads."""
    with _alone, contextlib.redirect_stdout(_Muted()):
        yield
