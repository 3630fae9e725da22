"""A whole training run as one function of arrays: `make_train(config, build)` -> `train(key, member, data)`."""

import dataclasses
import math
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from hgqjax import layers, resources
from hgqjax.training import devices, freeze, schedules, shuffle
from hgqjax.training.guard import Guard, Trained, blind_loss, is_constant
from hgqjax.training.objective import Objective
from hgqjax.training.rows import Data, as_float32, rows_at, rows_at_once, weight_at
from hgqjax.training.tally import Tally

CURVATURE_ROWS = 256
"""Training rows that the curvature of weights is measured on, for quantizers that ask for it."""


class Member(NamedTuple):
    """What varies within a sweep, always an argument and never compiled in: scalars, or arrays with a leading member axis."""

    beta: Float[Array, "..."]
    """Penalty weight, loss per EBOP; what it means over time is the penalty schedule's."""
    learning_rate: Float[Array, "..."]
    """Peak learning rate of the weights."""
    budget: Float[Array, "..."]
    """Cost to reach, for `schedules.Budget` and `schedules.Target`; 0 otherwise."""


class State(NamedTuple):
    """All that a run carries from step to step."""

    params: dict[str, Any]
    observed: Any
    optimizer: Any
    penalty: Array
    """What the penalty schedule remembers."""
    cost: Array
    """The objective's, at the last step."""
    broken: Array
    """0, or 1 + the number of the first layer that was not finite, in the order of `Train.layer_names`, at the first such step."""
    guard: Guard | None = None
    """Against collapse; None where nothing is trained."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Length and optimiser of a run.

    Weights and widths have an Adam each: learning rate ``member.learning_rate`` and ``width_rate`` times that; both follow a cosine from
    the peak to ``final_rate`` of it, restarted `cycles` times with a peak ``cycle_decay`` times the last one.
    """

    epochs: int = 100
    """Passes over the training rows."""
    batch_size: int = 512
    """Rows a step."""
    epochs_per_check: int = 1
    """Epochs between two looks at the validation rows; each look is a candidate for the front."""
    width_rate: float = 10.0
    """Learning rate of the widths, relative to that of the weights: they arrive early, and the weights have the rest of the run."""
    cycles: int = 1
    """Cosine cycles of the learning rate."""
    cycle_decay: float = 0.94
    """Peak of a cycle relative to that of the one before."""
    final_rate: float = 1e-3
    """Learning rate at the end of a cycle relative to its peak."""
    batch_statistics: float = 0.7
    """Share of the run in which batch norms use the statistics of the batch; for the rest they keep the running ones, so that the weights
    that training sees are those that the frozen network has."""
    objective: Objective = Objective()
    penalty: schedules.Penalty = schedules.RISE_AND_HOLD
    """How beta moves during the run."""
    gradients: layers.Gradients = layers.Exact()
    """How gradients of products are quantized while training (fully quantized training); the trained network does not know."""
    freeze: tuple[str, ...] = ()
    """Layers whose weights, widths and batch norms stay as they start: regular expressions, looked for in the names of layers."""
    fixed_widths: bool = False
    """Keep all bit-widths as they start, and train the weights alone. Of what wraps, the integer bits still follow its range."""
    fixed_weights: bool = False
    """Keep all weights as they start, and train the bit-widths alone: post-training quantization by gradient descent."""
    order_seed: int = 0
    """Seed of the order of rows, the same for all members of a sweep."""

    def __post_init__(self):
        for name in ("epochs", "batch_size", "epochs_per_check", "cycles"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        shares = {"width_rate": math.inf, "cycle_decay": 1.0, "final_rate": 1.0, "batch_statistics": 1.0}
        for name, most in shares.items():
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; a number within 0..{most:g} is needed")
        if not 0 <= self.order_seed < 2**32:
            raise ValueError(f"order_seed is {self.order_seed}; a number within 0..2**32 - 1 is needed")
        if self.fixed_widths and self.fixed_weights:
            raise ValueError("fixed_widths and fixed_weights leave nothing to train; give one of them")
        if self.epochs % self.epochs_per_check:
            raise ValueError(f"epochs is {self.epochs}, which epochs_per_check, {self.epochs_per_check}, does not divide")

    @property
    def checks(self) -> int:
        """Looks at the validation rows in a run."""
        return self.epochs // self.epochs_per_check


class Train:
    """The run's pure functions. Calling it is a whole run; `init` and `segment` are its parts, for checkpoints in between."""

    def __init__(self, config: Config, build: Callable[[nnx.Rngs], layers.Module], begun: layers.Start | None = None):
        self.config, self.build, self.begun = config, layers.quantized_gradients(build, config.gradients), begun
        self._results: dict[tuple[int, ...], Any] = {}  # what the model gives for a row, by its shape
        jax.eval_shape(self._look)

    def _look(self) -> None:
        """Keeps the structure of the model; traced only, so that nothing is computed."""
        model = self.build(nnx.Rngs(0))
        operations = model.operations_cost()
        self.reassigns = layers.reassigns(model, jnp.zeros((), jnp.int32), self.config.epochs) is not False
        self.layer_names, self.sites = tuple(operations), layers.sites(model)
        self.widest = max((math.prod(quantizer.shape) for _, quantizer in model.named(layers.Quantize)), default=1)
        self._kernels = tuple(name for name, operation in operations.items() if hasattr(operation, "kernel"))
        if self.begun is not None:
            self.begun.check(model)
        model.set_mode("train")
        still = freeze.layers_at(model, self.config.freeze)
        self._training, *parts = _split(model)
        fixed = {kind for kind, is_so in (("widths", self.config.fixed_widths), ("weights", self.config.fixed_weights)) if is_so}
        self._moves = freeze.moves(still, fixed, {"weights": parts[0], "widths": parts[1]})
        self._trained = {name: bool(jax.tree.leaves(part)) for name, part in zip(("weights", "widths"), parts, strict=False)}
        model.set_mode("observe")
        self._frozen, *_ = _split(model)
        model.set_mode("settle")
        self._settled, *_ = _split(model)
        self._batch_norms = bool(jax.tree.leaves(nnx.state(model, nnx.BatchStat)))

    def __call__(self, key: Array, member: Member, data: Data) -> tuple[State, dict[str, Array]]:
        """A whole run: the last state, and metrics with a leading axis of checks."""
        state = self.init(key, member, data)
        return lax.scan(lambda s, check: self.segment(s, member, data, check), state, jnp.arange(self.config.checks))

    def init(self, key: Array, member: Member, data: Data, steps: int | None = None) -> State:
        """Fresh parameters, or those to start from; widths of activations follow the first training rows. Raises: as `check`.

        Args:
          steps: of an epoch, where `data` has not all rows.
        """
        self.check(data)
        model, rows = self.build(nnx.Rngs(params=key)), rows_at(data.x_train, slice(self.config.batch_size))
        if self.begun is None:
            layers.adapt(model, rows)
        else:
            self.begun.begin(model, rows)
        layers.seed(model, key)
        model.set_mode("train")
        _, weights, widths, observed = _split(model)
        return self.start({"weights": weights, "widths": widths}, observed, member, data, steps)

    def start(self, params: dict[str, Any], observed: Any, member: Member, data: Data, steps: int | None = None) -> State:
        """The first state of a run from given parameters and ranges, such as those of another `State`: its optimiser is a fresh one."""
        model = nnx.merge(self._training, params["weights"], params["widths"], observed, copy=True)
        cost = jnp.asarray(self.config.objective.costs(model).total)
        steps = self.steps_per_epoch(data) if steps is None else steps
        trained = Trained(params, observed, self._optimizer(member, steps).init(params))
        state = State(*trained, self.config.penalty.init(cost), cost, jnp.zeros((), jnp.int32), Guard.of(trained))
        return jax.tree.map(lambda leaf: lax.convert_element_type(leaf, leaf.dtype), state)  # no weak types: one trace

    def check(self, data: Data) -> None:
        """Refuses rows whose targets do not fit the network's outputs; traced rows by their shapes and types alone.

        Raises: ScoreError, one sentence.
        """
        row = [jax.ShapeDtypeStruct((1, *part.shape[1:]), jnp.float32) for part in layers.row_arrays(data.x_train)]
        shapes = tuple(part.shape for part in row)
        found = self._results.get(shapes) or jax.eval_shape(lambda *xs: self.build(nnx.Rngs(0))(*xs), *row)
        self._results[shapes] = found
        if isinstance(found, jax.ShapeDtypeStruct):  # a score of several results checks them itself
            for what, y in (("y_train", data.y_train), ("y_val", data.y_val)):
                self.config.objective.score.check(found.shape[1:], y, what)

    def segment(self, state: State, member: Member, data: Data, check: Array) -> tuple[State, dict[str, Array]]:
        """`epochs_per_check` epochs, then a look at the validation rows: the new state and the metrics. `check` counts from 0.

        Metrics are of the network that was looked at; one that has collapsed is then set back (`training.guard`).
        """
        first, steps = check * self.config.epochs_per_check, self.steps_per_epoch(data)

        def epoch(index, carry):
            state, number = self.reassigned(carry[0], member, data, first + index), first + index
            order = self.order(number, len(data.y_train))
            return self.steps((state, carry[1]), member, data, order, number, jnp.zeros((), jnp.int32), steps)

        state, tally = lax.fori_loop(0, self.config.epochs_per_check, epoch, (state, Tally.begin()))
        if self.reassigns:
            end = first + self.config.epochs_per_check
            last = end == self.config.epochs
            state = lax.cond(last, lambda s: self.reassigned(s, member, data, end), lambda s: s, state)
        return self.look(state, tally, self.outputs(state, data.x_val), data.y_val, data.weight_val, steps)

    def look(
        self, state: State, tally: Tally, outputs: Array, y: Array, weight: Array | None, steps: int
    ) -> tuple[State, dict[str, Array]]:
        """Ends a check of epochs of so many steps, by `outputs` for validation rows: as `segment`."""
        metrics = tally.metrics(self.config.epochs_per_check * steps) | self.judge(state, outputs, y, weight)
        assert state.guard is not None, "a state of `init` has one"
        losses, found = (metrics["train_loss"], metrics["val_loss"]), (metrics.pop("constant"), metrics.pop("blind"))
        trained, guard, metrics["collapsed"] = state.guard.look(Trained(*state[:3]), losses, *found)
        return state._replace(**trained._asdict(), guard=guard), metrics

    def validate(self, state: State, data: Data) -> dict[str, Array]:
        """Score, loss and cost (the objective's; total and by layer) on the validation rows, statistics frozen, unwrapped.

        Also the further shares of the objective's score, such as outliers; `State.broken`; for each layer with a kernel whether it is dead,
        that is without a product that is not 0; whether the network is constant, and the loss of its mean output (`training.guard`).
        """
        return self.judge(state, self.outputs(state, data.x_val), data.y_val, data.weight_val)

    def judge(self, state: State, outputs: Array, y: Array, weight: Array | None) -> dict[str, Array]:
        """As `validate`, of `outputs` for validation rows."""
        objective, now = self.config.objective, self._merge(self._frozen, state)
        cost = objective.costs(now)
        of_rows = outputs, y, weight
        metrics: dict[str, Any] = {"val_score": objective.score.value(*of_rows), "val_loss": objective.score.loss(*of_rows)}
        metrics |= {f"val_{name}": value for name, value in objective.score.further(*of_rows).items()}
        metrics |= {"cost": cost.total} | {f"cost/{name}": value for name, value in cost.items()}
        metrics |= {"broken": state.broken, "constant": is_constant(outputs), "blind": blind_loss(objective.score, *of_rows)}
        products = resources.ebops(now, "paper_v1")  # without biases, which may outlive a pruned kernel
        return metrics | {f"dead/{name}": products[name] == 0 for name in self._kernels}

    def outputs(self, state: State, x: Array | tuple[Array, ...]) -> Array:
        """Results for rows `x`, statistics frozen, unwrapped; of many large rows `rows_at_once` after the other."""

        def of(rows):
            return self._merge(self._frozen, state)(*map(as_float32, rows))

        xs = layers.row_arrays(x)
        count, part = len(xs[0]), rows_at_once(x, self.widest)
        if count <= part:
            return of(xs)
        whole = count // part * part
        y = lax.map(of, tuple(x[:whole].reshape(-1, part, *x.shape[1:]) for x in xs))
        y = y.reshape(whole, *y.shape[2:])
        return y if whole == count else jnp.concatenate([y, of(tuple(x[whole:] for x in xs))])

    def model(self, state: State) -> layers.Module:
        """The model of a single (not batched) state."""
        return self._merge(self._training, state)

    def _merge(self, graphdef, state: State) -> layers.Module:
        return nnx.merge(graphdef, state.params["weights"], state.params["widths"], state.observed, copy=True)

    def _first_broken(self, params, observed, loss: Array) -> Array:
        """As `State.broken`, of one step: parameters before it, ranges that its forward pass saw, its loss (the last layer's doing)."""
        parts = dict(nnx.merge(self._training, params["weights"], params["widths"], observed, copy=True).named(layers.Layer))
        bad = jnp.stack([~_all_finite(nnx.state(parts[name])) for name in self.layer_names])
        last = jnp.where(jnp.isfinite(loss), 0, len(self.layer_names))
        return jnp.where(jnp.any(bad), jnp.argmax(bad) + 1, last).astype(jnp.int32)

    def steps_per_epoch(self, data: Data) -> int:
        """Whole batches of the training rows. Raises: ValueError where there is none."""
        count = len(layers.row_arrays(data.x_train)[0])
        steps = count // self.config.batch_size
        if steps < 1:
            raise ValueError(f"batch_size is {self.config.batch_size}, but there are only {count} training rows")
        return steps

    def _optimizer(self, member: Member, steps_per_epoch: int) -> optax.GradientTransformation:
        rate = _cosine_restarts(self.config, self.config.epochs * steps_per_epoch)
        labels = {"weights": "weights", "widths": "widths"}
        factors = {"weights": 1.0, "widths": self.config.width_rate}
        adams = {
            name: optax.adam(lambda count, c=factor: member.learning_rate * c * rate(jnp.asarray(count)))
            for name, factor in factors.items()
        }
        flat: dict[Hashable, optax.GradientTransformation] = {
            name: optax.flatten(adam) if self._trained[name] else adam for name, adam in adams.items()
        }  # flat: fewer, longer loops
        return optax.multi_transform(flat, labels)

    def _gradients(self, keeps: Array, inputs: tuple) -> tuple[Any, tuple[dict[str, Array], Any]]:
        """Gradients of the loss, (metrics, what the call observed); batch norms keep and use their running statistics where `keeps`."""

        def of(graphdef):
            def loss(params, observed, x, y, weight, beta, step, progress):
                model = nnx.merge(graphdef, params["weights"], params["widths"], observed, copy=True)
                layers.begin_step(model, step, progress)
                value, metrics = self.config.objective(model, x, y, beta, weight)
                return value, (metrics, _split(model)[3])

            return jax.grad(loss, has_aux=True)

        if not self._batch_norms:
            return of(self._training)(*inputs)
        # two programs, not one that selects: kept statistics need no second product of rows and weights
        return lax.cond(keeps, of(self._settled), of(self._training), *inputs)

    def reassigned(self, state: State, member: Member, data: Data, epoch: Array) -> State:
        """With what the quantizers' schedules change before this epoch, by the first training rows; number `epochs` is after the last."""
        epochs, rows = self.config.epochs, slice(CURVATURE_ROWS)
        due = layers.reassigns(self._merge(self._training, state), epoch, epochs)
        if due is False:
            return state

        objective, x = self.config.objective, layers.row_arrays(rows_at(data.x_train, rows))
        of_score = objective.score.loss, objective.score.divergence
        task = layers.Task(x, data.y_train[rows], weight_at(data.weight_train, rows), *of_score, objective.costs, member.budget)

        def again(state):
            model = self._merge(self._training, state)
            layers.reassign(model, epoch, epochs, task)
            params = state.params | {"widths": _split(model)[2]}
            now = Trained(params, state.observed, state.optimizer)
            return state._replace(params=params, guard=state.guard and state.guard.begin(now))  # a choice is not taken back

        return lax.cond(due, again, lambda state: state, state)

    def order(self, epoch: Array, rows: int) -> Array:
        """The training rows of each step of an epoch, (steps, batch_size): a function of `order_seed` and the epoch alone."""
        size = self.config.batch_size
        key = jax.random.fold_in(jax.random.key(self.config.order_seed), epoch)
        return shuffle.permutation(key, rows)[: rows // size * size].reshape(-1, size)

    def steps(
        self, carry: tuple[State, Tally], member: Member, data: Data, order: Array, epoch: Array, first: Array, steps: int
    ) -> tuple[State, Tally]:
        """Steps of an epoch that has `steps`, from the one with the number `first`: state and tally after them.

        Args:
          data: training rows. order: which of them each step takes, (these steps, batch_size).
        """
        total = self.config.epochs * steps
        optimizer = self._optimizer(member, steps)

        def step(carry, inputs):
            state, tally = carry
            index, rows = inputs[0], devices.split_rows(inputs[1])
            count = (epoch * steps + index).astype(jnp.float32)
            beta, penalty = self.config.penalty.step(state.penalty, count / total, state.cost, member.beta, member.budget)
            beta = beta * state.guard.ease
            batch = (rows_at(data.x_train, rows), data.y_train[rows], weight_at(data.weight_train, rows))
            inputs = (state.params, state.observed, *batch, beta, epoch * steps + index, count / total)
            keeps = (count - 1) / total >= self.config.batch_statistics
            gradients, (metrics, observed) = self._gradients(keeps, inputs)
            with jax.numpy_dtype_promotion("standard"):  # optax counts in int32 and mixes
                updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
            updates = freeze.held(updates, self._moves)
            broken = jnp.where(state.broken > 0, state.broken, self._first_broken(state.params, observed, metrics["loss"]))
            params = cast(dict[str, Any], optax.apply_updates(state.params, updates))
            model = nnx.merge(self._training, params["weights"], params["widths"], observed, copy=True)
            layers.clip_widths(model)
            _, weights, widths, observed = _split(model)
            new = {"weights": weights, "widths": widths}, observed, optimizer_state, penalty, metrics["cost"], broken
            return (State(*new, state.guard), tally.after(lax.optimization_barrier(metrics), beta)), None

        return lax.scan(step, carry, (first + jnp.arange(len(order)), order))[0]


def make_train(config: Config, build: Callable[[nnx.Rngs], layers.Module], begun: layers.Start | None = None) -> Train:
    """``train(key, member, data)``: a whole run as one function of arrays, to be jitted, and vmapped over keys and members.

    Args:
      config: static choices. build: makes the model from random streams, e.g. ``lambda rngs: layers.mlp((16, 64, 5), rngs=rngs)``.
      begun: what it starts from instead of random weights: `layers.FloatStart`, or a frozen network (`hgqjax.description.start`).

    Raises: ValueError where a batch is larger than the data, the start is of other layers or shapes, or `config.freeze` names no layer.
    """
    return Train(config, build, begun)


def _split(model: layers.Module):
    return nnx.split(model, nnx.Param, layers.BitWidth, ...)


def _all_finite(tree) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _cosine_restarts(config: Config, steps: int) -> Callable[[Array], Array]:
    """Learning rate relative to the first peak, by step."""
    length = int(np.ceil(steps / config.cycles))
    cosine = optax.cosine_decay_schedule(1.0, length, alpha=config.final_rate)
    return lambda count: config.cycle_decay ** (count // length).astype(jnp.float32) * cosine(count % length)
