"""The model description: typed integer operations, an exact evaluator that is the judge of every back end, a folder on disk."""

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from hgqjax.archives import DAMAGED, ArchiveError, Npz, check_memory, read_json_file
from hgqjax.description.costs import operations_cost
from hgqjax.description.layer_table import text_table
from hgqjax.description.operations import DescriptionError, Grid, Input, Operation, Quantize, Rearrange
from hgqjax.description.stored import check_sizes, from_json, to_json
from hgqjax.files import new_folder

FORMAT, VERSION = "hgqjax-model", 1


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ModelDescription:
    """Everything hardware needs, in topological order; `evaluate` is the reference that back ends are compared with.

    `sample` holds rows of real input (float32; a tuple, one array for each input, where there are several), kept for the gates of the back
    ends; `metadata` is JSON (data set, scaler, training).
    `grids` has the grid of every operation; `unquantized` names those whose values are still floats: inputs, and what only moves these.
    """

    name: str
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    sample: np.ndarray | tuple[np.ndarray, ...] | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    grids: dict[str, Grid] = dataclasses.field(init=False, repr=False)
    unquantized: frozenset[str] = dataclasses.field(init=False, repr=False)

    def __post_init__(self):
        grids: dict[str, Grid] = {}
        raw: set[str] = set()
        for op in self.operations:
            missing = [name for name in op.inputs if name not in grids]
            if missing or op.name in grids or not (op.name.isidentifier() and op.name.isascii()):
                why = f"reads {missing[0]!r}, which does not come before it" if missing else "needs a unique C identifier as name"
                raise DescriptionError(f"operation {op.name!r} {why}")
            unquantized = any(name in raw for name in op.inputs)
            if unquantized and not isinstance(op, Quantize | Rearrange):
                raise DescriptionError(f"layer {op.name!r} reads the unquantized input; put an input quantizer before it")
            if not op.shape:
                raise DescriptionError(f"layer {op.name!r} has no axis but the batch's; keep one, of size 1")
            grids[op.name] = op.grid(*(grids[name] for name in op.inputs))
            if isinstance(op, Input) or (unquantized and isinstance(op, Rearrange)):
                raw.add(op.name)
            if grids[op.name].f.shape != op.shape:
                raise DescriptionError(f"layer {op.name!r} has shape {op.shape}, but what it reads gives {grids[op.name].f.shape}")
        lost = [name for name in self.outputs if name not in grids]
        if lost or not self.outputs:
            raise DescriptionError(f"output {lost[0]!r} is not an operation" if lost else "a model needs an output")
        if raw.intersection(self.outputs):
            name = next(name for name in self.outputs if name in raw)
            raise DescriptionError(f"output {name!r} is the unquantized input; put an input quantizer before it")
        object.__setattr__(self, "grids", grids)
        object.__setattr__(self, "unquantized", frozenset(raw))

    def __getitem__(self, name: str) -> Operation:
        return next(op for op in self.operations if op.name == name)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The input operations, in order."""
        return tuple(op for op in self.operations if isinstance(op, Input))

    def integers(self, x) -> dict[str, np.ndarray]:
        """Whole numbers of every operation for rows `x` (rows, *shape); the value is ``integers * 2**-grids[name].f``.

        `x` is one array where the model has one input, else a tuple of arrays in the order of `inputs`.
        """
        values: dict[str, np.ndarray] = self._rows(x)
        for op in self.operations:
            if not isinstance(op, Input):
                grids = tuple(self.grids[name] for name in op.inputs)
                values[op.name] = op.evaluate(tuple(values[name] for name in op.inputs), grids, self.grids[op.name])
        return values

    def _rows(self, x) -> dict[str, np.ndarray]:
        sources = self.inputs
        arrays = tuple(np.asarray(part) for part in (x if isinstance(x, tuple | list) else (x,)))
        if len(arrays) != len(sources):
            names = ", ".join(repr(op.name) for op in sources)
            raise DescriptionError(f"x is {len(arrays)} arrays; the model takes {len(sources)}, for {names}, as a tuple")
        for n, (op, part) in enumerate(zip(sources, arrays, strict=True)):
            what = "x" if len(arrays) == 1 else f"x[{n}]"
            if part.shape[1:] != op.shape or part.ndim == 0 or not np.issubdtype(part.dtype, np.floating):
                raise DescriptionError(
                    f"{what} is {part.dtype} of shape {part.shape}; floats of shape (rows, {', '.join(map(str, op.shape))}) are needed"
                )
            if not np.all(np.isfinite(part)):
                row = int(np.argwhere(~np.isfinite(part.reshape(len(part), -1)).all(1))[0, 0])
                raise DescriptionError(f"row {row} of {what} has a NaN or an infinity, which hardware has no word for")
            if len(part) != len(arrays[0]):
                raise DescriptionError(f"{what} has {len(part)} rows, x[0] {len(arrays[0])}; each input needs as many")
        return {op.name: part.astype(np.float64) for op, part in zip(sources, arrays, strict=True)}

    def evaluate(self, x):
        """Exact outputs for rows `x` (see `integers`), as float64 (rows, *shape); a tuple when the model has several outputs.

        Raises DescriptionError where an output has more than 53 bits, which float64 could not hold; `integers` has no such limit.
        """
        values, outputs = self.integers(x), []
        for name in self.outputs:
            grid = self.grids[name]
            bits = max((int(v).bit_length() for v in [*abs(grid.low).ravel(), *abs(grid.high).ravel()]), default=0)
            if bits > 53:
                raise DescriptionError(f"output {name!r} has {bits} bits, float64 holds 53; use integers(x)")
            outputs.append(np.ldexp(values[name].astype(np.float64), -grid.f.astype(np.int64)))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def operations_cost(self) -> dict[str, Any]:
        """Counted operations with their exact formats: what `hgqjax.resources.ebops` reads."""
        return operations_cost(self.operations, self.grids)

    def operations_uses(self) -> dict[str, Any]:
        """None: a layer that is used twice is two operations."""
        return {}

    def save(self, path: str | Path) -> None:
        """Writes the folder `path` (description.json, arrays.npz), which must not exist; nothing is left behind when it fails."""
        arrays: dict[str, Any] = {}
        operations = [to_json(op, arrays) for op in self.operations]
        if isinstance(self.sample, tuple):
            arrays |= {f"sample.{n}": part for n, part in enumerate(self.sample)}
        elif self.sample is not None:
            arrays["sample"] = self.sample
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        header = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "arrays_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
            "operations": operations,
            "outputs": list(self.outputs),
            "metadata": self.metadata,
        }
        with new_folder(path) as folder:
            (folder / "arrays.npz").write_bytes(buffer.getvalue())
            (folder / "description.json").write_text(json.dumps(header, indent=1) + "\n")

    @staticmethod
    def load(path: str | Path) -> "ModelDescription":
        """Reads the folder `path`; raises DescriptionError, with the reason, where it is not a sound description."""
        path = Path(path)
        try:
            for name in ("description.json", "arrays.npz"):
                check_memory((path / name).stat().st_size, name)
            header = read_json_file(path / "description.json")
            raw = (path / "arrays.npz").read_bytes()
        except OSError as error:
            raise DescriptionError(f"{path} is not a model description: {Path(error.filename).name}: {error.strerror}") from error
        except ArchiveError as error:
            raise DescriptionError(f"{path} is not a model description: {error}") from error
        if not isinstance(header, dict) or header.get("format") != FORMAT or header.get("version") != VERSION:
            raise DescriptionError(f"{path}/description.json is not {FORMAT} version {VERSION}")
        if hashlib.sha256(raw).hexdigest() != header.get("arrays_sha256"):
            raise DescriptionError(
                f"{path}/arrays.npz does not have the checksum that description.json names; the file was damaged or changed"
            )
        try:
            npz = Npz(raw)
            arrays = npz.read(npz.names, copies=3)
            check_sizes(header["operations"], arrays)
            return ModelDescription(
                name=header["name"],
                operations=tuple(from_json(entry, arrays) for entry in header["operations"]),
                outputs=tuple(header["outputs"]),
                sample=_sample(arrays),
                metadata=header["metadata"],
            )
        except (ArchiveError, DescriptionError) as error:
            raise DescriptionError(f"{path} is not a sound model description: {error}") from error
        except DAMAGED as error:
            raise DescriptionError(f"{path}/description.json does not fit its format: {error!r}") from error

    def summary(self) -> str:
        """A table for people (`hgqjax.description.layer_table`): every layer with its shape, widths of inputs and weights, pruned shares,
        EBOPs by both definitions and predicted LUTs; the totals."""
        return text_table(self)


def _sample(arrays: dict[str, np.ndarray]) -> np.ndarray | tuple[np.ndarray, ...] | None:
    """The rows that `save` wrote: of one input, of each of several, or none."""
    parts = tuple(arrays[f"sample.{n}"] for n in range(len(arrays)) if f"sample.{n}" in arrays)
    return parts or arrays.get("sample")
