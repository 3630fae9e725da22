"""A frozen network as a start of further training."""

import numpy as np

from hgqjax import layers
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, DescriptionError, Linear, Quantize
from hgqjax.quantizers import Format


def start_of(description: ModelDescription) -> layers.FrozenStart:
    """What `training.make_train(begun=...)` takes: constants and formats of `description`, by the names of its layers.

    Raises: DescriptionError where it has no layer with weights.
    """
    linear = [op for op in description.operations if isinstance(op, Linear)]
    if not linear:
        raise DescriptionError(f"network {description.name!r} has no layer with weights to start from")
    return layers.FrozenStart(
        description.name,
        {op.name: _constants(op.kernel) for op in linear},
        {op.name: _constants(op.bias) for op in linear if op.bias is not None},
        {op.name: Format(op.k, op.i, op.f) for op in description.operations if isinstance(op, Quantize)},
    )


def _constants(constant: Constant) -> layers.Constants:
    """Values, and formats of as many bits as each value has in its own one."""
    f = constant.f.astype(np.float32)
    return layers.Constants(constant.values.astype(np.float32), Format(np.zeros_like(f), constant.bits - f, f))
