"""Random networks made directly of operations, without training, for the tests of the hls4ml export."""

import math

import numpy as np

from hgqjax.description import operations as o
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, Windows
from hgqjax.export.hls4ml.convert import to_hls4ml

MODES = [(rounding, overflow) for overflow in ("WRAP", "SAT", "SAT_SYM") for rounding in ("RND", "TRN", "RND_CONV")]


def verified(model, folder, *, min_rows=10_000, **arguments):
    """A project that passed its gate, which counted every word of every output on every row; none differs."""
    project = to_hls4ml(model, folder, min_rows=min_rows, **arguments)
    assert project.gate.rows >= min_rows and project.gate.differing_words == 0
    assert project.gate.words == project.gate.rows * sum(math.prod(model[name].shape) for name in model.outputs)
    return project


class Network:
    """Operations one after the other; every method adds one and returns its name.

    `shared`: one format for all elements of a tensor, as io_stream needs it; else a format for each element, some without bits.
    """

    def __init__(self, shape, shared=False, seed=0, mode=("RND", "WRAP")):
        self.rng, self.shared = np.random.default_rng(seed), shared
        self.operations = [o.Input(name="x", inputs=(), shape=shape)]
        self.shapes = {"x": shape}
        self.last = self.quantize("x", mode=mode)

    def add(self, cls, sources, shape, name=None, **fields):
        sources = (sources,) if isinstance(sources, str) else tuple(sources)
        name = name or f"{cls.kind}{len(self.operations)}"
        self.operations.append(cls(name=name, inputs=sources, shape=tuple(shape), **fields))
        self.shapes[name], self.last = tuple(shape), name
        return name

    def quantize(self, source, mode=None, bits=(2, 6), integer=(-1, 3), name=None):
        shape, rng = self.shapes[source], self.rng
        size = (1,) * len(shape) if self.shared else shape
        k, i, total = rng.integers(0, 2, size), rng.integers(*integer, size), rng.integers(*bits, size)
        f = np.where(rng.random(size) < (0 if self.shared else 0.1), -k - i, total - k - i)
        rounding, overflow = mode or MODES[rng.integers(len(MODES))]
        k, i, f = (np.broadcast_to(v, shape).astype(np.int64) for v in (k, i, f))
        return self.add(o.Quantize, source, shape, name, k=k, i=i, f=f, rounding=rounding, overflow=overflow)

    def constant(self, shape, f=4):
        integers = self.rng.integers(-7, 8, shape) * (self.rng.random(shape) < 0.7)
        return Constant(integers, self.rng.integers(1, f + 1, shape), np.full(shape, 4))

    def dense(self, source, outputs, bias=True, name=None):
        shape = self.shapes[source]
        kernel, b = self.constant((shape[-1], outputs)), self.constant((outputs,)) if bias else None
        return self.add(o.Dense, source, (*shape[:-1], outputs), name, kernel=kernel, bias=b)

    def conv(self, source, filters, size, strides=None, padding=None, groups=1, bias=True, name=None, **more):
        shape, rank = self.shapes[source], len(size)
        strides, padding, dilation = strides or (1,) * rank, padding or ((0, 0),) * rank, (1,) * rank
        kernel = self.constant((*size, shape[-1] // groups, filters))
        result = (*Windows(shape, size, strides, padding, dilation).positions, filters)
        settings = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups} | more
        return self.add(o.Conv, source, result, name, kernel=kernel, bias=self.constant((filters,)) if bias else None, **settings)

    def pool(self, cls, source, size, strides=None, padding=None, name=None):
        shape, rank = self.shapes[source], len(size)
        settings = {"size": size, "strides": strides or size, "padding": padding or ((0, 0),) * rank}
        result = (*Windows(shape, dilation=(1,) * rank, **settings).positions, shape[-1])
        return self.add(cls, source, result, name, **settings)

    def einsum(self, source, equation, sizes, bias=True, name=None, **more):
        x, kernel, y = equation.replace("->", ",").split(",")
        sizes = dict(zip(x, self.shapes[source], strict=True)) | sizes
        shape = tuple(sizes[label] for label in y)
        b = self.constant(shape) if bias else None
        kernel = self.constant([sizes[label] for label in kernel])
        return self.add(o.Einsum, source, shape, name, equation=equation, kernel=kernel, bias=b, **more)

    def merge(self, cls, *sources):
        return self.add(cls, sources, np.broadcast_shapes(*(self.shapes[source] for source in sources)))

    def concatenate(self, axis, *sources, name=None):
        shape = list(self.shapes[sources[0]])
        shape[axis] = sum(self.shapes[source][axis] for source in sources)
        return self.add(o.Concatenate, sources, shape, name, axis=axis)

    def relu(self, source):
        return self.add(o.Relu, source, self.shapes[source])

    def table(self, source, name=None):
        """A random function of all values that `source`, a quantizer, can have."""
        quantizer = next(op for op in self.operations if op.name == source)
        live = quantizer.bits > 0
        f_in = int(quantizer.f[live].max(initial=0))
        low, high = quantizer.limits()
        scale = [2 ** max(int(f_in - f), 0) for f in quantizer.f.ravel()]
        lows, highs = ([int(v) * s for v, s in zip(limit.ravel(), scale, strict=True)] for limit in (low, high))
        size = max(highs) - min(lows) + 1
        values = self.rng.integers(-20, 21, size)
        return self.add(o.Table, source, self.shapes[source], name, table=values, f=3, bits=6, f_in=f_in, low=min(lows))

    def lookup(self, source, name=None):
        """Random tables, one for each element of `source`, a quantizer: each a little longer than it must be, of one word where that is."""
        quantizer, rng = next(op for op in self.operations if op.name == source), self.rng
        low, high = (v.astype(np.int64) for v in quantizer.limits())
        spare = np.where(quantizer.bits > 0, rng.integers(0, 3, low.shape), 0)
        sizes = (high - low + 1 + 2 * spare).ravel()
        words = rng.integers(-20, 21, sizes.sum()) * np.repeat(rng.random(sizes.size) < 0.9, sizes)
        f = np.zeros(low.shape, np.int64) + 2 if self.shared else rng.integers(-1, 5, low.shape)
        fields = {"low": low - spare, "f_in": quantizer.f, "f": f, "bits": np.full(low.shape, 6)}
        return self.add(o.Lookup, source, low.shape, name, words=words, start=np.r_[0, np.cumsum(sizes)], **fields)

    def gather(self, source, index, name=None):
        index = np.asarray(index, np.int64)
        return self.add(o.Gather, source, index.shape, name, index=index)

    def contract(self, a, b, equation, name=None):
        x, y, result = equation.replace("->", ",").split(",")
        sizes = dict(zip(x + y, self.shapes[a] + self.shapes[b], strict=True))
        return self.add(o.Contract, (a, b), [sizes[label] for label in result] or (1,), name, equation=equation)

    def reshape(self, source, shape=None, name=None):
        return self.add(o.Reshape, source, shape or (math.prod(self.shapes[source]),), name)

    def transpose(self, source, axes, name=None):
        return self.add(o.Transpose, source, [self.shapes[source][axis] for axis in axes], name, axes=axes)

    def slice(self, source, *index, name=None):
        parts = tuple(slice(*part) if isinstance(part, tuple) else part for part in index)
        return self.add(o.Slice, source, np.empty(self.shapes[source])[parts].shape, name, index=index)

    def sum(self, source, axes, keep=False, shift=0, name=None):
        shape = self.shapes[source]
        rest = tuple(1 if n in axes else m for n, m in enumerate(shape) if keep or n not in axes)
        return self.add(o.Sum, source, rest or (1,), name, axes=axes, shift=shift)

    def model(self, *outputs, rows=50):
        outputs = outputs or (self.last,)
        sample = self.rng.normal(0, 2, (rows, *self.shapes["x"])).astype(np.float32)
        return ModelDescription(name="network", operations=tuple(self.operations), outputs=outputs, sample=sample)


def random_network(seed, shared):
    """A few operations of random kinds, one after the other, then a dense layer; some on the way are outputs, too."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 3))
    shape = (*(int(n) for n in rng.integers(4, 8, rank)), int(rng.integers(1, 4)))
    net = Network(shape, shared, seed, MODES[rng.integers(len(MODES))])
    outputs = []
    for _ in range(int(rng.integers(3, 6))):
        _random_step(net, rng, rank)
        net.quantize(net.last)
        if rng.random() < 0.3:
            outputs.append(net.last)
    net.reshape(net.last)
    if rng.random() < 0.7:
        net.quantize(net.last)
    net.dense(net.last, 3)
    return net.model(*outputs, net.last)


def _random_step(net, rng, rank):
    source, shape = net.last, net.shapes[net.last]
    kind = rng.choice(["conv", "depthwise", "max", "average", "merge", "table", "dense", "concatenate", "slice", "transpose"])
    strides = tuple(int(n) for n in rng.integers(1, 3, rank))
    if kind in ("conv", "depthwise"):
        size = tuple(int(rng.integers(1, min(n, 3) + 1)) for n in shape[:-1])
        padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 2, (rank, 2)))
        groups, filters = (shape[-1], shape[-1]) if kind == "depthwise" else (1, int(rng.integers(1, 4)))
        net.conv(source, filters, size, strides, padding, groups, bias=rng.random() < 0.7)
    elif kind in ("max", "average"):
        size = tuple(int(min(n, rng.integers(1, 3))) for n in shape[:-1])
        padding = tuple((n - 1, 0) for n in size) if kind == "max" and not net.shared else None
        net.pool(o.MaxPool if kind == "max" else o.AveragePool, source, size, size if net.shared else strides, padding)
    elif kind == "merge":
        a, b = net.quantize(source), net.quantize(source)
        cls = (o.Add, o.Multiply, o.Maximum, o.Minimum, o.Subtract)[rng.integers(5)]
        net.merge(cls, a, b, *(() if cls is o.Subtract else (a,)))
    elif kind == "table":
        net.table(net.quantize(source))
    elif kind == "dense":
        net.dense(source, int(rng.integers(1, 4)))
    elif kind == "concatenate":
        net.concatenate(int(rng.integers(len(shape))), source, net.relu(source), source)
    elif kind == "slice":
        net.slice(source, *[(None, None, None)] * rank, (int(rng.integers(shape[-1])), None, None))
    else:
        net.transpose(source, tuple(int(axis) for axis in rng.permutation(len(shape))))


def arrays(seed=3):
    """Tables for each element, products of two results, any choice of elements, also between the input and its quantizers."""
    net = Network((2, 3), seed=seed)
    q = net.last
    raw = net.gather("x", [[0, 0, 5], [3, -1, 5]])
    many = net.lookup(net.quantize(raw, ("RND", "WRAP")), name="many")
    net.transpose("x", (1, 0), name="turned")
    net.quantize(net.reshape("turned"), ("TRN", "WRAP"), name="flat")
    part = net.quantize(net.slice("turned", (1, None, -1), (None, None, None)), ("RND_CONV", "WRAP"))
    net.contract(q, net.quantize(q), "te,se->ts", name="scores")
    net.contract(q, q, "te,te->", name="square")
    net.contract(many, part, "ab,ca->cb", name="turns")
    net.contract(q, many, "ab,ab->b", name="groups")
    net.sum(net.lookup(net.quantize(q)), (0,), name="summed")
    net.gather(net.quantize(q), [[3, 3, -1], [0, 5, 4]], name="moved")
    net.slice(q, 1, (None, None, -1), name="cut")
    return net.model("many", "flat", "scores", "square", "turns", "groups", "summed", "moved", "cut")


EQUATIONS = {
    "ab,ab->": None,
    "ab,ab->ba": None,
    "ab,ab->a": None,
    "ab,ac->bc": (0,),
    "ab,cb->ac": (1,),
    "ab,cd->dacb": (),
    "ab,cb->abc": (1,),
}
"""Equation of two results of two axes, and the axis of the second that has the size of the first's; None: both have."""


def _some(rng, size, shape):
    """Random elements of `size`, a few of them none."""
    index = rng.integers(-1, size, shape)
    index[(0,) * len(shape)] = rng.integers(size)
    return index


def random_arrays(seed):
    """As `random_network`, of gathers, tables for each element, and products of two results."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(2, 4, 2))
    net = Network(shape, seed=seed, mode=MODES[rng.integers(len(MODES))])
    outputs, size = [], math.prod(shape)
    if rng.random() < 0.7:
        overflow = net.operations[1].overflow
        net.quantize(net.gather("x", _some(rng, size, rng.integers(1, 4, 2))), (("RND", "TRN", "RND_CONV")[rng.integers(3)], overflow))
        outputs.append(net.lookup(net.last) if rng.random() < 0.6 else net.last)
    net.last = "quantize1"
    for _ in range(int(rng.integers(2, 5))):
        source, kind = net.quantize(net.last), rng.choice(["gather", "lookup", "contract", "sum", "repeat"])
        shape = net.shapes[source]
        if kind == "gather" or len(shape) != 2:
            net.gather(source, _some(rng, math.prod(shape), rng.integers(1, 4, 2)))
        elif kind == "lookup":
            net.lookup(source)
        elif kind == "repeat":  # a sum over an axis, with every element again: norms, means, masks
            total = net.quantize(net.sum(source, (int(rng.integers(2)),), keep=True))
            net.merge((o.Add, o.Subtract, o.Multiply)[rng.integers(3)], *((source, total) if rng.random() < 0.5 else (total, source)))
        elif kind == "sum":
            net.sum(source, (int(rng.integers(2)),), keep=True)
        else:
            equation = list(EQUATIONS)[rng.integers(len(EQUATIONS))]
            same = (0, 1) if EQUATIONS[equation] is None else EQUATIONS[equation]
            index = _some(rng, size, tuple(shape[n] if n in same else int(rng.integers(1, 4)) for n in range(2)))
            net.contract(source, net.quantize(net.gather("quantize1", index)), equation)
        outputs += [net.last] if rng.random() < 0.4 else []
    return net.model(*dict.fromkeys([*outputs, net.last]))


def svhn(seed=0):
    """The network of the HGQ paper for 32x32x3 images of house numbers, random weights, one format for each tensor."""
    net = Network((32, 32, 3), shared=True, seed=seed, mode=("RND", "SAT"))
    for filters in (16, 16, 24):
        net.conv(net.last, filters, (3, 3))
        net.relu(net.last)
        net.quantize(net.last, ("RND", "SAT"), bits=(6, 7), integer=(3, 4))
        net.pool(o.MaxPool, net.last, (2, 2))
    net.reshape(net.last)
    for features in (42, 64, 10):
        net.quantize(net.last, ("RND", "SAT"), bits=(6, 7), integer=(3, 4))
        net.dense(net.last, features)
        if features != 10:
            net.relu(net.last)
    return net.model(rows=20)
