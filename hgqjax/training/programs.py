"""The compiled programs of a sweep, and what the host does with them: epochs and looks at the validation rows.

The programs are those functions of `Train` that `Train.segment` is made of. They are the same for rows that are all on the devices and for
rows of which a part at a time goes there (`Stream`); so both come to the same numbers.
"""

import concurrent.futures
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from hgqjax.training.devices import Layout, compiled, on_device
from hgqjax.training.rows import Data
from hgqjax.training.streaming import Stream
from hgqjax.training.tally import Tally
from hgqjax.training.train import Member, State, Train


class Programs(NamedTuple):
    """Compiled, for members along a leading axis; but for `order`, which has none."""

    init: Any
    order: Any
    reassigned: Any
    steps: Any
    outputs: Any
    look: Any


@functools.lru_cache(maxsize=4)
def programs(train: Train, layout: Layout, rows: int) -> Programs:
    """Of `train` with so many training rows; kept, so that a second sweep of the same compiles nothing."""
    count = rows // train.config.batch_size

    def members(function: Callable, shared: int, **options: Any) -> Any:
        mapped = functools.wraps(function)(jax.vmap(function, in_axes=(0, 0, *[None] * shared)))
        return compiled(mapped, layout.mesh, layout.group, shared, **options)

    def init(key, member, data):
        return train.init(key, member, data, count)

    def reassigned(state, member, data, epoch):
        return train.reassigned(state, member, data, epoch)

    def steps(carry, member, data, order, epoch, first):
        return train.steps(carry, member, data, order, epoch, first, count)

    def outputs(state, member, x):
        return train.outputs(state, x)

    def look(found, member, y, weight):
        state, tally, outputs = found
        return train.look(state, tally, jnp.concatenate(outputs) if len(outputs) > 1 else outputs[0], y, weight, count)

    return Programs(
        members(init, 1),
        jax.jit(functools.partial(train.order, rows=rows), out_shardings=layout.whole),
        members(reassigned, 2, donate_argnums=0),
        members(steps, 4, donate_argnums=0),
        members(outputs, 1),
        members(look, 2),
    )


class Segments:
    """The checks of a sweep, one after the other, on rows on the devices or in files."""

    def __init__(self, train: Train, data: Data | Stream, layout: Layout):
        self.train, self.layout = train, layout
        self.stream = data if isinstance(data, Stream) else None
        rows = data.rows if isinstance(data, Stream) else data
        self.count = train.steps_per_epoch(rows)
        self.programs = programs(train, layout, len(rows.y_train))
        self.head: Data = self._shared(data.head(train.config.batch_size) if isinstance(data, Stream) else data)
        self.of_validation = self._shared((rows.y_val, rows.weight_val))

    def compile(self, begun: Any, states: Any, members: Member) -> None:
        """Compiles the traced `init`, if it is given, and what is for validation in threads, while the steps are traced and compiled here.

        Calls then find what was compiled. The parts of a stream have sizes of their own, and are compiled when they come.

        Args:
          states: their shapes.
        """
        if self.stream is not None:
            return

        def like(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.layout.split), tree)

        states, tally = like(states), like(self._tally())
        order, number = jax.eval_shape(self.programs.order, np.int32(0)), np.int32(0)
        order = jax.ShapeDtypeStruct(order.shape, order.dtype, sharding=self.layout.whole)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            beside = [pool.submit(begun.lower().compile)] if begun else []
            outputs = self.programs.outputs.trace(states, members, self.head.x_val)
            look = self.programs.look.trace((states, tally, [like(outputs.out_info)]), members, *self.of_validation)
            beside += [pool.submit(traced.lower().compile) for traced in (outputs, look)]
            self.programs.steps.lower((states, tally), members, self.head, order, number, number).compile()
            for done in beside:
                done.result()

    def __call__(self, states: State, members: Member, check: int) -> tuple[State, dict[str, Array]]:
        """The check with this number: as `Train.segment`."""
        tally, epochs = self._tally(), self.train.config.epochs_per_check
        for epoch in range(check * epochs, (check + 1) * epochs):
            states = self._reassigned(states, members, epoch)
            for rows, order, first in self._parts(epoch):
                if self.stream is not None:
                    jax.block_until_ready(tally)  # so that two parts are in memory, one that is computed and the next, and not all
                states, tally = self.programs.steps((states, tally), members, rows, order, np.int32(epoch), np.int32(first))
        if check + 1 == self.train.config.checks:
            states = self._reassigned(states, members, self.train.config.epochs)
        return self.look(states, members, tally)

    def look(self, states: State, members: Member, tally: Tally | None = None) -> tuple[State, dict[str, Array]]:
        """A look at the validation rows, as `Train.look`; without a tally of networks that have taken no step."""
        tally = self._tally() if tally is None else tally
        outputs: list[Array] = []
        for x in self._validation():
            jax.block_until_ready(outputs)
            outputs.append(self.programs.outputs(states, members, x))
        return self.programs.look((states, tally, outputs), members, *self.of_validation)

    def _reassigned(self, states: State, members: Member, epoch: int) -> State:
        return self.programs.reassigned(states, members, self.head, np.int32(epoch)) if self.train.reassigns else states

    def _parts(self, epoch: int) -> Iterator[tuple[Data, Any, int]]:
        """Rows, which of them each step takes, and the number of the first step."""
        order = self.programs.order(np.int32(epoch))
        if self.stream is None:
            yield self.head, order, 0
            return
        order = np.asarray(order)
        for part in self.stream.parts(self.count, self.train.config.batch_size):
            numbers = order[part]
            within = np.arange(numbers.size, dtype=np.int32).reshape(numbers.shape)
            yield self._shared(self.stream.training(numbers)), within, part.start

    def _validation(self) -> Iterator[Any]:
        if self.stream is None:
            yield self.head.x_val
            return
        yield from map(self._shared, self.stream.validation(self.train.widest))

    def _tally(self) -> Tally:
        return self.layout.spread(jax.tree.map(lambda leaf: jnp.zeros(self.layout.members, leaf.dtype), Tally.begin()))

    def _shared(self, rows: Any) -> Any:
        return self.layout.share(on_device(rows))
