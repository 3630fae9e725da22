"""HGQ2's softmax, einsum of two results and attention as compositions of operations; their sub-layers are read like layers of their own."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hgqjax.description import operations as o
from hgqjax.interop.hgq2_graph import Graph
from hgqjax.interop.hgq2_layers import einsum as projection
from hgqjax.interop.hgq2_quantizers import quantizer
from hgqjax.interop.hgq2_tables import tables
from hgqjax.interop.keras_file import Layer

EPSILON = 1e-7
"""Keras's, which HGQ2 adds to a sum before it divides."""


# ---- softmax ----


def softmax(layer: Layer, graph: Graph) -> str:
    """QSoftmax: e / sum(e) over `axes`; e a table of the largest value less x (stable), or of x, the inverse a table of the sum."""
    source, shape = graph.quantized(layer)
    axes = sorted(axis % (len(shape) + 1) - 1 for axis in layer["axes"])
    if axes[0] < 0:
        raise layer.refuse(f"has axes {layer['axes']}, of which one is the batch's")
    kept = tuple(1 if n in axes else size for n, size in enumerate(shape))
    scale = float(layer["input_scaler"])
    if layer["stable"]:
        most = _greatest(layer, graph, source, axes)
        source = graph.add(o.Subtract, f"{layer.name}_distance", (most, source), shape)
        source = graph.quantize(layer, layer["exp_iq_conf"], "exp_table/iq", f"{layer.name}_exp_table_iq", source)
        scale = -scale
    elif not layer["enable_iq"]:
        raise layer.refuse("has no input quantizer, without which there is no table")
    e = _table(layer, graph, source, "exp", lambda x: np.exp(scale * x))
    total = graph.add(o.Sum, f"{layer.name}_sum", (e,), kept, axes=tuple(axes))
    total = graph.quantize(layer, layer["inv_iq_conf"], "inv_table/iq", f"{layer.name}_inv_table_iq", total)
    inverse = _table(layer, graph, total, "inv", lambda x: 1.0 / (x + EPSILON))
    return graph.finish(layer, graph.add(o.Multiply, layer.name, (e, inverse), shape))


def _greatest(layer: Layer, graph: Graph, source: str, axes: list[int]) -> str:
    """The greatest value over `axes`, which come first as one."""
    shape = graph.shapes[source]
    rest = [n for n in range(len(shape)) if n not in axes]
    order, terms = (*axes, *rest), math.prod(shape[n] for n in axes)
    turned = source
    if order != tuple(range(len(shape))):
        turned = graph.add(o.Transpose, f"{layer.name}_turned", (source,), tuple(shape[n] for n in order), axes=order)
    rows = math.prod(shape) // terms
    turned = graph.add(o.Reshape, f"{layer.name}_rows", (turned,), (terms, rows))
    window = {"size": (terms,), "strides": (terms,), "padding": ((0, 0),), "counted": False}
    most = graph.add(o.MaxPool, f"{layer.name}_most", (turned,), (1, rows), **window)
    return graph.add(o.Reshape, f"{layer.name}_most_kept", (most,), tuple(1 if n in axes else size for n, size in enumerate(shape)))


def _table(layer: Layer, graph: Graph, source: str, which: str, function: Callable[[np.ndarray], np.ndarray]) -> str:
    """One table where all elements have the same formats, else one for each."""
    shape, name = graph.shapes[source], f"{layer.name}_{which}"
    results = quantizer(layer, layer[f"{which}_oq_conf"], f"{which}_table/oq").data(layer, shape)
    fields = tables(layer, graph, source, results, lambda n, x: function(x))
    sizes = np.diff(fields["start"])
    same = all(np.unique(fields[key]).size == 1 for key in ("low", "f_in", "f", "bits")) and np.unique(sizes).size == 1
    if not same:
        return graph.add(o.Lookup, name, (source,), shape, **fields)
    one = {key: int(fields[key].ravel()[0]) for key in ("low", "f_in", "f", "bits")}
    return graph.add(o.Table, name, (source,), shape, table=fields["words"][: sizes[0]], **one)


# ---- products of two results ----


def einsum(layer: Layer, graph: Graph) -> str:
    """QEinsum of two results."""
    names, shapes = graph.sources(layer, 2)
    text = layer["equation"].replace(" ", "")
    parts = text.replace("->", ",").split(",")
    letters = (c for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in text)
    free = "".join(next(letters) for _ in range(max(len(shapes[0]) + 1 - len(parts[0].replace("...", "")), 0)))
    a, b, y = (part.replace("...", free) for part in parts)
    if not a[:1] == b[:1] == y[:1] or any(len(part) != len(shape) + 1 for part, shape in zip((a, b), shapes, strict=True)):
        raise layer.refuse(f"has the equation {text!r}, which does not keep the batch axis of values of shapes {shapes} first")
    sizes = dict(zip(a[1:] + b[1:], shapes[0] + shapes[1], strict=True))
    result = tuple(sizes.get(label, 0) for label in y[1:]) or (1,)
    names = graph.quantized_each(layer, names)
    return graph.finish(layer, graph.add(o.Contract, layer.name, names, result, equation=f"{a[1:]},{b[1:]}->{y[1:]}"))


# ---- attention ----


def attention(layer: Layer, graph: Graph) -> str:
    """QMultiHeadAttention of tokens (tokens, features): projections, scores, softmax, the sum of values, a last projection."""
    query, value, key = _sources(layer, graph)
    return _attend(layer, graph, query, value, key)


def linformer(layer: Layer, graph: Graph) -> str:
    """QLinformerAttention: the tokens of keys and values are projected to fewer first."""
    if layer.config.get("lin_kv_proj_mode", "dense") != "dense":
        raise layer.refuse(f"projects by {layer['lin_kv_proj_mode']!r}; 'dense' is legal")
    query, value, key = _sources(layer, graph)
    (fewer,), shared = layer["lin_kv_proj_dim"], layer.config.get("share_kv_proj", False)  # a key of HGQ2 0.2.0
    projected = []
    for source, under in ((key, "_lin_k_proj"), (value, "_lin_k_proj" if shared else "_lin_v_proj")):
        if shared and projected and key == value:
            projected.append(projected[0])
            continue
        config = {"equation": "btc,ts->bsc", "output_shape": [fewer, graph.shapes[source][-1]], "bias_axes": None, "enable_oq": False}
        config |= {"enable_iq": layer["enable_iq"]}
        projected.append(_projection(layer, graph, source, under, "lin_key" if under == "_lin_k_proj" else "lin_value", config))
    return _attend(layer, graph, query, projected[1], projected[0])


def _sources(layer: Layer, graph: Graph) -> tuple[str, str, str]:
    if len(layer.inputs) > 3 or layer["attention_axes"] not in ([1], None):
        raise layer.refuse(
            f"reads {len(layer.inputs)} results and attends along {layer['attention_axes']}; query, value, key and axis 1 are legal"
        )
    for setting in ("use_gate", "sliding_window"):
        if layer.config.get(setting):
            raise layer.refuse(f"has {setting} {layer.config[setting]}, which has no description")
    names = [graph.results[name] for name in layer.inputs]
    query, value, key = names[0], names[min(1, len(names) - 1)], names[-1]
    if any(len(graph.shapes[name]) != 2 for name in names):
        raise layer.refuse(f"reads values of shapes {[graph.shapes[name] for name in names]}; tokens and features are legal")
    return query, value, key


def _attend(layer: Layer, graph: Graph, query: str, value: str, key: str) -> str:
    heads, key_dim, value_dim, fuse = layer["num_heads"], layer["key_dim"], layer["value_dim"] or layer["key_dim"], layer["fuse"]
    bias, shared = layer["use_bias"], {"qkv": ("query", "key", "value"), "kv": ("key", "value"), "none": ()}[fuse]
    parts = {}
    for which, source, size in (("query", query, key_dim), ("key", key, key_dim), ("value", value, value_dim)):
        config = {"equation": "btc,cnk->btnk", "output_shape": [graph.shapes[source][0], heads, size], "enable_oq": True}
        config |= {"bias_axes": "nk" if bias and which != "key" else None, "enable_iq": layer["enable_iq"]}
        # the quantizer that fused projections share lies where Keras saw it first
        parts[which] = _projection(layer, graph, source, f"{which}_dense", which, config, iq="key_dense" if which in shared else None)
    tokens, others = graph.shapes[parts["query"]][0], graph.shapes[parts["key"]][0]
    scores = (parts["key"], parts["query"])
    name = graph.add(o.Contract, f"{layer.name}_scores", scores, (heads, tokens, others), equation="snk,tnk->nts")
    inner = {
        "axes": [-1],
        "stable": layer["stable_softmax"],
        "input_scaler": 1 / math.sqrt(key_dim),
        "enable_iq": "_softmax/iq/quantizer/vars/0" in layer.weights,  # up to HGQ2 0.1.6 also of a stable softmax
    }
    inner |= {"iq_conf": layer["softmax_iq_conf"], "oq_conf": layer["softmax_oq_conf"], "enable_oq": True}
    inner |= {f"{part}_{end}_conf": layer[f"softmax_{part}_{end}_conf"] for part in ("exp", "inv") for end in ("iq", "oq")}
    weights = softmax(_part(layer, graph, name, "_softmax", "softmax", inner), graph)
    pair = (weights, parts["value"])
    name = graph.add(o.Contract, f"{layer.name}_values", pair, (tokens, heads, value_dim), equation="nts,snv->tnv")
    wanted = layer["output_shape"] or [graph.shapes[query][-1]]
    (size,) = wanted if isinstance(wanted, list) else (wanted,)
    config = {"equation": "btnv,nvd->btd", "output_shape": [tokens, size], "bias_axes": "d" if bias else None, "enable_iq": True}
    result = _projection(layer, graph, name, "output_dense", "output", config | {"enable_oq": False})
    return graph.finish(layer, result)


def _projection(layer: Layer, graph: Graph, source: str, under: str, name: str, config: dict[str, Any], iq: str | None = None) -> str:
    config = {f"{short}_conf": layer[f"qkvo_{short}_conf"] for short in ("iq", "kq", "bq", "oq")} | config
    part = _part(layer, graph, source, under, name, config | {"parallelization_factor": layer.config.get("parallelization_factor")})
    if iq is not None:
        shared = {path.removeprefix(f"{iq}/"): value for path, value in layer.weights.items() if path.startswith(f"{iq}/iq/")}
        part = dataclasses.replace(part, weights=part.weights | shared)
    return projection(part, graph)


def _part(layer: Layer, graph: Graph, source: str, under: str, name: str, config: dict[str, Any]) -> Layer:
    """A sub-layer as a layer of its own, which reads the operation `source`."""
    weights = {path.removeprefix(f"{under}/"): value for path, value in layer.weights.items() if path.startswith(f"{under}/")}
    graph.results[f"{layer.name}/{name}"] = source
    settings = {"name": name, "config": config, "weights": weights, "inputs": (f"{layer.name}/{name}",)}
    return dataclasses.replace(layer, **settings | {"name": f"{layer.name}_{name}", "arguments": ()})


READERS: dict[str, Callable[[Layer, Graph], str]] = {
    "QEinsum": einsum,
    "QLinformerAttention": linformer,
    "QMultiHeadAttention": attention,
    "QSoftmax": softmax,
}
"""By class of the layer."""
