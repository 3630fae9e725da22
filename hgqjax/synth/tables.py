"""Cost tables for `hgqjax.resources.Measured`: each size of layer of a network at several widths, by the adder-graph compiler."""

import importlib.metadata
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from hgqjax import layers
from hgqjax.export import adder_graph, describe
from hgqjax.files import write_atomically
from hgqjax.quantizers import Fixed
from hgqjax.resources import Conv, Dense, Einsum, Measured
from hgqjax.resources._base import Costed
from hgqjax.resources.measured import matrices


def measure(model: Costed, path: str | Path, *, bits: Sequence[int] = (2, 4, 6, 8), seed: int = 0) -> Measured:
    """Compiles every size of matrix in `model` to adders at all pairs of `bits`, and writes the table of their LUTs as the file `path`.

    A matrix has whole weights drawn evenly from all that so many magnitude bits and a sign hold, by `seed`, and inputs without a sign. What
    the file has from the same compiler, seed and widths is not compiled again. A matrix of 64 x 32 takes seconds at each pair.

    Args:
      model: a network (`hgqjax.layers.Module`) or a model description. path: a JSON file; it may be there.
      bits: magnitude bits of weights, and bits of inputs, within 1..12.

    Raises: ValueError for bits outside 1..12; ExportError for a matrix that is too large to compile.

    >>> import tempfile
    >>> model = layers.Dense(3, 2, rngs=nnx.Rngs(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cost = measure(model, Path(folder) / "luts.json", bits=(2, 4))
    >>> [row[:4] for row in cost.table], cost.table[0][4] > 0
    ([(3.0, 2.0, 2.0, 2.0), (3.0, 2.0, 2.0, 4.0), (3.0, 2.0, 4.0, 2.0), (3.0, 2.0, 4.0, 4.0)], True)
    """
    if not bits or not all(1 <= b <= 12 for b in bits):
        raise ValueError(f"bits is {tuple(bits)}; one or more within 1..12 are needed")
    about = {"tool": f"alkaid {importlib.metadata.version('alkaid')}", "seed": seed, "bits": sorted(set(bits))}
    known, path = {}, Path(path)
    if path.exists():
        found = Measured.load(path)
        if {name: json.loads(path.read_text()).get(name) for name in about} == about:
            known = {row[:4]: row[4] for row in found.table}
    operations = [op for op in model.operations_cost().values() if isinstance(op, Dense | Einsum | Conv)]
    for n, m in sorted({matrices(op)[:2] for op in operations}):
        for w, a in itertools.product(about["bits"], repeat=2):
            if (n, m, w, a) not in known:
                known[n, m, w, a] = _luts(n, m, w, a, seed)
        write_atomically(path, json.dumps(about | {"rows": [[*key, luts] for key, luts in sorted(known.items())]}) + "\n")
    return Measured.load(path)


def _luts(n: int, m: int, w: int, a: int, seed: int) -> float:
    """The adder graph's estimate for one matrix of random weights."""
    kernel = Fixed(i=0, f=w, overflow="SAT_SYM")
    inputs = Fixed(i=0, f=a, overflow="SAT", keep_negative=False)
    layer = layers.Dense(n, m, rngs=nnx.Rngs(0), use_bias=False, input_quantizer=inputs, kernel_quantizer=kernel)
    rng = np.random.default_rng(seed)
    layer.kernel[...] = jnp.asarray(rng.integers(1 - 2**w, 2**w, size=(n, m)) / 2.0**w, jnp.float32)
    return adder_graph(describe(layer, rng.uniform(size=(16, n)).astype(np.float32))).cost
