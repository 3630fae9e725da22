"""Random networks made directly of operations, without training, for the tests of the hls4ml export."""

import math

import numpy as np

from hgqjax.description import operations as o
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, Windows

MODES = [(rounding, overflow) for overflow in ("WRAP", "SAT", "SAT_SYM") for rounding in ("RND", "TRN", "RND_CONV")]


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
        return self.add(cls, sources, self.shapes[sources[0]])

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
