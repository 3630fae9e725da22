"""Files of Keras 2 and 3 as plain dicts and numpy arrays, without Keras.

Three kinds: a `.keras` file (a zip of config.json, metadata.json and model.weights.h5), a whole model in one HDF5 file, and the
configuration in a `.json` file with the weights in an HDF5 file beside it.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import re
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hgqjax.archives import ArchiveError, check_memory, in_words, read_json
from hgqjax.description import DescriptionError
from hgqjax.errors import first_line
from hgqjax.interop.hdf5_guard import HDF5, opened


class InteropError(ValueError):
    """A file of another tool that cannot be read, or a model in it that has no description; the sentence names the file."""


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """One layer of the file: its class, its configuration, its weights (h5 path within the layer -> array), what it reads.

    `inputs` are the names of the layers whose results it reads; `arguments` all that its one call got, tensors as ``{"tensor": name}``.
    """

    name: str
    cls: str
    module: str
    config: dict[str, Any]
    weights: dict[str, np.ndarray]
    inputs: tuple[str, ...]
    arguments: tuple[Any, ...]

    def refuse(self, why: str) -> InteropError:
        """The error that names layer and class; to be raised."""
        return InteropError(f"layer {self.name!r} ({self.cls}) {why}")

    def __getitem__(self, key: str) -> Any:
        if key not in self.config:
            raise self.refuse(f"has no {key!r} in its configuration")
        return self.config[key]

    def apart(self) -> tuple["Layer", "Layer"]:
        """The layer with its own variables alone, and with those of the one layer in it alone."""
        inner = {path.rpartition("vars/")[0].rstrip("/") for path in self.weights} - {""}
        if len(inner) != 1:
            raise self.refuse(f"holds {len(inner)} layers; 1 is needed")
        parts = (self.variables(under) for under in ("", *inner))
        own, inside = ({f"vars/{n}": v for n, v in enumerate(part)} for part in parts)
        return dataclasses.replace(self, weights=own), dataclasses.replace(self, weights=inside)

    def variables(self, under: str = "") -> list[np.ndarray]:
        """The variables of the layer itself, or of the object `under` it, in the order in which Keras made them."""
        prefix = f"{under}/vars/" if under else "vars/"
        numbered = {int(key[len(prefix) :]): value for key, value in self.weights.items() if re.fullmatch(re.escape(prefix) + r"\d+", key)}
        if sorted(numbered) != list(range(len(numbered))):
            raise self.refuse(f"has the weights {sorted(numbered)} in {prefix[:-1]}, of which some are missing")
        return [numbered[n] for n in range(len(numbered))]


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """What a `.keras` file holds: `layers` in an order in which each comes after what it reads, and the names of inputs and outputs."""

    path: Path
    sha256: str
    metadata: dict[str, Any]
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def of(self, package: str) -> list[str]:
        """Classes of the layers that are of this package: "hgq", "qkeras" or "keras"."""
        return [layer.cls for layer in self.layers if layer.module.partition(".")[0] == package]

    @property
    def is_quantized(self) -> bool:
        """Whether a layer is of HGQ2 or QKeras, so that it is a network and no float weights alone."""
        return bool(self.of("hgq") or self.of("qkeras"))


def weights_beside(path: Path) -> Path | None:
    """The HDF5 file with the weights of a model whose configuration is `path`; None where there is none.

    >>> weights_beside(Path("nowhere.json"))
    """
    names = (path.with_name(f"{path.stem}{end}") for end in ("_weights.h5", ".weights.h5"))
    return next((found for found in names if path.suffix.lower() == ".json" and found.is_file()), None)


def read(path: str | os.PathLike[str]) -> Model:
    """Reads the file `path`; raises InteropError, one sentence that names it, where it is damaged or no model of this kind.

    Args:
      path: a `.keras` file, a whole model in one HDF5 file, or NAME.json with NAME_weights.h5 (or NAME.weights.h5) beside it.
    """
    path = Path(path)
    raw = path.read_bytes()
    with one_sentence(path):
        if path.suffix.lower() == ".json":
            beside = weights_beside(path)
            if beside is None:
                raise InteropError(f"there are no weights beside it; {path.stem}_weights.h5 is needed")
            return _in_hdf5(path, beside.read_bytes(), read_json(raw), hashlib.sha256(raw).hexdigest())
        if raw.startswith(HDF5):
            return _in_hdf5(path, raw, None, hashlib.sha256(raw).hexdigest())
        members = _members(raw)
        config, metadata = read_json(members["config.json"]), read_json(members["metadata.json"])
        weights, names = _weights(members["model.weights.h5"])
        body, sequential = _body(config)
        layers = tuple(_layers(body["layers"], weights, names, sequential))
        return _model(path, hashlib.sha256(raw).hexdigest(), metadata, layers, body, sequential)


def _body(config: Any) -> tuple[dict[str, Any], bool]:
    """What a configuration holds, and whether its layers are in a row; the oldest files have a list of them."""
    kind, body = config["class_name"], config["config"]
    if kind not in ("Functional", "Model", "Sequential"):
        raise InteropError(f"the model is of class {kind}; Functional and Sequential are legal")
    return ({"layers": body} if isinstance(body, list) else body), kind == "Sequential"


def _model(path: Path, sha256: str, metadata: dict[str, Any], layers: tuple[Layer, ...], body: dict, sequential: bool) -> Model:
    if not sequential:
        return Model(path, sha256, metadata, _sorted(layers), _endpoints(body["input_layers"]), _endpoints(body["output_layers"]))
    first = layers[0]
    shape = first.config.get("batch_input_shape") or first.config.get("batch_shape")
    if first.cls != "InputLayer" and shape:  # that of the rows, where no layer stands for these
        rows = Layer(f"{first.name}_input", "InputLayer", "keras", {"batch_input_shape": shape}, {}, (), ())
        layers = (rows, dataclasses.replace(first, inputs=(rows.name,), arguments=({"tensor": rows.name},)), *layers[1:])
    return Model(path, sha256, metadata, _sorted(layers), (layers[0].name,), (layers[-1].name,))


def _in_hdf5(path: Path, raw: bytes, config: dict[str, Any] | None, sha256: str) -> Model:
    """Weights have names, trained ones first; the configuration is an attribute, or stands in another file."""
    try:
        with opened(raw) as file:
            groups = file.get("model_weights", file)
            text = file.attrs.get("model_config")
            if config is None and text is None:
                raise InteropError("it is an HDF5 file, and no model of Keras: it has no 'model_config'")
            body, sequential = _body(config or read_json(text))
            layers = []
            for n, entry in enumerate(body["layers"]):
                cls, name = str(entry["class_name"]).rpartition(">")[2], entry["config"]["name"]
                module = str(entry.get("module") or ("qkeras" if re.match(r"Q[A-Z]", cls) else "keras"))
                module = "hgq" if entry["class_name"].startswith("hgq") else module
                layer = Layer(name, cls, module, entry["config"], _named(groups.get(name), name, len(raw)), (), ())
                layers.append(_connected(layer, entry, body["layers"], n, sequential))
            about = {"keras_version": str(file.attrs.get("keras_version"))}
    except (OSError, RuntimeError) as error:
        raise InteropError(f"it is damaged: {error}") from error
    return _model(path, sha256, about, tuple(layers), body, sequential)


def _connected(layer: Layer, entry: dict, entries: list[dict], n: int, sequential: bool) -> Layer:
    """The layer, whose weights are finite, with what its one call got."""
    for path, value in layer.weights.items():
        # an infinity is the legal decay speed of ranges
        if np.issubdtype(value.dtype, np.floating) and (np.any(np.isnan(value)) or (value.ndim and not np.all(np.isfinite(value)))):
            raise layer.refuse(f"has a NaN or an infinity in its weight {path}")
    if sequential:
        arguments = ({"tensor": entries[n - 1]["config"]["name"]},) if n else ()
    else:
        arguments = _arguments(layer, entry["inbound_nodes"])
    return dataclasses.replace(layer, arguments=arguments, inputs=tuple(_tensors(arguments)))


def _named(group: Any, name: str, size: int) -> dict[str, np.ndarray]:
    """Weights of a layer by the paths that a .keras file has for them, from their names: in both, trained variables come first.

    A quantizer of the layer `d`, as ``d/d_iq/fixed_point_quantizer_kif_3/f``, lies in ``iq/quantizer``; one of several inputs, as
    ``a/multiple_quantizers/quantizer_1/fixed_point_quantizer_kif_4/f``, in ``iq/quantizers/quantizer_1/quantizer``.
    """
    counts: Counter[str] = Counter()
    found: dict[str, np.ndarray] = {}
    if group is None:
        return found
    for path in group.attrs["weight_names"]:
        path = path.decode() if isinstance(path, bytes) else str(path)  # bytes of old versions of h5py
        item = group[path]
        if item.external or item.is_virtual or item.nbytes > max(size, 64):
            raise InteropError(f"its weight {path[:80]!r} claims {in_words(item.nbytes)}, but the file has {in_words(size)}")
        whole = path.split("/")  # of a Sequential model with the model's name in front
        parts = whole[whole.index(name) + 1 : -1] if name in whole else []
        if parts[:1] == ["multiple_quantizers"]:
            under = f"iq/quantizers/{parts[1]}/quantizer/"
        else:
            under = f"{parts[0].removeprefix(f'{name}_')}/quantizer/" if parts else ""
        found[f"{under}vars/{counts[under]}"] = np.asarray(item[()])
        counts[under] += 1
    return found


@contextlib.contextmanager
def one_sentence(path: Path):
    """Turns what goes wrong inside the block into one InteropError that begins with `path`."""
    try:
        yield
    except (InteropError, DescriptionError, ArchiveError) as error:
        raise InteropError(f"{path}: {error}") from error
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise InteropError(f"{path} is damaged, or not as Keras writes it: {error!r}") from error


def _members(raw: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            present = archive.namelist()
            missing = [name for name in ("config.json", "metadata.json", "model.weights.h5") if name not in present]
            if missing:
                raise InteropError(f"it has no member {missing[0]}, which a .keras file has")
            needed = ("config.json", "metadata.json", "model.weights.h5")
            check_memory(sum(archive.getinfo(name).file_size for name in needed), "its content")
            return {name: archive.read(name) for name in needed}
    except ArchiveError as error:
        raise InteropError(str(error)) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, OverflowError) as error:
        raise InteropError(f"it is not a sound .keras file, which is a zip archive ({first_line(error)})") from error


def _weights(raw: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays of the h5 file but the optimizer's, by path, and the layer names that Keras notes beside them."""
    arrays, names = {}, {}

    def visit(path, item):
        if hasattr(item, "nbytes") and path.startswith("layers/"):
            if item.external or item.is_virtual or item.nbytes > max(len(raw), 64):
                raise InteropError(f"its weight {path[:80]!r} claims {in_words(item.nbytes)}, but the file has {in_words(len(raw))}")
            arrays[path] = np.asarray(item[()])
        elif path.startswith("layers/") and "name" in item.attrs:
            names[path] = str(item.attrs["name"])

    try:
        with opened(raw) as file:
            file.visititems(visit)
    except InteropError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise InteropError(f"its model.weights.h5 is damaged: {error}") from error
    return arrays, names


def _layers(entries: list[dict], weights: dict[str, np.ndarray], names: dict[str, str], sequential: bool):
    """The layers in the order of the file. Keras files weights under the class in snake case, numbered in this order."""
    counts: Counter[str] = Counter()
    for n, entry in enumerate(entries):
        cls, name = entry["class_name"], entry["config"]["name"]
        registered = str(entry.get("registered_name")).partition(">")[0]  # "hgq2" up to HGQ2 0.1.6
        module = "hgq" if registered in ("hgq", "hgq2") else str(entry.get("module"))
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", cls).lower()
        folder = f"layers/{snake}_{counts[snake]}" if counts[snake] else f"layers/{snake}"
        counts[snake] += 1
        found = names.get(f"{folder}/vars", name)
        own = {path[len(folder) + 1 :]: value for path, value in weights.items() if path.startswith(folder + "/")}
        layer = Layer(name, cls, module, entry["config"], own, (), ())
        if found != name:
            raise layer.refuse(f"has no weights in the file: {folder} belongs to {found!r}")
        yield _connected(layer, entry, entries, n, sequential)


def _arguments(layer: Layer, nodes: list) -> tuple[Any, ...]:
    if layer.cls == "InputLayer":
        return ()
    if len(nodes) != 1:
        raise layer.refuse(f"is called {len(nodes)} times; in hardware it stands once, so that one call is legal")
    if isinstance(nodes[0], list):
        return tuple(_of_keras_2(layer, nodes[0]))
    if list(_tensors(_plain(layer, list(nodes[0]["kwargs"].values())))):
        raise layer.refuse(f"gets a tensor by keyword ({', '.join(nodes[0]['kwargs'])}); tensors by position are legal")
    return tuple(_plain(layer, nodes[0]["args"]))


def _of_keras_2(layer: Layer, call: list):
    """Each tensor of the call is [layer, call of that, result of that, other arguments]."""
    for name, node, output, *others in call:
        if node or output:
            raise layer.refuse(f"reads result {output} of call {node} of {name!r}; layers with one call and one result are legal")
        odd = [key for key, value in (others[0] if others else {}).items() if isinstance(value, list) and value]
        if odd:
            raise layer.refuse(f"gets a tensor by keyword ({odd[0]}); tensors by position are legal")
        yield {"tensor": name}


def _plain(layer: Layer, value: Any) -> Any:
    """Arguments of a call without Keras's wrapping: tensors, slices and ellipses as dicts of one key."""
    if isinstance(value, list):
        return [_plain(layer, part) for part in value]
    if not isinstance(value, dict) or "class_name" not in value:
        return value
    config = value["config"]
    if value["class_name"] == "__keras_tensor__":
        name, node, output = config["keras_history"]
        if node or output:
            raise layer.refuse(f"reads result {output} of call {node} of {name!r}; layers with one call and one result are legal")
        return {"tensor": name}
    if value["class_name"] == "__slice__":
        return {"slice": (config["start"], config["stop"], config["step"])}
    if value["class_name"] == "__ellipsis__":
        return {"ellipsis": ()}
    if value["class_name"] == "__tuple__":
        return _plain(layer, config["items"])
    return value


def _tensors(value: Any):
    if isinstance(value, dict) and "tensor" in value:
        yield value["tensor"]
    for part in value if isinstance(value, list | tuple) else ():
        yield from _tensors(part)


def _endpoints(value: Any) -> tuple[str, ...]:
    """Names in ``["a", 0, 0]``, in ``[["a", 0, 0], ["b", 0, 0]]``, or in such a thing by key."""
    entries = list(value.values()) if isinstance(value, dict) else [value] if isinstance(value[0], str) else value
    if any(node or output for _, node, output in entries):
        raise InteropError("an input or output of the model is not the one result of a layer's one call")
    return tuple(name for name, _, _ in entries)


def _sorted(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    done: dict[str, Layer] = {}
    waiting = {layer.name: layer for layer in layers}
    if len(waiting) != len(layers):
        raise InteropError("two layers have the same name")
    while waiting:
        ready = [layer for layer in waiting.values() if all(name in done for name in layer.inputs)]
        if not ready:
            raise next(iter(waiting.values())).refuse("reads a layer that is not there, or its own result")
        for layer in ready:
            done[layer.name] = waiting.pop(layer.name)
    return tuple(done.values())
