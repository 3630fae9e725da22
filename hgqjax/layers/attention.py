"""Attention as a composition of layers: projections, products of results, softmax."""

import math

from flax import nnx

from hgqjax.layers._base import Module, Value
from hgqjax.layers.dense import EinsumDense
from hgqjax.layers.einsum import Einsum
from hgqjax.layers.mask import Masked, check_mask
from hgqjax.layers.quantize import ACTIVATION, WEIGHT
from hgqjax.layers.softmax import Softmax
from hgqjax.quantizers import AbstractQuantizer


class MultiHeadAttention(Module):
    r"""Tokens attend to tokens: :math:`\mathrm{softmax}(q k^T / \sqrt{d})\, v` for each head, then a projection.

    Args:
      tokens, features: shape of a row of the query, and of the result.
      heads, key_features: number of heads, and features of a query and a key in each. value_features: of a value; by default as many.
      others, other_features: shape of a row of what is attended to, by default as the query's.
      projected_tokens: where given, keys and values are first projected along the tokens to so many (Linformer).
      masked: whether it is called with a mask of what is attended to, too, (rows, others): 1 where a token is there, 0 where it pads. What
        pads is given no weight; a Linformer takes it as 0.
      use_bias: of queries, values and the result; a key has none, as it would change no weight of a softmax.
      input_quantizer, kernel_quantizer: of all parts with weights, and of queries, keys and values.

    Called with the query alone it attends to the query. The parts, each with its cost: `query`, `key`, `value`, `output` (`EinsumDense`),
    `scores`, `values` (`Einsum`), `softmax` (`Softmax`), and of a Linformer `project_key`, `project_value`, with a mask `kept` (`Masked`).

    Source: Vaswani et al., arXiv:1706.03762; Wang et al. (Linformer), arXiv:2006.04768.

    >>> import jax.numpy as jnp
    >>> layer = MultiHeadAttention(4, 3, heads=2, key_features=2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 4, 3))).shape
    (5, 4, 3)
    """

    def __init__(
        self,
        tokens: int,
        features: int,
        *,
        heads: int,
        key_features: int,
        rngs: nnx.Rngs,
        value_features: int | None = None,
        others: int | None = None,
        other_features: int | None = None,
        projected_tokens: int | None = None,
        masked: bool = False,
        use_bias: bool = True,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
    ):
        sizes = {"tokens": tokens, "features": features, "heads": heads, "key_features": key_features}
        sizes |= {
            "value_features": value_features or key_features,
            "others": others or tokens,
            "other_features": other_features or features,
        }
        odd = [name for name, n in sizes.items() if n < 1]
        if odd or (projected_tokens is not None and projected_tokens < 1):
            name = odd[0] if odd else "projected_tokens"
            raise ValueError(f"{name} is {sizes.get(name, projected_tokens)}; at least 1 is needed")
        value, seen, width = sizes["value_features"], sizes["others"], sizes["other_features"]
        settings = {"rngs": rngs, "input_quantizer": input_quantizer, "kernel_quantizer": kernel_quantizer}
        left = projected_tokens or seen
        if projected_tokens is not None:
            self.project_key = EinsumDense("tc,ts->sc", (seen, width), (left, width), use_bias=False, **settings)
            self.project_value = EinsumDense("tc,ts->sc", (seen, width), (left, width), use_bias=False, **settings)
        self.projects, self.is_masked = projected_tokens is not None, masked
        if masked and self.projects:
            self.kept = Masked((seen, width), input_quantizer=input_quantizer)
        self.query = EinsumDense(
            "tc,cnk->tnk", (tokens, features), (tokens, heads, key_features), bias_axes="nk", use_bias=use_bias, **settings
        )
        self.key = EinsumDense("tc,cnk->tnk", (left, width), (left, heads, key_features), use_bias=False, **settings)
        self.value = EinsumDense("tc,cnk->tnk", (left, width), (left, heads, value), bias_axes="nk", use_bias=use_bias, **settings)
        self.scores = Einsum("tnk,snk->nts", (tokens, heads, key_features), (left, heads, key_features), input_quantizer=input_quantizer)
        scale, hides = 1 / math.sqrt(key_features), masked and not self.projects
        self.softmax = Softmax((heads, tokens, left), scale=scale, input_quantizer=input_quantizer, masked=hides)
        self.values = Einsum("nts,snv->tnv", (heads, tokens, left), (left, heads, value), input_quantizer=input_quantizer)
        self.output = EinsumDense("tnv,nvc->tc", (tokens, heads, value), (tokens, features), use_bias=use_bias, **settings)

    def __call__(self, query: Value, other: Value | None = None, mask: Value | None = None) -> Value:
        check_mask("MultiHeadAttention", self.is_masked, mask)
        other = query if other is None else other
        if self.projects and mask is not None:
            other, mask = self.kept(other, mask), None
        key, value = (self.project_key(other), self.project_value(other)) if self.projects else (other, other)
        scores = self.scores(self.query(query), self.key(key))
        return self.output(self.values(self.softmax(scores, mask), self.value(value)))
