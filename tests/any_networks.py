"""Random models of layers and plain arithmetic: several inputs and outputs, layers that are called again, axes that repeat.

`Random` makes its layers and calls them by the same seed, so that its structure is a number.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hgqjax import export, layers
from hgqjax.description.model import ModelDescription
from hgqjax.export.gate import check_words, gate_rows
from hgqjax.export.rtl import trace, words
from hgqjax.layers.shapes import row_shape
from hgqjax.quantizers import Kbi, Kif


def quantizer(rng):
    """Few bits, any rounding and overflow."""
    rounding, overflow = (("RND", "TRN", "RND_CONV")[rng.integers(3)], ("WRAP", "SAT", "SAT_SYM")[rng.integers(3)])
    if rng.random() < 0.5 or (rounding, overflow) == ("TRN", "WRAP"):
        return Kif(f0=float(rng.integers(1, 4)), rounding=rounding, overflow=overflow)
    return Kbi(b0=float(rng.integers(3, 6)), rounding=rounding, overflow=overflow)


class Random(layers.Module):
    """`seed` decides of everything; it is called with rows of `shapes`."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.seed, base = seed, (int(rng.integers(2, 4)), int(rng.integers(2, 4)))
        choices = [base, (1, base[1]), (base[0], 1)]
        self.shapes = tuple(choices[0 if n == 0 else rng.integers(3)] for n in range(rng.integers(2, 4)))
        self.first = nnx.List([layers.Quantize(shape, quantizer(rng)) for shape in self.shapes])
        makes = []  # traced only: one operation after the other would compile for long
        jax.eval_shape(lambda *xs: Run(seed, list(xs), makes=makes).outputs(), *(jnp.zeros((1, *shape)) for shape in self.shapes))
        self.made = nnx.List([make() for make in makes])

    def __call__(self, *xs):
        return Run(self.seed, [first(x) for first, x in zip(self.first, xs, strict=True)], made=self.made).outputs()


class Run:
    """One call of a `Random`: values so far, and how often each was read; its layers are `made`, or how to make them goes into `makes`."""

    def __init__(self, seed, values, *, made=None, makes=None):
        self.seed, self.rng, self.values, self.read = seed, np.random.default_rng((7, seed)), values, [0] * len(values)
        self.made, self.makes, self.shared = iter(made or ()), makes, {}

    def layer(self, make):
        """The next layer, which `make` makes."""
        if self.makes is None:
            return next(self.made)
        self.makes.append(make)
        return make()

    def pick(self, fits=lambda shape: True):
        """A value whose shape `fits`, rather one that is not read yet; None where there is none."""
        found = [n for n, v in enumerate(self.values) if fits(row_shape(v))]
        fresh = [n for n in found if not self.read[n]]
        if not found:
            return None
        n = int(self.rng.choice(fresh if fresh and self.rng.random() < 0.7 else found))
        self.read[n] += 1
        return self.values[n]

    def add(self, value):
        self.values.append(value)
        self.read.append(0)

    def quantized(self, x):
        """A layer of its own that narrows `x`, so that widths do not grow from step to step."""
        kind = quantizer(self.rng)
        return self.layer(lambda: layers.Quantize(row_shape(x), kind))(x)

    def step(self):
        rng, x = self.rng, self.pick()
        shape = row_shape(x)
        kind = rng.choice(["plain", "merge", "shared", "constant", "index", "over axes", "moved", "layer", "levels", "graph"])
        if kind in ("plain", "merge"):
            y = self.pick(lambda other: len(other) == len(shape) and all(a == b or 1 in (a, b) for a, b in zip(other, shape, strict=True)))
            which = int(rng.integers(3))
            if kind == "merge":
                cls, both = (layers.Add, layers.Subtract, layers.Multiply)[which], (shape, row_shape(y))
                x = self.layer(lambda: cls(both, input_quantizer=Kif(f0=2.0)))(x, y)
            else:
                x = (lambda: x + y, lambda: x - y, lambda: x * y)[which]()
        elif kind == "shared":  # one dense layer for all rows of a shape, called again and again
            if shape not in self.shared:
                width = quantizer(rng)
                self.shared[shape] = self.layer(
                    lambda: layers.Dense(shape[-1], shape[-1], input_shape=shape, input_quantizer=width, rngs=nnx.Rngs(self.seed))
                )
            x = layers.relu(self.shared[shape](x))
        elif kind == "constant":
            number = float(rng.integers(-7, 8)) / 4 or 0.5
            array = (rng.integers(-5, 6, (1, *shape)) / 2).astype(np.float32)
            x = (lambda: x * number, lambda: number - x, lambda: x + jnp.asarray(array), lambda: -x / 4)[rng.integers(4)]()
        elif kind == "index":
            n = int(rng.integers(shape[-1]))
            x = (lambda: x[..., n : n + 1], lambda: x[:, ::-1], lambda: x[:, np.array([0, -1])], lambda: x[:, 0, None])[rng.integers(4)]()
        elif kind == "over axes":
            axis = int(rng.integers(len(shape)))
            x = (layers.sum, layers.mean, layers.max)[rng.integers(3)](x, axis, keepdims=True)
        elif kind == "moved":
            x = self.moved(x, shape)
        elif kind == "levels":
            shared = self.levels(shape)
            x = shared(x, 0) - shared(self.pick(lambda other: other == shape), 1)
        elif kind == "graph":
            x = self.graph(shape)(x)
        else:
            x = self.windows(x, shape)
        self.add(self.quantized(x))

    def levels(self, shape):
        width = quantizer(self.rng)
        about = {"input_shape": shape, "use_bias": False, "input_quantizer": width}

        def make():
            return layers.SharedLevels(layers.Dense(shape[-1], 2, rngs=nnx.Rngs(self.seed), **about), 2, input_quantizer=Kif(f0=2.0))

        return self.layer(make)

    def graph(self, shape):
        edges, smooth = np.triu(self.rng.random((shape[0], shape[0])) < 0.6, 1).astype(float), self.rng.random() < 0.5
        about = {"steps": 2, "threshold": 0.5 if smooth else None, "input_quantizer": Kif(f0=2.0)}
        return self.layer(lambda: layers.Propagate(edges + edges.T, shape[1], **about))

    def moved(self, x, shape):
        if self.rng.random() < 0.4:
            return layers.transpose(x, tuple(range(len(shape)))[::-1])
        return layers.concatenate([x, x * 0.5], axis=int(self.rng.integers(len(shape))))

    def windows(self, x, shape):
        rng = self.rng
        if len(shape) != 2 or shape[0] < 2:
            return self.layer(lambda: layers.Table("tanh", shape, input_quantizer=Kif(f0=2.0, i0=1.0, overflow="SAT")))(x)
        which, size = int(rng.integers(3)), int(rng.integers(1, 3))
        if which == 0:
            return self.layer(lambda: layers.Conv1D(shape, 2, size, padding="SAME", rngs=nnx.Rngs(self.seed)))(x)
        if which == 1:
            return layers.max_pool(x, 2)
        return self.layer(lambda: layers.Einsum("te,se->ts", shape, shape, input_quantizer=Kif(f0=1.0)))(x, x)

    def outputs(self):
        """Some steps; all that nothing reads is an output, of which the small ones are joined."""
        for _ in range(int(self.rng.integers(4, 8))):
            self.step()
        left = [v for v, read in zip(self.values, self.read, strict=True) if not read]
        flat = [layers.flatten(v) for v in left[1:]]
        return left[0] if not flat else (left[0], layers.concatenate(flat) if len(flat) > 1 else flat[0])


def random_rows(model, count=200):
    rng = np.random.default_rng((3, model.seed))
    return tuple(rng.normal(0, 2.0 ** rng.integers(-1, 2), (count, *shape)).astype(np.float32) for shape in model.shapes)


def random_description(seed):
    """Of `Random`, untrained; of the first of the seeds `seed`, `seed` + 1000, ... whose results are not the same for all rows."""
    while True:
        model = Random(seed)
        description = export.describe(model, random_rows(model), name=f"random{seed}")
        if any(np.any(description.grids[name].low != description.grids[name].high) for name in description.outputs):
            return description
        seed += 1000


def joined(descriptions):
    """Several descriptions side by side as one, so that a compiler reads its headers once."""
    operations, outputs, sample = [], [], []
    for n, one in enumerate(descriptions):
        new = {op.name: f"n{n}_{op.name}" for op in one.operations}
        operations += [dataclasses.replace(op, name=new[op.name], inputs=tuple(new[name] for name in op.inputs)) for op in one.operations]
        outputs += [new[name] for name in one.outputs]
        sample += one.sample if isinstance(one.sample, tuple) else [one.sample]
    return ModelDescription(name="joined", operations=tuple(operations), outputs=tuple(outputs), sample=tuple(sample))


def interpreted(description, min_rows=600):
    """Words of the adder graph, by alkaid's own interpreter, that equal the evaluator's."""
    graph, x = trace.trace(description), gate_rows(description, min_rows=min_rows)
    values = graph.predict(words.stimulus_values(description, x), n_threads=1)
    return check_words(description, x, words.output_integers(description, values), tool="alkaid")


def size(description):
    """Words of a row of all outputs."""
    return sum(math.prod(description[name].shape) for name in description.outputs)
