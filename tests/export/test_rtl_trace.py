"""Adder graphs against the exact evaluator, word for word, by alkaid's own interpreter; and where alkaid is wrong, and is not asked."""

import dataclasses
import importlib.util

import numpy as np
import pytest
from alkaid.trace import FVArray, HWConfig
from alkaid.trace import trace as alkaid_trace
from alkaid.trace.fixed_variable import FVariable
from hls4ml_networks import MODES, Network, arrays, random_arrays, random_network

from hgqjax.description import integers as exact
from hgqjax.description import operations as o
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant
from hgqjax.export.gate import ExportError, check_words, gate_rows, row_count
from hgqjax.export.rtl import formats, ports, trace, words

ALL, REVERSED = (None, None, None), (None, None, -1)


def compare(model, min_rows=600, **options):
    """Words compared; raises GateError at the first that differs."""
    graph = trace.trace(model, **options)
    x = gate_rows(model, min_rows=min_rows)
    values = graph.predict(words.stimulus_values(model, x), n_threads=1)
    return check_words(model, x, words.output_integers(model, values), tool="alkaid")


# ---- every kind ----


def linear():
    """Dense on two axes, convolutions with groups, strides, dilation and padding, einsum with groups."""
    net = Network((4, 3, 4), seed=4)
    q = net.last
    net.dense(q, 3, name="dense")
    net.quantize(net.conv(q, 3, (3, 2), (2, 1), ((1, 1), (0, 1))), name="conv")
    net.conv(q, 4, (2, 3), (1, 2), groups=2, bias=False, name="groups")
    net.conv(q, 4, (2, 2), (2, 2), groups=4, name="depthwise")
    row = net.reshape(q, (12, 4))
    kernel = net.constant((3, 4, 2))
    net.add(o.Conv, row, (4, 2), "dilated", kernel=kernel, bias=None, strides=(2,), padding=((0, 1),), dilation=(3,))
    net.einsum(q, "hwc,cd->dhw", {"d": 2}, name="einsum")
    net.einsum(q, "hwc,hcd->hwd", {"d": 2}, bias=False, name="grouped")
    return net.model("dense", "conv", "groups", "depthwise", "dilated", "einsum", "grouped")


def merges():
    """Sums, products, extremes, tables, wires."""
    net = Network((3, 4), seed=5)
    q = net.last
    a, b, c = net.quantize(q), net.quantize(net.dense(q, 4)), net.quantize(q)
    names = [net.merge(cls, a, b, c) for cls in (o.Add, o.Multiply, o.Maximum, o.Minimum)]
    names += [net.merge(o.Subtract, a, b), net.relu(net.merge(o.Subtract, b, c)), net.table(c)]
    names += [net.concatenate(1, a, b), net.transpose(b, (1, 0)), net.slice(b, REVERSED, (1, None, 2)), net.slice(b, 1, ALL)]
    row, column = net.slice(a, (1, 2, None), ALL), net.slice(b, ALL, (2, 3, None))  # sizes 1 repeat
    names += [net.merge(o.Add, row, b, column), net.merge(o.Multiply, column, row), net.merge(o.Subtract, c, column)]
    return net.model(*names, net.merge(o.Minimum, row, c))


def pools():
    """Pools and sums."""
    net = Network((5, 4, 2), seed=6)
    q = net.last
    names = [net.pool(o.MaxPool, q, (2, 3), (2, 2), ((0, 1), (1, 1))), net.pool(o.AveragePool, q, (2, 2), (2, 1))]
    names += [net.sum(q, (0, 2), keep=True, shift=-1), net.sum(q, (1,)), net.sum(q, (0, 1, 2), shift=3)]
    return net.model(*names)


def modes():
    """Every rounding with every overflow behind a layer."""
    net = Network((6,), seed=7, mode=("RND_CONV", "SAT"))
    dense = net.dense(net.last, 12)
    return net.model(*[net.quantize(dense, mode, bits=(1, 6)) for mode in MODES])


NETWORKS = {make.__name__: make() for make in (linear, merges, pools, modes, arrays)}


@pytest.mark.parametrize("name", NETWORKS)
def test_words_are_those_of_the_evaluator(name):
    assert compare(NETWORKS[name]) > 0


def test_every_kind_is_tested_here():
    assert {op.kind for model in NETWORKS.values() for op in model.operations} == set(o.KINDS)


@pytest.mark.parametrize("mode", MODES, ids="-".join)
def test_input_quantizers(mode):
    net = Network((40,), seed=8, mode=mode)
    assert compare(net.model(net.last, net.quantize(net.last)), min_rows=3000) > 0


@pytest.mark.parametrize("seed", [7, 10, 100, 164, 177, 206, 302])
def test_random_networks(seed):
    assert compare(random_network(seed, shared=False)) > 0


@pytest.mark.parametrize("seed", range(3))
def test_random_arrays(seed):
    assert compare(random_arrays(seed)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_random_arrays(seed):
    try:
        compare(random_arrays(seed))
    except ExportError as error:
        assert "no hardware is left" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1020))
def test_many_random_networks(seed):
    for shared in (False, True):
        try:
            compare(random_network(seed, shared))
        except ExportError as error:
            assert "no hardware is left" in str(error)


def test_options_of_the_solver_change_no_word():
    for hard_dc in (-1, 0):
        assert compare(NETWORKS["linear"], min_rows=200, hard_dc=hard_dc) > 0


def two_inputs():
    """Two inputs of different shape and rounding, which meet in a sum."""
    net = Network((3, 2), seed=9, mode=("RND", "SAT"))
    net.operations.insert(0, o.Input(name="z", inputs=(), shape=(4,)))
    net.shapes["z"] = (4,)
    flat = net.dense(net.reshape(net.last), 4)
    other = net.quantize("z", ("RND_CONV", "WRAP"))
    return dataclasses.replace(net.model(net.merge(o.Add, flat, other), net.dense(other, 3)), sample=None)


def test_several_inputs_and_outputs():
    model = two_inputs()
    x = gate_rows(model, min_rows=100)
    assert isinstance(x, tuple) and row_count(x) == len(x[1]) >= 100
    assert compare(model, min_rows=2000) == 7 * row_count(gate_rows(model, min_rows=2000))


def one_bit(low):
    """Ten inputs of one bit that is `low` where it is set, and a matrix: alkaid looks six of them up at once."""
    rng = np.random.default_rng(3)
    k = np.full(10, int(low < 0))
    formats = {"k": k, "i": 1 - k, "f": np.zeros(10, np.int64)}
    quantize = o.Quantize(name="q", inputs=("x",), shape=(10,), rounding="TRN", overflow="WRAP", **formats)
    kernel = Constant.from_values(rng.integers(-9, 10, (10, 3)) / 4, 2)
    dense = o.Dense(name="d", inputs=("q",), shape=(3,), kernel=kernel, bias=None)
    return ModelDescription(name="bits", operations=(o.Input(name="x", inputs=(), shape=(10,)), quantize, dense), outputs=("d",))


@pytest.mark.parametrize("low", [-1, 1])
def test_one_bit_values(low):
    assert compare(one_bit(low)) > 0
    assert any(op.opcode == 8 for op in trace.trace(one_bit(low)).ops)


def wide(bits, bias=None):
    """Weights of `bits` significant bits."""
    net = Network((3,), seed=2)
    rng = np.random.default_rng(0)
    kernel = Constant.from_values(np.ldexp((rng.integers(2 ** (bits - 1), 2**bits, (3, 2)) | 1).astype(float), -20), 20)
    net.add(o.Dense, net.last, (2,), "wide", kernel=kernel, bias=bias)
    return net.model()


def test_weights_of_24_bits():
    assert compare(wide(24)) > 0


def test_an_offset_and_a_rounding_far_apart():
    """1 + 2**-30 is too wide for the one constant that alkaid would make of the two."""
    net = Network((3,), seed=2, mode=("RND", "WRAP"))
    net.operations[1] = dataclasses.replace(net.operations[1], k=np.ones(3, int), i=np.zeros(3, int), f=np.full(3, 16))
    kernel = Constant.from_values(np.ldexp(np.array([[1.0], [3.0], [-5.0]]), -16), 16)
    net.add(o.Dense, net.last, (1,), kernel=kernel, bias=Constant.from_values([1.0], 0))
    formats = {"k": np.array([1]), "i": np.array([2]), "f": np.array([29])}
    net.add(o.Quantize, net.last, (1,), rounding="RND", overflow="WRAP", **formats)
    assert compare(net.model()) > 0


# ---- ports ----


@pytest.mark.parametrize("mode", MODES, ids="-".join)
def test_a_port_hides_nothing_from_its_quantizers(mode):
    """Two quantizers of different formats read one input; each finds in the port's word what it would in the float."""
    rng = np.random.default_rng(0)
    n = 200
    formats = [tuple(rng.integers(low, high, n) for low, high in ((0, 2), (-2, 3), (-2, 4))) for _ in range(2)]
    ops = [
        o.Quantize(name=name, inputs=("x",), shape=(n,), k=k, i=i, f=f, rounding=rounding, overflow=mode[1])
        for name, rounding, (k, i, f) in zip("ab", (mode[0], "RND"), formats, strict=True)
    ]
    model = ModelDescription(name="m", operations=(o.Input(name="x", inputs=(), shape=(n,)), *ops), outputs=("a", "b"))
    (port,) = ports.input_ports(model)
    x = np.concatenate([rng.normal(size=(300, n)) * 4, rng.integers(-200, 200, (300, n)) / 32])
    words = ports.port_values(port, x)
    assert np.all(np.ldexp(words, port.f) % 1 == 0)
    seen, through = model.integers(x), model.integers(words)
    for op in ops:
        assert np.array_equal(seen[op.name], through[op.name])
    dead = (ops[0].bits == 0) & (ops[1].bits == 0)
    assert dead.any() and not (port.k + port.i + port.f)[dead].any()


def test_packed_words_come_back():
    bus = words.Bus(((1, 2, 1), (0, 0, 0), (0, 3, 60), (1, 0, 0)))
    rng = np.random.default_rng(1)
    numbers = np.stack([rng.integers(-8, 8, 50), np.zeros(50, int), rng.integers(0, 2**62, 50), -rng.integers(0, 2, 50)], 1)
    packed = bus.pack(numbers)
    assert bus.width == 68 and np.array_equal(bus.unpack(packed), numbers) and max(packed) < 2**68
    assert words.hex_lines(np.array([0, 2**67 + 10], object), 68) == "0" * 17 + "\n8" + "0" * 15 + "a\n"


# ---- where alkaid 0.8.2 is wrong; each of these tells when it is not any more ----


def symbol(k, i, f):
    return FVArray.from_kif(*(np.array([v]) for v in (k, i, f))).item()


def run(source, result, words):
    return alkaid_trace([source], [result]).predict(np.array(words, float)[:, None], n_threads=1)[:, 0]


def reference(values, k, i, f, rounding, overflow):
    low, high = (np.array([v], object) for v in (-k * 2 ** (i + f), 2 ** (i + f) - 1))
    return np.ldexp(exact.quantize_floats(np.array(values, float), np.array([f]), rounding, overflow, low, high), -f)


def test_alkaid_rounds_to_even_with_the_wrong_bits():
    """x odd: x + 1/2 of the coarse step is even, and alkaid looks for the cut bits at the end of that."""
    x = symbol(0, 2, 0)
    odd = x * 2 + 1
    words = [0, 1, 2, 3]
    want = reference(2 * np.array(words) + 1, 0, 3, -1, "RND_CONV", "WRAP")
    assert np.array_equal(run(x, formats.to_format(odd, 0, 3, -1, "RND_CONV", "WRAP"), words), want)
    assert not np.array_equal(run(x, odd.quantize(0, 3, -1, "WRAP", "RND_CONV"), words), want)


def test_alkaid_wraps_constants_into_unsigned_formats_modulo_twice_the_range():
    constant = FVariable.from_const(-0.5, HWConfig(1, 1, -1))
    assert constant.quantize(0, 0, 1).low == 1.5
    assert formats.to_format(constant, 0, 0, 1, "TRN", "WRAP").low == 0.5


def test_alkaid_takes_a_bit_below_for_the_most_significant_one():
    x = symbol(0, 1, 0) + symbol(0, 0, 0)
    source = symbol(0, 0, 2)
    double = source.quantize(0, 0, 2) * 2
    words = [0, 0.25, 0.5, 0.75]
    want = reference(2 * np.array(words), 0, 0, 1, "TRN", "WRAP")
    assert np.array_equal(run(source, formats.to_format(double, 0, 0, 1, "TRN", "WRAP"), words), want)
    assert not np.array_equal(run(source, double.quantize(0, 0, 1), words), want)
    assert x.high == 1


def test_alkaid_takes_the_smaller_where_the_difference_is_positive():
    x = symbol(1, 2, 0)
    assert run(x, (x + 1).max_of(x), [-2, 3]).tolist() == [-2, 3]
    assert run(x, trace._greatest(x + 1, x), [-2, 3]).tolist() == [-1, 4]
    assert run(x, trace._least(x + 1, x), [-2, 3]).tolist() == [-2, 3]


def test_alkaid_solves_24_bits_wrongly():
    kernel = np.random.default_rng(0).integers(2**23, 2**24, (6, 6)) * 1.0
    x = FVArray.from_kif(*(np.full(6, v) for v in (1, 3, 2)))
    words = np.random.default_rng(1).integers(-32, 32, (40, 6)) / 4
    got = alkaid_trace(np.asarray(x), np.asarray(x[None] @ kernel)[0]).predict(words, n_threads=1)
    assert not np.array_equal(got, words @ kernel)


def test_alkaid_cannot_look_up_one_bit_that_is_negative():
    x = FVArray.from_kif(np.ones(6, int), np.zeros(6, int), np.zeros(6, int))
    with pytest.raises(AssertionError, match="does not cover all values"):
        x[None] @ np.arange(1.0, 7.0)[:, None]


# ---- what is refused ----


def padding_alone():
    net = Network((4, 2), seed=1)
    net.pool(o.MaxPool, net.last, (2,), (2,), ((2, 0),))
    return net.model()


def wraps_and_saturates():
    net = Network((4,), seed=1, mode=("RND", "WRAP"))
    other = net.quantize("x", ("RND", "SAT"))
    return net.model(other)


def dead():
    net = Network((4,), seed=1)
    kernel = Constant(np.zeros((4, 2), np.int64), np.zeros((4, 2), np.int64), np.zeros((4, 2)))
    net.add(o.Dense, net.last, (2,), kernel=kernel, bias=Constant.from_values([0.5, 0.25], 2))
    return net.model()


def wide_product():
    net = Network((2,), seed=1)
    q = net.quantize("x", ("RND", "WRAP"), bits=(29, 30))
    return net.model(net.merge(o.Multiply, q, q))


def wide_limit():
    net = Network((2,), seed=1)
    q = net.quantize("x", ("RND", "WRAP"), bits=(40, 41))
    return net.model(net.quantize(q, ("RND", "SAT_SYM"), bits=(31, 32), integer=(-1, 0)))


def wide_table():
    net = Network((2,), seed=1)
    name = net.table(net.last)
    table = net.operations[-1]
    net.operations[-1] = dataclasses.replace(table, table=table.table * 2**26 + 1, f=30)
    return net.model(name)


def wide_lookup():
    net = Network((2,), seed=1)
    name = net.lookup(net.last)
    net.operations[-1] = dataclasses.replace(net.operations[-1], words=net.operations[-1].words * 2**26 + 1, f=np.full(2, 30))
    return net.model(name)


def wide_contraction():
    net = Network((2,), seed=1)
    q = net.quantize("x", ("RND", "WRAP"), bits=(29, 30))
    return net.model(net.contract(q, q, "a,a->"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (wide_lookup, "layer 'lookup2' has a table of words with more than 24 bits"),
        (wide_contraction, "layer 'contract3' has values of [0-9]+ bits, more than the 53"),
        (padding_alone, "layer 'max_pool2' has a window with nothing but padding"),
        (wraps_and_saturates, "input 'x' feeds a quantizer that wraps and one that saturates"),
        (dead, "model 'network' gives the same words for all rows"),
        (wide_product, "layer 'multiply3' has values of 58 bits, more than the 53"),
        (wide_table, "layer 'table2' has a table of words with more than 24 bits"),
        (lambda: wide(30), "layer 'wide' has a constant of 30 significant bits, more than the 24 that alkaid can carry"),
        (lambda: wide(20, Constant.from_values([1.0, 1 + 2.0**-40], 40)), "layer 'wide' has a constant of 41 significant bits"),
        (wide_limit, "layer 'quantize3' has a constant of 31 significant bits"),
    ],
)
def test_what_cannot_be_done_is_named(make, message):
    with pytest.raises(ExportError, match=message):
        trace.trace(make())


def test_a_missing_alkaid_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"alkaid is not installed; pip install 'hgqjax\[rtl\]'"):
        trace.trace(NETWORKS["merges"])


def test_a_failure_of_alkaid_names_the_layer(monkeypatch):
    def fail(*arguments):
        raise AssertionError("too much")

    monkeypatch.setitem(trace._RULES, o.Relu, fail)
    with pytest.raises(ExportError, match="layer 'relu[0-9]+': alkaid cannot trace it: AssertionError.'too much'"):
        trace.trace(NETWORKS["merges"])


def test_the_entry_point_of_alkaid():
    from alkaid.converter import trace_model

    model = two_inputs()
    x = gate_rows(model, min_rows=300)
    graph = alkaid_trace(*trace_model(model, solver_options={"hard_dc": 2}))
    found = words.output_integers(model, graph.predict(words.stimulus_values(model, x), n_threads=1))
    assert check_words(model, x, found, tool="alkaid") == 7 * row_count(x)
    wider = alkaid_trace(*trace_model(model, HWConfig(-1, -1, -1), inputs_kif=(1, 8, 8)))
    x = tuple(np.clip(np.floor(part * 256) / 256, -200, 200) for part in x)  # what such a port can hold
    found = words.output_integers(model, wider.predict(np.concatenate([part.reshape(len(part), -1) for part in x], 1), n_threads=1))
    assert check_words(model, x, found, tool="alkaid") == 7 * row_count(x)
    assert set(trace_model(model, dump=True)) == {op.name for op in model.operations if op.kind != "input"} | {"x", "z"}
    with pytest.raises(ExportError, match="hgqjax traces inputs of known formats"):
        from alkaid.trace import FVArrayInput

        trace_model(model, inputs=(FVArrayInput((4,)), FVArrayInput((3, 2))))
