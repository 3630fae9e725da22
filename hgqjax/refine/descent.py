"""Descent on the words of tables, one table after the other, with the loss of all rows and the LUTs of the content."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgqjax import resources
from hgqjax.description import ModelDescription
from hgqjax.description.operations import Input
from hgqjax.layers.lut_dense import WORD_BITS
from hgqjax.refine.tables import RefineError, Tables, chain, word_width, zeros
from hgqjax.scores import AbstractScore

MOST_KEYS = 2**27
"""Rows times tables of the first layer, whose keys are kept: 256 MiB."""
MOST_STEPS = 8
"""By which words of a table rise before the next one is looked at."""
CHUNK = 16_384
"""Rows that the network is evaluated for at a time."""


def refine(
    description: ModelDescription,
    x: Any,
    y: np.ndarray,
    score: AbstractScore,
    *,
    strengths: Sequence[float] = (0.03,),
    weight: np.ndarray | None = None,
    sweeps: int = 2,
    least: float = 2.0,
) -> list[ModelDescription]:
    r"""Networks whose tables have other words, for less loss and fewer LUTs: one for each strength, each begun with the one before.

    It minimises

    .. math:: \sum_{rows} L + N \frac{s}{C_0} C

    with the loss L of a row, N rows, the strength s, predicted LUTs C of the tables by their content and of their adders
    (`hgqjax.resources.Luts`), and C_0, C before: s is the loss of a row that all of these LUTs are worth. Table after table, from the last
    layer to the first, it takes what lowers this sum:

    - the table becomes a constant, which another table of the sum takes over,
    - its words lose their last bit, or no longer hang on one bit of the key,
    - single words rise or fall by their last bit, where that gains more than `least`.

    Losses are those of the frozen network, nothing is rounded on the way. Formats change only where bits are no longer read.

    Args:
      x, y: rows as the model takes them, the training rows best; those beyond 2**27 keys of the first layer are left out. weight: of rows.
      score: whose loss it is.
      strengths: loss of a row, >= 0; 0.03 to 0.12 are of use.
      sweeps: over all tables, for each strength.
      least: gain of a word's change in the sum above, in units of a loss; smaller ones are chance, as each row's loss is drawn from many.

    Raises: RefineError, one sentence, where the network has no layers of tables that only read one another; ValueError for numbers that are
      not legal.
    Source: ours.

    >>> from flax import nnx
    >>> from hgqjax import description, layers, resources, scores
    >>> x = jax.random.normal(jax.random.key(0), (200, 3))
    >>> model = layers.Sequential(layers.LutDense(3, 2, rngs=nnx.Rngs(0), function=layers.EdgeMlp(hidden=1)))
    >>> network = description.describe(model, np.asarray(x))
    >>> (found,) = refine(network, np.asarray(x), np.asarray(x[:, 0] > 0, int), scores.Accuracy(), strengths=(0.1,), sweeps=1)
    >>> bool(resources.Luts()(found).total < resources.Luts()(network).total)
    True
    """
    for name, value, low in (("sweeps", sweeps, 1), ("least", least, 0.0), *(("strengths", s, 0.0) for s in strengths)):
        if not low <= value < np.inf:
            raise ValueError(f"{name} has {value}; finite numbers of at least {low:g} are needed")
    descent = Descent(description, x, y, score, weight, least)
    found = []
    for number, strength in enumerate(strengths):
        before = descent.total_cost()
        descent.penalty = descent.mass * strength / max(before, 1.0)
        for _ in range(sweeps):
            descent.sweep()
        about = {"strengths": [float(s) for s in strengths[: number + 1]], "rows": descent.rows, "sweeps": sweeps, "least": least}
        found.append(descent.description(about))
    return found


class Descent:
    """A network of tables on rows, as whole numbers, and the loss of each row."""

    def __init__(self, description: ModelDescription, x: Any, y: np.ndarray, score: AbstractScore, weight: np.ndarray | None, least: float):
        self.first, self.layers, self.least, self.penalty = description, chain(description), least, 0.0
        self.growth = resources.Luts().growth
        self._kept: dict[tuple[int, int], np.ndarray] = {}
        names = [op.name for op in description.operations]
        last = names.index(self.layers[-1].total.name)
        self.tail = [op for op in description.operations[last + 1 :] if not isinstance(op, Input)]
        known = {op.name for op in self.tail} | {names[last]}
        if len(description.outputs) != 1 or description.outputs[0] not in known or any(set(op.inputs) - known for op in self.tail):
            raise RefineError(f"network {description.name!r} has outputs beside its layers of tables; networks of one output are refined")
        parts = x if isinstance(x, tuple) else (x,)
        self.rows = min(len(y), MOST_KEYS // self.layers[0].lookup.low.size)
        self._evaluate(tuple(part[: self.rows] for part in parts))
        one = jax.jit(jax.vmap(lambda outputs, target: score.loss(outputs[None], target[None])))
        target, self.weight = jnp.asarray(y[: self.rows]), None if weight is None else np.asarray(weight[: self.rows], np.float64)
        self.mass = float(self.rows if self.weight is None else self.weight.sum())
        if not self.mass > 0:
            raise ValueError(f"the {self.rows} rows have the weight {self.mass:g} together; more than 0 is needed")

        def losses(outputs: np.ndarray) -> np.ndarray:
            found = np.asarray(one(jnp.asarray(outputs, jnp.float32), target), np.float64)
            return found if self.weight is None else found * self.weight

        self.losses = losses
        self.now = losses(self._outputs(self.sums[-1]))

    def _evaluate(self, parts: tuple[np.ndarray, ...]) -> None:
        """Keys of the first layer, and the sums of all layers, of the rows."""
        keys, sums = [], [[] for _ in self.layers]
        lookup, grids = self.layers[0].lookup, self.first.grids
        for begin in range(0, self.rows, CHUNK):
            values = self.first.integers(tuple(part[begin : begin + CHUNK] for part in parts))
            index = lookup._index(values[lookup.inputs[0]], grids[lookup.inputs[0]])
            keys.append(index.reshape(len(index), -1).astype(np.uint16))
            for layer, found in zip(self.layers, sums, strict=True):
                total = values[layer.total.name].reshape(len(index), -1)
                found.append(total << layer.aligned)
        self.keys = np.concatenate(keys).T.copy()  # of a table one after the other
        self.sums = [np.concatenate(found).astype(np.int64) for found in sums]

    def _outputs(self, sums: np.ndarray) -> np.ndarray:
        """What the network gives, as floats, where the sums of the last layer are `sums`."""
        total, grids = self.layers[-1].total, self.first.grids
        values = {total.name: sums.reshape(-1, *total.shape)}
        for op in self.tail:
            values[op.name] = op.evaluate(tuple(values[n] for n in op.inputs), tuple(grids[n] for n in op.inputs), grids[op.name])
        name = self.first.outputs[0]
        return values[name] * np.ldexp(1.0, -grids[name].f.astype(np.int64))

    def _moved(self, level: int, target: int, h: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Where sum `target` of a layer is `h`: the sums of this layer and those after it, and the loss of each row."""
        sums = self.sums[level].copy()
        sums[:, target] = h
        found = [sums]
        for n, layer in enumerate(self.layers[level + 1 :], level + 1):
            if n == level + 1:
                after = self.sums[n].copy()
                targets, new = layer.read(target, h)
                after[:, targets] += new - self._added(n, target)
            else:
                constant = self.sums[n][:1] - sum(self._part(layer, s, self.sums[n - 1][:1, s]) for s in range(self.sums[n - 1].shape[1]))
                after = constant + sum(self._part(layer, s, found[-1][:, s]) for s in range(found[-1].shape[1]))
            found.append(after)
        return found, self.losses(self._outputs(found[-1]))

    def _added(self, level: int, s: int) -> np.ndarray:
        """What element `s` adds to the sums of a layer now; kept until a table changes."""
        if (level, s) not in self._kept:
            self._kept = {(level, s): self.layers[level].read(s, self.sums[level - 1][:, s])[1]}
        return self._kept[level, s]

    def _part(self, layer: Tables, s: int, h: np.ndarray) -> np.ndarray:
        """What element `s` adds to each sum of a layer where it is `h`."""
        targets, found = layer.read(s, h)
        part = np.zeros((len(h), len(layer.tables_of)), np.int64)
        part[:, targets] = found
        return part

    def _keys(self, level: int, n: int) -> np.ndarray:
        layer = self.layers[level]
        return self.keys[n] if level == 0 else layer.keys(n, self.sums[level - 1][:, layer.source[n]])

    def total_cost(self) -> float:
        """Predicted LUTs of all layers of tables."""
        return sum(layer.total_cost(self.growth) for layer in self.layers)

    def sweep(self) -> None:
        """Every table once, the last layer first."""
        for level in reversed(range(len(self.layers))):
            for n in range(len(self.layers[level].words)):
                if self.layers[level].alive(n):
                    self._improve(level, n)

    def _improve(self, level: int, n: int) -> None:
        """Table n of a layer: simpler where that pays, then its words move."""
        layer, key = self.layers[level], self._keys(level, n)
        count = np.bincount(key, self.weight, len(layer.words[n]))
        if self._remove(level, n, key, count):
            return
        low = int(layer.lookup.low.ravel()[n])
        for bit in range(-1, int(len(count) - 1).bit_length()):
            old = layer.words[n]
            words = without_last_bit(old) if bit < 0 else without_key_bit(old, count, low, bit)
            if layer.cost({n: words}, self.growth) < 0:
                self._take(level, {n: words}, (words - layer.words[n])[key] << layer.shift[n], 0.0)
        if layer.alive(n):
            self._move(level, n, key)

    def _remove(self, level: int, n: int, key: np.ndarray, count: np.ndarray) -> bool:
        """Makes table n a constant where that pays; another table of the sum takes it over, if there is one."""
        layer = self.layers[level]
        words, shift = layer.words[n], layer.shift[n]
        mean = float(words @ count) / self.mass * 2.0**shift
        others = [m for m in layer.tables_of[layer.target[n]] if m != n and layer.alive(m)]
        if others:
            widest = max(others, key=lambda m: layer.bits[m])
            more = int(np.rint(mean / 2.0 ** layer.shift[widest]))
            changes = {n: np.zeros_like(words), widest: layer.words[widest] + more}
            level_ = more << layer.shift[widest]
        else:
            changes = {n: np.full_like(words, int(np.rint(mean / 2.0**shift)))}
            level_ = int(changes[n][0]) << shift
        return self._take(level, changes, level_ - (words[key] << shift), 0.0)

    def _move(self, level: int, n: int, key: np.ndarray) -> None:
        """Words of table n rise or fall by their last bit, as often as that gains more than `least` each."""
        layer, target = self.layers[level], int(self.layers[level].target[n])
        for step in (1, -1):
            for _ in range(MOST_STEPS):
                words = layer.words[n]
                _, losses = self._moved(level, target, self.sums[level][:, target] + (step << layer.shift[n]))
                gains = np.bincount(key, self.now - losses, len(words))
                rising = step * (gains > self.least)
                if not rising.any() or not self._take(level, {n: words + rising}, rising[key] << layer.shift[n], self.least):
                    break

    def _take(self, level: int, changes: dict[int, np.ndarray], rise: np.ndarray, least: float) -> bool:
        """Gives tables of one sum other words, by which the sum rises by `rise` in each row, where that gains more than `least`."""
        layer, target = self.layers[level], int(self.layers[level].target[next(iter(changes))])
        found, losses = self._moved(level, target, self.sums[level][:, target] + rise)
        gain = float((self.now - losses).sum()) - self.penalty * layer.cost(changes, self.growth)
        if not gain > least or any(word_width(words) > WORD_BITS for words in changes.values()):
            return False
        for n, words in changes.items():
            layer.set(n, words)
        self.sums[level:], self.now, self._kept = found, losses, {}
        return True

    def description(self, about: dict[str, Any]) -> ModelDescription:
        """The network with the words of now."""
        new = {name: op for layer in self.layers for name, op in layer.operations().items()}
        operations = tuple(new.get(op.name, op) for op in self.first.operations)
        return dataclasses.replace(self.first, operations=operations, metadata=self.first.metadata | {"refined": about})


def without_last_bit(words: np.ndarray) -> np.ndarray:
    """The nearest words without the last bit that one of them has.

    >>> without_last_bit(np.array([-4, 2, 8])).tolist()
    [-4, 4, 8]
    """
    unit = 2 << zeros(words)
    return (words + unit // 2) // unit * unit


def without_key_bit(words: np.ndarray, count: np.ndarray, low: int, bit: int) -> np.ndarray:
    """Words that do not hang on one bit of the key: of two keys the mean over their rows. Key n is the number ``low + n``.

    >>> without_key_bit(np.array([0, 4, 9, 9]), np.array([3, 1, 1, 1]), 0, 0).tolist()
    [1, 1, 9, 9]
    """
    here = np.arange(len(words))
    there = ((here + low) ^ (1 << bit)) - low
    there = np.where((there >= 0) & (there < len(words)), there, here)
    rows = count + count[there]
    mean = np.rint((words * count + words[there] * count[there]) / np.where(rows > 0, rows, 1)).astype(np.int64)
    return np.where(rows > 0, mean, words[np.minimum(here, there)])
