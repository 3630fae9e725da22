"""Models by their paths: our own descriptions, the files of HGQ2 and QONNX, the folders of KANELE."""

from pathlib import Path

from hgqjax.description import DescriptionError, ModelDescription
from hgqjax.files import MANIFEST

SUFFIXES = (".keras", ".onnx")
"""Of files with a model."""
MODELS = (
    "a folder with description.json, a .keras file of HGQ2, an .onnx file of QONNX, or a folder of KANELE (truth_tables.json, config.json)"
)


def is_model(path: Path) -> bool:
    """Whether `path` is the folder of a model description or of KANELE, or a file of a model."""
    return (path / "description.json").is_file() or is_file(path) or _is_kanele(path)


def is_file(path: Path) -> bool:
    """Whether `path` is a file of a model, by its suffix."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def stem(path: Path) -> str:
    """What a model is called by its path: a file without its suffix."""
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def _is_kanele(path: Path) -> bool:
    return all((path / name).is_file() for name in ("config.json", "truth_tables.json"))


def open_model(path: Path) -> ModelDescription:
    """The model description of a folder, of a .keras file of HGQ2, of an .onnx file, or of KANELE's tables.

    Raises: DescriptionError, which says what `path` is instead; else as `ModelDescription.load`, `load_hgq2`, `load_qonnx`, `load_kanele`.
    """
    from hgqjax import interop

    if not is_model(path):
        raise DescriptionError(instead_of_model(path))
    if path.is_file():
        return interop.load_qonnx(path) if path.suffix.lower() == ".onnx" else interop.load_hgq2(path)
    return interop.load_kanele(path) if _is_kanele(path) else ModelDescription.load(path)


def instead_of_model(path: Path, needed: str = MODELS) -> str:
    """A sentence on a path that is no model: what it is, where that is known, or what is `needed`."""
    if not path.exists():
        return f"there is no {path}"
    if (path / MANIFEST).is_file():
        models = sorted(str(model) for model in (path / "models").glob("*") if is_model(model))
        ends = " ... ".join(dict.fromkeys([models[0], models[-1]])) if models else ""
        return f"{path} is a run folder; " + (f"its models are {ends}" if models else "it has no models yet")
    return f"{path} is no model: {needed} is needed"
