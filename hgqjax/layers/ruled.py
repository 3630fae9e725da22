"""What trains besides weights: numbers that a static rule reads, and for rules that sample what they draw with."""

import abc
from typing import Any

import jax
import jax.numpy as jnp

from hgqjax.layers._base import BitWidth, Draw, Module


class Ruled(Module):
    """Base of quantizers and gates: the trained numbers of a `rule`, and seed, step and temperature of one that samples."""

    parameter_names: tuple[str, ...]

    @property
    @abc.abstractmethod
    def rule(self) -> Any:
        """The static choices: a quantizer, or a gate."""

    def hold(self, params: dict[str, jax.Array]) -> None:
        """Makes the variables; called once, by the constructor."""
        self.parameter_names = tuple(sorted(params))
        for name, value in params.items():
            setattr(self, name, BitWidth(value))
        if self.rule.samples:
            self.seed, self.step = Draw(jnp.zeros((2,), jnp.uint32)), Draw(jnp.zeros((), jnp.int32))
            self.temperature = Draw(jnp.ones(()))

    def set_params(self, params: dict[str, jax.Array]) -> None:
        """Gives the trained numbers new values."""
        for name, value in params.items():
            getattr(self, name)[...] = value

    @property
    def params(self) -> dict[str, jax.Array]:
        """The trained numbers, as the rule takes them."""
        return {name: getattr(self, name)[...] for name in self.parameter_names}

    @property
    def samples(self) -> bool:
        """Whether calls draw at random now."""
        return self.mode.trains and self.rule.samples

    @property
    def key(self) -> jax.Array:
        """Of this step, of a rule that samples."""
        return jax.random.fold_in(jax.random.wrap_key_data(self.seed[...]), self.step[...])

    def clip(self) -> None:
        """Brings the trained numbers into their limits."""
        self.set_params(self.rule.clip(self.params))
