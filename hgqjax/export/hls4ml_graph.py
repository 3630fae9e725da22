"""A model description as an hls4ml graph with every type given, so that nothing is left for hls4ml to infer.

hls4ml 1.3 infers the widths of a network with quantizers in a pass, `bit_exact`, that shrinks quantizers and is wrong in a number of cases
(saturation behind a coarser producer, truncation of tiny negative numbers, quantizers without live elements, two quantizers in a row, ...;
tests/export/test_hls4ml.py pins them). The description knows the exact interval of every value, so every result, accumulator, weight and
bias type is written into hls4ml's own per-layer configuration and the pass is switched off.
"""

import contextlib
import dataclasses
import io
import re
from typing import Any

import numpy as np

from hgqjax.export.gate import EXTRA_BITS
from hgqjax.export.model import ModelDescription
from hgqjax.export.operations import Constant, Dense, Grid, Input, Operation, Quantize, Relu


@dataclasses.dataclass(frozen=True)
class Fixed:
    """One C++ type: `k`, `i`, `f` as everywhere in hgqjax; no bits stands for the constant 0."""

    k: int
    i: int
    f: int
    rounding: str = "TRN"
    overflow: str = "WRAP"

    def __str__(self) -> str:
        width = max(self.k + self.i + self.f, 0)
        if not width:
            return "ap_ufixed<1,1,AP_TRN,AP_WRAP,0>"
        return f"ap_{'' if self.k else 'u'}fixed<{width},{self.k + self.i},AP_{self.rounding},AP_{self.overflow},0>"


def enclosing(grid: Grid) -> Fixed:
    """Fewest bits that hold every value of `grid` exactly, in one type."""
    f, low, high = (v.ravel() for v in grid)
    live = [n for n in range(len(low)) if low[n] or high[n]]
    if not live:
        return Fixed(0, 0, 0)
    finest = max(int(f[n]) for n in live)
    least = min(int(low[n]) << (finest - int(f[n])) for n in live)
    greatest = max(int(high[n]) << (finest - int(f[n])) for n in live)
    bits = max((-least - 1).bit_length() if least < 0 else 0, greatest.bit_length())
    return Fixed(int(least < 0), bits - finest, finest)


def _constant_type(constant: Constant | None) -> Fixed:
    if constant is None:
        return Fixed(0, 0, 0)
    integers = constant.integers.astype(object)
    return enclosing(Grid(constant.f, integers, integers))


def _quantizer_type(op: Quantize) -> Fixed:
    """The type that holds every element of a quantizer: its own casts round and clip, this one changes nothing."""
    live = op.bits > 0
    if not live.any():
        return Fixed(0, 0, 0)
    return Fixed(*(int(v[live].max()) for v in (op.k, op.i, op.f)))


def _port_type(readers: list[Quantize]) -> Fixed:
    """Input port: fine and wide enough that the quantizers behind it see no difference from the float that was fed in."""
    kinds = [_quantizer_type(op) for op in readers]
    k, i, f = (max(getattr(kind, name) for kind in kinds) for name in ("k", "i", "f"))
    f += any(op.rounding == "RND" for op in readers)
    if any(op.rounding == "RND_CONV" for op in readers):
        f = max(24, f + EXTRA_BITS + 1)
    return Fixed(k, i, f, "TRN", "WRAP" if readers[0].overflow == "WRAP" else "SAT")


def rewrite(description: ModelDescription) -> ModelDescription:
    """The same words on all finite inputs, in a form that leaves nothing to get wrong.

    Kernel rows of constant-0 inputs are 0, constants have no trailing zero bits, quantizers are no wider than what can reach them, and an
    output that is also read inside gets a copy (an output port is never read).
    """
    operations, outputs = [], list(description.outputs)
    grids: dict[str, Grid] = {}
    for op in description.operations:
        sources = tuple(grids[name] for name in op.inputs)
        if isinstance(op, Quantize):
            op = _narrowed(op, sources[0])
        if isinstance(op, Dense):
            dead = ~(sources[0].low.astype(bool) | sources[0].high.astype(bool)).reshape(-1, sources[0].low.shape[-1]).any(0)
            op = dataclasses.replace(op, kernel=_trimmed(op.kernel, dead[:, None]), bias=op.bias and _trimmed(op.bias, False))
        grids[op.name] = op.grid(*sources)
        operations.append(op)
    read = {name for op in operations for name in op.inputs}
    for n, name in enumerate(outputs):
        if name in read or name in outputs[:n]:
            outputs[n] = f"{name}_output{n}"
            operations.append(_copy(outputs[n], name, grids[name]))
    return ModelDescription(name=description.name, operations=tuple(operations), outputs=tuple(outputs))


def _trimmed(constant: Constant, dead: np.ndarray | bool) -> Constant:
    """The same values (0 where `dead`) with `f` as small as they allow: trailing zero bits cost width in a shared C++ type."""
    integers = np.where(dead, 0, constant.integers)
    lowest = np.where(integers == 0, 1, integers & -integers)  # lowest set bit, a power of two
    zeros = np.frexp(lowest.astype(np.float64))[1] - 1
    return dataclasses.replace(constant, integers=integers >> zeros, f=np.where(integers == 0, 0, constant.f - zeros))


def _narrowed(op: Quantize, source: Grid) -> Quantize:
    """Where rounding what comes in can never leave the range: as few bits as hold it. All dead elements: k = i = f = 0."""
    declared_low, declared_high = op.limits()
    reach = dataclasses.replace(op, i=np.full(op.shape, 2000), k=np.ones(op.shape, np.int64)).grid(source)
    k, i, f = (np.array(v, np.int64) for v in (op.k, op.i, op.f))
    for n in np.ndindex(op.shape):
        low, high = int(reach.low[n]), int(reach.high[n])
        if op.bits[n] <= 0:
            k[n] = i[n] = f[n] = 0
        elif declared_low[n] <= low and high <= declared_high[n]:
            zeros = max(int(f[n] - source.f[n]), 0)  # bits finer than anything that comes in
            low, high, f[n] = low >> zeros, high >> zeros, f[n] - zeros
            bits = max((-low if op.overflow == "SAT_SYM" else -low - 1).bit_length() if low < 0 else 0, high.bit_length())
            k[n], i[n] = int(low < 0), bits - f[n]
    return dataclasses.replace(op, k=k, i=i, f=f)


def _copy(name: str, source: str, grid: Grid) -> Quantize:
    kinds = [enclosing(Grid(*(np.asarray(v[n]).reshape(1) for v in grid))) for n in np.ndindex(grid.f.shape)]
    k, i, f = (np.array([getattr(kind, v) for kind in kinds], np.int64).reshape(grid.f.shape) for v in "kif")
    return Quantize(name=name, inputs=(source,), shape=grid.f.shape, k=k, i=i, f=f, rounding="TRN", overflow="WRAP")


def _layer_names(description: ModelDescription) -> dict[str, str]:
    """Names for C++: unique without regard to case, and, where they become identifiers (inputs, quantizers), unlike any of hls4ml's."""
    names: dict[str, str] = {}
    for op in description.operations:
        suffix = {"input": "_input", "quantize": "_quantizer"}.get(op.kind, "_" + op.kind)
        base = re.sub(r"[^A-Za-z0-9]+", "_", op.name).strip("_") or "x"
        base = f"x{base}" if base[0].isdigit() else base
        base = base if base.endswith(suffix) else base + suffix
        taken = {name.lower() for name in names.values()}
        names[op.name] = next(c for c in (base, *(f"{base}_{n}" for n in range(2, 10**6))) if c.lower() not in taken)
    return names


def _layer(op: Operation, names: dict[str, str], description: ModelDescription) -> tuple[dict[str, Any], dict[str, str]]:
    """hls4ml's dict for one operation, and its precisions."""
    grid = description.grids[op.name]
    layer = {"name": names[op.name], "inputs": [names[name] for name in op.inputs]}
    if isinstance(op, Input):
        readers = [reader for reader in description.operations if op.name in reader.inputs]
        del layer["inputs"]
        return layer | {"class_name": "InputLayer", "input_shape": list(op.shape)}, {"result": str(_port_type(readers))}
    if isinstance(op, Quantize):
        mask = tuple(v[None].astype(np.int16) for v in (op.k, op.bits, np.where(op.bits > 0, op.k + op.i, 0)))
        more = {"class_name": "FixedPointQuantizer", "mask_kbi": mask, "RND": op.rounding, "SAT": op.overflow}
        return layer | more | {"fusible": None, "overrides": {}}, {"result": str(_quantizer_type(op))}
    if isinstance(op, Relu):
        more = {"class_name": "Activation", "activation": "relu", "n_in": int(np.prod(op.shape))}
        return layer | more, {"result": str(enclosing(grid))}
    kernel, bias = op.kernel.values, None if op.bias is None else op.bias.values
    more = {"class_name": "Dense", "n_in": kernel.shape[0], "n_out": kernel.shape[1], "weight_data": kernel, "bias_data": bias}
    result, bias_type = str(enclosing(grid)), str(_constant_type(op.bias))
    precision = {"result": result, "accum": result, "weight": str(_constant_type(op.kernel)), "bias": bias_type}
    return layer | more | {"data_format": "channels_last"}, precision


def model_graph(description: ModelDescription, strategy: str, reuse_factor: int, config: dict[str, Any]):
    """hls4ml's ModelGraph, with every type given."""
    with quiet():
        from hls4ml.model.graph import ModelGraph
        from hls4ml.utils.config import create_config

        names = _layer_names(description)
        layers, precisions = [], []
        for op in description.operations:
            layer, precision = _layer(op, names, description)
            if strategy == "distributed_arithmetic" and isinstance(op, Quantize) and isinstance(description[op.inputs[0]], Quantize):
                # hls4ml 1.3 fuses a quantizer into the adder graph behind it, then the one before that too, and the C++ declares twice
                barrier = {"name": f"{layer['name']}_barrier", "class_name": "Reshape", "target_shape": list(op.shape)}
                layers.append(barrier | {"inputs": layer["inputs"]})
                precisions.append({"result": str(_quantizer_type(description[op.inputs[0]]))})
                layer["inputs"] = [barrier["name"]]
            layers.append(layer)
            precisions.append(precision)
        settings = create_config(**config)
        model = {"Precision": "ap_fixed<16,6>", "ReuseFactor": reuse_factor, "Strategy": strategy, "BitExact": False}
        by_name = {layer["name"]: {"Precision": precision} for layer, precision in zip(layers, precisions, strict=True)}
        settings["HLSConfig"] = {"Model": model, "LayerName": by_name}
        (source,) = description.inputs
        outputs = [names[name] for name in description.outputs]
        return ModelGraph.from_layer_list(settings, layers, inputs=[names[source.name]], outputs=outputs)


@contextlib.contextmanager
def quiet():
    """hls4ml and da4ml print progress; warnings stay visible."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
