"""HGQ2's `.keras` files as model descriptions, with json, numpy and h5py alone."""

import difflib
import os

from hgqjax.description import ModelDescription
from hgqjax.interop import hgq2_attention, hgq2_layers, hgq2_recurrent, hgq2_tables, keras_file
from hgqjax.interop.hgq2_graph import Graph
from hgqjax.interop.keras_file import Layer

READERS = hgq2_layers.READERS | hgq2_tables.READERS | hgq2_attention.READERS | hgq2_recurrent.READERS
"""By class of the layer: what `load_hgq2` can read."""


def load_hgq2(path: str | os.PathLike[str]) -> ModelDescription:
    """Reads a network that was trained with HGQ2 and saved by Keras 3; the description computes what HGQ2 computes.

    Weights, batch norms folded into them included, are quantized here as HGQ2 does it, in float32 and in its order of operations; all
    else is exact. So words are equal wherever HGQ2's own float32 sums are; two known exceptions: where a value that is rounded half up
    lies below a tie by less than float32 can tell, HGQ2 rounds up and the description, like hardware, down; and QBatchNormDense sums
    a bias in an order of its back end, so that a bias on a tie may come out one step away. Tables (of QDenseT, of a softmax) are computed
    in float64, see `hgqjax.interop.hgq2_tables`. Files of HGQ2 0.1.4 or earlier, 0.1.5, 0.1.6 and 0.2.0 were compared word by word.

    Attention, softmax and recurrence become compositions of operations; recurrent layers are unrolled. Layers that hardware shares over
    steps or, of tables, over positions (`parallelization_factor`) are counted in full.

    `metadata["hgq2"]` of the description holds the file's name, sha256, Keras version and date; the EBOPs that HGQ2 last counted in
    training for each layer (see below); and the operation that is the result of each layer. There are no sample rows.

    Stored EBOPs are those of the last forward pass in training, before the last step changed widths near a rounding threshold; and up to
    HGQ2 0.1.4 a bias counted its mean width for each *input* of the layer. `hgqjax.resources.ebops` counts the widths that the file has.

    Args:
      path: the `.keras` file, or an `.h5` file of Keras's older format.

    Raises: InteropError, one sentence: the file is damaged; or a layer, named with its class, is not one of `READERS` or has settings
      that no exact integer hardware has: quantizers in floating point or with a scale, shared layers, other activations than relu,
      averages that leave the grid, channels first. OSError where the file cannot be opened, ImportError without h5py.
    """
    return described(keras_file.read(path))


def described(model: keras_file.Model) -> ModelDescription:
    """What `load_hgq2` gives for the file."""
    graph, theirs = Graph(), model.of("qkeras")
    if theirs:
        raise keras_file.InteropError(f"{model.path}: its layers are those of QKeras ({theirs[0]}, ...); load_qkeras reads them")
    with keras_file.one_sentence(model.path):
        by_name = {layer.name: layer for layer in model.layers}
        for name in model.inputs:
            graph.input(by_name[name])
        for layer in model.layers:
            if layer.name not in model.inputs:
                graph.results[layer.name] = _read(layer, graph)
        return ModelDescription(
            name=model.path.stem,
            operations=tuple(graph.operations),
            outputs=tuple(graph.results[name] for name in model.outputs),
            metadata={"hgq2": _about(model, graph)},
        )


def _read(layer: Layer, graph: Graph) -> str:
    if layer.cls not in READERS or layer.module.partition(".")[0] not in ("hgq", "keras"):
        near = difflib.get_close_matches(layer.cls, READERS, 1, cutoff=0.0)[0]
        raise layer.refuse(f"has no description; the nearest that has one is {near}")
    dtype = layer.config.get("dtype") or "float32"
    dtype = dtype if isinstance(dtype, str) else dtype["config"]["name"]
    if dtype != "float32":
        raise layer.refuse(f"computes in {dtype}; float32 is legal")
    return READERS[layer.cls](layer, graph)


def _about(model: keras_file.Model, graph: Graph) -> dict:
    counted = {layer.name: graph.stored_ebops(layer) for layer in model.layers}
    return {
        "file": model.path.name,
        "sha256": model.sha256,
        "keras_version": model.metadata.get("keras_version"),
        "date_saved": model.metadata.get("date_saved"),
        "stored_ebops": {name: n for name, n in counted.items() if n is not None},
        "results": {name: result for name, result in graph.results.items() if "/" not in name},
    }
