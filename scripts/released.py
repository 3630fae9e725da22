"""Released networks of HGQ2 against what HGQ2 computes from the same files: `bash scripts/released` runs this file.

A row for each network: words of all its layers' results that were compared and that differ, and EBOPs. HGQ2 counts two things that cost
nothing, or less, here; they are added to our count before it is compared: the sign of a saturating word that has no other bit and is always
0, and the additions of a softmax's sum without the factor of 0.65. What is left is the difference that nothing explains.
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
    """Words of each layer that differ, where any does."""
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
    values = description.integers(tuple(arrays[f"x{n}"] for n in range(len(description.inputs))))
    results = description.metadata["hgq2"]["results"]
    words, differing = 0, {}
    for key in (key for key in arrays if key.startswith("t/")):
        op = results[key[2:]]
        ours = np.ldexp(values[op].astype(np.float64), -description.grids[op].f.astype(np.int64))
        if ours.shape != arrays[key].shape:
            raise InteropError(f"{path}: {key[2:]} has shape {ours.shape[1:]}; HGQ2 gives {arrays[key].shape[1:]}")
        words += ours.size
        if wrong := int(np.sum(ours != arrays[key])):
            differing[key[2:]] = wrong
    ours = float(sum(resources.ebops(description).values()))
    as_hgq2 = float(sum(resources.ebops(with_empty_signs(description)).values())) + further(description, path)
    counts = [float(arrays[key].sum()) for key in ("ebops", "ebops_stored")]
    name = path.relative_to(folder).as_posix().removesuffix(".keras")
    return Row(name, words, differing, ours, as_hgq2, counts[0], int(counts[1]), seconds)


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


def further(description: ModelDescription, path: Path) -> float:
    """Bit operations of a softmax's sum that we count less, and of words of QDenseT that saturate and are always 0."""
    more, counts = 0.0, resources.ebops(description)
    for op in description.operations:
        if isinstance(op, o.Sum) and op.name.endswith("_softmax_sum"):
            more += float(counts[op.name]) * (1 / ACCUMULATOR - 1)
    for layer in keras_file.read(path).layers:
        if layer.cls == "QDenseT" and str(layer["toq_conf"]["config"]["overflow_mode"]).upper() != "WRAP":
            op, keys = description[f"{layer.name}_tables"], description[f"{layer.name}_iq"]
            bits = np.where(keys.i + keys.f > 0, keys.k + keys.i + keys.f, 0)
            more += float((np.where(bits >= 5, 2.0 ** (bits - 5), bits / 5) / 2 + 1)[op.bits == 0].sum())
    return more


def table(rows: list[Row]) -> list[str]:
    """Markdown."""
    lines = ["| network | words | differing | EBOPs | HGQ2's recount | of it not explained | stored | read, s |"]
    lines += ["|---|---:|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        wrong = "; ".join(f"{layer} {count}" for layer, count in row.differing.items()) or "0"
        counts = f"{row.ebops:,.1f} | {row.theirs:,.1f} | {row.unexplained:.1f} | {row.stored:,}"
        lines.append(f"| {row.name} | {row.words:,} | {wrong} | {counts} | {row.seconds:.1f} |".replace(",", " "))
    total, wrong = sum(row.words for row in rows), sum(sum(row.differing.values()) for row in rows)
    return [*lines, f"| all {len(rows)} | {total:,} | {wrong:,} | | | | | |".replace(",", " ")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("reference", type=Path)
    arguments = parser.parse_args()
    rows, failed = [], 0
    for path in sorted(arguments.folder.rglob("*.keras")):
        reference = (arguments.reference / path.relative_to(arguments.folder)).with_suffix(".npz")
        try:
            rows.append(compare(arguments.folder, path, reference))
        except (InteropError, OSError) as error:
            failed += 1
            print(f"failed: {error}", file=sys.stderr)
    print("\n".join(table(rows)))
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
