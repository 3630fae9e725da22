"""The order of rows: a permutation, another for each key, without favourite places, and always the same for the same key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hgqjax.training import shuffle


@settings(max_examples=12)
@given(n=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1))
def test_every_number_comes_once(n, seed):
    order = shuffle.permutation(jax.random.key(seed), n)
    assert order.dtype == jnp.int32
    assert np.array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize("n", [127_267, 2**16, 2**16 + 1])
def test_large_ones_too(n):
    order = np.asarray(jax.jit(shuffle.permutation, static_argnums=1)(jax.random.key(3), n))
    assert np.array_equal(np.sort(order), np.arange(n))
    assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 5 / np.sqrt(n)


@pytest.mark.parametrize("n", [16, 61])
def test_each_place_is_as_good_as_any(n):
    draws = 20_000
    orders = np.asarray(jax.jit(jax.vmap(lambda seed: shuffle.permutation(jax.random.key(seed), n)))(jnp.arange(draws)))
    counts = np.stack([np.bincount(orders[:, place], minlength=n) for place in range(n)])
    chi2, freedom = np.sum((counts - draws / n) ** 2 / (draws / n)), (n - 1) ** 2
    assert abs(chi2 - freedom) < 6 * np.sqrt(2 * freedom)
    together = np.bincount((orders[:, 0] * n + orders[:, 1]), minlength=n * n).reshape(n, n)  # two neighbours, all pairs but equal ones
    expected = draws / (n * (n - 1))
    chi2 = np.sum((together[~np.eye(n, dtype=bool)] - expected) ** 2 / expected)
    assert abs(chi2 - n * (n - 1)) < 6 * np.sqrt(2 * n * (n - 1))


def test_the_order_of_a_key_never_changes():
    assert shuffle.permutation(jax.random.key(0), 12).tolist() == [2, 1, 6, 8, 7, 5, 11, 3, 4, 0, 9, 10]
    assert shuffle.permutation(jax.random.key(1), 12).tolist() != [2, 1, 6, 8, 7, 5, 11, 3, 4, 0, 9, 10]
