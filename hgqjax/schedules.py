"""Schedules of beta, the penalty weight (loss per EBOP): constant, the paper's warm-up and logarithmic ramp, and a budget controller."""

import abc
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractPenalty(abc.ABC):
    """How beta moves during a run. Pure: what it remembers goes in and out as `carry`, a scalar array."""

    def init(self) -> Float[Array, ""]:
        """What is remembered before the first step."""
        return jnp.zeros(())

    @abc.abstractmethod
    def step(self, carry, progress, ebops, member_beta, budget) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """``(beta, carry)`` for a step.

        Args:
          carry: what `init` or the last step gave. progress: share of the run that is over, in [0, 1).
          ebops: total EBOPs at the last step. member_beta: the member's beta. budget: its EBOPs budget, 0 without one.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(AbstractPenalty):
    """``beta = member beta`` from the first step to the last (the paper's HGQ-c runs)."""

    def step(self, carry, progress, ebops, member_beta, budget):
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

    def step(self, carry, progress, ebops, member_beta, budget):
        s = (progress - self.warmup) / (1 - self.warmup - self.hold)
        ramp = jnp.exp(jnp.log(self.start_ratio) * (1 - jnp.minimum(s, 1.0)))
        return member_beta * jnp.where(s < 0, self.warmup_ratio, ramp), carry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget(AbstractPenalty):
    r"""Steers beta so that EBOPs come down to the member's budget: a PI controller on :math:`e = \ln(EBOPs / target)`.

    .. math:: \beta = \beta_0 \exp(p\,e + \textstyle\sum i\,e)

    The target itself comes down, on a logarithmic scale, from what the network starts with to the budget over the first `descent` share
    of the run, so that the network is never crushed. :math:`\beta_0` is the member's beta. The integral is limited to ``+-limit``.
    Source: the idea of HGQ2's BetaPID; formula ours.
    """

    start_ebops: float = 50_000.0
    descent: float = 0.6
    proportional: float = 2.0
    integral: float = 2e-3
    limit: float = 8.0

    def __post_init__(self):
        if not (self.start_ebops > 0 and 0 < self.descent <= 1 and self.proportional >= 0 and self.integral >= 0 and self.limit >= 0):
            raise ValueError(
                f"Budget has start_ebops {self.start_ebops}, descent {self.descent}, proportional {self.proportional}, integral "
                f"{self.integral}, limit {self.limit}; start_ebops > 0, 0 < descent <= 1 and the others at least 0 are needed"
            )

    def step(self, carry, progress, ebops, member_beta, budget):
        share = jnp.minimum(progress / self.descent, 1.0)
        target = jnp.log(self.start_ebops) * (1 - share) + jnp.log(jnp.maximum(budget, 1.0)) * share
        error = jnp.clip(jnp.log(jnp.maximum(ebops, 1.0)) - target, -2.0, 2.0)
        carry = jnp.clip(carry + self.integral * error, -self.limit, self.limit)
        return member_beta * jnp.exp(self.proportional * error + carry), carry


Penalty = Constant | LogRamp | Budget
RISE_AND_HOLD = LogRamp(start_ratio=1e-2, warmup_ratio=1e-3, warmup=0.05, hold=0.5)
"""Rises to beta over 45 % of the run and stays: the default, and what short runs do best with."""
