"""The hls4ml export against compiled C++. Every export below runs the gate, so `to_hls4ml` returning is the assertion that no word differs."""

import dataclasses
import importlib.metadata
import importlib.util
import json
import re
import shutil

import numpy as np
import pytest

from hgqjax.export import hls4ml as export
from hgqjax.export import hls4ml_graph
from hgqjax.export.gate import ExportError, GateError, gate_rows, to_words
from hgqjax.export.hls4ml import to_hls4ml
from hgqjax.export.hls4ml_config import export_from_config, read_config, write_config
from hgqjax.export.model import Constant, Dense, Input, ModelDescription, Quantize, Relu

MODES = [(rounding, overflow) for overflow in ("WRAP", "SAT", "SAT_SYM") for rounding in ("RND", "TRN", "RND_CONV")]


def quantize(name, source, k, i, f, rounding="RND", overflow="WRAP", shape=None):
    k, i, f = (np.array(v, np.int64) for v in np.broadcast_arrays(k, i, f, np.zeros(shape or (), int))[:3])
    return Quantize(name=name, inputs=(source,), shape=k.shape, k=k, i=i, f=f, rounding=rounding, overflow=overflow)


def dense(name, source, kernel, bias=None, f=8, shape=None):
    kernel = np.asarray(kernel, float)
    bias = None if bias is None else Constant.from_values(np.asarray(bias, float), f)
    return Dense(name=name, inputs=(source,), shape=shape or kernel.shape[1:], kernel=Constant.from_values(kernel, f), bias=bias)


def random_quantize(rng, name, source, shape, mode, dead=0.1):
    """k mixed, i from -2, f from -2, some elements without bits; one time in four the same format for all."""
    size = (1,) * len(shape) if rng.random() < 0.25 else shape
    k, i, f = rng.integers(0, 2, size), rng.integers(-2, 4, size), rng.integers(-2, 6, size)
    f = np.where(rng.random(size) < dead, -k - i - rng.integers(0, 2, size), np.maximum(f, 1 - k - i))
    return quantize(name, source, k, i, f, *mode, shape=shape)


def random_dense(rng, name, source, shape, outputs):
    """A third of the weights pruned, and now and then a whole neuron or a whole input."""
    f = rng.integers(-2, 6, (shape[-1], outputs))
    kernel = np.ldexp(rng.integers(-16, 17, f.shape) * (rng.random(f.shape) > 0.3).astype(float), -f)
    kernel[:, rng.random(outputs) < 0.1] = 0
    kernel[rng.random(shape[-1]) < 0.1] = 0
    bias = rng.integers(-16, 17, outputs) / 8 if rng.random() < 0.7 else None
    return dense(name, source, kernel, bias, shape=(*shape[:-1], outputs))


def random_network(seed, sizes=(6, 5, 4, 3)):
    rng = np.random.default_rng(seed)
    modes = [MODES[n] for n in rng.permutation(len(MODES))] * 2
    ops = [Input(name="x", inputs=(), shape=sizes[:1]), random_quantize(rng, "q", "x", sizes[:1], modes.pop())]
    for n, (before, after) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        last = n == len(sizes) - 2
        ops.append(random_dense(rng, f"d{n}", ops[-1].name, (before,), after))
        if rng.random() < 0.6 and not last:
            ops.append(Relu(name=f"r{n}", inputs=(ops[-1].name,), shape=(after,)))
        for _ in range(rng.choice([0, 1]) if last else rng.choice([1, 1, 1, 2])):
            ops.append(random_quantize(rng, f"q{len(ops)}", ops[-1].name, (after,), modes.pop()))
    sample = rng.normal(size=(200, sizes[0])).astype(np.float32) * 3
    return ModelDescription(name=f"random{seed}", operations=tuple(ops), outputs=(ops[-1].name,), sample=sample)


def all_modes(input_overflow):
    """Every rounding with every overflow: on the input for one overflow kind, and behind a layer, all of them outputs."""
    rng = np.random.default_rng(7)
    heads = [m for m in MODES if (m[1] == "WRAP") == (input_overflow == "WRAP")]
    ops = [Input(name="x", inputs=(), shape=(8,))]
    ops += [random_quantize(rng, f"in{n}", "x", (8,), mode) for n, mode in enumerate(heads)]
    ops.append(random_dense(rng, "d", "in0", (8,), 8))
    ops += [random_quantize(rng, f"out{n}", "d", (8,), mode) for n, mode in enumerate(MODES)]
    outputs = tuple(op.name for op in ops if isinstance(op, Quantize))
    return ModelDescription(name="modes", operations=tuple(ops), outputs=outputs)


def small():
    """Two layers whose types are easily worked out by hand."""
    ops = (
        Input(name="x", inputs=(), shape=(2,)),
        quantize("q", "x", [1, 0], [2, 1], [1, 3]),
        dense("d", "q", [[0.5, -1.0], [0.75, 0.0]], [0.25, 0.0]),
        Relu(name="r", inputs=("d",), shape=(2,)),
        quantize("y", "r", [1, 1], [5, 0], [1, 3], "TRN", "SAT"),
    )
    return ModelDescription(name="small", operations=ops, outputs=("y",), sample=np.float32([[0.5, 1.0]]))


def traps():
    """One output for each case that hls4ml's own width inference gets wrong; `x0` has 4 + 4 signed bits."""
    ops = [Input(name="x", inputs=(), shape=(2,)), quantize("x0", "x", [1, 1], [4, 4], [4, 4])]

    def branch(name, *stages):
        source = "x0"
        for n, make in enumerate(stages):
            ops.append(make(f"{name}_{n}", source))
            source = ops[-1].name

    eye = np.eye(2)
    branch("truncate_tiny", lambda n, s: dense(n, s, eye / 256), lambda n, s: quantize(n, s, [1, 1], [2, 3], [1, 2], "TRN"))
    branch("saturate_finer", lambda n, s: dense(n, s, eye), lambda n, s: quantize(n, s, [1, 1], [2, 1], [6, 7], "RND", "SAT"))
    branch("symmetric_limit", lambda n, s: quantize(n, s, [1, 1], [0, 1], [2, 2], "RND", "SAT"),
           lambda n, s: quantize(n, s, [1, 1], [3, 2], [2, 2], "RND", "SAT_SYM"))
    branch("wrap_unsigned", lambda n, s: dense(n, s, eye / 16), lambda n, s: quantize(n, s, [0, 0], [2, 3], [4, 5], "TRN", "WRAP"))
    branch("mixed_signs", lambda n, s: quantize(n, s, [0, 1], [3, 2], [2, 2]), lambda n, s: quantize(n, s, [1, 1], [5, 5], [3, 3]))
    branch("all_dead", lambda n, s: quantize(n, s, [0, 1], [2, -3], [-2, 2], "RND", "SAT"), lambda n, s: dense(n, s, eye, [1.25, -0.5]))
    branch("two_in_a_row", lambda n, s: dense(n, s, eye), lambda n, s: quantize(n, s, 1, 4, [1, 1]), lambda n, s: quantize(n, s, 0, 2, [0, 0]))
    branch("one_bit_symmetric", lambda n, s: quantize(n, s, [1, 1], [0, 2], [0, -2], "RND", "SAT_SYM"))
    branch("one_bit_wrap", lambda n, s: quantize(n, s, [1, 1], [0, -2], [0, 2], "TRN", "WRAP"))
    last = {op.name.rsplit("_", 1)[0]: op.name for op in ops[2:]}
    return ModelDescription(name="traps", operations=tuple(ops), outputs=tuple(last.values()))


def structure():
    """Names that C++ or hls4ml would trip over, rank 2, relu into a layer, an output that is read inside and given twice, wide weights."""
    ops = (
        Input(name="float", inputs=(), shape=(3, 4)),
        quantize("input", "float", 1, 2, 3, shape=(3, 4)),
        dense("relu", "input", np.arange(-10, 10).reshape(4, 5) / 4, shape=(3, 5)),
        Relu(name="RELU", inputs=("relu",), shape=(3, 5)),
        dense("layer2_out", "RELU", np.ldexp([[3, 1], [-1, 5], [2**20 + 1, 0], [0, 0], [1, 1]], -40), [0.5, -0.25], f=40, shape=(3, 2)),
        quantize("nnet", "layer2_out", [[1, 0]] * 3, [[3, 2]] * 3, [[22, 4]] * 3, "TRN", "SAT"),
    )
    return ModelDescription(name="structure", operations=ops, outputs=("nnet", "RELU", "RELU"))


@pytest.mark.parametrize(("seed", "backend"), [(0, "Vitis"), (1, "Vivado"), (2, "Vitis")])
def test_random_networks(seed, backend, tmp_path):
    project = to_hls4ml(random_network(seed), tmp_path / "project", backend=backend)
    assert project.gate.rows >= 10_000 and project.gate.differing_words == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_many_random_networks(seed, tmp_path):
    to_hls4ml(random_network(seed, (8, 8, 6, 4)), tmp_path / "project", backend=export.BACKENDS[seed % 2])


@pytest.mark.slow
@pytest.mark.parametrize("model", [random_network(200), random_network(201), traps(), structure()], ids=lambda m: m.name)
def test_distributed_arithmetic(model, tmp_path):
    if model.name == "structure":  # da4ml reads kernels as float32
        model = dataclasses.replace(model, operations=(*model.operations[:4],), outputs=("RELU", "relu"))
    to_hls4ml(model, tmp_path / "project", strategy="distributed_arithmetic", min_rows=2_000)


@pytest.mark.parametrize("model", [all_modes("WRAP"), all_modes("SAT"), structure()], ids=["wrap", "sat", "structure"])
def test_modes_and_structure(model, tmp_path):
    to_hls4ml(model, tmp_path / "project", backend="Vivado" if model.name == "structure" else "Vitis")


def test_traps_are_exact_here_and_wrong_when_hls4ml_infers(tmp_path, monkeypatch):
    model = traps()
    to_hls4ml(model, tmp_path / "ours")

    def inferred(description, strategy, reuse_factor, config):
        from hls4ml.model.graph import ModelGraph
        from hls4ml.utils.config import create_config

        names = hls4ml_graph._layer_names(description)
        layers = [hls4ml_graph._layer(op, names, description)[0] for op in description.operations]
        settings = create_config(**config)
        settings["HLSConfig"] = {"Model": {"Precision": "ap_fixed<16,6>", "ReuseFactor": 1, "Strategy": strategy}}
        return ModelGraph.from_layer_list(settings, layers, inputs=[names["x"]], outputs=[names[name] for name in description.outputs])

    monkeypatch.setattr(export, "model_graph", inferred)
    monkeypatch.setattr(export, "rewrite", lambda description: description)
    with pytest.warns(UserWarning):
        project = to_hls4ml(model, tmp_path / "inferred", verify=False)
    x = gate_rows(model)
    values = export.run_library(export.build_library(project.path), "myproject", x, [2] * len(model.outputs))
    expected = model.integers(x)
    wrong = {
        name.rsplit("_", 1)[0]
        for name, got in zip(model.outputs, values, strict=True)
        if np.any(to_words(got, model.grids[name]) != expected[name])
    }
    assert wrong == {"truncate_tiny", "saturate_finer"}
