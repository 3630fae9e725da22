"""Released networks of HGQ2 against what HGQ2 computes from the same files: `bash scripts/released` runs this file.

A row for each network. Words of all its layers' results that were compared; of each layer those that differ where it reads what HGQ2's
layers before it gave, so that a difference is counted where it arises; of the outputs those that differ in the end. Then EBOPs: HGQ2 counts
three things in another way, and before ours is compared, they are counted as there: the sign of a saturating word that has no other bit and
is always 0 (here nothing); the additions of a softmax's sum (here by 0.65, as of every other sum); its subtraction from the largest, by the
bits of what is subtracted (here by those of the wider of both, as every other difference). What is left is what nothing explains.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

from hgqjax import resources
from hgqjax.description import ModelDescription
from hgqjax.description import operations as o
from hgqjax.interop import InteropError, keras_file, load_hgq2
from hgqjax.resources.operations import ACCUMULATOR


@dataclasses.dataclass(frozen=True)
class Row:
    """One network."""

    name: str
    words: int
    differing: dict[str, int]
    """Words of each layer that differ, where any does, on HGQ2's own results of the layers before it."""
    outputs: int
    """Words of the outputs that differ, on the inputs of the network."""
    ebops: float
    as_hgq2: float
    """Ours with what HGQ2 counts beside it."""
    theirs: float
    """HGQ2's recount of the widths in the file."""
    stored: int
    """The count that the file stores."""
    seconds: float

    @property
    def unexplained(self) -> float:
        """Bit operations of HGQ2's recount that are neither ours nor of a known kind."""
        return self.theirs - self.as_hgq2


def compare(folder: Path, path: Path, reference: Path) -> Row:
    """Reads a network and compares it with the arrays that HGQ2 left."""
    start = time.perf_counter()
    description = load_hgq2(path)
    seconds = time.perf_counter() - start
    with np.load(reference) as file:
        arrays = {key: file[key] for key in file.files}
    words, differing, outputs = differences(description, arrays)
    ours = float(sum(resources.ebops(description).values()))
    as_hgq2 = counted_as_there(description, path)
    counts = [float(arrays[key].sum()) for key in ("ebops", "ebops_stored")]
    name = path.relative_to(folder).with_suffix("").as_posix()
    return Row(name, words, differing, outputs, ours, as_hgq2, counts[0], int(counts[1]), seconds)


def differences(description: ModelDescription, arrays: dict[str, np.ndarray]) -> tuple[int, dict[str, int], int]:
    """Words compared; words of each layer that differ on HGQ2's results of the layers before; words of the outputs that differ."""
    x = tuple(arrays[f"x{n}"] for n in range(len(description.inputs)))
    layers: dict[str, list[str]] = {}
    for layer, op in description.metadata["hgq2"]["results"].items():
        if f"t/{layer}" in arrays:
            layers.setdefault(op, []).append(layer)
    values = {op.name: part.astype(np.float64) for op, part in zip(description.inputs, x, strict=True)}
    words, differing = 0, {}
    for op in (op for op in description.operations if not isinstance(op, o.Input)):
        grid = description.grids[op.name]
        values[op.name] = op.evaluate(tuple(values[n] for n in op.inputs), tuple(description.grids[n] for n in op.inputs), grid)
        for layer in layers.get(op.name, ()):
            theirs = np.ldexp(arrays[f"t/{layer}"].astype(np.float64), grid.f.astype(np.int64))
            words += theirs.size
            if wrong := int(np.sum(theirs != values[op.name])):
                differing[layer] = wrong
                if np.all(theirs == np.rint(theirs)):  # else it is no word of this grid: HGQ2's float32 had no room for it
                    values[op.name] = theirs.astype(np.int64)
    results = description.integers(x)
    last = [(op, layers[op][0]) for op in description.outputs]
    ends = [
        (results[op], np.ldexp(arrays[f"t/{layer}"].astype(np.float64), description.grids[op].f.astype(np.int64))) for op, layer in last
    ]
    return words, differing, sum(int(np.sum(ours != theirs)) for ours, theirs in ends)


def with_empty_signs(description: ModelDescription) -> ModelDescription:
    """The same network with one bit for each saturating word that has none, before everything but tables, whose keys are what they are."""
    keys = {name for op in description.operations if isinstance(op, o.Table | o.Lookup) for name in op.inputs}
    changed = []
    for op in description.operations:
        if isinstance(op, o.Quantize) and op.overflow != "WRAP" and op.name not in keys:
            none = op.bits == 0
            op = dataclasses.replace(op, k=np.where(none, 1, op.k), i=np.where(none, 0, op.i), f=np.where(none, 0, op.f), overflow="SAT")
        changed.append(op)
    return dataclasses.replace(description, operations=tuple(changed))


def counted_as_there(description: ModelDescription, path: Path) -> float:
    """Our EBOPs with the three things that HGQ2 counts in another way counted as there."""
    changed = with_empty_signs(description)
    counts = resources.ebops(changed)
    more = 0.0
    for op in changed.operations:
        if isinstance(op, o.Sum) and op.name.endswith("_softmax_sum"):
            more += float(counts[op.name]) * (1 / ACCUMULATOR - 1)
        elif isinstance(op, o.Subtract) and op.name.endswith("_softmax_distance"):
            more += float(changed[op.inputs[1]].bits.sum()) - float(counts[op.name])
    for layer in keras_file.read(path).layers:
        if layer.cls == "QDenseT" and str(layer["toq_conf"]["config"]["overflow_mode"]).upper() != "WRAP":
            op, keys = description[f"{layer.name}_tables"], description[f"{layer.name}_iq"]
            bits = np.where(keys.i + keys.f > 0, keys.k + keys.i + keys.f, 0)
            more += float((np.where(bits >= 5, 2.0 ** (bits - 5), bits / 5) / 2 + 1)[op.bits == 0].sum())
    return float(sum(counts.values())) + more


def table(rows: list[Row]) -> list[str]:
    """Markdown."""
    lines = ["| network | words | differing | of outputs | EBOPs | HGQ2's recount | of it not explained | stored | read, s |"]
    lines += ["|---|---:|---|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        wrong = "; ".join(f"{layer} {count}" for layer, count in row.differing.items()) or "0"
        counts = f"{row.ebops:,.1f} | {row.theirs:,.1f} | {abs(row.unexplained):.1f} | {row.stored:,}"
        lines.append(f"| {row.name} | {row.words:,} | {wrong} | {row.outputs} | {counts} | {row.seconds:.1f} |".replace(",", " "))
    total, wrong = sum(row.words for row in rows), sum(sum(row.differing.values()) for row in rows)
    outputs = sum(row.outputs for row in rows)
    return [*lines, f"| all {len(rows)} | {total:,} | {wrong:,} | {outputs} | | | | | |".replace(",", " ")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("reference", type=Path)
    arguments = parser.parse_args()
    rows, failed = [], 0
    for path in sorted(path for path in arguments.folder.rglob("*") if path.suffix in (".keras", ".h5")):
        reference = (arguments.reference / path.relative_to(arguments.folder)).with_suffix(".npz")
        if path.suffix == ".h5" and not reference.exists():
            continue  # QKeras's
        try:
            rows.append(compare(arguments.folder, path, reference))
        except (InteropError, OSError) as error:
            failed += 1
            print(f"failed: {error}", file=sys.stderr)
    print("\n".join(table(rows)))
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
