"""Searches: bits of tensors, and which tensors have them."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import layers, quantizers, ranges


def test_bits_are_counted_with_the_sign_where_there_is_one():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(300, 2)) * 3, jnp.float32)
    for quantizer, data, k in (
        (quantizers.Searched(), x, 1),
        (quantizers.Searched(), abs(x), 0),
        (quantizers.Searched(signed=True), abs(x), 1),
        (quantizers.Searched(overflow="WRAP"), x, 1),
    ):
        for bits in (2, 5, 8):
            params = quantizer.with_bits(quantizer.init((1, 1), sample=data), bits)
            seen = ranges.observe(data, (1, 1))
            fmt = quantizer.format(params, seen)
            assert (int(fmt.k[0, 0]), int(sum(fmt)[0, 0])) == (k, bits)
            levels = np.unique(quantizer.quantize(data, params, ranges=seen))
            assert len(levels) <= 2**bits and levels.max() >= float(jnp.max(data)) / 4
        decayed = ranges.Range(jnp.full((1, 1), -1e-9), seen.high)  # ranges of early steps never come to 0
        assert int(quantizer.format(params, decayed).k[0, 0]) == int(quantizer.signed)
    with pytest.raises(NotImplementedError, match="Kif has no bits to be searched"):
        quantizers.Kif().with_bits({}, 3)


def test_sites_go_through_the_layers_and_take_bits():
    rngs, signed = nnx.Rngs(0), quantizers.Searched(signed=True)
    of = {"kernel_quantizer": signed, "input_quantizer": quantizers.Searched(choices=(8, 4)), "rngs": rngs}
    model = layers.Sequential(layers.Conv1D((10, 3), 4, 3, strides=2, **of), layers.flatten, layers.Dense(16, 2, **of))
    found = layers.sites(model)
    assert [(site.layer, site.role) for site in found] == [("layer_0", r) for r in ("weight", "activation")] + [
        ("layer_2", r) for r in ("weight", "activation")
    ]
    assert found[1].choices == (4, 8)
    assert [site.about for site in found[::2]] == [(0, 3, 4, 2, 3, 36, 10, 0), (0, 16, 2, 0, 1, 32, 1, 1)]
    layers.assign(model, jnp.array([3, 8, 6, 4]))
    formats = [layer.format() for part in (model.layer[0], model.layer[2]) for layer in (part.kernel_quantizer, part.input_quantizer)]
    assert [int(jnp.max(sum(fmt))) for fmt in formats] == [3, 8, 6, 4]
