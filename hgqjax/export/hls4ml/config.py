"""The hls4ml export from a YAML file with hls4ml's own keys, plus `HGQModel`: the folder of a model description.

The command `hgqjax export` takes a `.keras` file of HGQ2 there, too.

    HGQModel: jets
    OutputDir: jets_hls
    Backend: Vitis
    ClockPeriod: 5
    HLSConfig:
      Model:
        Strategy: resource
        ReuseFactor: 4
      LayerName:
        dense_2:
          ReuseFactor: 8

Both folders are relative to the file; a key that is left out has the default of `to_hls4ml`.
"""

import inspect
import os
import reprlib
from pathlib import Path
from typing import Any

from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml.convert import to_hls4ml
from hgqjax.files import write_atomically

_TOP = {
    "OutputDir": "output_dir",
    "ProjectName": "project_name",
    "Backend": "backend",
    "Part": "part",
    "Board": "board",
    "ClockPeriod": "clock_ns",
    "IOType": "io_type",
}
_MODEL = {"Strategy": "strategy", "ReuseFactor": "reuse_factor"}
_LAYERS = "LayerName"
"""Names of layers with weights in the description, each with a `ReuseFactor`."""
_IGNORED = "Precision"
"""hls4ml wants a default precision; nothing of an exported model uses it, every type is exact and comes from the description."""


def write_config(path: str | os.PathLike, *, model: str | os.PathLike, output_dir: str | os.PathLike, **arguments: Any) -> None:
    """Write the YAML file of an export.

    Args:
      path: the file; must not exist.
      model: folder of the description (`ModelDescription.save`), absolute or relative to the file.
      output_dir: of the project, absolute or relative to the file.
      arguments: backend, part, board, clock_ns, io_type, strategy, project_name, reuse_factor, reuse_factors; as in `to_hls4ml`.
    """
    yaml = _yaml()
    defaults = {name: p.default for name, p in inspect.signature(to_hls4ml).parameters.items()}
    legal = [*_TOP.values(), *_MODEL.values(), "reuse_factors"]
    unknown = set(arguments) - set(legal)
    if unknown:
        raise ExportError(f"{min(unknown)!r} is no setting of an export; there are {', '.join(legal)}")
    values = defaults | arguments | {"output_dir": os.fspath(output_dir)}
    config = {"HGQModel": os.fspath(model)} | {key: values[name] for key, name in _TOP.items() if values[name] is not None}
    config["HLSConfig"] = {"Model": {_IGNORED: "ap_fixed<16,6>"} | {key: values[name] for key, name in _MODEL.items()}}
    if by_layer := dict(arguments.get("reuse_factors") or {}):
        config["HLSConfig"][_LAYERS] = {name: {"ReuseFactor": factor} for name, factor in by_layer.items()}
    if Path(path).exists():
        raise ExportError(f"{path} exists already; name a file that does not")
    write_atomically(Path(path), yaml.safe_dump(config, sort_keys=False))


def read_config(path: str | os.PathLike) -> tuple[Path, dict[str, Any]]:
    """The folder of the description and the arguments of `to_hls4ml` that a YAML file asks for.

    Raises: ExportError naming the key that is unknown or missing.
    """
    path, yaml = Path(path), _yaml()
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ExportError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    _check_keys(path, config, "", ("HGQModel", *_TOP, "HLSConfig"))
    hls = config.get("HLSConfig", {})
    _check_keys(path, hls, "HLSConfig.", ("Model", _LAYERS))
    model = hls.get("Model", {})
    _check_keys(path, model, "HLSConfig.Model.", (*_MODEL, _IGNORED))
    by_layer = _layers(path, hls.get(_LAYERS, {}))
    for key in ("HGQModel", "OutputDir"):
        if key not in config:
            raise ExportError(f"{path} has no key {key}")
    arguments = {name: config[key] for key, name in _TOP.items() if key in config}
    arguments |= {name: model[key] for key, name in _MODEL.items() if key in model} | ({"reuse_factors": by_layer} if by_layer else {})
    for key, value in {**config, **model}.items():
        kinds = {"ClockPeriod": (int, float), "ReuseFactor": (int,), "HLSConfig": (dict,)}.get(key, (str,))
        if type(value) not in kinds:
            raise ExportError(f"{path}: {key} is {reprlib.repr(value)}, which is no {' or '.join(kind.__name__ for kind in kinds)}")
    if "clock_ns" in arguments:
        arguments["clock_ns"] = float(arguments["clock_ns"])
    arguments["output_dir"] = path.parent / arguments["output_dir"]
    return path.parent / config["HGQModel"], arguments


def _layers(path: Path, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ExportError(f"{path}: HLSConfig.{_LAYERS} is not a table of layers")
    for name, settings in found.items():
        _check_keys(path, settings, f"HLSConfig.{_LAYERS}.{str(name)[:80]}.", ("ReuseFactor",))
    return {str(name): settings["ReuseFactor"] for name, settings in found.items() if settings}


def _check_keys(path: Path, found: Any, prefix: str, legal: tuple[str, ...]):
    if not isinstance(found, dict):
        raise ExportError(f"{path}: {prefix.rstrip('.') or 'the file'} is not a table of keys and values")
    for key in found:
        if key not in legal:
            raise ExportError(f"{path}: unknown key {prefix}{str(key)[:80]}; legal are {', '.join(prefix + name for name in legal)}")


def _yaml():
    try:
        import yaml
    except ImportError:
        raise ExportError("PyYAML, which comes with hls4ml, is not installed; pip install 'hgqjax[hls4ml]'") from None
    return yaml
