"""Schedules of beta, the penalty weight (loss per unit of cost): constant, logarithmic ramp, budget controller, HMQ's target."""

import abc
import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractPenalty(abc.ABC):
    """How beta moves during a run. Pure: what it remembers goes in and out as `carry`, an array."""

    steers: ClassVar[bool] = False
    """True: towards the member's budget, which a sweep then varies."""

    def init(self, cost: Float[Array, ""]) -> Float[Array, "..."]:
        """What is remembered before the first step, where the network costs `cost`."""
        return jnp.zeros_like(cost)

    @abc.abstractmethod
    def step(self, carry, progress, cost, member_beta, budget) -> tuple[Float[Array, ""], Float[Array, "..."]]:
        """``(beta, carry)`` for a step.

        Args:
          carry: what `init` or the last step gave. progress: share of the run that is over, in [0, 1).
          cost: the objective's at the last step. member_beta: the member's beta. budget: the cost it is to reach, 0 without one.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(AbstractPenalty):
    """``beta = member beta`` from the first step to the last (the paper's HGQ-c runs)."""

    def step(self, carry, progress, cost, member_beta, budget):
        return member_beta, carry


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogRamp(AbstractPenalty):
    r"""Constant ``warmup_ratio * beta`` for the first `warmup` share of the run, then :math:`\beta r^{1-s}`, s from 0 to 1, then constant
    ``beta`` for the last `hold` share.

    The member's beta is the value at the end and ``start_ratio`` = r that at the start of the ramp, relative to it: one run walks the
    whole front. The paper's jets run (arXiv:2405.00645, its public configuration): 5e-7 for 5 000 of 300 000 epochs, then 1e-6 to 2e-3.

    >>> ramp = LogRamp(start_ratio=1e-2, warmup_ratio=1e-3, warmup=0.5)
    >>> beta = lambda p: float(ramp.step(0.0, jnp.float32(p), 0.0, jnp.float32(1.0), 0.0)[0])
    >>> round(beta(0.2), 6), round(beta(0.5), 6), round(beta(0.75), 6)
    (0.001, 0.01, 0.1)
    """

    start_ratio: float = 5e-4
    warmup_ratio: float = 2.5e-4
    warmup: float = 1 / 60
    hold: float = 0.0

    def __post_init__(self):
        if not (self.start_ratio > 0 and self.warmup_ratio >= 0 and self.warmup >= 0 and self.hold >= 0 and self.warmup + self.hold < 1):
            raise ValueError(
                f"LogRamp has start_ratio {self.start_ratio}, warmup_ratio {self.warmup_ratio}, warmup {self.warmup}, hold {self.hold}; "
                "start_ratio > 0, the others at least 0 and warmup + hold < 1 are needed"
            )

    def step(self, carry, progress, cost, member_beta, budget):
        s = (progress - self.warmup) / (1 - self.warmup - self.hold)
        ramp = jnp.exp(jnp.log(self.start_ratio) * (1 - jnp.minimum(s, 1.0)))
        return member_beta * jnp.where(s < 0, self.warmup_ratio, ramp), carry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget(AbstractPenalty):
    r"""Steers beta so that the cost C comes down to the member's budget and stays there: a PI controller on :math:`e = \ln(C / C^*)`.

    .. math:: \beta = \frac{s}{C^*} \exp(p\,e + i \int e\,d\mathrm{progress})

    The target :math:`C^*` comes down, on a logarithmic scale, from the cost that the network starts with to `aim` times the budget over
    the first `descent` share of the run, so that the network is never crushed. The integral is over the share of the run, so that a gain
    means the same in a short run and in a long one, and limited to ``+-limit``. :math:`s` = `scale`, the loss that a penalty has where it
    holds a cost (0.04 to 0.09 on jets, from 400 to 15 000 EBOPs or LUTs), is only where the controller begins; the member's beta has no
    part in it. `aim` is below 1, as a frozen network, whose ranges hold all rows, costs a few percent more than training estimates.
    Source: the idea of HGQ2's BetaPID; formula ours.
    """

    steers: ClassVar[bool] = True
    descent: float = 0.4
    scale: float = 0.05
    proportional: float = 3.0
    integral: float = 40.0
    limit: float = 8.0
    aim: float = 0.95

    def __post_init__(self):
        least = min(self.scale, self.descent, self.aim)
        if not (least > 0 and self.descent <= 1 and self.aim <= 1 and min(self.proportional, self.integral, self.limit) >= 0):
            raise ValueError(
                f"Budget has descent {self.descent}, scale {self.scale}, proportional {self.proportional}, integral {self.integral}, limit "
                f"{self.limit}, aim {self.aim}; 0 < descent <= 1, 0 < aim <= 1, scale > 0 and the others at least 0 are needed"
            )

    def init(self, cost):
        return jnp.stack([jnp.log(jnp.maximum(cost, 1.0)), jnp.zeros_like(cost), jnp.zeros_like(cost)])  # start, integral, last progress

    def step(self, carry, progress, cost, member_beta, budget):
        share = jnp.minimum(progress / self.descent, 1.0)
        start, integral, last = carry
        target = start * (1 - share) + jnp.log(jnp.maximum(self.aim * budget, 1.0)) * share
        error = jnp.clip(jnp.log(jnp.maximum(cost, 1.0)) - target, -2.0, 2.0)
        integral = jnp.clip(integral + self.integral * error * (progress - last), -self.limit, self.limit)
        beta = self.scale * jnp.exp(self.proportional * error + integral - target)
        return beta, jnp.stack([start, integral, jnp.asarray(progress, start.dtype)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target(AbstractPenalty):
    r"""The penalty :math:`\gamma\, relu(1 - C^*/C)^2` on a cost C above its target C*, as the beta that has its gradient in C:

    .. math:: \beta = 2 \gamma\, relu(1 - C^*/C)\, C^* / C^2

    With R = C_0 / C this is :math:`\gamma\, relu((R^* - R)/R^*)^2` of HMQ, :math:`\gamma` = `strength`. The rate to reach rises from 1,
    at the cost :math:`C_0` of the start, to that of the member's budget in `steps` equal steps over the first share `rise` of the run; the
    member's beta has no part in it. C is that of the step before. Source: Habi et al. (HMQ), arXiv:2007.09952: from a trained network,
    in 4 steps over 20 of 50 epochs. In short runs from scratch such large steps crush the network (Adam follows the first violation for
    long), so that many small ones are the default.

    >>> target = Target(strength=32.0, steps=1, rise=0.5)
    >>> float(target.step(jnp.float32(8.0), jnp.float32(0.6), jnp.float32(4.0), 0.0, jnp.float32(2.0))[0])  # 64 (1 - 1/2) 2 / 16
    4.0
    """

    steers: ClassVar[bool] = True
    strength: float = 32.0
    steps: int = 64
    rise: float = 0.5

    def __post_init__(self):
        if not (self.strength > 0 and self.steps >= 1 and 0 < self.rise <= 1):
            raise ValueError(
                f"Target has strength {self.strength}, steps {self.steps}, rise {self.rise}; strength > 0, steps >= 1 and rise within 0..1 "
                "are needed"
            )

    def init(self, cost):
        return cost

    def step(self, carry, progress, cost, member_beta, budget):
        risen = jnp.minimum(jnp.floor(progress / self.rise * self.steps), self.steps) / self.steps
        target = carry / (1.0 + (carry / jnp.maximum(budget, 1e-6) - 1.0) * risen)
        cost = jnp.maximum(cost, 1e-6)
        return 2 * self.strength * jnp.maximum(1.0 - target / cost, 0.0) * target / cost**2, carry


Penalty = Constant | LogRamp | Budget | Target
RISE_AND_HOLD = LogRamp(start_ratio=1e-2, warmup_ratio=1e-3, warmup=0.05, hold=0.7)
"""Rises to beta over a quarter of the run and stays: the default, and what short runs do best with."""
