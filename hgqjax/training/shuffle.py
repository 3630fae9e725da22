"""A random order of rows without sorting."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

ROUNDS = 8


def permutation(key: Array, n: int) -> Int[Array, " n"]:
    """The numbers 0..n-1 in a random order: as `jax.random.permutation`, without its sort, which takes XLA 14 (127 000 numbers)
    to 41 times (600 000) as long on a CPU (`bash scripts/bench --parts step`).

    A keyed bijection of all pairs (left, right) with left < a, right < b, a b >= n just so: `ROUNDS` Feistel rounds, each of which adds a
    hash of one half to the other; numbers that leave 0..n-1 are sent on until they come back (cycle walking). Not uniform over all n!
    orders, as there are only 2**256 keys' worth of them, but for n of tens and more each number's place
    is as good as uniform.

    Source: Mitchell et al., Bandwidth-Optimal Random Shuffling for GPUs, arXiv:2106.06161; Black and Rogaway, Ciphers with Arbitrary
    Finite Domains, 2002. The hash is the finaliser of MurmurHash3.

    >>> sorted(permutation(jax.random.key(0), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    a = math.isqrt(max(n - 1, 0)) + 1
    b = -(-n // a)
    keys = jax.random.bits(key, (ROUNDS,), jnp.uint32)

    def bijection(number):
        left, right = number // jnp.uint32(b), number % jnp.uint32(b)
        for turn in range(ROUNDS):
            if turn % 2:
                right = (right + _hash(left, keys[turn])) % jnp.uint32(b)
            else:
                left = (left + _hash(right, keys[turn])) % jnp.uint32(a)
        return left * jnp.uint32(b) + right

    def outside(numbers):
        return jnp.any(numbers >= n)

    def again(numbers):
        return jnp.where(numbers >= n, bijection(numbers), numbers)

    return lax.while_loop(outside, again, bijection(jnp.arange(n, dtype=jnp.uint32))).astype(jnp.int32)


def _hash(number, key):
    """Sixteen well-mixed bits at least, few enough that adding them does not overflow."""
    number = (number + key) * jnp.uint32(0x9E3779B1)
    number = (number ^ (number >> 16)) * jnp.uint32(0x85EBCA6B)
    number = (number ^ (number >> 13)) * jnp.uint32(0xC2B2AE35)
    return (number ^ (number >> 16)) >> 1
