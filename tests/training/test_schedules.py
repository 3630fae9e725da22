"""Penalty schedules as functions of progress."""

import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax.training import schedules


def betas(schedule, progress, beta=1.0):
    return [float(schedule.step(jnp.zeros(()), jnp.float32(p), jnp.float32(0), jnp.float32(beta), jnp.float32(0))[0]) for p in progress]


def test_constant():
    assert betas(schedules.Constant(), [0, 0.5, 0.99], 0.25) == [0.25] * 3


def test_warmup_logarithmic_ramp_and_hold():
    ramp = schedules.LogRamp(start_ratio=1e-2, warmup_ratio=0.5, warmup=0.1, hold=0.4)
    np.testing.assert_allclose(betas(ramp, [0.0, 0.09, 0.1, 0.35, 0.6, 0.9], 2.0), [1.0, 1.0, 0.02, 0.2, 2.0, 2.0], rtol=1e-5)


def test_budget_pushes_up_above_the_target_and_down_below():
    budget = schedules.Budget(descent=0.5, aim=1.0)

    def beta(progress, cost, integral=0.0, member_beta=1.0):
        carry = budget.init(jnp.float32(1000.0)).at[1].set(integral)
        beta, after = budget.step(carry, jnp.float32(progress), jnp.float32(cost), jnp.float32(member_beta), jnp.float32(10.0))
        assert after[0] == carry[0] and after[2] == jnp.float32(progress)
        return float(beta), float(after[1])

    # on the target, which comes down from 1000 over 100 to 10, the penalty is `scale`
    assert beta(0.0, 1000.0)[0] == pytest.approx(0.05 / 1000, rel=1e-4) and beta(0.25, 100.0)[0] == pytest.approx(0.05 / 100, rel=1e-4)
    above, below = beta(0.8, 20.0), beta(0.8, 5.0)
    assert above[0] > 0.05 / 10 > below[0] and above[1] > 0 > below[1]
    assert beta(0.8, 1e9, integral=8.0)[1] == 8.0 and beta(0.8, 20.0, member_beta=1e-6) == above


def test_budget_has_one_integral_whatever_the_number_of_steps():
    budget = schedules.Budget(descent=0.5)

    def integral(steps):
        carry = budget.init(jnp.float32(1000.0))
        for n in range(steps):
            _, carry = budget.step(carry, jnp.float32(0.6 + 0.01 * n / steps), jnp.float32(12.0), 0.0, jnp.float32(10.0))
        return float(carry[1])

    assert integral(5) == pytest.approx(integral(40), rel=0.02)


@pytest.mark.parametrize("wrong", [{"start_ratio": 0.0}, {"warmup": 0.7, "hold": 0.4}, {"warmup_ratio": -1.0}])
def test_bad_ramps_are_named(wrong):
    with pytest.raises(ValueError, match="LogRamp has start_ratio"):
        schedules.LogRamp(**wrong)
