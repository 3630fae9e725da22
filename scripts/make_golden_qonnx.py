"""Writes small QONNX networks of Brevitas, and what qonnx's executor gives for rows: NAME.onnx and NAME.npz (x, y) under --out.

Runs in an environment with brevitas, qonnx and torch, see scripts/make_golden. Each network has what its name says:
po2 (power-of-two scales, quantized biases), floats (float scales of weights by channel, batch norm), bipolar (weights and activations
-1 and 1), convolutions (two of them, batch norm, pools).
"""

import argparse
import warnings
from pathlib import Path

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.core.restrict_val import RestrictValueType
from brevitas.core.scaling import ScalingImplType
from brevitas.export import export_qonnx
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8Bias,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    Uint8ActPerTensorFixedPoint,
    Uint8ActPerTensorFloat,
)
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model
from torch import nn


def po2():
    weights = {"weight_quant": Int8WeightPerTensorFixedPoint, "weight_bit_width": 5, "bias": True, "bias_quant": Int8Bias}
    act = {"act_quant": Uint8ActPerTensorFixedPoint, "bit_width": 4, "return_quant_tensor": True}
    first = qnn.QuantIdentity(act_quant=Int8ActPerTensorFixedPoint, bit_width=7, return_quant_tensor=True)
    return (6,), nn.Sequential(first, qnn.QuantLinear(6, 8, **weights), qnn.QuantReLU(**act), qnn.QuantLinear(8, 3, **weights))


def floats():
    weights = {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": 3, "bias": False}
    act = {"act_quant": Uint8ActPerTensorFloat, "bit_width": 3}
    last = {"weight_bit_width": 3, "bias": False}
    parts = [qnn.QuantIdentity(bit_width=6), qnn.QuantLinear(6, 8, **weights), nn.BatchNorm1d(8), qnn.QuantReLU(**act)]
    parts += [qnn.QuantLinear(8, 8, **weights), nn.BatchNorm1d(8), qnn.QuantReLU(**act), qnn.QuantLinear(8, 3, **last)]
    return (6,), nn.Sequential(*parts)


def bipolar():
    weights = {"weight_quant": SignedBinaryWeightPerTensorConst, "weight_scaling_init": 1.0, "bias": False}
    act = {"act_quant": SignedBinaryActPerTensorConst, "scaling_impl_type": ScalingImplType.CONST}
    act |= {"restrict_scaling_type": RestrictValueType.FP, "min_val": -1.0, "max_val": 1.0}
    parts = [qnn.QuantIdentity(**act)]
    for n, m in ((9, 8), (8, 8)):
        parts += [qnn.QuantLinear(n, m, **weights), nn.BatchNorm1d(m), qnn.QuantIdentity(**act)]
    return (9,), nn.Sequential(*parts, qnn.QuantLinear(8, 3, **weights))


def convolutions():
    weights = {"weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": 3, "bias": False}
    act = {"act_quant": Uint8ActPerTensorFloat, "bit_width": 2}
    parts = [qnn.QuantIdentity(bit_width=4), qnn.QuantConv2d(2, 4, 3, padding=1, **weights), nn.BatchNorm2d(4), qnn.QuantReLU(**act)]
    parts += [nn.MaxPool2d(2), qnn.QuantConv2d(4, 4, 2, groups=2, **weights), nn.BatchNorm2d(4), nn.AvgPool2d(2), qnn.QuantReLU(**act)]
    return (2, 7, 7), nn.Sequential(*parts, nn.Flatten(), qnn.QuantLinear(4, 3, weight_bit_width=3, bias=False))


NETWORKS = [po2, floats, bipolar, convolutions]


def write(make, out: Path, rows: int = 100) -> None:
    torch.manual_seed(3)
    shape, network = make()
    for _ in range(20):  # scales of activations and statistics of batch norms
        network(torch.randn(64, *shape))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 0.6, 0.8)  # some below 0, so that thresholds turn round
            nn.init.normal_(module.bias, 0.3, 0.5)
    network.eval()
    path = out / f"{make.__name__}.onnx"
    export_qonnx(network, torch.randn(1, *shape), str(path), dynamo=False)
    model = cleanup_model(ModelWrapper(str(path)))
    x = np.random.default_rng(0).normal(0, 1.5, (rows, *shape)).astype(np.float32)
    name, output = model.graph.input[0].name, model.graph.output[0].name
    y = np.concatenate([execute_onnx(model, {name: row[None]})[output] for row in x])
    np.savez_compressed(path.with_suffix(".npz"), x=x, y=y)
    print(path, path.stat().st_size, y.shape)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    folder.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    for network in NETWORKS:
        write(network, folder)
