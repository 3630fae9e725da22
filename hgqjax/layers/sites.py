"""Whole-model functions for searches: which tensors have bits to be searched, and giving them."""

import math
from collections.abc import Iterable
from typing import Any

from jaxtyping import Array, Int

from hgqjax.layers._base import Layer, Module
from hgqjax.layers.depthwise import DepthwiseConv1D, DepthwiseConv2D
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.quantize import QuantizeWeight, _Quantizer
from hgqjax.quantizers import Site


def sites(model: Module) -> tuple[Site, ...]:
    """The tensors of `model` whose quantizers have `choices`, layer by layer, of a layer first its weights, then its input."""
    return tuple(site for site, _ in _found(model))


def assign(model: Module, bits: Int[Array, " sites"] | Iterable[int]) -> None:
    """Gives the tensors of `sites`, in their order, these bits.

    >>> from flax import nnx
    >>> from hgqjax import layers, quantizers
    >>> model = layers.Dense(3, 2, rngs=nnx.Rngs(0), kernel_quantizer=quantizers.Searched(signed=True))
    >>> assign(model, [5])
    >>> k, i, f = model.kernel_quantizer.format()
    >>> float((k + i + f)[0, 0])
    5.0
    """
    for (_, layer), of_site in zip(_found(model), bits, strict=True):
        layer.set_params(layer.quantizer.with_bits(layer.params, of_site))


def _found(model: Module) -> list[tuple[Site, Any]]:
    """Each site with its quantizer in the model."""
    layers = dict(model.named(Layer))
    owners = sorted(model.operations_cost(), key=len, reverse=True)
    numbers: dict[str, int] = {}
    found = []
    for name, quantizer in model.named(_Quantizer):
        if not quantizer.quantizer.choices:
            continue
        owner = next((layer for layer in owners if layer == "model" or name.startswith(f"{layer}_")), name)
        number = numbers.setdefault(owner, len(numbers))
        weight = isinstance(quantizer, QuantizeWeight)
        about = (*_about(layers[owner], quantizer), float(number))
        choices = tuple(sorted(quantizer.quantizer.choices))
        site = Site(name, owner, "weight" if weight else "activation", choices, about)
        found.append(((number, not weight), site, quantizer))
    return [(site, quantizer) for _, site, quantizer in sorted(found, key=lambda item: item[0])]


def _about(layer: Layer, quantizer: Any) -> tuple[float, ...]:
    """As `Site.about`, without the number."""
    if not isinstance(layer, AbstractLinear):
        channels = quantizer.shape[-1]
        return tuple(map(float, (0, channels, channels, 0, 1, 0, math.prod(quantizer.shape[:-1]))))
    shape, kernel = layer.input_quantizer.shape, layer.kernel[...].shape
    size, strides = getattr(layer, "size", (1,)), getattr(layer, "strides", (0,))
    depthwise = isinstance(layer, DepthwiseConv1D | DepthwiseConv2D)
    return tuple(map(float, (depthwise, shape[-1], kernel[-1], strides[0], size[0], math.prod(kernel), math.prod(shape[:-1]))))
