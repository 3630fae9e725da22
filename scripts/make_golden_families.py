"""Reference networks of HGQ2's tables, attention and recurrence: `bash scripts/make_golden` runs this file beside make_golden.py."""

import argparse
import pathlib

import keras
import numpy as np
from hgq import layers as q
from hgq.config import QuantizerConfig
from hgq.utils import trace_minmax
from make_golden import F, datalane, quantizers_of, randomise, record


def table(overflow="SAT_SYM", **kwargs):
    axes = dict(heterogeneous_axis=None, homogeneous_axis=(0,))
    return QuantizerConfig("kbi", "table", overflow_mode=overflow, **axes, **kwargs)


def lut_model():
    """Layers of tables on features and on particles, with batch norm and without, two hidden layers, and dense layers around them."""
    x = keras.Input((3, 4), name="x")
    y = q.QDenseT(3, iq_conf=datalane("WRAP"), toq_conf=table("WRAP"), name="each")(x)
    y = q.QSum(axes=1, scale=0.25, name="mean")(y)
    y = q.QDenseT(4, batch_norm=True, iq_conf=datalane("SAT"), toq_conf=table("SAT_SYM"), name="normed")(y)
    y = q.QDenseT(3, n_hl=2, d_hl=3, activation="relu", subnn_activation="relu", iq_conf=datalane(), toq_conf=table("SAT"), name="deep")(y)
    return keras.Model(x, q.QDense(2, name="out")(y), name="lut")


def attention_model():
    """Both attentions, softmax in both forms, an einsum of two results, merges that broadcast."""
    x = keras.Input((4, 3), name="x")
    y = q.QMultiHeadAttention(2, 2, name="attention", fuse="qkv")(x, x)
    y = q.QMultiHeadAttention(1, 2, value_dim=3, use_bias=False, output_shape=3, name="cross", fuse="kv")(y, x)
    y = q.QAdd(name="add")([y, x])
    z = q.QLinformerAttention(2, 2, 2, value_dim=3, name="linformer")(y, x)
    scores = q.QSoftmax(axis=-1, enable_iq=True, name="softmax")(z)
    y = q.QEinsum("bnc,bmc->bnm", name="einsum")([scores, y])
    y = q.QSoftmax(axis=1, stable=False, enable_iq=True, allow_heterogeneous_table=True, exp_oq_conf=table(), name="unstable")(y)
    pooled = q.QSum(axes=1, keepdims=True, scale=0.25, name="pooled")(y)
    y = q.QMultiply(name="scaled")([y, pooled])
    y = keras.layers.Flatten(name="flatten")(y)
    return keras.Model(x, q.QDense(2, name="out")(y), name="attention")


def recurrent_model():
    """Both recurrent layers: all steps, then the last one; relu, a reset before the product, backwards."""
    x = keras.Input((3, 2), name="x")
    y = q.QSimpleRNN(3, activation="relu", return_sequences=True, name="simple")(x)
    y = q.QGRU(2, reset_after=False, return_sequences=True, go_backwards=True, name="before")(y)
    y = q.QSimpleRNN(3, use_bias=False, return_sequences=True, name="plain")(y)
    y = q.QGRU(2, name="after")(y)
    return keras.Model(x, q.QDense(2, name="out")(y), name="recurrent")


def old_lut_model():
    """As HGQ-LUT's networks: features in, tables, tables out."""
    x = keras.Input((4,), name="x")
    y = q.QDenseT(3, batch_norm=True, iq_conf=datalane(), toq_conf=table("SAT_SYM"), name="first")(x)
    return keras.Model(x, q.QDenseT(2, iq_conf=datalane(), toq_conf=table("SAT_SYM"), name="second")(y), name="old_lut")


def old_attention_model():
    """As the attention networks released with alkaid: up to 0.1.6 scores have a quantizer before a stable softmax, too."""
    x = keras.Input((3, 2), name="x")
    y = q.QMultiHeadAttention(1, 2, name="attention")(x, x, x)
    y = q.QLinformerAttention(1, 2, 2, name="linformer")(y, y, y)
    return keras.Model(x, q.QAdd(name="add")([x, y]), name="old_attention")


def old_format_model():
    """As the mixers released with da4ml, which are saved in Keras's older format, one HDF5 file."""
    x = keras.Input((3, 2), name="x")
    y = q.QEinsumDenseBatchnorm("bnc,cC->bnC", (3, 2), bias_axes="C", activation="relu", name="features")(x)
    y = q.QAdd(name="add")([x, q.QEinsumDense("bnc,nN->bNc", (3, 2), bias_axes="N", iq_conf=datalane("SAT"), name="particles")(y)])
    y = q.QBatchNormDense(2, activation="relu", name="norm")(keras.layers.Flatten(name="flatten")(y))
    return keras.Model(x, q.QDense(2, name="out")(y), name="old_format")


MODELS = {"lut": lut_model, "attention": attention_model, "recurrent": recurrent_model}
MODELS |= {"old_lut": old_lut_model, "old_attention": old_attention_model, "old_format": old_format_model}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", choices=MODELS)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    for name in arguments.models:
        rng = np.random.default_rng(7)
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model = MODELS[name]()
        for layer in model.layers:
            for quantizer in quantizers_of(layer).values():
                randomise(quantizer, rng, zeros=0.1)
            for v in layer.weights:
                if v.name in ("kernel", "bias", "recurrent_kernel", "beta_bn", "moving_mean"):
                    v.assign(rng.normal(size=v.shape) * (0.4 if v.name in ("bias", "moving_mean") else 0.7))
                elif v.name in ("gamma", "moving_variance"):
                    v.assign(rng.uniform(0.5, 2, v.shape))
        xs = [(rng.integers(-64, 64, (24, *t.shape[1:])) / 16).astype(F) for t in model.inputs]
        trace_minmax(model, xs[0] / 2, batch_size=24)
        record(arguments.out, name, model, xs)
        if name == "old_format":
            model.save(arguments.out / f"{name}.h5")
            (arguments.out / f"{name}.keras").unlink()


if __name__ == "__main__":
    main()
