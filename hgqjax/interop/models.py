"""Models by their paths: our own descriptions, the files of HGQ2, QKeras and QONNX, the folders of KANELE."""

from pathlib import Path

from hgqjax.description import DescriptionError, ModelDescription
from hgqjax.files import MANIFEST
from hgqjax.interop import hdf5_guard, keras_file

SUFFIXES = (".keras", ".h5", ".json", ".onnx")
"""Of files with a model."""
MODELS = (
    "a folder with description.json, a .keras or .h5 file of HGQ2 or QKeras (or NAME.json of QKeras with NAME_weights.h5), "
    "an .onnx file of QONNX, or a folder of KANELE (truth_tables.json, config.json)"
)


def is_model(path: Path) -> bool:
    """Whether `path` is the folder of a model description or of KANELE, or a file of a model."""
    return (path / "description.json").is_file() or is_file(path) or _is_kanele(path)


def is_file(path: Path) -> bool:
    """Whether `path` is a file of a model: by its suffix, and of a .h5 or .json file by what it, or its folder, holds."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or not path.is_file():
        return False
    if suffix == ".json":
        return keras_file.weights_beside(path) is not None
    return suffix != ".h5" or hdf5_guard.has_attribute(path, "model_config")


def stem(path: Path) -> str:
    """What a model is called by its path: a file without its suffix."""
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def _is_kanele(path: Path) -> bool:
    return all((path / name).is_file() for name in ("config.json", "truth_tables.json"))


def open_model(path: Path) -> ModelDescription:
    """The model description of a folder, of a file of HGQ2, QKeras or QONNX, or of KANELE's tables.

    Raises: DescriptionError, which says what `path` is instead; else as `ModelDescription.load`, `load_hgq2`, `load_qkeras`, `load_qonnx`,
      `load_kanele`.
    """
    from hgqjax import interop
    from hgqjax.interop import hgq2, qkeras

    if not is_model(path):
        raise DescriptionError(instead_of_model(path))
    if path.is_dir():
        return interop.load_kanele(path) if _is_kanele(path) else ModelDescription.load(path)
    if path.suffix.lower() == ".onnx":
        return interop.load_qonnx(path)
    model = keras_file.read(path)
    return hgq2.described(model) if model.of("hgq") else qkeras.described(model)


def instead_of_model(path: Path, needed: str = MODELS) -> str:
    """A sentence on a path that is no model: what it is, where that is known, or what is `needed`."""
    if not path.exists():
        return f"there is no {path}"
    if (path / MANIFEST).is_file():
        models = sorted(str(model) for model in (path / "models").glob("*") if is_model(model))
        ends = " ... ".join(dict.fromkeys([models[0], models[-1]])) if models else ""
        return f"{path} is a run folder; " + (f"its models are {ends}" if models else "it has no models yet")
    return f"{path} is no model: {needed} is needed"
