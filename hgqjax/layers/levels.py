"""One layer with weights for inputs of several levels, each with a batch norm of its own behind it."""

import jax
from flax import nnx

from hgqjax.granularity import Granularity
from hgqjax.layers._base import Layer, Module, Value
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.norm import Scale
from hgqjax.layers.quantize import ACTIVATION, WEIGHT
from hgqjax.quantizers import AbstractQuantizer


class SharedLevels(Module):
    r"""One kernel for the inputs of several levels, such as those of a pyramid of features, with a batch norm of its own for each level.

    .. math:: z = q(x)\, q(W), \quad s_l = \gamma_l / \sqrt{\sigma_l^2 + \epsilon}, \quad
        y = activation(q(z)\, q(s_l) + q(\beta_l - \mu_l s_l))

    W and its widths are the same at all levels. Mean and variance are those of q(z) at level l alone. The norm is not folded into W, which
    the levels share, but is an affine operation behind it, quantized as weights are. Hardware has the product and the affine operation
    once for each call.

    Args:
      layer: with the kernel: without bias, activation, batch norm or gate of neurons. All levels have rows of its input's shape.
      levels: how many there are, at least 1.
      activation: None or "relu". batch_norm: momentum and epsilon; see `BatchNorm`.
      input_quantizer, input_granularity: of z, for each level; kernel_quantizer: of scale and bias; see `AbstractLinear`.

    Call: ``shared(x, level)``, level 0 .. levels - 1, for each of them; a model whose hardware lacks one is refused by `export.describe`.
    The parts, each with its cost: `layer`, and `norms`, a list. Gradients: those of a batch norm, and of the product.
    Raises: ValueError where `layer` has one of the parts named above, or `levels` or a level is out of range.
    Source: AQD (Chen et al.), arXiv:2007.06919. Ours: rows of one shape (there: of any size); powers of two as steps.

    >>> import jax.numpy as jnp
    >>> from hgqjax.layers import Dense
    >>> shared = SharedLevels(Dense(3, 4, use_bias=False, rngs=nnx.Rngs(0)), 2, activation="relu")
    >>> near, far = jnp.ones((8, 3)), jax.random.normal(jax.random.key(0), (8, 3))
    >>> shared(near, 0).shape, shared(far, 1).shape
    ((8, 4), (8, 4))
    >>> shared.layer.kernel[...].shape, len(shared.norms)
    ((3, 4), 2)
    """

    def __init__(
        self,
        layer: Layer,
        levels: int,
        *,
        activation: str | None = None,
        batch_norm: BatchNorm = BatchNorm(),
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        input_granularity: Granularity = "element",
    ):
        if not isinstance(layer, AbstractLinear):
            raise ValueError(f"SharedLevels: layer is {type(layer).__name__}; a layer with a kernel is needed, such as Dense or Conv2D")
        parts = {"use_bias": layer.bias, "activation": layer.activation, "batch_norm": layer.norm, "neurons": layer.neurons}
        given = [name for name, part in parts.items() if part is not None]
        if given:
            raise ValueError(f"SharedLevels: layer has {' and '.join(given)}; each level brings its own, leave out those of the layer")
        if levels < 1:
            raise ValueError(f"SharedLevels: levels is {levels}; at least 1 is needed")
        row = jax.ShapeDtypeStruct((1, *layer.input_quantizer.shape), layer.kernel[...].dtype)
        shape = jax.eval_shape(layer.product, row, layer.kernel[...]).shape[1:]
        self.layer = layer
        self.norms = nnx.List(
            Scale(
                shape,
                1.0,
                use_bias=True,
                trained=False,
                activation=activation,
                batch_norm=batch_norm,
                input_quantizer=input_quantizer,
                input_granularity=input_granularity,
                kernel_quantizer=kernel_quantizer,
                bias_quantizer=kernel_quantizer,
            )
            for _ in range(levels)
        )

    def __call__(self, x: Value, level: int) -> Value:
        if not 0 <= level < len(self.norms):
            raise ValueError(f"SharedLevels: level is {level}; 0 .. {len(self.norms) - 1} are legal")
        return self.norms[level](self.layer(x))
