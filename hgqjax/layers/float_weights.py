"""Trained float weights from elsewhere into a quantized model: parameters of Linen, orbax checkpoints, state dicts of Keras and PyTorch."""

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from hgqjax.archives import ArchiveError, Npz
from hgqjax.errors import first_line
from hgqjax.layers import widen
from hgqjax.layers._base import Module
from hgqjax.layers.float_trace import FloatError
from hgqjax.layers.linear import AbstractLinear

COLLECTIONS = ("params", "batch_stats", "model", "state_dict")
"""First parts of paths that only say what is in a tree."""
_PARTS = {"kernel": "kernel", "w": "kernel", "bias": "bias", "b": "bias", "beta": "bias", "scale": "scale", "gamma": "scale"}
_PARTS |= dict.fromkeys(("mean", "moving_mean", "running_mean"), "mean")
_PARTS |= dict.fromkeys(("var", "moving_variance", "moving_var", "running_var"), "variance")
_IGNORED = ("num_batches_tracked", "seed_generator_state", "count", "key")


@dataclasses.dataclass
class Weights:
    """What a float layer holds, under its path: kernel and bias, or scale, bias, mean and variance of a batch norm."""

    path: str
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None
    scale: np.ndarray | None = None
    mean: np.ndarray | None = None
    variance: np.ndarray | None = None


Source = Mapping[str, Any] | str | os.PathLike[str]


def load_weights(model: Module, source: Source, names: Mapping[str, str] | None = None) -> None:
    """Gives the layers of `model` trained float weights; the bits of weights start from them, those of activations by a later `adapt`.

    Args:
      model: its layers with weights are changed, all of them or, where an error is raised, none.
      source: parameters as a tree of names, as Linen and `nnx.State` have them; a flat mapping, as ``state_dict()`` of PyTorch gives it
        (its arrays as numpy; kernels are turned from (out, in, ...) to (..., in, out)); the path of an .npz of either, or of names such as
        "dense/kernel" and "dense/bias" of Keras; the folder of an orbax checkpoint.
      names: layer of `model` -> path in the source. Without it layers of equal names get each other's weights (``.`` and ``/`` count as
        ``_``), or else all in order. The n-th batch norm of the source is that of the n-th layer with a batch norm.

    Raises: FloatError, a ValueError, of one sentence: a source that cannot be read, another number of layers, names that there are not,
    other shapes.

    >>> from hgqjax import layers
    >>> model = layers.Sequential(layers.Dense(2, 1, rngs=nnx.Rngs(0)))
    >>> load_weights(model, {"fc.weight": np.array([[0.5, 0.25]]), "fc.bias": np.array([1.0])})
    >>> model.layer[0].kernel[...].tolist()
    [[0.5], [0.25]]
    """
    groups = read_weights(source)
    linear = [g for g in groups if g.kernel is not None]
    norms = [g for g in groups if g.kernel is None]
    layers = dict(model.named(AbstractLinear))
    found = _assigned(layers, {g.path: g for g in linear}, names)
    with_norm = [name for name, layer in layers.items() if layer.norm is not None]
    if len(norms) != len(with_norm):
        theirs, ours = ", ".join(g.path for g in norms) or "none", ", ".join(with_norm) or "none"
        raise FloatError(f"the float weights have {len(norms)} batch norms ({theirs}), the network {len(with_norm)} ({ours})")
    of_norm = dict(zip(with_norm, norms, strict=True))
    prepared = {name: _prepared(layers[name], found[name], of_norm.get(name), name) for name in layers}
    for name, arrays in prepared.items():
        layers[name].load(*arrays)


def read_weights(source: Source) -> list[Weights]:
    """The layers of a source, in its order; see `load_weights`."""
    groups: dict[str, Weights] = {}
    for path, array in leaves(source):
        *rooms, last = [part for part in re.split(r"[/.]", re.sub(r":\d+$", "", path)) if part]
        while len(rooms) > 1 and rooms[0] in COLLECTIONS:
            rooms = rooms[1:]
        if last in _IGNORED:
            continue
        part = _PARTS.get(last)
        if last == "weight":  # of PyTorch
            part = "scale" if array.ndim == 1 else "kernel"
            array = array if array.ndim == 1 else np.transpose(array, (*range(2, array.ndim), 1, 0))
        if part is None:
            raise FloatError(f"the float weights have {path!r}; names must end in {', '.join(sorted({*_PARTS, 'weight'}))}")
        group = groups.setdefault("/".join(rooms), Weights("/".join(rooms)))
        setattr(group, part, array)
    if not groups:
        raise FloatError("the float weights hold no layer")
    for group in groups.values():
        lacking = group.kernel is None and (group.mean is None or group.variance is None)
        if lacking:
            raise FloatError(f"the float weights of {group.path!r} have neither a kernel nor mean and variance of a batch norm")
    return list(groups.values())


def leaves(source: Source) -> Iterator[tuple[str, np.ndarray]]:
    """(path, array) in order."""
    if isinstance(source, nnx.State):
        source = nnx.to_pure_dict(source)
    if isinstance(source, str | os.PathLike):
        source = _read(Path(source))

    def below(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
        if isinstance(tree, Mapping):
            for name, part in tree.items():
                yield from below(part, (*path, str(name)))
            return
        try:
            array = np.asarray(tree)
        except Exception as error:
            raise FloatError(f"the float weights {'/'.join(path)!r} are no array: {first_line(error)}") from None
        if array.dtype.kind not in "fiub":  # seeds and such
            if path[-1] in _IGNORED:
                return
            raise FloatError(f"the float weights {'/'.join(path)!r} are of type {array.dtype}; numbers are needed")
        yield "/".join(path), array

    yield from below(source, ())


def _read(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        raise FloatError(f"there is no {path}")
    if path.suffix == ".npz":
        try:
            npz = Npz(path)
            return npz.read(npz.names)
        except (ArchiveError, OSError) as error:
            raise FloatError(f"{path}: {error}") from None
    if not path.is_dir():
        raise FloatError(f"{path} holds no float weights; an .npz file or the folder of an orbax checkpoint is needed")
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise FloatError("orbax checkpoints need orbax-checkpoint; pip install 'hgqjax[run]'") from error
    try:
        tree = ocp.PyTreeCheckpointer().restore(path.absolute())
    except Exception as error:  # of many kinds
        raise FloatError(f"{path} cannot be read as an orbax checkpoint ({first_line(error)[:200]})") from None
    return _in_order(tree)


def _in_order(tree: Any) -> Any:
    """Orbax sorts names as text: Dense_10 before Dense_2."""
    if not isinstance(tree, Mapping):
        return tree
    return {
        name: _in_order(tree[name])
        for name in sorted(tree, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])
    }


def _assigned(layers: dict[str, AbstractLinear], groups: dict[str, Weights], names: Mapping[str, str] | None) -> dict[str, Weights]:
    """The weights of each layer."""
    if names is not None:
        odd = [name for name in names if name not in layers] or [path for path in names.values() if path not in groups]
        if odd or set(names) != set(layers):
            what = repr(odd[0]) if odd else f"no {min(set(layers) - set(names))!r}"
            raise FloatError(f"names has {what}; layers are {', '.join(layers)}, the float weights have {', '.join(groups)}")
        return {name: groups[path] for name, path in names.items()}
    same = {re.sub(r"\W", "_", path): group for path, group in groups.items()}
    if set(same) == set(layers):
        return same
    if len(groups) != len(layers):
        raise FloatError(
            f"the float weights have {len(groups)} layers ({', '.join(groups)}), the network {len(layers)} ({', '.join(layers)}); "
            "names= may say which is which"
        )
    return dict(zip(layers, groups.values(), strict=True))


def _prepared(layer: AbstractLinear, weights: Weights, norm: Weights | None, name: str) -> tuple[Any, Any, Any]:
    """Arguments of `AbstractLinear.load`, checked."""
    assert weights.kernel is not None, "it is a layer with a kernel"
    kernel, bias, statistics = weights.kernel, weights.bias, None
    if norm is not None and norm.mean is not None:
        ones = np.ones(norm.mean.shape)
        scale, shift = (default if part is None else part for part, default in ((norm.scale, ones), (norm.bias, 0 * ones)))
        statistics = scale, norm.mean - (0.0 if bias is None else bias), norm.variance
        bias = shift
    if widen.fits(layer, kernel):
        wide = functools.partial(widen.neurons, layer)
        kernel, bias = widen.kernel(layer, widen.Values(kernel)).values, None if bias is None else wide(bias, 0.0)
        statistics = (
            None if statistics is None else tuple(wide(np.asarray(v), own) for v, own in zip(statistics, (1.0, 0.0, 1.0), strict=True))
        )
    for what, array, param in (("kernel", kernel, layer.kernel), ("bias", bias, layer.bias)):
        if array is not None and param is None:
            raise FloatError(f"layer {name!r} has no {what}, but the float weights of {weights.path!r} have one")
        if array is not None and param is not None and array.shape != param[...].shape:
            shape = param[...].shape
            raise FloatError(f"layer {name!r} has a {what} of shape {shape}, the float weights of {weights.path!r} one of {array.shape}")
        if array is not None and not np.all(np.isfinite(array)):
            raise FloatError(f"the float weights of {weights.path!r} have a NaN or infinity")
    kernel, bias = (None if a is None else np.asarray(a, np.float32) for a in (kernel, bias))
    return kernel, bias, None if statistics is None else tuple(np.asarray(a, np.float32) for a in statistics)
