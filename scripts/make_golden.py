"""Reference values of HGQ2 for tests/golden: `bash scripts/make_golden` runs this file in an environment that has HGQ2.

The same versions give the same bytes. tests/golden/README.md says what each array means.
"""

import argparse
import itertools
import json
import pathlib
import re
import zipfile

import jax
import keras
import numpy as np
from hgq import layers as q
from hgq.config import QuantizerConfig
from hgq.quantizer.internal import FixedPointQuantizerKBI, FixedPointQuantizerKIF
from hgq.utils import trace_minmax
from hgq.utils.minmax_trace import TrainingFlagWrapper
from quantizers import binary_quantize, float_quantize, get_fixed_quantizer, ternary_quantize

DATE = "2026-01-01@00:00:00"
F = np.float32


def near_edges(rng, i, f, shape):
    """float32 numbers of which most lie on, or one ulp beside, a grid point, a tie, a limit or the first tie of their format."""
    step, n = np.ldexp(F(1), -f.astype(int)), np.ldexp(F(1), np.maximum(i + f, 0).astype(int))
    words = np.floor(rng.uniform(-2.5, 2.5, shape) * n)
    limits = np.choose(rng.integers(0, 6, shape), [-n - 0.5, -n, -n + 0.5, n - 1, n - 0.5, n])
    first = rng.choice([-0.5, 0.5], shape)
    x = np.choose(rng.integers(0, 4, shape), [words, words + 0.5, limits, first]).astype(F) * step
    nudge = rng.integers(-1, 2, shape)
    x = np.where(nudge == 0, x, np.nextafter(x, np.where(nudge > 0, F(np.inf), F(-np.inf))))
    x = np.where(rng.random(shape) < 0.15, rng.normal(size=shape).astype(F) * n * step, x)
    return np.where(abs(x) < 1e-30, F(0), x).astype(F)


def save(out, name, **arrays):
    np.savez_compressed(out / f"{name}.npz", **arrays)


def fixed(out, n=900):
    """quantizers.get_fixed_quantizer: value and gradients, formats by element."""
    rng = np.random.default_rng(1)
    k, i, bits = rng.integers(0, 2, n).astype(F), rng.integers(-6, 9, n).astype(F), rng.integers(-3, 13, n).astype(F)
    f = bits - i
    x, g = near_edges(rng, i, f, n), rng.normal(size=n).astype(F)
    modes, values = [], []
    for rounding, (overflow, training) in itertools.product(
        ("RND", "TRN", "RND_CONV"), (("WRAP", True), ("WRAP", False), ("SAT", False), ("SAT_SYM", False))
    ):
        quantizer = get_fixed_quantizer(rounding, overflow)
        value, pull = jax.vjp(lambda x, i, f, q=quantizer, t=training: q(x, k, i, f, t), x, i, f)
        modes.append((rounding, overflow, "training" if training else "inference"))
        values.append([value, *pull(jax.numpy.asarray(g))])
    value, dx, di, df = (np.array(v, F) for v in zip(*values, strict=True))
    small = {"k": k.astype(np.int8), "i": i.astype(np.int8), "f": f.astype(np.int8)}
    save(out, "fixed", modes=np.array(modes), x=x, **small, g=g, value=value, dx=dx, di=di, df=df)


def call_training(layer, x, g):
    """(value, gradient of x, gradients by variable name, variables after the call by name) of one training call."""
    trained, rest = [v.value for v in layer.trainable_variables], [v.value for v in layer.non_trainable_variables]

    def run(trained, x):
        value, rest_after = layer.stateless_call(trained, rest, x, training=True)
        return value, rest_after

    value, pull, rest_after = jax.vjp(run, trained, x, has_aux=True)
    d_trained, dx = pull(jax.numpy.asarray(g))
    gradients = {v.name: d for v, d in zip(layer.trainable_variables, d_trained, strict=True)}
    return value, dx, gradients, {v.name: a for v, a in zip(layer.non_trainable_variables, rest_after, strict=True)}


def trained(out, rows=8, columns=40):
    """FixedPointQuantizerKIF and KBI: trained widths, integer bits that follow the data."""
    rng = np.random.default_rng(2)
    cases, results = [], []
    for q_type, overflow, k0 in itertools.product(("kif", "kbi"), ("WRAP", "SAT", "SAT_SYM"), (1, 0)):
        common = dict(k0=k0, i0=1, round_mode="RND", overflow_mode=overflow, homogeneous_axis=(0,), i_decay_speed=0.01)
        layer = FixedPointQuantizerKIF(f0=2, **common) if q_type == "kif" else FixedPointQuantizerKBI(b0=2, **common)
        layer.build((None, columns))
        i = rng.integers(-3, 5, (1, columns)) + rng.uniform(-0.45, 0.45, (1, columns))
        bits = rng.integers(0 if q_type == "kbi" else -2, 9, (1, columns))
        width = (bits if q_type == "kbi" else bits - np.round(i)) + rng.uniform(-0.45, 0.45, (1, columns))
        width = np.maximum(width, 0) if q_type == "kbi" else width
        i, width = i.astype(F), width.astype(F)
        f = np.round(width) - (np.round(i) if q_type == "kbi" else 0)
        x = near_edges(rng, np.round(i), f, (rows, columns))
        x, g = x if k0 else abs(x), rng.normal(size=x.shape).astype(F)
        name = {"kif": "f", "kbi": "b"}[q_type]
        getattr(layer, f"_{name}").assign(width)
        layer._i.assign(i)
        value, dx, gradients, after = call_training(layer, x, g)
        zero = np.zeros_like(i)
        row = dict(i=i, width=width, x=x, g=g, training=value, dx=dx, dwidth=gradients[name], di=gradients.get("i", zero))
        row |= dict(i_training=after.get("i", i), inference=layer(x, training=False), bits=layer.bits)
        row |= dict(k_traced=zero + k0, i_traced=np.round(i), traced=row["inference"])
        if overflow == "WRAP":
            layer._i.assign(zero - 1e9)
            layer._k.assign(zero)
            layer(x, training=TrainingFlagWrapper("tracing"))
            row |= dict(k_traced=layer._k.value, i_traced=layer._i.value, traced=layer(x, training=False))
        cases.append((q_type, overflow, str(k0)))
        results.append({name: np.asarray(v, F) for name, v in row.items()})
    save(out, "trained", cases=np.array(cases), **{name: np.array([r[name] for r in results]) for name in results[0]})


def minifloat(out, each=8):
    """quantizers.float_quantize, binary_quantize and ternary_quantize: value and gradients."""
    rng = np.random.default_rng(3)
    formats = np.array(list(itertools.product(range(7), range(6), range(-4, 5))), F)
    m, e, e0 = (np.repeat(v, each) for v in formats.T)
    high = np.maximum(2.0 ** (e - 1), 1) + e0 - 1  # greatest exponent
    low = np.minimum(-np.maximum(2.0 ** (e - 1), 1) + e0 + 1, high)  # exponent of subnormal numbers
    exponent = np.floor(rng.uniform(np.maximum(low, high - 9) - m - 1, high + 1.999)).astype(F)
    significand = 1 + np.floor(rng.random(len(m)) * 2 ** (m + 2)) / 2 ** (m + 2)  # quarter steps of the format
    x = (np.ldexp(significand, exponent.astype(int)) * rng.choice([-1, 1], len(m))).astype(F)
    nudge = rng.integers(-1, 2, len(m))
    x = np.where(nudge == 0, x, np.nextafter(x, np.where(nudge > 0, F(np.inf), F(-np.inf)))).astype(F)
    g = rng.normal(size=len(m)).astype(F)
    value, pull = jax.vjp(float_quantize, x, m, e, e0)
    dx, dm, de, de0 = (np.asarray(v) for v in pull(jax.numpy.asarray(g)))
    small = {"m": m.astype(np.int8), "e": e.astype(np.int8), "e0": e0.astype(np.int8)}
    edges = np.array([-2, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 2], F)
    t = np.concatenate([edges, np.nextafter(edges, F(9)), np.nextafter(edges, F(-9)), rng.normal(size=37).astype(F)])
    t = np.where(abs(t) < 1e-30, F(0), t)
    two = {}
    for name, function in (("binary", binary_quantize), ("ternary", ternary_quantize)):
        two[name], pull = jax.vjp(function, t)
        two[f"{name}_dx"] = pull(jax.numpy.ones_like(t))[0]
    save(out, "minifloat", x=x, **small, g=g, value=value, dx=dx, dm=dm, de=de, de0=de0, t=t, **two)


def randomise(quantizer, rng, zeros=0.2):
    """Random trained numbers, some of which mean 0 bits, for one `hgq` Quantizer."""
    inner = quantizer.quantizer
    shape = inner._k.shape
    zeros = zeros if np.prod(shape) > 4 else 0
    noise = rng.uniform(-0.45, 0.45, (2, *shape))
    i = rng.integers(-2, 4, shape)
    bits = np.where(rng.random(shape) < zeros, rng.integers(-2, 1, shape), rng.integers(1, 7, shape))
    if isinstance(inner, FixedPointQuantizerKBI):
        inner._b.assign(np.maximum(bits + noise[0], 0))
        inner._i.assign(i + noise[1])
    else:
        inner._f.assign(bits - i + noise[0])
        inner._i.assign(i + noise[1])
    if inner.overflow_mode == "WRAP":
        inner._k.assign(rng.integers(0, 2, shape))


def quantizers_of(layer):
    """The `hgq` Quantizers inside a layer, by path."""
    return {s.path: s for s in layer._flatten_layers() if isinstance(s, q.Quantizer)}


def datalane(overflow="WRAP", per_tensor=False, **kwargs):
    axes = dict(heterogeneous_axis=(), homogeneous_axis=None) if per_tensor else {}
    return QuantizerConfig("kif", "datalane", overflow_mode=overflow, **axes, **kwargs)


def weight(overflow="SAT_SYM", per_tensor=False):
    return QuantizerConfig(
        "kbi", "weight", overflow_mode=overflow, **(dict(heterogeneous_axis=(), homogeneous_axis=None) if per_tensor else {})
    )


def ebops_cases():
    """(class, arguments, input shapes without batch, overflow of the inputs, one width for the whole input)."""
    yield from [("QDense", {"units": 4}, [(6,)], o, s) for o in ("WRAP", "SAT", "SAT_SYM") for s in (False, True)]
    yield "QDense", {"units": 3, "use_bias": False}, [(5,)], "WRAP", False
    for factor in (-1, 1):
        yield "QDense", {"units": 3, "parallelization_factor": factor}, [(4, 5)], "WRAP", False
    yield "QBatchNormDense", {"units": 4}, [(6,)], "WRAP", False
    for equation, shape, inputs, bias in [
        ("bc,cC->bC", 4, (6,), "C"),
        ("bnc,cC->bnC", (4, 3), (4, 5), "C"),
        ("bnc,cC->bnC", (4, 3), (4, 5), "nC"),
        ("bnc,ncC->bnC", (4, 3), (4, 5), "nC"),
        ("bnc,nm->bmc", (3, 5), (4, 5), None),
        ("...c,cC->...C", 3, (4, 5), "C"),
        ("bnc,cCd->bnCd", (4, 3, 2), (4, 5), "d"),
    ]:
        yield "QEinsumDense", {"equation": equation, "output_shape": shape, "bias_axes": bias}, [inputs], "WRAP", False
    yield (
        "QEinsumDense",
        {"equation": "bnc,cC->bnC", "output_shape": (4, 3), "bias_axes": "C", "parallelization_factor": 1},
        [(4, 5)],
        "SAT",
        False,
    )
    yield "QEinsumDenseBatchnorm", {"equation": "bnc,cC->bnC", "output_shape": (4, 3), "bias_axes": "C"}, [(4, 5)], "WRAP", False
    for padding, strides, factor in itertools.product(("valid", "same"), (1, 2), (-1, 1)):
        arguments = {"filters": 3, "kernel_size": 3, "padding": padding, "strides": strides, "parallelization_factor": factor}
        yield "QConv1D", arguments, [(8, 2)], "WRAP", False
        yield "QConv2D", arguments | {"kernel_size": (3, 2)}, [(5, 4, 2)], "WRAP", factor == 1
    yield "QConv1D", {"filters": 2, "kernel_size": 3, "dilation_rate": 2, "use_bias": False}, [(8, 2)], "SAT", False
    yield "QConv1D", {"filters": 4, "kernel_size": 2, "groups": 2}, [(5, 4)], "WRAP", False
    for name, count in [
        ("QAdd", 2),
        ("QAdd", 3),
        ("QAveragePow2", 2),
        ("QSubtract", 2),
        ("QMultiply", 2),
        ("QMaximum", 3),
        ("QMinimum", 2),
    ]:
        yield name, {}, [(4, 3)] * count, "WRAP", False
        yield name, {}, [(4, 3)] * count, "SAT", True
    yield "QDot", {"axes": -1}, [(6,), (6,)], "WRAP", False
    yield "QEinsum", {"equation": "bnc,bmc->bnm"}, [(4, 3), (2, 3)], "WRAP", False
    yield "QSum", {"axes": 1}, [(4, 3)], "WRAP", False
    yield "QSum", {"axes": [1, 2]}, [(4, 3)], "SAT", False
    yield "QMeanPow2", {"axes": -1}, [(4, 4)], "WRAP", False
    yield "QBatchNormalization", {}, [(4, 3)], "WRAP", False
    for name in ("QMaxPooling1D", "QAveragePooling1D"):
        yield name, {"pool_size": 2}, [(6, 3)], "WRAP", False
    yield "QMaxPooling2D", {"pool_size": 2, "parallelization_factor": 1}, [(4, 4, 2)], "WRAP", False


def ebops(out):
    """EBOPs of single layers whose widths are random and partly 0: one json object a line."""
    rng, lines = np.random.default_rng(4), []
    for name, arguments, shapes, overflow, per_tensor in ebops_cases():
        keras.backend.clear_session()
        confs = {"iq_confs" if len(shapes) > 1 else "iq_conf": datalane(overflow, per_tensor)}
        layer = getattr(q, name)(**arguments, **confs, name="layer")
        layer.build([(None, *s) for s in shapes] if len(shapes) > 1 else (None, *shapes[0]))
        if len(shapes) > 1:
            quantizers = {f"input{n}": (inner, (1, *s)) for n, (inner, s) in enumerate(zip(layer.iq, shapes, strict=True))}
        else:
            quantizers = {"input0": (layer.iq, (1, *shapes[0]))}
        kernel = getattr(layer, "kernel", getattr(layer, "moving_variance", None))
        if kernel is not None:
            quantizers["kernel"] = (layer.kq, tuple(kernel.shape))
            if layer.bq is not None:
                quantizers["bias"] = (
                    layer.bq,
                    tuple(getattr(layer, "bias", layer.moving_mean if name == "QBatchNormalization" else None).shape),
                )
        entry = {"layer": name, "arguments": arguments, "inputs": shapes, "operands": {}}
        for key, (quantizer, shape) in quantizers.items():
            randomise(quantizer, rng)
            k, i, f = (np.broadcast_to(np.asarray(v), quantizer.quantizer._k.shape).astype(int).tolist() for v in quantizer.quantizer.kif)
            bits = np.asarray(quantizer.bits).astype(int).tolist()
            entry["operands"][key] = {"overflow": quantizer.quantizer.overflow_mode, "shape": shape, "k": k, "i": i, "f": f, "bits": bits}
        entry["ebops"] = float(layer._compute_ebops(*[(1, *s) for s in shapes]))
        lines.append(json.dumps(entry, separators=(",", ":")))
    (out / "ebops.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


def save_model(model, path):
    """A .keras file whose bytes depend on nothing but the model: fixed dates, shared objects numbered in order, compressed."""
    model.save(path)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    metadata = json.loads(parts["metadata.json"]) | {"date_saved": DATE}
    config, seen = parts["config.json"].decode(), {}
    config = re.sub(r'("shared_object_id": )(\d+)', lambda m: m[1] + str(seen.setdefault(m[2], len(seen) + 1)), config)
    parts |= {"metadata.json": json.dumps(metadata).encode(), "config.json": config.encode()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)


def record(out, name, model, xs, **more):
    """The file of a network and what HGQ2 computes from the file."""
    path = out / f"{name}.keras"
    save_model(model, path)
    keras.backend.clear_session()
    model = keras.models.load_model(path, compile=False)
    values = {f"x{n}": x for n, x in enumerate(xs)}
    taps = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    outputs = keras.Model(model.inputs, [layer.output for layer in taps])(xs, training=False)
    values |= {f"t/{layer.name}": value for layer, value in zip(taps, outputs, strict=True)}
    for layer in taps:
        for path_, quantizer in quantizers_of(layer).items():
            inner = quantizer.quantizer
            shape = inner._k.shape
            values[f"q/{path_}"] = np.stack([np.broadcast_to(np.asarray(v, F), shape) for v in (*inner.kif, inner.bits)])
        if hasattr(layer, "qkernel"):
            values[f"qkernel/{layer.name}"] = layer.qkernel
            if layer.qbias is not None:
                values[f"qbias/{layer.name}"] = layer.qbias
        if hasattr(layer, "qscaler_and_qoffset"):
            values[f"qkernel/{layer.name}"], values[f"qbias/{layer.name}"] = layer.qscaler_and_qoffset
    counted = [layer for layer in taps if getattr(layer, "enable_ebops", False)]
    shapes = [[(1, *t.shape[1:]) for t in (x.input if isinstance(x.input, list | tuple) else [x.input])] for x in counted]
    values["ebops_layers"] = np.array([layer.name for layer in counted])
    values["ebops"] = np.array([float(layer._compute_ebops(*s)) for layer, s in zip(counted, shapes, strict=True)])
    values["ebops_stored"] = np.array([int(layer._ebops.value) for layer in counted])
    save(out, name, **{key: np.asarray(v) for key, v in values.items()}, **more)


def dense_model():
    x = keras.Input((10,), name="x")
    y = q.QDense(8, activation="relu", iq_conf=datalane("WRAP"), kq_conf=weight("WRAP"), name="dense")(x)
    y = q.QBatchNormDense(8, activation="relu", iq_conf=datalane("SAT", per_tensor=True), name="batchnorm_dense")(y)
    y = q.QEinsumDense("bc,cC->bC", 6, bias_axes="C", activation="relu", iq_conf=datalane("SAT_SYM"), kq_conf=weight("SAT"), name="einsum")(
        y
    )
    y = q.QEinsumDenseBatchnorm("bc,cC->bC", 6, bias_axes="C", activation="relu", kq_conf=weight(per_tensor=True), name="einsum_batchnorm")(
        y
    )
    return keras.Model(x, q.QDense(4, iq_conf=datalane("WRAP", round_mode="TRN"), name="out")(y), name="dense")


def conv2d_model():
    x = keras.Input((6, 6, 2), name="x")
    y = q.QConv2D(3, 3, padding="same", activation="relu", name="conv_same")(x)
    y = q.QBatchNormalization(iq_conf=datalane("SAT"), name="batchnorm")(y)
    y = q.QMaxPooling2D(2, name="max_pool")(y)
    y = q.QConv2D(4, 2, iq_conf=datalane("SAT_SYM", per_tensor=True), activation="relu", name="conv_valid")(y)
    y = keras.layers.MaxPooling2D(2, strides=1, name="plain_max_pool")(y)
    y = keras.layers.Flatten(name="flatten")(y)
    return keras.Model(x, q.QDense(3, name="out")(y), name="conv2d")


def conv1d_model():
    x = keras.Input((8, 3), name="x")
    y = q.QConv1D(4, 3, padding="same", activation="relu", name="conv_same")(x)
    y = q.QAveragePooling1D(2, name="average_pool")(y)
    y = q.QConv1D(4, 2, padding="same", dilation_rate=2, use_bias=False, iq_conf=datalane("SAT"), name="conv_dilated")(y)
    y = q.QConv1D(4, 2, strides=2, parallelization_factor=1, name="conv_strided")(y)
    y = q.QEinsumDense("bnc,cC->bnC", (2, 3), bias_axes="C", activation="relu", name="einsum")(y)
    y = q.QSum(axes=1, name="sum")(y)
    return keras.Model(x, q.QDense(2, enable_oq=True, oq_conf=datalane("SAT"), name="out")(y), name="conv1d")


def merges_model():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    added = q.QAdd(name="add")([a, b])
    less = q.QSubtract(iq_confs=datalane("SAT"), name="subtract")([a, b])
    product = q.QMultiply(iq_confs=datalane("SAT_SYM"), name="multiply")([added, b])
    most = q.QMaximum(iq_confs=datalane("WRAP", per_tensor=True), name="maximum")([added, less, product])
    y = keras.layers.Concatenate(name="concatenate")([most, keras.layers.ReLU(name="relu")(less)])
    y = keras.layers.Reshape((3, 4), name="reshape")(y)
    y = q.Quantizer(datalane("WRAP", round_mode="RND_CONV"), name="quantizer")(y)
    y = q.QEinsumDense("bnc,ncC->bC", 5, bias_axes="C", activation="relu", name="einsum")(y)
    return keras.Model([a, b], q.QDense(2, name="out")(y), name="merges")


def networks(out):
    """Networks with random weights, widths and batch statistics, traced on half of the input range."""
    rng = np.random.default_rng(5)
    for make in (dense_model, conv2d_model, conv1d_model, merges_model):
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model = make()
        for layer in model.layers:
            for quantizer in quantizers_of(layer).values():
                randomise(quantizer, rng, zeros=0.1)
            for v in layer.weights:
                if v.name in ("kernel", "bias", "moving_mean", "bn_beta"):
                    v.assign(rng.normal(size=v.shape) * (0.7 if v.name == "kernel" else 0.4))
                elif v.name in ("gamma", "bn_gamma", "moving_variance"):
                    v.assign(rng.uniform(0.5, 2, v.shape))
        xs = [(rng.integers(-64, 64, (24, *t.shape[1:])) / 16).astype(F) for t in model.inputs]
        half = [x / 2 for x in xs]
        trace_minmax(model, half if len(half) > 1 else half[0], batch_size=24)
        record(out, model.name, model, xs)


def checkpoint(out):
    """A network trained for a few steps and saved as it is, with the optimizer, by an older HGQ2; its ranges are not traced."""
    keras.utils.set_random_seed(1)
    np.random.seed(1)
    rng = np.random.default_rng(6)
    x, y = (rng.integers(-64, 64, (96, 8)) / 16).astype(F), rng.integers(0, 3, 96)
    inputs = keras.Input((8,), name="x")
    h = q.QEinsumDenseBatchnorm("bc,cC->bC", 6, bias_axes="C", activation="relu", name="first")(inputs)
    h = q.QDense(5, activation="relu", iq_conf=datalane("SAT"), name="second")(h)
    model = keras.Model(inputs, q.QDense(3, name="out")(h), name="checkpoint")
    model.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=True)
    for layer in model.layers[1:]:
        layer._beta.assign(1e-4)
    model.fit(x, y, epochs=24, batch_size=32, shuffle=False, verbose=0)
    record(out, "checkpoint", model, [x[:24]])


def main():
    parts = {f.__name__: f for f in (fixed, trained, minifloat, ebops, networks, checkpoint)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.parts:
        keras.backend.clear_session()
        np.random.seed(0)
        parts[name](arguments.out)


if __name__ == "__main__":
    main()
