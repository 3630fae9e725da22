"""Networks of KANELE (Kolmogorov-Arnold networks as look-up tables, arXiv:2512.12850): their truth tables as model descriptions."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from hgqjax.archives import ArchiveError, read_json
from hgqjax.description import DescriptionError, ModelDescription
from hgqjax.description import operations as o
from hgqjax.interop.keras_file import InteropError

TABLES, CONFIG = "truth_tables.json", "config.json"
"""The files of a network's folder that are read."""


def load_kanele(path: str | os.PathLike) -> ModelDescription:
    """Reads the folder of a network: `config.json` for sizes and bits, `truth_tables.json` for the words of every edge.

    Inputs, sums and results are whole numbers, as in the firmware. The input is unsigned, of the first bit-width; after each layer the sum
    is clipped to the signed numbers of the next bit-width. The scales that relate them to features are not in these files. A layer is one
    `Lookup` and one `Sum`; the tables of pruned edges are 0 and cost nothing.

    Raises: InteropError, one sentence: a file is damaged, an edge has no table or one of another size. OSError where a file is missing.

    `metadata["kanele"]` of the description holds the sha256 of the tables and the number of edges that are left.
    """
    path = Path(path)
    settings, raw = ((path / name).read_bytes() for name in (CONFIG, TABLES))
    try:
        layers, bits = _sizes(_read(CONFIG, settings))
        operations, edges = _operations(layers, bits, _read(TABLES, raw))
        about = {"folder": path.name, "sha256": hashlib.sha256(raw).hexdigest(), "edges": edges}
        return ModelDescription(
            name=path.name or "kanele", operations=operations, outputs=(operations[-1].name,), metadata={"kanele": about}
        )
    except (InteropError, DescriptionError) as error:
        raise InteropError(f"{path}: {error}") from error


def _read(name: str, raw: bytes) -> Any:
    try:
        return read_json(raw)
    except ArchiveError as error:
        raise InteropError(f"{name} {error}") from error


def _sizes(config: Any) -> tuple[list[int], list[int]]:
    layers, bits = (config.get(key) if isinstance(config, dict) else None for key in ("layers", "layers_bitwidth"))
    whole = all(isinstance(v, list) and all(type(n) is int and n > 0 for n in v) for v in (layers, bits))
    if layers is None or bits is None or not whole or len(layers) < 2 or len(layers) != len(bits) or max(bits) > o.KEY_BITS:
        sizes = f"layers {str(layers)[:80]} and layers_bitwidth {str(bits)[:80]}"
        raise InteropError(f"{CONFIG} has {sizes}; two lists of whole numbers of one length, bits up to {o.KEY_BITS}, are needed")
    return layers, bits


def _operations(layers: list[int], bits: list[int], tables: Any) -> tuple[tuple[o.Operation, ...], int]:
    """The operations, and the number of edges whose tables are not all 0."""
    found: list[o.Operation] = [o.Input(name="x", inputs=(), shape=(layers[0],))]
    found.append(_quantize("words", "x", layers[0], bits[0], signed=False, rounding="RND_CONV"))
    edges = 0
    for n, (n_in, n_out) in enumerate(zip(layers[:-1], layers[1:], strict=True)):
        full, size = (n_in, n_out), 2 ** bits[n]
        words = np.stack([_table(tables, f"{n}_{i}_{j}", size) for i, j in np.ndindex(full)])
        live = np.any(words != 0, 1)
        edges += int(live.sum())
        index = np.broadcast_to(np.arange(n_in)[:, None], full).astype(np.int64)
        found.append(o.Gather(name=f"copies{n}", inputs=(found[-1].name,), shape=full, index=index))
        width = np.maximum(abs(np.where(words < 0, -words - 1, words)).max(1), 0)
        counted = np.where(live, np.frexp(width.astype(np.float64))[1] + np.any(words < 0, 1), 0)
        fields = {"words": words.ravel(), "start": np.arange(len(words) + 1) * size, "bits": counted.reshape(full).astype(np.int64)}
        zeros = np.zeros(full, np.int64)
        fields |= {"low": zeros - (size // 2 if n else 0), "f_in": zeros, "f": zeros}
        found.append(o.Lookup(name=f"tables{n}", inputs=(f"copies{n}",), shape=full, **fields))
        found.append(o.Sum(name=f"sum{n}", inputs=(f"tables{n}",), shape=(n_out,), axes=(0,)))
        found.append(_quantize(f"clip{n}", f"sum{n}", n_out, bits[n + 1], signed=True, rounding="TRN"))
    return tuple(found), edges


def _quantize(name: str, source: str, size: int, bits: int, *, signed: bool, rounding: str) -> o.Quantize:
    """To whole numbers of so many bits, clipped."""
    k, i, f = (np.full(size, v, np.int64) for v in (int(signed), bits - signed, 0))
    return o.Quantize(name=name, inputs=(source,), shape=(size,), k=k, i=i, f=f, rounding=rounding, overflow="SAT")


def _table(tables: Any, edge: str, size: int) -> np.ndarray:
    entry = tables.get(edge) if isinstance(tables, dict) else None
    words = entry.get("values_int") if isinstance(entry, dict) else None
    if not isinstance(words, list) or len(words) != size or not all(type(v) is int and abs(v) < 2**31 for v in words):
        has = f"{len(words)} values" if isinstance(words, list) else "none"
        raise InteropError(f"{TABLES} has no sound table for the edge {edge}: {size} whole numbers are needed, it has {has}")
    return np.array(words, np.int64)
