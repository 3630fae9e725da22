"""Recurrent layers: one cell for all steps, whose formats are shared over time; in hardware one step stands after the other."""

import abc
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hgqjax.granularity import Granularity
from hgqjax.layers._base import BitWidth, Layer, Module, Value
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.activation import activation as activation_
from hgqjax.layers.dense import Dense
from hgqjax.layers.merge import Add, Multiply, Subtract
from hgqjax.layers.mode import Mode
from hgqjax.layers.quantize import ACTIVATION, WEIGHT, Quantize
from hgqjax.layers.shapes import concatenate, gather, reshape, row_shape, select
from hgqjax.layers.table import HARD_TANH
from hgqjax.quantizers import AbstractQuantizer, Kif

MOST_STEPS = 1024
"""Each is hardware of its own."""
GATE = Kif(keep_negative=False, i0=0.0, f0=6.0, i_limits=(0.0, 0.0), overflow="SAT")
"""Clips to [0, 1): a hard sigmoid, whose slope and offset the weights before it hold."""
HARD_SIGMOID: dict[str, Any] = {"kernel_factor": 0.25, "bias_start": 0.5}
States = tuple[Value, ...]


class AbstractRecurrent(Module):
    """Base of the recurrent layers: rows (rows, steps, features) to the last state (rows, units), or to all (rows, steps, units).

    A new one makes the layers of its cell, calls `begin`, and writes `step`. While training `jax.lax.scan` goes through the steps; ranges
    hold the values of all of them. A description has the steps one after the other, each with the same weights and formats.

    Arguments that all have:
      steps, features: shape of a row. units: of the state.
      sequences: whether the states of all steps are the result, and not the last alone. backwards: whether the last step comes first.
      rngs: flax random streams. input_quantizer, kernel_quantizer, bias_quantizer: of the layers of the cell; see `AbstractLinear`. The
        rows themselves are quantized by `input_quantizer` first, each feature with one width for all steps.
    """

    states: int = 1
    """How many arrays (rows, units) are handed to the next step; the first of them is the result."""

    def begin(self, steps: int, features: int, units: int, sequences: bool, backwards: bool, input_quantizer: AbstractQuantizer) -> None:
        """Keeps what all have. It is the last call of a constructor: what the cell has until then is called once a step."""
        sizes = {"steps": steps, "features": features, "units": units}
        if min(sizes.values()) < 1 or steps > MOST_STEPS:
            given = ", ".join(f"{name} {n}" for name, n in sizes.items())
            raise ValueError(f"{type(self).__name__}: {given} are given; at least 1 of each and at most {MOST_STEPS} steps are legal")
        for quantizer in self._cell():
            quantizer.decay_bits = quantizer.decay_bits / steps  # ranges forget as much in a call as those of other layers
        for _, layer in self.named(Layer):
            if layer.counts_uses:
                layer.uses[...] = jnp.full((), float(steps))
        self.steps, self.units, self.sequences, self.backwards = steps, units, sequences, backwards
        self.input_quantizer = Quantize((steps, features), input_quantizer, "channel")

    @abc.abstractmethod
    def step(self, x: Value, states: States) -> States:
        """The states after a step with the values `x`, (rows, features)."""

    def __call__(self, x: Value) -> Value:
        if row_shape(x) != self.input_quantizer.shape:
            raise ValueError(f"{type(self).__name__} was made for rows of shape {self.input_quantizer.shape}, and is given {row_shape(x)}")
        x = self.input_quantizer(x)
        if isinstance(x, Symbol):
            return self._unrolled(x)
        return self._adapted(x) if self.mode is Mode.ADAPT else self._scanned(x)

    def _cell(self) -> list[Quantize]:
        """Quantizers of activations within the cell."""
        return [quantizer for name, quantizer in self.named(Quantize) if name != "input_quantizer"]

    def _unrolled(self, x: Symbol) -> Symbol:
        """The result by one step after the other."""
        order = range(self.steps - 1, -1, -1) if self.backwards else range(self.steps)
        steps = [select(x, n) for n in order]
        zeros = select(gather(steps[0], [0, *(-1,) * self.units]), slice(1, None))
        states, found = (zeros,) * self.states, []
        for part in steps:
            states = self.step(part, states)
            found.append(states[0])
        if not self.sequences:
            return found[-1]
        rows = [reshape(state, (1, self.units)) for state in found]
        return rows[0] if len(rows) == 1 else concatenate(rows, 0)

    def _scanned(self, x: jax.Array) -> jax.Array:
        """The result by a loop whose body is compiled once; what changes in a call, such as ranges, goes from step to step."""
        graphdef, trained, seen = nnx.split(self, nnx.Any(nnx.Param, BitWidth), ...)

        def body(carry: tuple[Any, States], part: jax.Array) -> tuple[tuple[Any, States], jax.Array]:
            seen, states = carry
            cell = nnx.merge(graphdef, trained, seen, copy=True)
            states = cell.step(part, states)
            return (nnx.state(cell, nnx.Not(nnx.Any(nnx.Param, BitWidth))), states), states[0]

        states = (jnp.zeros((len(x), self.units), x.dtype),) * self.states
        (seen, states), every = jax.lax.scan(body, (seen, states), jnp.moveaxis(x, 1, 0), reverse=self.backwards)
        if self.mode not in (Mode.FLOAT, Mode.EVALUATE):  # which change nothing, so that compiled calls need not hand it out
            nnx.update(self, seen)
        if not self.sequences:
            return states[0]
        return jnp.moveaxis(every[::-1] if self.backwards else every, 0, 1)  # in the order of the steps that were taken

    def _adapted(self, x: jax.Array) -> jax.Array:
        """The result after the widths of the cell start from the values of all steps; twice, as what clips early hides what comes later."""
        y = x
        self.set_mode(Mode.CALIBRATE)
        for _ in range(2):
            for quantizer in self._cell():
                quantizer.forget()
            y = self._scanned(x)
            for quantizer in self._cell():
                seen = [jnp.broadcast_to(v, (1, *quantizer.shape)) for v in quantizer.range]
                quantizer.set_params(quantizer.quantizer.init(quantizer.low[...].shape, sample=jnp.concatenate(seen)))
        self.set_mode(Mode.ADAPT)
        for _, layer in self.named(Layer):
            if layer.counts_uses:
                layer.uses[...] = layer.uses[...] + self.steps
        return y


class SimpleRNN(AbstractRecurrent):
    """``h = activation(q_s([q(x), q(h)] W + b))``, with a quantizer of the state that clips to [-1, 1), a hard tanh.

    Args: those of `AbstractRecurrent`; state_quantizer: of the state; activation: None or "relu", after that quantizer.

    The parts, each with its cost for each step: `inner` (`Dense`), `state` (`Quantize`).

    >>> layer = SimpleRNN(4, 3, 2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 4, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        steps: int,
        features: int,
        units: int,
        *,
        rngs: nnx.Rngs,
        sequences: bool = False,
        backwards: bool = False,
        activation: str | None = None,
        use_bias: bool = True,
        state_quantizer: AbstractQuantizer = HARD_TANH,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        bias_quantizer: AbstractQuantizer = WEIGHT,
        kernel_granularity: Granularity = "element",
    ):
        activation_(activation)
        self.activation = activation
        settings: dict[str, Any] = {"kernel_quantizer": kernel_quantizer, "bias_quantizer": bias_quantizer, "use_bias": use_bias}
        settings |= {"rngs": rngs, "input_quantizer": input_quantizer, "kernel_granularity": kernel_granularity}
        self.inner = Dense(features + units, units, **settings)
        self.state = Quantize((units,), state_quantizer)
        self.begin(steps, features, units, sequences, backwards, input_quantizer)

    def step(self, x: Value, states: States) -> States:
        inner = self.inner(concatenate([x, states[0]]))
        return (activation_(self.activation)(self.state(inner)),)


class GRU(AbstractRecurrent):
    r"""Gated recurrent units: gates z and r, candidate c, and :math:`h' = z h + (1 - z) c`, computed as ``c + z * (h - c)``.

    .. math:: z, r = s([x, h] W + b), \quad c = t(x V + a + r\,(h U + d)), \quad s(v) = clip(v, 0, 1), \quad t(v) = clip(v, -1, 1)

    W and b hold the slope 1/4 and the offset 1/2 of a hard sigmoid: W starts at a quarter, b at a half.

    Args: those of `AbstractRecurrent`; gate_quantizer, candidate_quantizer: those that clip.

    The parts, each with its cost for each step: `gates`, `candidate`, `hidden` (`Dense`), `reset`, `update` (`Multiply`), `sum`, `new`
    (`Add`), `change` (`Subtract`), and the quantizers `gate`, `squashed`.
    Source: Cho et al., arXiv:1406.1078, with the reset gate after the product, as in Keras and HGQ2.

    >>> layer = GRU(4, 3, 2, sequences=True, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 4, 3))).shape
    (5, 4, 2)
    """

    def __init__(
        self,
        steps: int,
        features: int,
        units: int,
        *,
        rngs: nnx.Rngs,
        sequences: bool = False,
        backwards: bool = False,
        gate_quantizer: AbstractQuantizer = GATE,
        candidate_quantizer: AbstractQuantizer = HARD_TANH,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        bias_quantizer: AbstractQuantizer = WEIGHT,
        kernel_granularity: Granularity = "element",
    ):
        weights: dict[str, Any] = {"kernel_quantizer": kernel_quantizer, "bias_quantizer": bias_quantizer, "rngs": rngs}
        weights |= {"input_quantizer": input_quantizer, "kernel_granularity": kernel_granularity}
        self.gates = Dense(features + units, 2 * units, **HARD_SIGMOID, **weights)
        self.gate = Quantize((2 * units,), gate_quantizer)
        self.candidate, self.hidden = Dense(features, units, **weights), Dense(units, units, **weights)
        self.reset, self.update = (Multiply((units,), input_quantizer=input_quantizer) for _ in range(2))
        self.sum, self.new = (Add((units,), input_quantizer=input_quantizer) for _ in range(2))
        self.change = Subtract((units,), input_quantizer=input_quantizer)
        self.squashed = Quantize((units,), candidate_quantizer)
        self.begin(steps, features, units, sequences, backwards, input_quantizer)

    def step(self, x: Value, states: States) -> States:
        (h,) = states
        gates = self.gate(self.gates(concatenate([x, h])))
        z, r = select(gates, slice(0, self.units)), select(gates, slice(self.units, None))
        c = self.squashed(self.sum(self.candidate(x), self.reset(r, self.hidden(h))))
        return (self.new(c, self.update(z, self.change(h, c))),)


class LSTM(AbstractRecurrent):
    r"""Long short-term memory: gates i, f, o, candidate g, memory :math:`c' = f c + i g` and state :math:`h' = o\, t(c')`.

    .. math:: i, f, o = s([x, h] W + b), \quad g = t([x, h] V + a), \quad s(v) = clip(v, 0, 1), \quad t(v) = clip(v, -1, 1)

    As in `GRU` W and b hold the slope and offset of a hard sigmoid; b starts at a half, that of f at three quarters.

    Args: those of `AbstractRecurrent`; gate_quantizer, candidate_quantizer: those that clip.

    The parts, each with its cost for each step: `gates`, `candidate` (`Dense`), `forget`, `write`, `read` (`Multiply`), `memory` (`Add`),
    and the quantizers `gate`, `squashed`, `shown`. Source: Hochreiter and Schmidhuber (1997); Gers et al. (2000) for the gate f.

    >>> layer = LSTM(4, 3, 2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 4, 3))).shape
    (5, 2)
    """

    states = 2

    def __init__(
        self,
        steps: int,
        features: int,
        units: int,
        *,
        rngs: nnx.Rngs,
        sequences: bool = False,
        backwards: bool = False,
        gate_quantizer: AbstractQuantizer = GATE,
        candidate_quantizer: AbstractQuantizer = HARD_TANH,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        bias_quantizer: AbstractQuantizer = WEIGHT,
        kernel_granularity: Granularity = "element",
    ):
        weights: dict[str, Any] = {"kernel_quantizer": kernel_quantizer, "bias_quantizer": bias_quantizer, "rngs": rngs}
        weights |= {"input_quantizer": input_quantizer, "kernel_granularity": kernel_granularity}
        self.gates = Dense(features + units, 3 * units, **HARD_SIGMOID, **weights)
        if self.gates.bias is not None:
            self.gates.bias[...] = self.gates.bias[...].at[units : 2 * units].set(0.75)
        self.candidate = Dense(features + units, units, **weights)
        self.gate = Quantize((3 * units,), gate_quantizer)
        self.squashed, self.shown = (Quantize((units,), candidate_quantizer) for _ in range(2))
        self.forget, self.write, self.read = (Multiply((units,), input_quantizer=input_quantizer) for _ in range(3))
        self.memory = Add((units,), input_quantizer=input_quantizer)
        self.begin(steps, features, units, sequences, backwards, input_quantizer)

    def step(self, x: Value, states: States) -> States:
        h, c = states
        seen, n = concatenate([x, h]), self.units
        gates = self.gate(self.gates(seen))
        i, f, o = (select(gates, slice(k * n, (k + 1) * n)) for k in range(3))
        c = self.memory(self.forget(f, c), self.write(i, self.squashed(self.candidate(seen))))
        return self.read(o, self.shown(c)), c
