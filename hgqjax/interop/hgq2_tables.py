"""HGQ2's layers of look-up tables (HGQ-LUT): the small network of each edge becomes a table, extracted once in float64.

HGQ2 itself runs these networks in float32, whose last bits depend on its back end; the tables read here are the model from then on. A word
may differ from HGQ2's by one step where a float32 result lies on a tie.
"""

import math
from collections.abc import Callable

import numpy as np

from hgqjax.description import integers as exact
from hgqjax.description import operations as o
from hgqjax.interop.hgq2_graph import Graph, function_name
from hgqjax.interop.hgq2_quantizers import quantizer
from hgqjax.interop.keras_file import Layer

BLOCK = 2**18
"""Words of tables that are computed at a time."""
MOST_HIDDEN = 64
"""Inner layers of the network behind a table."""
MOST_WORDS = 2**24
"""Of all tables of a layer together."""
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "tanh": np.tanh,
}


def dense_t(layer: Layer, graph: Graph) -> str:
    """QDenseT: a function of its own for each pair of an input and an output, summed over the inputs."""
    (source,), (shape,) = graph.sources(layer)
    n_in, n_out = shape[-1], int(layer["n_out"])
    full, network = (*shape, n_out), _network(layer, n_in, n_out)  # which checks the sizes before anything of them is allocated
    index = np.broadcast_to(np.arange(math.prod(shape)).reshape(*shape, 1), full).astype(np.int64)
    source = graph.add(o.Gather, f"{layer.name}_copies", (source,), full, index=index)
    if not layer["enable_iq"]:
        raise layer.refuse("has no input quantizer, without which there is no table")
    source = graph.quantize(layer, layer["iq_conf"], "iq", f"{layer.name}_iq", source)
    outputs = quantizer(layer, layer["toq_conf"], "toq")
    fields = tables(layer, graph, source, outputs.data(layer, full), lambda n, x: network(n % (n_in * n_out), x))
    source = graph.add(o.Lookup, f"{layer.name}_tables", (source,), full, **fields)
    summed = graph.add(o.Sum, layer.name, (source,), (*shape[:-1], n_out), axes=(len(full) - 2,))
    return graph.finish(layer, summed)


def tables(layer: Layer, graph: Graph, source: str, results: dict, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> dict:
    """The fields of a `Lookup` behind the quantizer `source`: ``function(element, value)`` of every word, in the formats `results`."""
    keys = graph.operation(source)
    wide = keys.bits > o.KEY_BITS
    if np.any(wide):
        where = tuple(int(n) for n in np.argwhere(wide)[0])
        raise layer.refuse(f"has a table with a key of {keys.bits[where]} bits at {where}; {o.KEY_BITS} bits are the most")
    low, high = (v.astype(np.int64) for v in keys.limits())
    f_in, sizes = np.where(keys.bits > 0, keys.f, 0), (high - low + 1).ravel()
    start = np.r_[0, np.cumsum(sizes)]
    if start[-1] > MOST_WORDS:
        raise layer.refuse(f"has tables of {start[-1]} words together; {MOST_WORDS} are the most")
    grid = o.Quantize(name="results", inputs=("values",), shape=keys.shape, **results)
    limits = [v.ravel() for v in grid.limits()]
    words = np.empty(start[-1], np.int64)
    for first in range(0, len(words), BLOCK):
        entry = np.arange(first, min(first + BLOCK, len(words)))
        n = np.searchsorted(start, entry, "right") - 1
        x = np.ldexp((low.ravel()[n] + entry - start[n]).astype(np.float64), -f_in.ravel()[n])
        y = function(n, x)
        if not np.all(np.isfinite(y)):
            raise layer.refuse("has a table with an entry that is NaN or infinite")
        ends = [limit[n] for limit in limits]
        words[entry] = exact.quantize_floats(y, grid.f.ravel()[n], grid.rounding, grid.overflow, *ends)
    magnitude = np.maximum(grid.i + grid.f, 0)
    bits = magnitude + np.where(magnitude > 0, grid.k, 0) if grid.overflow == "WRAP" else grid.bits  # as HGQ2 counts, but for constants
    return {"words": words, "start": start, "low": low, "f_in": f_in, "f": np.where(grid.bits > 0, grid.f, 0), "bits": bits}


def _network(layer: Layer, n_in: int, n_out: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The function of edge n (input n // n_out, output n % n_out) at values x, one each, float64."""
    hidden, width, biased = int(layer["n_hl"]), int(layer["d_hl"]), bool(layer.config.get("use_bias", True))
    if not 0 <= hidden <= MOST_HIDDEN:
        raise layer.refuse(f"has {hidden} inner layers; 0 .. {MOST_HIDDEN} are legal")
    name = function_name(layer["subnn_activation"])
    if name not in FUNCTIONS:
        raise layer.refuse(f"has the inner activation {name!r}; legal are {', '.join(FUNCTIONS)}")
    sizes, parts = [1] + [width] * hidden, []
    for depth in range(hidden + 1):
        under = f"module/layers/einsum_dense{f'_{depth}' if depth else ''}"
        last = depth == hidden
        shapes = [(n_in, n_out, sizes[depth]) + (() if last else (width,)), (n_in, n_out) + (() if last else (width,))][: 1 + biased]
        found = [v for v in layer.variables(under) if v.ndim]
        if [v.shape for v in found] != shapes:
            raise layer.refuse(f"has inner weights of shapes {[v.shape for v in found]} in {under}; needed are {shapes}")
        flat = [v.astype(np.float64).reshape(n_in * n_out, *v.shape[2:]) for v in found]
        parts.append((flat[0], flat[1] if biased else None))
    scale, offset = _batch_norm(layer, n_in, n_out)

    def function(n, x):
        h = x[:, None]
        for kernel, bias in parts[:-1]:
            h = np.einsum("nd,nde->ne", h, kernel[n]) + (0.0 if bias is None else bias[n])
            h = FUNCTIONS[name](h)
        kernel, bias = parts[-1]
        y = (h * kernel[n]).sum(1) + (0.0 if bias is None else bias[n])
        return y * scale[n % n_out] + offset[n % n_out]

    return function


def _batch_norm(layer: Layer, n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset of each output, float64: batch norm over the outputs, then one over the root of the number of inputs."""
    if not layer["batch_norm"]:
        return np.ones(n_out), np.zeros(n_out)
    names = [name for name, used in (("gamma", layer["bn_scale"]), ("beta", layer["bn_center"])) if used]
    names += ["mean", "variance"]
    found = layer.variables("bn_module")
    if [v.shape for v in found] != [(n_out,)] * len(names):
        raise layer.refuse(f"has batch statistics of shapes {[v.shape for v in found]}; needed are {', '.join(names)} of shape {(n_out,)}")
    of = dict(zip(names, (v.astype(np.float64) for v in found), strict=True))
    scale = of.get("gamma", 1.0) / np.sqrt(of["variance"] + layer["bn_epsilon"])
    offset = of.get("beta", 0.0) - of["mean"] * scale
    return scale / math.sqrt(n_in), offset / math.sqrt(n_in)


READERS: dict[str, Callable[[Layer, Graph], str]] = {"QDenseT": dense_t}
"""By class of the layer."""
