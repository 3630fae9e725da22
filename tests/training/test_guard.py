"""When a member counts as collapsed, and what it goes on with."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hgqjax.scores import Accuracy, Resolution
from hgqjax.training.guard import SOUND, Guard, Trained, blind_loss, is_constant


def trained(value, count=0):
    """A state whose arrays hold `value`, after so many steps."""
    params = {"w": jnp.full(2, value)}
    adam = optax.adam(1e-2).init(params)
    mu, nu = ({"w": jnp.full(2, share * value)} for share in (0.1, 0.2))
    return Trained(params, {"range": jnp.full(1, value)}, (adam[0]._replace(count=jnp.int32(count), mu=mu, nu=nu), *adam[1:]))


def look(guard, value, count, train=0.5, val=0.5, constant=False, blind=1.0):
    return guard.look(trained(value, count), (jnp.float32(train), jnp.float32(val)), jnp.array(constant), jnp.float32(blind))


def test_a_fallen_network_goes_back_to_its_best_state_at_rest():
    _, guard, _ = look(Guard.of(trained(0.0)), 1.0, 10, val=0.4)
    _, guard, _ = look(guard, 2.0, 20, val=0.6)
    now, guard, fell = look(guard, 3.0, 30, train=0.95, val=0.95)
    assert fell and guard.ease == 0.5 and guard.loss == np.float32(0.4)
    assert np.all(now.params["w"] == 1.0) and np.all(now.observed["range"] == 1.0)
    adam = now.optimizer[0]
    assert adam.count == 30 and np.all(adam.mu["w"] == 0.0) and np.all(adam.nu["w"] == np.float32(0.2))


GOOD, BAD = 0.5, 3.0


@pytest.mark.parametrize(
    ("why", "collapsed"),
    [
        ({"train": GOOD, "val": BAD}, False),
        ({"train": BAD, "val": GOOD}, False),
        ({"train": BAD, "val": BAD}, True),
        ({"constant": True}, True),
    ],
)
def test_one_bad_look_is_no_collapse(why, collapsed):
    _, guard, _ = look(Guard.of(trained(0.0)), 1.0, 10)
    now, guard, fell = look(guard, 2.0, 20, **why)
    assert bool(fell) == collapsed and now.params["w"][0] == (1.0 if collapsed else 2.0) and guard.ease == (0.5 if collapsed else 1.0)


def test_a_network_that_has_learned_nothing_yet_is_left_alone():
    now, guard, fell = look(Guard.of(trained(0.0)), 1.0, 10, train=SOUND + 0.05, val=SOUND + 0.05)
    assert not fell and not guard.once and now.params["w"][0] == 1.0


def test_constant_and_blind_networks():
    outputs, y = jnp.array([[1.0, 0.0], [3.0, 2.0]]), jnp.array([0, 1])
    assert not is_constant(outputs) and is_constant((outputs[:, :0], outputs * 0.0)) and not is_constant(outputs[:1])
    assert float(blind_loss(Resolution(), jnp.array([[1.0], [3.0]]), jnp.array([1.0, 3.0]))) == 1.0  # both get 2
    assert float(blind_loss(Accuracy(), outputs, y)) == pytest.approx((np.log1p(np.exp(-1.0)) + np.log1p(np.exp(1.0))) / 2)
