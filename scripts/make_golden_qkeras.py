"""Writes small networks of QKeras, and what it computes for rows: a file or two of each network, and
NAME.npz (x0, t/layer for each layer) under --out.

Runs in an environment with qkeras and TensorFlow 2.15, see scripts/make_golden. Each network has what its name says: dense (weights with
power-of-two scales, given and by alpha "auto_po2", as one .h5 file), scales (alpha "auto", batch norms, biases without a quantizer, as
.json with weights beside it), windows (convolutions of all kinds, pools, a sum, as .keras), few (binary and ternary weights and
activations, a leaky relu, hard tanh and sigmoid). floats is a network of Keras, without a quantizer.
quantizers.npz has what single quantizers make of weights and of values.
"""

import argparse
import os
import zipfile
from pathlib import Path

os.environ |= {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
import numpy as np
import qkeras as q
import tensorflow as tf

k = tf.keras.layers
WEIGHTS = ["quantized_bits(4,0,alpha=1)", "quantized_bits(4,1,1,alpha=0.7)", "quantized_bits(5,0,1,alpha='auto')"]
WEIGHTS += ["quantized_bits(4,1,1,alpha='auto_po2')", "quantized_bits(1,0,alpha=1)", "quantized_bits(3,1,0,False,alpha=1)"]
WEIGHTS += ["quantized_relu(4,1)", "quantized_po2(4)", "quantized_po2(4,1)", "quantized_relu_po2(6,2048)", "quantized_relu_po2(3,4)"]
WEIGHTS += ["quantized_relu_po2(6,quadratic_approximation=True)", "binary(alpha=1)", "binary(alpha='auto')", "ternary(alpha='auto')"]
WEIGHTS += ["binary(True,alpha='auto_po2')", "ternary(alpha='auto_po2')", "ternary(alpha=0.5,threshold=0.2)"]
WEIGHTS += ["stochastic_ternary(alpha='auto')", "stochastic_binary(alpha='auto_po2')"]
ACTIVATIONS = [
    "quantized_bits(4,1)",
    "quantized_bits(4,1,1)",
    "quantized_bits(3,0,0,False)",
    "quantized_bits(1)",
    "quantized_bits(6,1,alpha=2)",
]
ACTIVATIONS += ["quantized_relu(4,2)", "quantized_relu(4,1,0,0.25)", "quantized_relu(5,1,use_sigmoid=1)", "quantized_relu(1)", "relu"]
ACTIVATIONS += ["quantized_tanh(4)", "quantized_tanh(4,symmetric=True)", "quantized_tanh(5,use_real_tanh=True)", "quantized_sigmoid(4)"]
ACTIVATIONS += [
    "quantized_sigmoid(3,symmetric=True)",
    "quantized_sigmoid(5,use_real_sigmoid=True)",
    "binary",
    "binary(1)",
    "binary_tanh",
    "binary_sigmoid",
]
ACTIVATIONS += ["binary(alpha=0.25)", "ternary", "ternary(threshold=0.5)", "stochastic_binary", "quantized_relu(9,3)"]
BITS = {"bias_quantizer": q.quantized_bits(6, 1, alpha=1)}


def dense():
    first, last = (q.quantized_bits(bits, 0, alpha=1) for bits in (6, 5))
    parts = [k.InputLayer((8,)), q.QActivation("quantized_bits(8,3)"), q.QDense(7, kernel_quantizer=first, **BITS)]
    parts += [q.QActivation("quantized_relu(6,2)"), q.QDense(6, kernel_quantizer="quantized_bits(4,0)", **BITS)]
    parts += [q.QActivation(q.quantized_bits(6, 2, symmetric=1)), q.QDense(4, kernel_quantizer=last, activation="softmax", **BITS)]
    return tf.keras.Sequential(parts), ".h5"


def scales():
    auto = {"kernel_quantizer": q.quantized_bits(4, 0, symmetric=1, alpha="auto")}
    parts = [q.QDense(9, input_shape=(6,), **auto), k.BatchNormalization(), q.QActivation("quantized_relu(4,2)")]
    parts += [q.QDense(8, **auto), q.QBatchNormalization(), q.QActivation("quantized_bits(5,2,alpha=0.7)")]
    parts += [q.QDense(8, activation="quantized_relu(5,1)", **auto), q.QDense(3, kernel_quantizer=q.quantized_bits(5, 0, alpha=1), **BITS)]
    return tf.keras.Sequential(parts), ".json"


def windows():
    kernel = {"kernel_quantizer": q.quantized_bits(5, 0, alpha=1)}
    x = k.Input((9, 9, 2))
    y = q.QActivation("quantized_bits(6,2)")(x)
    y = q.QConv2D(4, 3, padding="same", activation="quantized_relu(5,2)", **kernel, **BITS)(y)
    y = k.MaxPooling2D(2)(y)
    deep = q.QDepthwiseConv2D(3, padding="same", depthwise_quantizer=q.quantized_bits(4, 0, alpha=1), bias_quantizer=None)(y)
    deep = q.QActivation("quantized_bits(6,3)")(deep)
    y = k.Add()([y, deep])
    y = q.QActivation("quantized_relu(6,3)")(y)
    y = q.QConv2DBatchnorm(3, 1, activation="quantized_relu(6,3)", **kernel, **BITS)(y)
    y = q.QSeparableConv2D(
        5, 2, depthwise_quantizer=q.quantized_bits(4, 0, alpha=1), pointwise_quantizer=q.quantized_bits(4, 0, alpha=1), use_bias=False
    )(y)
    y = q.QActivation("quantized_bits(7,3)")(y)
    mean = q.QActivation("quantized_bits(7,3)")(q.QGlobalAveragePooling2D(average_quantizer=q.quantized_bits(6, 0, alpha=1))(y))
    y = k.Reshape((3, 15))(y)
    y = q.QActivation("quantized_bits(7,3)")(q.QConv1D(4, 2, padding="causal", **kernel, **BITS)(y))
    y = k.Concatenate()([k.Flatten()(y), mean])
    return tf.keras.Model(x, q.QDense(3, **kernel, **BITS)(y)), ".keras"


def few():
    parts = [k.InputLayer((10,)), q.QActivation("quantized_bits(6,2)"), q.QDense(9, kernel_quantizer="binary()", **BITS)]
    parts += [q.QActivation("binary"), q.QDense(8, kernel_quantizer="ternary()", **BITS), q.QActivation("ternary(threshold=0.7)")]
    parts += [q.QDense(8, kernel_quantizer=q.quantized_po2(4, 1), **BITS), q.QActivation(q.quantized_relu(6, 2, negative_slope=0.25))]
    parts += [q.QDense(8, kernel_quantizer="stochastic_ternary('auto')", **BITS), q.QActivation("quantized_tanh(5)")]
    parts += [q.QDense(6, kernel_quantizer=q.quantized_bits(5, 0, alpha=0.3), **BITS), q.QActivation("quantized_sigmoid(5)")]
    parts += [q.QDense(5, kernel_quantizer=q.quantized_bits(5, 0, alpha=1), **BITS), q.QActivation(q.quantized_relu(4, 1, use_sigmoid=1))]
    return tf.keras.Sequential([*parts, q.QDense(3, kernel_quantizer=q.binary(use_01=True, alpha=0.5), **BITS)]), ".keras"


def floats():
    parts = [k.InputLayer((6, 6, 2)), k.Conv2D(4, 3, name="conv"), k.BatchNormalization(name="norm"), k.ReLU(), k.Flatten()]
    return tf.keras.Sequential([*parts, k.Dense(3, name="out")]), ".keras"


def given_weights(layer, rng) -> None:
    """Biases and statistics that are not zeros and ones."""
    found = []
    for variable, array in zip(layer.weights, layer.get_weights(), strict=True):
        if "variance" in variable.name:
            array = rng.uniform(0.3, 2, array.shape)
        elif "gamma" in variable.name:  # some below 0, so that thresholds turn round, where QKeras takes them
            array = rng.normal(0, 1, array.shape) if type(layer) is k.BatchNormalization else rng.uniform(0.3, 1.3, array.shape)
        elif array.ndim == 1:
            array = rng.normal(0, 0.6, array.shape)
        found.append(array)
    layer.set_weights(found)


def compress(path: Path) -> None:
    """The same archive, smaller."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def quantizers(out: Path) -> None:
    """By text of the quantizer: "w/..." of weights of several shapes, "a/..." of values on a grid."""
    rng = np.random.default_rng(2)
    arrays = {f"w{n}": rng.normal(0, 1, shape).astype(np.float32) for n, shape in enumerate([(9,), (6, 5), (3, 2, 2, 4)])}
    for array in arrays.values():
        array.flat[0], array.flat[3] = 0, 1e-9
    found = {f"w/{n}/{text}": np.asarray(q.get_quantizer(text)(arrays[f"w{n}"])) for text in WEIGHTS for n in range(3)}
    arrays["a"] = np.arange(-5, 5, 1 / 32, np.float32)
    found |= {f"a/{text}": np.asarray(q.get_quantizer(text)(arrays["a"])) for text in ACTIVATIONS}
    # "/" is the folder of a member, and quotes are none of a name
    np.savez_compressed(out / "quantizers.npz", **arrays, names=np.array(list(found)), **{f"r{n}": v for n, v in enumerate(found.values())})


def write(make, out: Path, rows: int = 40) -> None:
    tf.keras.utils.set_random_seed(5)
    model, suffix = make()
    rng = np.random.default_rng(1)
    for layer in model.layers:
        given_weights(layer, rng)
    path = out / make.__name__
    if suffix == ".json":
        path.with_suffix(suffix).write_text(model.to_json())
        model.save_weights(f"{path}_weights.h5")
    else:
        model.save(path.with_suffix(suffix))
    if suffix == ".keras":
        compress(path.with_suffix(suffix))
    rows = rows if len(model.input_shape) == 2 else rows // 5
    x = (np.round(rng.normal(0, 2, (rows, *model.input_shape[1:])) * 64) / 64).astype(np.float32)
    if getattr(getattr(model.layers[-1], "activation", None), "__name__", "") == "softmax":  # whose words are those before it
        model.layers[-1].activation = None
    results = tf.keras.Model(model.input, [layer.output for layer in model.layers])(x, training=False)
    values = {f"t/{layer.name}": np.asarray(y) for layer, y in zip(model.layers, results, strict=True)}
    np.savez_compressed(path.with_suffix(".npz"), x0=x, **values)
    print(path, path.with_suffix(suffix).stat().st_size, {name: len(np.unique(y)) for name, y in values.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    folder.mkdir(exist_ok=True)
    for network in (dense, scales, windows, few, floats):
        write(network, folder)
    quantizers(folder)
