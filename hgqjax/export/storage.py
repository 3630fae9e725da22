"""A model description on disk: a folder with description.json, and arrays.npz whose checksum the json holds. Names in project folders."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hgqjax.export.model import ModelDescription
from hgqjax.export.operations import KINDS, Constant, DescriptionError, Operation

FORMAT, VERSION = "hgqjax-model", 1
GATE_FILE, RTL_FILE = "hgqjax_gate.json", "hgqjax_rtl.json"
"""Records of a project of hls4ml and of RTL."""
MODEL_FOLDER = "hgqjax_model"
"""The model description that a project was made of, in it."""
DEFAULT_PART = "xcvu13p-flga2577-2-e"
"""The paper's device."""


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill that appears at `path` only when the block ends well; until then it has a temporary name beside it.

    Raises FileExistsError where `path` exists, and removes the temporary folder when the block fails.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already; name a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes under a temporary name in the same folder, then renames: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save(model: ModelDescription, path: str | Path) -> None:
    """Writes the folder `path`; nothing is left behind when it fails."""
    arrays: dict[str, np.ndarray] = {}
    operations = [_to_json(op, arrays) for op in model.operations]
    if model.sample is not None:
        arrays["sample"] = model.sample
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "name": model.name,
        "arrays_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "operations": operations,
        "outputs": list(model.outputs),
        "metadata": model.metadata,
    }
    with new_folder(path) as folder:
        (folder / "arrays.npz").write_bytes(buffer.getvalue())
        (folder / "description.json").write_text(json.dumps(header, indent=1) + "\n")


def load(path: str | Path) -> ModelDescription:
    """Reads the folder `path`; raises DescriptionError, with the reason, where it is not a sound description."""
    path = Path(path)
    try:
        header = json.loads((path / "description.json").read_text())
        raw = (path / "arrays.npz").read_bytes()
    except OSError as error:
        raise DescriptionError(f"{path} is not a model description: {Path(error.filename).name}: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DescriptionError(f"{path} is not a model description: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT or header.get("version") != VERSION:
        raise DescriptionError(f"{path}/description.json is not {FORMAT} version {VERSION}")
    if hashlib.sha256(raw).hexdigest() != header.get("arrays_sha256"):
        raise DescriptionError(f"{path}/arrays.npz does not have the checksum that description.json names; the file was damaged or changed")
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as npz:
            arrays = {key: npz[key] for key in npz.files}
        operations = tuple(_from_json(entry, arrays) for entry in header["operations"])
        return ModelDescription(
            name=header["name"],
            operations=operations,
            outputs=tuple(header["outputs"]),
            sample=arrays.get("sample"),
            metadata=header["metadata"],
        )
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise DescriptionError(f"{path}/description.json does not fit its format: {error!r}") from error


def _to_json(op: Operation, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    entry: dict[str, Any] = {"kind": op.kind}
    for field in dataclasses.fields(op):
        value, key = getattr(op, field.name), f"{op.name}/{field.name}"
        if isinstance(value, np.ndarray):
            arrays[key], value = value, {"array": key}
        elif isinstance(value, Constant):
            arrays |= {f"{key}/{part.name}": getattr(value, part.name) for part in dataclasses.fields(Constant)}
            value = {"constant": key}
        entry[field.name] = value
    return entry


def _from_json(entry: dict[str, Any], arrays: dict[str, np.ndarray]) -> Operation:
    if entry["kind"] not in KINDS:
        raise DescriptionError(f"operation {entry['name']!r} is of the unknown kind {entry['kind']!r}; known are {', '.join(KINDS)}")
    cls = KINDS[entry["kind"]]
    values = {}
    for name, value in entry.items():
        if isinstance(value, dict) and "array" in value:
            value = arrays[value["array"]]
        elif isinstance(value, dict):
            value = Constant(*(arrays[f"{value['constant']}/{part.name}"] for part in dataclasses.fields(Constant)))
        if name != "kind":
            values[name] = _tuples(value)
    return cls(**values)


def _tuples(value: Any) -> Any:
    """Lists of JSON, at every level, as the tuples they were."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
