"""Loss and score of the steps of a check, added up so that it does not matter where they are divided."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array


class Tally(NamedTuple):
    """Of the steps of a check until now, added step by step, so that it does not matter into which parts an epoch is divided."""

    sums: dict[str, Array]
    """Of loss and score."""
    errors: dict[str, Array]
    """What rounding has cut off these sums. Source: Knuth's TwoSum, which knows it exactly."""
    beta: Array
    """At the last step."""

    @classmethod
    def begin(cls) -> "Tally":
        """Of no step."""
        none = {name: jnp.zeros(()) for name in ("loss", "score")}
        return cls(none, none, jnp.zeros(()))

    def after(self, metrics: dict[str, Array], beta: Array) -> "Tally":
        """With one more step."""
        sums, errors = dict(self.sums), dict(self.errors)
        for name, before in self.sums.items():
            sums[name] = before + metrics[name]
            added = sums[name] - before
            errors[name] = errors[name] + ((before - (sums[name] - added)) + (metrics[name] - added))
        return Tally(sums, errors, beta)

    def metrics(self, steps: int) -> dict[str, Array]:
        """Means of so many steps, and beta, as a check has them."""
        return {f"train_{name}": (total + self.errors[name]) / steps for name, total in self.sums.items()} | {"beta": self.beta}
