"""What HGQ2 itself computes with released networks: `bash scripts/released` runs this file in an environment that has HGQ2.

For each `.keras` or `.h5` file an `.npz` of the same path under OUT: inputs `x0`, `x1`, ..., results `t/<layer>` of every layer, and the
count of EBOPs that HGQ2 makes of the widths in the file (`ebops_layers`, `ebops`, parts of a layer added to it) beside the stored one.
"""

import argparse
import pathlib
import sys
import time

import keras
import numpy as np
from hgq.layers.core import base


def inputs(model, rows, rng):
    """Rows on a grid of 2**-12 that reach beyond most ranges; hits of a chamber (three inputs) are 0 and 1, two of a hundred 1."""
    shapes = [(rows, *t.shape[1:]) for t in model.inputs]
    if len(shapes) > 1:
        return [(rng.random(shape) < 0.02).astype(np.float32) for shape in shapes]
    scale = rng.choice([0.5, 1.0, 4.0], (rows, *[1] * (len(shapes[0]) - 1)))
    return [(np.rint(rng.normal(size=shapes[0]) * scale * 2**12) / 2**12).astype(np.float32)]


def counted(layer):
    """The parts of a layer, itself first, that HGQ2 counts."""
    kinds = [part for part in [layer, *layer._flatten_layers()] if isinstance(part, base.QLayerBase) and part.enable_ebops]
    return list({id(part): part for part in kinds if type(part)._compute_ebops is not base.QLayerBase._compute_ebops}.values())


def watch(part, shapes):
    """Notes the shapes that a part is called with, for one position of the batch axis."""
    call = part.call

    def watched(*args, **kwargs):
        tensors = args[0] if isinstance(args[0], list | tuple) else args
        shapes[id(part)] = [(1, *tensor.shape[1:]) for tensor in tensors]
        return call(*args, **kwargs)

    part.call = watched


def record(path, rows):
    """Everything that is compared, of one file."""
    keras.backend.clear_session()
    model = keras.models.load_model(path, compile=False)
    xs = inputs(model, rows, np.random.default_rng(20))
    taps = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    shapes, parts = {}, {layer.name: counted(layer) for layer in taps}
    for part in (part for many in parts.values() for part in many):
        watch(part, shapes)
    outputs = keras.Model(model.inputs, [layer.output for layer in taps])(xs, training=False)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    values = {f"x{n}": x for n, x in enumerate(xs)}
    values |= {f"t/{layer.name}": value for layer, value in zip(taps, outputs, strict=True)}
    names = [name for name, many in parts.items() if many]
    values["ebops_layers"] = np.array(names)
    values["ebops"] = np.array([sum(float(p._compute_ebops(*shapes[id(p)])) for p in parts[name]) for name in names])
    values["ebops_stored"] = np.array([sum(int(p._ebops.value) for p in parts[name]) for name in names])
    return {key: np.asarray(value) for key, value in values.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--suffixes", nargs="+", default=[".keras"])
    arguments = parser.parse_args()
    failed = 0
    for path in sorted(path for path in arguments.folder.rglob("*") if path.suffix in arguments.suffixes):
        out = (arguments.out / path.relative_to(arguments.folder)).with_suffix(".npz")
        if out.exists():
            continue
        start = time.perf_counter()
        try:
            found = record(path, arguments.rows)
        except Exception as error:  # one network that HGQ2 cannot load is a row of the table
            failed += 1
            print(f"{path}: HGQ2 fails: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
            continue
        out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(out, **found)
        print(f"{path.relative_to(arguments.folder)}: {time.perf_counter() - start:.0f} s", flush=True)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
