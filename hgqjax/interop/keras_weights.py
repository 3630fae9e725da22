"""The weights of networks of Keras as a start for training, with json, numpy and h5py alone."""

import dataclasses
import os

import numpy as np

from hgqjax.interop import keras_file
from hgqjax.interop.keras_file import InteropError, Layer

_LINEAR = ("Dense", "Conv1D", "Conv2D", "Conv3D", "EinsumDense")


def load_keras_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The float weights of a network of Keras, or of QKeras, as `hgqjax.layers.load_weights` takes them: "conv/kernel", "conv/bias", ...

    Kernels have the axes of Keras, which are ours: (inputs, outputs), or (window..., channels, filters). A depthwise kernel becomes
    (window..., 1, channels * multiplier). A separable convolution becomes two layers, NAME/depthwise and NAME/pointwise. The variance of
    a batch norm gets the difference of the two epsilons added: `hgqjax.layers.BatchNorm` has 1e-5.

    Args:
      path: a `.keras` file, a whole model in one `.h5` file, or NAME.json with the weights in NAME_weights.h5 beside it.

    Raises: InteropError, one sentence: the file is damaged; or a layer, named with its class, has weights that none of ours takes. OSError
      where the file cannot be opened, ImportError without h5py.
    """
    model, found = keras_file.read(path), {}
    with keras_file.one_sentence(model.path):
        for layer in model.layers:
            for name, array in _weights(layer).items():
                found[f"{layer.name}/{name}"] = np.asarray(array, np.float32)
        if not found:
            raise InteropError("no layer of it has weights")
    return found


def _weights(layer: Layer) -> dict[str, np.ndarray]:
    if not layer.weights:
        return {}
    if layer.cls in ("QConv2DBatchnorm", "QDepthwiseConv2DBatchnorm"):
        own, norm = (dataclasses.replace(part, cls=part.cls.removesuffix("Batchnorm")) for part in layer.apart())
        found = _weights(dataclasses.replace(norm, cls="BatchNormalization", config=norm.config | {"use_bias": False}))
        return _weights(own) | {f"batchnorm/{name}": array for name, array in found.items()}
    values = [v for v in layer.variables() if v.ndim]
    cls = layer.cls.removeprefix("Q") if layer.module.partition(".")[0] == "qkeras" else layer.cls
    bias = {"bias": values[-1]} if values and layer.config.get("use_bias", layer.config.get("bias_axes") is not None) else {}
    names = ["kernel"]
    if cls in ("SeparableConv1D", "SeparableConv2D"):
        names = ["depthwise/kernel", "pointwise/kernel"]
        bias = {f"pointwise/{name}": array for name, array in bias.items()}
    elif cls == "BatchNormalization":
        names = [name for name, there in (("gamma", layer["scale"]), ("beta", layer["center"])) if there] + [
            "moving_mean",
            "moving_variance",
        ]
    elif cls not in (*_LINEAR, "DepthwiseConv1D", "DepthwiseConv2D"):
        raise layer.refuse("has weights that no layer of hgqjax takes")
    if len(values) != len(names) + len(bias):
        raise layer.refuse(f"has {len(values)} arrays of weights; {', '.join([*names, *bias])} are needed")
    found = dict(zip(names, values, strict=False)) | bias
    for name in ("kernel", "depthwise/kernel"):
        if name in found and (name == "depthwise/kernel" or "Depthwise" in cls):
            *size, channels, multiplier = found[name].shape
            found[name] = found[name].reshape(*size, 1, channels * multiplier)
    if "moving_variance" in found:
        found["moving_variance"] = found["moving_variance"] + (np.float32(layer["epsilon"]) - np.float32(1e-5))
    return found
