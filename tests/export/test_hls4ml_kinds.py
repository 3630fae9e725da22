"""Every kind of operation against compiled C++ of hls4ml, in arrays and in streams; what is refused, by name."""

import dataclasses
import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hls4ml_networks import Network, arrays, random_arrays, random_network, svhn, verified

from hgqjax.description import operations as o
from hgqjax.description.operations import Constant
from hgqjax.export.gate import ExportError, gate_rows
from hgqjax.export.hls4ml import generated, layers
from hgqjax.export.hls4ml.checks import check_operations, check_types
from hgqjax.export.hls4ml.convert import to_hls4ml
from hgqjax.export.hls4ml.graph import model_graph
from hgqjax.export.hls4ml.rewrite import rewrite
from hgqjax.export.hls4ml.types import tensor_types
from hgqjax.export.project import DEFAULT_PART

TEMPLATES = Path(importlib.util.find_spec("hls4ml").origin).parent / "templates" / "vivado"
ALL, REVERSED = (None, None, None), (None, None, -1)


def windows(strategy):
    """Convolutions, pools and tables in arrays: all paddings and strides, a format for each element."""
    net = Network((6, 5, 2), seed=4)
    q = net.last
    r = net.relu(q)
    net.pool(o.MaxPool, r, (3, 2), (2, 2), ((1, 1), (0, 1)), name="padded")
    net.pool(o.AveragePool, q, (2, 2), (2, 1), name="average")
    net.pool(o.MaxPool, q, (6, 5), name="global")
    net.quantize(net.conv(r, 3, (3, 2), (2, 1), ((1, 1), (0, 1)), parallelization=5), name="conv2d")
    net.conv(net.last, 4, (1, 1), (1, 2), name="pointwise2d")
    row = net.reshape(q, (30, 2))
    net.pool(o.MaxPool, net.relu(row), (3,), (2,), ((1, 2),), name="padded1d")
    net.pool(o.AveragePool, row, (4,), (3,), name="average1d")
    c = net.quantize(net.conv(row, 3, (3,), padding=((1, 1),)))
    net.conv(c, 3, (1,), (2,), parallelization=5, name="pointwise1d")
    if strategy == "latency":
        net.conv(r, 2, (2, 3), (1, 2), groups=2, bias=False, name="depthwise2d")
    net.table(q, name="table")
    net.dense(net.table(c), 3, name="dense2d")
    net.dense(net.reshape(q, (3, 2, 5, 2)), 3, name="dense4d")
    outputs = ("padded", "average", "global", "pointwise2d", "padded1d", "average1d", "pointwise1d", "table", "dense2d", "dense4d")
    return net.model(*outputs, *(("depthwise2d",) if strategy == "latency" else ()))


def wiring(strategy):
    """Merges, einsums and everything that moves elements in arrays; outputs that are read inside, and reshaped."""
    net = Network((4, 3, 2), seed=3)
    q, q2 = net.last, net.quantize("x", ("TRN", "WRAP"))
    q3 = net.quantize(net.conv(q, 2, (1, 1)))
    product = net.merge(o.Multiply, q, q3, q2)
    most = net.merge(o.Maximum, net.merge(o.Subtract, net.merge(o.Add, q, q2, q3), q2), q3, q)
    row, column = net.slice(q, (1, 2, None)), net.slice(q3, ALL, (0, 1, None), (1, 2, None))  # sizes 1 repeat
    least = net.merge(o.Minimum, net.merge(o.Multiply, net.merge(o.Add, column, most, row), row), net.merge(o.Subtract, q2, column))
    channels = net.concatenate(2, least, q, product)
    height = net.concatenate(0, channels, channels)
    turned = net.transpose(net.concatenate(1, height, height, height), (2, 0, 1), name="turned")
    net.slice(turned, REVERSED, 2, (1, 8, 3), name="part")
    few = net.slice(channels, ALL, ALL, (0, 4, 2))
    net.einsum(few, "abc,bcd->dab", {"d": 3}, name="einsum")
    other = net.einsum(few, "abc,bd->cad", {"d": 5}, parallelization=2)
    net.dense(net.reshape(net.transpose("einsum", (1, 0, 2))), 4, name="after_turn")
    net.dense(net.reshape(net.transpose("einsum", (0, 2, 1))), 4, name="after_other_turn")
    net.sum(other, (0, 2), name="sum")
    net.sum(q, (0, 1, 2), shift=2, name="total")
    net.sum(q, (2,), keep=True, name="kept")
    net.reshape(least, name="flat")
    outputs = ("part", "after_turn", "after_other_turn", "sum", "total", "kept", "turned", "einsum", "flat")
    if strategy == "latency":
        net.conv(net.reshape(q, (12, 2)), 2, (3,), (2,), ((0, 1),), groups=2, name="depthwise1d")
    return net.model(*outputs, *(("depthwise1d",) if strategy == "latency" else ()))


def windows_stream(strategy):
    """Convolutions, pools, tables and a quantizer without bits in streams."""
    net = Network((8, 6, 2), shared=True, seed=6)
    q = net.last
    r = net.relu(q)
    net.pool(o.MaxPool, r, (3, 2), name="pool2d")
    net.pool(o.AveragePool, q, (2, 2), name="average2d")
    net.pool(o.MaxPool, q, (8, 6), name="global")
    net.conv(r, 3, (3, 2), (2, 1), ((1, 1), (0, 1)), name="conv2d")
    net.conv(q, 2, (1, 3), (3, 2), name="flat_window")
    row = net.reshape(r, (48, 2))
    net.pool(o.AveragePool, row, (4,), name="average1d")
    c = net.quantize(net.conv(row, 3, (3,), padding=((1, 1),)))
    net.conv(c, 3, (1,), (2,), name="pointwise1d")
    if strategy == "latency":
        net.conv(row, 2, (3,), (2,), ((2, 0),), groups=2, name="depthwise1d")
        net.conv(q, 2, (2, 3), (3, 1), groups=2, name="depthwise2d")
    net.table(q, name="table")
    net.dense(net.table(c), 3, name="dense2d")
    nothing = dict.fromkeys("kif", np.zeros((8, 6, 2), np.int64))
    dead = net.add(o.Quantize, "table", (8, 6, 2), "dead", **nothing, rounding="RND", overflow="SAT")
    net.dense(net.reshape(dead), 2, name="dead_dense")
    outputs = ("pool2d", "average2d", "global", "conv2d", "flat_window", "average1d", "pointwise1d", "dense2d", "dead_dense")
    return net.model(*outputs, *(("depthwise1d", "depthwise2d") if strategy == "latency" else ()))


def wiring_stream(strategy):
    """Merges and everything that moves elements in streams; an input with two readers, tensors with many, flattens in front of anything."""
    net = Network((4, 4, 2), shared=True, seed=5)
    q, q2 = net.last, net.quantize("x", ("TRN", "WRAP"))
    q3 = net.quantize(net.conv(q, 2, (3, 3), padding=((1, 1), (1, 1))))
    product = net.merge(o.Multiply, q, q3)
    most = net.merge(o.Maximum, net.merge(o.Subtract, net.merge(o.Add, q, q2, q3), q2), q3)
    channels = net.concatenate(2, net.merge(o.Minimum, most, product), most, product)
    height = net.concatenate(0, channels, channels)
    few = net.slice(channels, ALL, ALL, (0, 4, 2))
    net.transpose(few, (2, 0, 1), name="turned")
    net.transpose(net.reshape(few, (16, 2)), (0, 1), name="same")
    total = net.sum(few, (0, 1), shift=3)
    net.sum(few, (2,), keep=True, name="kept")
    flat = net.reshape(net.quantize(net.concatenate(1, height, height)), name="flat")
    net.concatenate(0, net.dense(flat, 3, name="dense"), net.relu(total), name="joined")
    net.quantize(net.relu(net.reshape(q3)), name="hoisted")
    net.dense("hoisted", 2, name="gathered")
    return net.model("turned", "same", "kept", "joined", "dense", "flat", "gathered")


NETWORKS = [windows, wiring, windows_stream, wiring_stream, lambda strategy: arrays()]
NETWORKS[-1].__name__ = "arrays"


def io_type(make):
    return "io_stream" if make.__name__.endswith("stream") else "io_parallel"


BACKENDS = ["Vivado", "Vitis", "Vitis", "Vivado", "Vivado"]


@pytest.mark.parametrize(
    ("make", "backend"),
    [
        pytest.param(make, backend, id=make.__name__, marks=pytest.mark.slow if io_type(make) == "io_stream" else ())
        for make, backend in zip(NETWORKS, BACKENDS, strict=True)
    ],
)
def test_every_kind(make, backend, tmp_path, monkeypatch):
    monkeypatch.setattr(generated, "BLOCK", 3)
    model = make("latency")
    verified(model, tmp_path / "project", io_type=io_type(make), backend=backend, min_rows=500)
    values = model.evaluate(gate_rows(model, min_rows=100))
    constant = {name for name, v in zip(model.outputs, values, strict=True) if np.ptp(v) == 0}
    assert constant <= {"dead_dense"}  # the others show something


@pytest.mark.slow
@pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)
def test_every_kind_with_distributed_arithmetic(make, tmp_path):
    verified(make("distributed_arithmetic"), tmp_path / "project", io_type=io_type(make), strategy="distributed_arithmetic", min_rows=200)


def test_every_kind_is_tested_here():
    tested = {op.kind for make in NETWORKS for op in make("latency").operations}
    assert tested == set(o.KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("io", ["io_parallel", "io_stream"])
def test_many_random_networks(seed, io, tmp_path):
    model = random_network(seed, shared=io == "io_stream")
    verified(model, tmp_path / "project", io_type=io, backend=("Vitis", "Vivado")[seed % 2], min_rows=500)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_random_arrays(seed, tmp_path):
    verified(random_arrays(seed), tmp_path / "project", backend=("Vitis", "Vivado")[seed % 2], min_rows=500)


@pytest.mark.slow
def test_the_network_for_house_numbers(tmp_path):
    """32x32x3, three convolutions, three dense layers. g++ -O1 10 s, 25 ms an image (-O0 7 s and 560 ms, -O3 12 s and 29 ms)."""
    gate = verified(svhn(), tmp_path / "project", io_type="io_stream", min_rows=150).gate
    assert 150 <= gate.rows < 400


# ---- what is refused ----


def conv(shape, kernel, result, **settings):
    rank = len(result) - 1
    plain = {"strides": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank}
    constant = Constant(np.ones(kernel, np.int64), np.zeros(kernel, np.int64), np.ones(kernel, np.int64))
    return shape, o.Conv, result, {"kernel": constant, "bias": None} | plain | settings


def pool(shape, size, result, **settings):
    rank = len(size)
    return shape, o.MaxPool, result, {"size": size, "strides": size, "padding": ((0, 0),) * rank} | settings


KERNEL = Constant(np.ones((2, 3), np.int64), np.zeros((2, 3), np.int64), np.ones((2, 3), np.int64))
LINEAR = {"kernel": KERNEL, "bias": None}
SCALE = {"kernel": Constant.exactly(np.array([[0.5, -3.0, 1.0]] * 2)), "bias": None}
REFUSED = [
    (conv((6, 2), (2, 2, 3), (4, 3), dilation=(2,)), "", "", "has dilation .2,., which hls4ml has not"),
    (conv((6, 4), (2, 2, 4), (5, 4), groups=2), "", "", "has 2 groups for 4 channels; hls4ml has 1 group, or as many as channels"),
    (conv((6, 2), (2, 1, 4), (5, 4), groups=2), "", "", "has 2 filters for each channel; hls4ml's depthwise convolutions have 1"),
    (conv((6, 2), (2, 1, 2), (5, 2), groups=2), "", "distributed_arithmetic", "is a depthwise convolution, which .* use strategy latency"),
    (conv((6, 2), (2, 2, 3), (5, 3), parallelization=2), "", "", "computes 2 of its 5 positions at a time; hls4ml needs a divisor of 5"),
    (conv((2, 2, 2, 1), (1, 1, 1, 1, 1), (2, 2, 2, 1)), "", "", "is a convolution over 3 axes; hls4ml has those over 1 and 2"),
    (pool((2, 2, 2, 1), (2, 2, 2), (1, 1, 1, 1)), "", "", "pools over 3 axes"),
    (pool((6, 1), (2,), (4, 1), padding=((1, 1),)), "io_stream", "", "pools with padding, which hls4ml has not in io_stream"),
    (pool((6, 1), (2,), (5, 1), strides=(1,)), "io_stream", "", r"pools windows of size \(2,\) every \(1,\); in io_stream"),
    (((4, 2), o.Einsum, (4, 3), {"equation": "tc,cd->td"} | LINEAR), "io_stream", "", "is an einsum, which hls4ml has not in io_stream"),
    (((4, 2), o.Slice, (2, 2), {"index": ((0, 2, 1),)}), "io_stream", "", "takes a part of an axis that is not the last"),
    (((4, 3, 2), o.Sum, (4, 2), {"axes": (1,)}), "io_stream", "", r"sums over axes \(1,\) of shape \(4, 3, 2\); in io_stream"),
    (((2,), o.Gather, (2,), {"index": np.array([1, 0])}), "io_stream", "", "chooses elements; in io_stream hls4ml has zeros around them"),
    (((2, 1), o.Gather, (4, 1), {"index": np.array([[0], [1], [0], [1]])}), "io_stream", "", "chooses elements; in io_stream"),
    (((2, 1), o.Gather, (4, 1), {"index": np.array([[-1], [1], [0], [-1]])}), "io_stream", "", "chooses elements; in io_stream"),
    (((2, 3), o.Einsum, (2, 3), {"equation": "tc,tc->tc"} | SCALE), "io_stream", "distributed_arithmetic", "multiplies with constants"),
    (((2, 3), o.Contract, (2, 2), {"equation": "tc,sc->ts"}), "io_stream", "", "is of kind contract, which has no form in io_stream"),
    (((2, 1, 1, 1), o.Concatenate, (4, 1, 1, 1), {"axis": 0}), "", "", "concatenates values of 4 axes; hls4ml does so up to 3"),
]


@pytest.mark.parametrize(("case", "io", "strategy", "message"), REFUSED, ids=range(len(REFUSED)))
def test_refused_operations_are_named_before_anything_is_written(case, io, strategy, message, tmp_path):
    shape, cls, result, fields = case
    net = Network(shape, shared=True)
    sources = [net.last] * (2 if cls in (o.Concatenate, o.Contract) else 1)
    net.add(cls, sources, result, "layer", **fields)
    with pytest.raises(ExportError, match=f"layer 'layer' {message}"):
        to_hls4ml(net.model(), tmp_path / "project", io_type=io or "io_parallel", strategy=strategy or "latency")
    assert list(tmp_path.iterdir()) == []


def test_a_stream_has_one_format_and_few_readers():
    net = Network((3, 2), seed=2)
    with pytest.raises(ExportError, match="layer 'quantize1' has more than one format, .* use granularity \"tensor\", or io_parallel"):
        check_operations(net.model(), "io_stream", "latency")
    check_operations(net.model(), "io_parallel", "latency")
    net = Network((3, 2), shared=True)
    outputs = [net.relu(net.operations[1].name) for _ in range(8)]
    with pytest.raises(ExportError, match="layer 'quantize1' is read 8 times; hls4ml's io_stream has copies for 7 at most"):
        check_operations(net.model(*outputs), "io_stream", "latency")


def test_depthwise_convolutions_over_one_and_two_axes_do_not_compile_together():
    net = Network((4, 3, 2))
    net.conv(net.last, 2, (2, 2), groups=2, name="a")
    net.conv(net.reshape(net.operations[1].name, (12, 2)), 2, (2,), groups=2, name="b")
    with pytest.raises(ExportError, match="layer 'b' is a depthwise convolution over one axis, and 'a' one over two; in io_parallel"):
        check_operations(net.model("a", "b"), "io_parallel", "latency")
    utilities = TEMPLATES / "nnet_utils"
    guards = {(utilities / f"nnet_sepconv{n}d_latency.h").read_text().split("\n")[0] for n in (1, 2)}
    assert guards == {"#ifndef NNET_SEPARABLE_CONV2D_LATENCY_H_"}  # both files


def test_unknown_kinds_and_wide_tables():
    class Softmax(o.Relu):
        kind = "softmax"

    net = Network((3,), shared=True)
    q = net.last
    net.add(Softmax, q, (3,), "s")
    with pytest.raises(ExportError, match="layer 's' is of kind softmax; the hls4ml export knows input, relu, table"):
        check_operations(net.model(), "io_parallel", "latency")
    net = Network((2,), shared=True)
    wide = {"k": np.ones(2, np.int64), "i": np.array([0, 8]), "f": np.array([12, 0])}
    net.add(o.Quantize, "x", (2,), "wide", **wide, rounding="TRN", overflow="WRAP")
    net.table("wide", name="t")
    with pytest.raises(ExportError, match="layer 't': the table's input has 21 bits in C\\+\\+, more than the 16 that are possible"):
        check_types(rewrite(net.model("t")), "latency")


def test_a_table_is_indexed_by_the_type_that_the_quantizer_is_narrowed_to():
    """Declared are 5 signed bits; after a relu of at most 1.5, in steps of 1/2, only 2 unsigned ones are left."""
    net = Network((1,), shared=True)
    declared = {name: np.array([v]) for name, v in zip("kif", (1, 1, 1), strict=True)}
    net.operations[1] = dataclasses.replace(net.operations[1], **declared)
    more = {name: np.array([v]) for name, v in zip("kif", (1, 2, 2), strict=True)}
    wide = net.add(o.Quantize, net.relu(net.last), (1,), "wide", **more, rounding="RND", overflow="SAT")
    table = net.add(o.Table, wide, (1,), "t", table=np.arange(32), f=0, bits=5, f_in=2, low=-16)
    model = rewrite(net.model(table))
    names = {op.name: op.name for op in model.operations}
    target = layers.Target(model, names, tensor_types(model, "io_parallel"), "io_parallel", "latency", {})
    ((layer, config),) = layers.layers(model["t"], target)
    assert layer["table_data"].tolist() == [16, 18, 20, 22] and "ap_ufixed<5,5" in config["Precision"]["table"]
    signed = dataclasses.replace(target, types=target.types | {"wide": layers.Fixed(1, 1, 1)})
    assert layers.layers(model["t"], signed)[0][0]["table_data"].tolist() == [16, 18, 20, 22, 8, 10, 12, 14]


# ---- faults of hls4ml 1.3 that the export goes round ----


def graph(net, outputs, io, monkeypatch=None, **makers):
    """hls4ml's graph; `makers` replaces how operations of a kind become layers."""
    model = rewrite(net.model(*outputs), io)
    if monkeypatch:
        kinds = {o.KINDS[kind]: maker for kind, maker in makers.items()}
        monkeypatch.setattr(layers, "_MAKERS", layers._MAKERS | kinds)
    return model_graph(model, "latency", {}, {"part": DEFAULT_PART, "backend": "Vitis", "io_type": io, "output_dir": "unused"})


def plain_reshape(op, target):
    return [({"class_name": "Reshape", "target_shape": list(op.shape)}, {"Precision": {"result": str(target.types[op.name])}})]


def plain_conv(op, target):
    ((layer, config),) = layers._conv(dataclasses.replace(op, padding=((0, 0),)), target)
    width, (left, right) = target.shape(op)[0], op.padding[0]
    return [(layer | {"in_width": width, "out_width": op.shape[0], "pad_left": left, "pad_right": right}, config)]


def test_positions_at_a_time_are_those_of_the_description():
    net = Network((6, 2), shared=True)
    q = net.last
    outputs = [net.conv(q, 3, (3,), parallelization=n, name=f"c{n}") for n in (None, 2)]
    outputs += [net.einsum(q, "tc,cd->td", {"d": 3}, parallelization=n, name=f"e{n}") for n in (None, 3)]
    outputs += [net.dense(q, 3, name="d")]
    found = graph(net, outputs, "io_parallel").graph
    assert [found[name].get_attr("n_partitions") for name in ("cNone_conv", "c2_conv", "d_dense")] == [1, 2, 1]
    assert [found[name].get_attr("parallelization_factor") for name in ("eNone_einsum", "e3_einsum")] == [6, 3]
    del net.operations[4:6]  # in a stream, where there are no einsums, hls4ml leaves the factor out of account
    check_operations(net.model("c2", "d"), "io_stream", "latency")


def test_a_flatten_before_a_dense_layer_of_a_stream_costs_nothing():
    net = Network((4, 2), shared=True)
    flat = net.reshape(net.relu(net.conv(net.last, 3, (2,))))
    net.dense(net.quantize(flat, bits=(2, 3)), 2, name="d")
    found = graph(net, ["d"], "io_stream").graph
    assert [layer.class_name for layer in found.values()][-3:] == ["Activation", "Reshape", "Dense"]
    assert found["d_dense"].get_input_variable().type.n_elem == 3  # channels


def test_hls4ml_takes_every_transpose_before_a_flatten_for_that_of_channels_first(monkeypatch):
    net = Network((2, 3, 4))
    net.dense(net.reshape(net.transpose(net.last, (1, 0, 2))), 1, name="d")
    ours = graph(net, ["d"], "io_parallel")
    assert "Transpose" in {layer.class_name for layer in ours.get_layers()}
    theirs = graph(net, ["d"], "io_parallel", monkeypatch, reshape=plain_reshape)
    assert "Transpose" not in {layer.class_name for layer in theirs.get_layers()}
    kernel = next(op for op in net.operations if op.name == "d").kernel.values
    right = kernel.reshape(3, 2, 4).transpose(1, 0, 2).reshape(24, 1)
    assert not np.array_equal(theirs.graph["d_dense"].get_weights("weight").data, right)


def test_hls4ml_flattens_a_stream_for_dense_layers_alone(monkeypatch):
    net = Network((4, 2), shared=True)
    flat = net.reshape(net.last)
    net.merge(o.Add, flat, flat)
    theirs = graph(net, (), "io_stream", monkeypatch, reshape=plain_reshape)
    clone = next(layer for layer in theirs.get_layers() if layer.class_name == "Clone")
    widths = clone.get_input_variable().type.n_elem, clone.get_output_variable().type.n_elem
    assert widths == (2, 8)  # reads positions of 2 channels, and writes only the first 2 of all 8
    monkeypatch.undo()
    ours = graph(net, (), "io_stream")
    clone = next(layer for layer in ours.get_layers() if layer.class_name == "Clone")
    assert clone.get_input_variable().type.n_elem == clone.get_output_variable().type.n_elem == 8


def test_hls4ml_pads_a_stream_before_its_first_reader(monkeypatch):
    net = Network((4, 2), shared=True)
    q = net.last
    relu, padded = net.relu(q), net.conv(q, 2, (3,), padding=((1, 1),))
    theirs = graph(net, (relu, padded), "io_stream", monkeypatch, conv=plain_conv)
    assert theirs.graph["relu2_relu"].get_input_node().class_name == "ZeroPadding1D"
    assert theirs.graph["conv3_conv"].get_input_node().class_name == "Clone"
    monkeypatch.undo()
    ours = graph(net, (relu, padded), "io_stream")
    assert ours.graph["relu2_relu"].get_input_node().class_name == "Clone"
    assert ours.graph["conv3_conv"].get_input_node().class_name == "ZeroPadding1D"


FAULTS = """
#include <iostream>
#include "ap_fixed.h"
#include "nnet_utils/nnet_common.h"
#include "nnet_utils/nnet_pooling.h"
#include "nnet_utils/nnet_types.h"
#include "nnet_utils/nnet_transpose_stream.h"
#include "nnet_utils/nnet_conv_stream.h"

typedef nnet::array<ap_fixed<8, 8>, 2> pair;
typedef ap_fixed<8, 8> word;
unsigned shape[2] = {2, 2}, perm[2] = {0, 1}, strides[2] = {2, 1};
struct same {
    static const unsigned dims = 2, N = 4;
    static const unsigned *const from_shape, *const to_shape, *const perm, *const perm_strides;
};
const unsigned *const same::from_shape = shape, *const same::to_shape = shape;
const unsigned *const same::perm = ::perm, *const same::perm_strides = strides;
struct one_high {
    static const unsigned in_width = 2, in_height = 4, filt_width = 2, filt_height = 1, stride_width = 1, stride_height = 2;
    static const unsigned n_chan = 1, n_filt = 1, kernel_size = 2;
    typedef word weight_t, bias_t;
    struct mult_config {
        template <class a, class b, class c> struct kernel {
            static void dense(a *x, b *y, word *, word *) { y[0] = x[0]; }
        };
    };
};
int main() {
    std::cout << nnet::pad_val<ap_fixed<4, 4>, nnet::Max>() << " " << nnet::pad_val<ap_ufixed<4, 4>, nnet::Max>() << std::endl;
    hls::stream<pair> x, y;
    for (int n = 0; n < 2; n++) { pair v; v[0] = 2 * n; v[1] = 2 * n + 1; x.write(v); }
    nnet::transpose<pair, pair, same>(x, y);
    for (int n = 0; n < 2; n++) { pair v = y.read(); std::cout << v[0] << " " << v[1] << " "; }
    hls::stream<nnet::array<word, 1>> z;
    word weights[2], bias[1];
    for (int n = 0; n < 8; n++) {
        nnet::array<word, 1> v;
        v[0] = n;
        nnet::compute_output_buffer_1d<nnet::array<word, 1>, nnet::array<word, 1>, one_high>(v, z, weights, bias);
    }
    std::cout << std::endl << z.size() << std::endl;
}
"""


def test_faults_in_the_cpp_of_hls4ml(tmp_path):
    """Max pooling pads unsigned values with half of their type; streams take the identity of rank 2 for the transpose, and windows of
    height 1 have no stride from row to row."""
    (tmp_path / "faults.cpp").write_text(FAULTS)
    folders = [f"-I{TEMPLATES}", f"-I{TEMPLATES / 'ap_types'}"]
    subprocess.run(["g++", "-w", "-O0", *folders, "faults.cpp", "-o", "faults"], cwd=tmp_path, check=True)
    printed = subprocess.run(["./faults"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.split("\n")
    assert printed[0].split() == ["-8", "8"]  # 0 would do
    assert printed[1].split() == ["0", "2", "1", "3"]  # 0 1 2 3 is right
    assert printed[2] == "4"  # rows 0 .. 3, of which 0 and 2 are asked for
