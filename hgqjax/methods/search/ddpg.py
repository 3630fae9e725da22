"""Ddpg: the agent of HAQ, an actor that walks the layers and a critic that judges its actions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

from hgqjax.quantizers import AbstractPolicy, Problem

STATE = 10
"""Numbers of a state."""
REWARD = 10.0
"""Of a gain: the paper's 0.1 for each per cent of accuracy."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ddpg(AbstractPolicy):
    r"""Deep deterministic policy gradients over the tensors of a network, as HAQ has them (Wang et al., arXiv:1811.08886).

    An episode is a candidate: the sites one after the other. The state of a site (10) has what `Site.about` says of its layer, each column
    scaled to 0 .. 1 over the layers, the bits of the site before relative to the most (1 at first), and 1 for weights or 0 for
    activations. The action a in [0, 1] of a site with n choices takes the one with the number

    .. math:: \mathrm{clip}(\mathrm{round}(n a - 1/2),\; 0,\; n - 1).

    The first `warmup` episodes draw a uniformly; episode e then from a normal distribution around the actor's output, truncated to 0 .. 1,
    with :math:`\sigma = ` `sigma` `decay` :math:`^{e - warmup}`. The reward, 10 times the gain, stands in every transition of the episode,
    and an update subtracts a moving average (rate 1/2) of the means of its batches. Actor 10-300-300-1 with a sigmoid; the critic has the
    action added after its own first layer; discount 1; targets follow by `follow`; one update for each site of an episode after the
    warm-up. The replay holds 128 transitions a layer, or those of a round where they are more.

    Source: the paper's code. Ours: all candidates of a round are proposed by one actor, and the updates come after the round.
    """

    warmup: int = 20
    """Episodes of uniform actions."""
    sigma: float = 0.5
    """Deviation of the exploration at the end of the warm-up."""
    decay: float = 0.99
    """Of the deviation, an episode."""
    batch: int = 64
    """Transitions of an update."""
    hidden: int = 300
    """Neurons of both hidden layers."""
    actor_rate: float = 1e-4
    """Learning rate of the actor (Adam)."""
    critic_rate: float = 1e-3
    """Of the critic."""
    follow: float = 0.01
    """Share of the way that the targets go at an update."""

    def __post_init__(self):
        if min(self.warmup, self.batch - 1, self.hidden - 1) < 0:
            raise ValueError(f"warmup is {self.warmup}, batch {self.batch}, hidden {self.hidden}; at least 0, 1 and 1 are needed")
        if not (self.sigma > 0 and 0 < self.decay <= 1 and 0 < self.follow <= 1 and min(self.actor_rate, self.critic_rate) > 0):
            raise ValueError("sigma and the rates need to be above 0, decay and follow within 0..1")

    def begin(self, problem, key):
        actor, critic = (_net(k, self.hidden, extra) for k, extra in zip(jax.random.split(key), (0, 1), strict=True))
        nets = {"actor": actor, "critic": critic}
        shape = (problem.candidates, len(problem.sites))
        layers = len({site.layer for site in problem.sites})
        size = max(128 * layers, shape[0] * shape[1])
        return {
            "nets": nets,
            "targets": jax.tree.map(jnp.copy, nets),
            "adams": {name: self._adam(name).init(net) for name, net in nets.items()},
            "replay": (jnp.zeros((size, STATE)), jnp.zeros(size), jnp.zeros(size), jnp.zeros((size, STATE)), jnp.zeros(size)),
            "stored": jnp.zeros((), jnp.int32),
            "episodes": jnp.zeros((), jnp.int32),
            "average": jnp.zeros(()),
            "updates": jnp.zeros((), jnp.int32),
            "walked": (jnp.zeros((*shape, STATE)), jnp.zeros(shape)),
        }

    def propose(self, problem, memory, key):
        about, counts = jnp.asarray(_scaled(problem)), jnp.asarray(problem.counts, jnp.float32)
        weights = jnp.array([site.role == "weight" for site in problem.sites], jnp.float32)
        most = max(max(site.choices) for site in problem.sites)
        episodes = memory["episodes"] + jnp.arange(problem.candidates)

        def walk(episode, key):
            sigma = self.sigma * self.decay ** jnp.maximum(episode - self.warmup, 0)

            def step(last, site):
                state = jnp.concatenate([about[site], jnp.stack([last, weights[site]])])
                own = jax.random.fold_in(key, site)
                mean = _act(memory["nets"]["actor"], state)
                drawn = mean + sigma * jax.random.truncated_normal(own, -mean / sigma, (1 - mean) / sigma)
                action = jnp.where(episode < self.warmup, jax.random.uniform(own), jnp.clip(drawn, 0.0, 1.0))
                level = choice_of(action, counts[site]).astype(jnp.int32)
                bits = problem.bits(jnp.full(len(problem.sites), level))[site]
                return bits / most, (state, action, bits)

            return lax.scan(step, jnp.ones(()), jnp.arange(len(problem.sites)))[1]

        states, actions, bits = jax.vmap(walk)(episodes, jax.random.split(key, problem.candidates))
        return bits, memory | {"walked": (states, actions)}

    def learn(self, problem, memory, key, bits, gains, costs):
        memory = self._remember(memory, REWARD * gains)
        episodes = memory["episodes"] + problem.candidates
        after = jnp.clip(episodes - jnp.maximum(memory["episodes"], self.warmup), 0, problem.candidates)

        def update(n, memory):
            return self._update(memory, jax.random.fold_in(key, n))

        return lax.fori_loop(0, after * len(problem.sites), update, memory) | {"episodes": episodes}

    def _remember(self, memory: dict[str, Any], rewards: Float[Array, " candidates"]) -> dict[str, Any]:
        """With the transitions of a round, the oldest ones forgotten."""
        states, actions = memory["walked"]
        episodes, sites, _ = states.shape
        ends = jnp.zeros((episodes, sites)).at[:, -1].set(1.0)
        following = jnp.roll(states, -1, 1)  # of the last one nothing is read
        fresh = (states.reshape(-1, STATE), actions.ravel(), jnp.repeat(rewards, sites), following.reshape(-1, STATE), ends.ravel())
        size = len(memory["replay"][1])
        at = (memory["stored"] + jnp.arange(episodes * sites)) % size
        replay = tuple(old.at[at].set(new) for old, new in zip(memory["replay"], fresh, strict=True))
        return memory | {"replay": replay, "stored": memory["stored"] + episodes * sites}

    def _update(self, memory: dict[str, Any], key: Array) -> dict[str, Any]:
        """One step of critic and actor on a batch of the replay."""
        filled = jnp.minimum(memory["stored"], len(memory["replay"][1]))
        rows = jax.random.randint(key, (self.batch,), 0, filled)
        state, action, reward, following, end = (part[rows] for part in memory["replay"])
        mean = jnp.mean(reward)
        average = jnp.where(memory["updates"] == 0, mean, memory["average"] + 0.5 * (mean - memory["average"]))
        targets, nets, adams = memory["targets"], dict(memory["nets"]), dict(memory["adams"])
        wanted = reward - average + (1 - end) * _judges(targets["critic"], following, _acts(targets["actor"], following))

        def critics(critic):
            return jnp.mean((_judges(critic, state, action) - wanted) ** 2)

        def actors(actor):
            return -jnp.mean(_judges(nets["critic"], state, _acts(actor, state)))

        for name, loss in (("critic", critics), ("actor", actors)):
            change, adams[name] = self._adam(name).update(jax.grad(loss)(nets[name]), adams[name])
            nets[name] = optax.apply_updates(nets[name], change)
        targets = jax.tree.map(lambda old, new: old + self.follow * (new - old), targets, nets)
        return memory | {"nets": nets, "targets": targets, "adams": adams, "average": average, "updates": memory["updates"] + 1}

    def _adam(self, name: str) -> optax.GradientTransformation:
        return optax.adam(self.actor_rate if name == "actor" else self.critic_rate)


def choice_of(action: Float[Array, "..."], count: Float[Array, "..."]) -> Float[Array, "..."]:
    """Number of the choice that an action in [0, 1] takes, of `count`.

    >>> choice_of(jnp.array([0.0, 0.14, 0.15, 0.5, 1.0]), jnp.array(7.0)).tolist()
    [0.0, 0.0, 1.0, 3.0, 6.0]
    """
    return jnp.clip(jnp.round(count * action - 0.5), 0.0, count - 1)


def _scaled(problem: Problem) -> np.ndarray:
    """What is said of the layers, each column from 0 to 1; one that is the same everywhere is 0."""
    about = np.array([site.about for site in problem.sites], np.float32)
    low, high = about.min(0), about.max(0)
    return (about - low) / np.where(high > low, high - low, 1.0)


def _net(key: Array, hidden: int, extra: int) -> list[Any]:
    """Three layers, and for a critic that of its action; uniform within +-1/sqrt(inputs)."""
    sizes = [(STATE, hidden), (hidden, hidden), (hidden, 1)] + [(1, hidden)] * extra

    def layer(key, n_in, n_out):
        return [
            jax.random.uniform(k, shape, minval=-1.0, maxval=1.0) / n_in**0.5
            for k, shape in zip(key, ((n_in, n_out), (n_out,)), strict=True)
        ]

    return [layer(jax.random.split(k), *size) for k, size in zip(jax.random.split(key, len(sizes)), sizes, strict=True)]


def _act(actor: list[Any], state: Float[Array, " 10"]) -> Float[Array, ""]:
    for weight, bias in actor[:2]:
        state = jax.nn.relu(state @ weight + bias)
    return jax.nn.sigmoid(state @ actor[2][0] + actor[2][1])[0]


def _judge(critic: list[Any], state: Float[Array, " 10"], action: Float[Array, ""]) -> Float[Array, ""]:
    (first, first_bias), (second, second_bias), (third, third_bias), (of_action, action_bias) = critic
    hidden = jax.nn.relu(state @ first + first_bias + action * of_action[0] + action_bias)
    return (jax.nn.relu(hidden @ second + second_bias) @ third + third_bias)[0]


def _acts(actor: list[Any], states: Float[Array, "rows 10"]) -> Float[Array, " rows"]:
    return jax.vmap(_act, (None, 0))(actor, states)


def _judges(critic: list[Any], states: Float[Array, "rows 10"], actions: Float[Array, " rows"]) -> Float[Array, " rows"]:
    return jax.vmap(_judge, (None, 0, 0))(critic, states, actions)
