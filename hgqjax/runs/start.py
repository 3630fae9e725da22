"""What a run starts from, kept in its folder, so that a resume and the workers of a cluster begin alike."""

from pathlib import Path
from typing import Any

import numpy as np

from hgqjax import layers
from hgqjax.config import ConfigError
from hgqjax.description.model import ModelDescription
from hgqjax.description.start import start_of
from hgqjax.files import MANIFEST, new_folder
from hgqjax.interop import keras_file, load_keras_weights
from hgqjax.interop.models import is_file, is_model, open_model
from hgqjax.layers.float_weights import leaves

FOLDER, FLOATS = "start", "weights.npz"
"""In the run folder: a model description, or float weights in an .npz file."""


def keep(start: str, run: Path) -> None:
    """Copies the model or the weights `start` into the folder of the run, if they are not there; "" is no start.

    Raises: ValueError, one sentence, where `start` is neither.
    """
    place = run / FOLDER
    if not start or place.exists():
        return
    found = _read(Path(start))
    if isinstance(found, ModelDescription):
        found.save(place)
        return
    with new_folder(place) as folder:
        np.savez(folder / FLOATS, **{name.replace("/", "."): array for name, array in found.items()})


def of_run(run: Path) -> layers.Start | None:
    """The start that is kept in the folder of a run; None where there is none."""
    place = run / FOLDER
    return _start(_read(place / FLOATS if (place / FLOATS).exists() else place)) if place.exists() else None


def of_path(start: str) -> layers.Start | None:
    """The start at a path, as `Sweep.start` has it. Raises: as `keep`."""
    return _start(_read(Path(start))) if start else None


def scaler_note(start: str, dataset: Any) -> str:
    """A sentence where the rows that the network was trained on were scaled otherwise; else ""."""
    found = _read(Path(start)) if start else {}
    about = found.metadata.get("scaler") if isinstance(found, ModelDescription) else None
    if about is None:
        return ""
    same = np.shape(about["mean"]) == dataset.scaler.mean.shape and all(
        np.allclose(about[part], getattr(dataset.scaler, part), rtol=1e-6, atol=1e-9) for part in ("mean", "scale")
    )
    return "" if same else f"the start {start} was trained on rows with another scaling than those of {dataset.name}"


def _read(path: Path) -> Any:
    """A model description, or float weights by path."""
    if not path.exists():
        raise ConfigError(f"start: there is no {path}")
    if is_file(path) and path.suffix.lower() != ".onnx" and not keras_file.read(path).is_quantized:
        return load_keras_weights(path)
    if is_model(path) or (path / MANIFEST).is_file():  # a run folder has models, which its error names
        return open_model(path)
    return dict(leaves(path))


def _start(found: Any) -> layers.Start:
    return start_of(found) if isinstance(found, ModelDescription) else layers.FloatStart(found)
