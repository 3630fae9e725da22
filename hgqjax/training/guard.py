"""A guard against collapse: a member whose network says nothing of its rows any more is set back to its best state, its penalty halved."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from hgqjax.scores import AbstractScore

SOUND = 0.9
"""A sound network has at most this share of `blind_loss`, in training or on the validation rows."""


class Trained(NamedTuple):
    """What is set back."""

    params: Any
    observed: Any
    optimizer: Any


class Guard(NamedTuple):
    """What a member carries from look to look."""

    best: Trained
    """At the look with the least loss so far; of the start before."""
    loss: Float[Array, ""]
    """That loss, on the validation rows."""
    once: Bool[Array, ""]
    """Whether the network has been sound at a look."""
    ease: Float[Array, ""]
    """Factor of the penalty, halved whenever the network collapsed."""

    @classmethod
    def of(cls, start: Trained) -> "Guard":
        """At the start of a run; `start` is copied, as buffers that are donated must differ."""
        return cls(jax.tree.map(jnp.copy, start), jnp.full((), jnp.inf), jnp.zeros((), bool), jnp.ones(()))

    def begin(self, now: Trained) -> "Guard":
        """Forgets the best state so far: `now` is the one to go back to, until a look finds a better one."""
        return self._replace(best=jax.tree.map(jnp.copy, now), loss=jnp.full_like(self.loss, jnp.inf))

    def look(
        self, now: Trained, losses: tuple[Array, Array], constant: Bool[Array, ""], blind: Float[Array, ""]
    ) -> tuple[Trained, "Guard", Bool[Array, ""]]:
        """``(now, guard, collapsed)`` after a look at a network.

        It has collapsed where it is constant, or where it was sound at a look and is not any more, as it then soon is constant: no gradient
        of the task is left to revive it. It goes on from its best state, at rest and with half the penalty. A pruned branch beside others
        that live is no collapse, nor is a look at validation rows that is bad once, while training goes well.

        Args:
          now: its state. losses: in training since the last look, and on the validation rows. constant: whether all validation rows have
            the same outputs. blind: its `blind_loss` there.
        """
        trained, validated = losses
        sound = jnp.minimum(trained, validated) <= SOUND * blind
        collapsed = constant | (self.once & ~sound)
        better = ~collapsed & (validated < self.loss)
        best, least = _where(better, now, self.best), jnp.where(better, validated, self.loss)
        guard = Guard(best, least, self.once | sound, jnp.where(collapsed, self.ease / 2, self.ease))
        return _where(collapsed, _at_rest(self.best, now), now), guard, collapsed


def _at_rest(best: Trained, now: Trained) -> Trained:
    """`best` without the momentum that led to the fall, and with the counts of `now`, as the learning rate goes on."""

    def rest(path, old, new):
        if jnp.issubdtype(old.dtype, jnp.integer):
            return new
        return jnp.zeros_like(old) if any(getattr(key, "name", None) == "mu" for key in path) else old

    return best._replace(optimizer=jax.tree_util.tree_map_with_path(rest, best.optimizer, now.optimizer))


def is_constant(outputs: PyTree[Shaped[Array, "rows ..."]]) -> Bool[Array, ""]:
    """Whether all rows, of two or more, have the same outputs.

    >>> bool(is_constant(jnp.array([[1.0, 2.0], [1.0, 2.0]]))), bool(is_constant(jnp.array([[1.0, 2.0], [1.0, 3.0]])))
    (True, False)
    """
    return jnp.all(jnp.stack([jnp.all(part == part[:1]) & (len(part) > 1) for part in jax.tree.leaves(outputs)]))


def blind_loss(score: AbstractScore, outputs: PyTree[Array], y: Array, weight: Array | None = None) -> Float[Array, ""]:
    """Loss of a network that gives the mean of `outputs` for every row."""
    mean = jax.tree.map(lambda part: jnp.broadcast_to(jnp.mean(part, axis=0), part.shape), outputs)
    return score.loss(mean, y, weight)


def _where(condition: Bool[Array, ""], yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: lax.select(condition, a, b), yes, no)
