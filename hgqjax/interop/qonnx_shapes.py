"""The nodes of a QONNX network that only move elements, with the factor that all elements share."""

import dataclasses
import math

import numpy as np

from hgqjax.description import operations as o
from hgqjax.interop.qonnx_file import Constant, Node
from hgqjax.interop.qonnx_values import Affine, Builder, Reader, Reading, Tensor, Value, computed


def _settled(value: Value, node: Node, reading: Reading) -> Value:
    """For what moves elements: steps are done, but for a factor that all elements share."""
    build = reading.build
    value = build.ordered(value, False)
    affine = [s for s in value.steps if isinstance(s, Affine)]
    ones = (1,) * len(build.shape(value.name))
    if len(affine) == len(value.steps) and all(np.unique(v).size == 1 for s in affine for v in (s.scale, s.offset)):
        parts = tuple(Affine(*(v.reshape(-1)[:1].reshape(ones) for v in (s.scale, s.offset))) for s in affine)
        return dataclasses.replace(value, steps=parts)
    return Value(build.exact(reading.grounded(value, node), node))


def _moved(value: Value, name: str, build: Builder) -> Value:
    ones = (1,) * len(build.shape(name))
    steps = tuple(s if not isinstance(s, Affine) else Affine(s.scale.reshape(ones), s.offset.reshape(ones)) for s in value.steps)
    return Value(name, False, steps)


def _reshape(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    build, value = reading.build, _settled(computed(tensors[0], node), node, reading)
    shape = build.shape(value.name)
    size = math.prod(shape)
    if node.kind == "Flatten":
        axis = int(node.get("axis", 1))
        if axis != 1:
            raise node.refuse(f"has axis {axis}; 1 is legal, which leaves the batch axis alone")
        wanted = [size]
    elif node.kind == "Squeeze":
        axes = tensors[1].values.tolist() if len(tensors) > 1 and isinstance(tensors[1], Constant) else node.get("axes", ())
        gone = {int(a) % (len(shape) + 1) - 1 for a in axes}
        wanted = [n for axis, n in enumerate(shape) if axis not in gone]
    else:
        target = tensors[1]
        if not isinstance(target, Constant):
            raise node.refuse("has a computed shape; a constant is legal")
        sizes = [int(n) for n in target.values.tolist()]
        wanted = [shape[n - 1] if sizes[n] == 0 else sizes[n] for n in range(1, len(sizes))]
        if -1 in wanted:
            wanted[wanted.index(-1)] = size // max(-math.prod(wanted), 1)
    if math.prod(wanted) != size or not wanted:
        raise node.refuse(f"brings values of shape {shape} to {tuple(wanted)}, where the batch axis must stay the first")
    same = tuple(wanted) == shape
    return value if same else _moved(value, build.add(o.Reshape, node.name, (value.name,), wanted), build)


def _transpose(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    build, value = reading.build, _settled(computed(tensors[0], node), node, reading)
    order = node.get("perm", ())
    if len(order) != len(build.shape(value.name)) + 1 or order[0] != 0:
        raise node.refuse(f"has axes {order}; the batch axis must stay the first")
    return _moved(value, build.transposed(value.name, tuple(n - 1 for n in order[1:])), build)


def _resize(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    """Each element again, a whole number of times along each axis."""
    build, value = reading.build, _settled(computed(tensors[0], node), node, reading)
    shape = build.shape(value.name)
    given = [t.values.ravel() for t in tensors[1:] if isinstance(t, Constant) and t.values.size == len(shape) + 1]
    factors = given[0] if given and given[0].dtype.kind == "f" else np.zeros(1)
    where, nearest = (str(node.get(key, "")) for key in ("coordinate_transformation_mode", "nearest_mode"))
    repeats = node.kind == "Upsample" or where in ("", "half_pixel") or (where == "asymmetric" and nearest == "floor")
    whole = factors[0] == 1 and np.all(factors == np.rint(factors)) and factors.min() >= 1
    if node.get("mode", "nearest") != "nearest" or not repeats or not whole:
        raise node.refuse("is no repetition of elements, which mode nearest with constant whole scales is")
    index = np.arange(math.prod(shape)).reshape(shape)
    for axis, factor in enumerate(factors[1:]):
        index = np.repeat(index, int(factor), axis)
    return _moved(value, build.add(o.Gather, node.name, (value.name,), index.shape, index=index), build)


def _concatenate(node: Node, tensors: list[Tensor], reading: Reading) -> Tensor:
    build = reading.build
    values = [build.ordered(reading.grounded(computed(t, node), node), False) for t in tensors]
    names = tuple(build.exact(v, node) for v in values)
    shape, axis = list(build.shape(names[0])), int(node.get("axis", 1))
    axis = axis - 1 if axis > 0 else axis + len(shape)
    shape[axis] = sum(build.shape(name)[axis] for name in names)
    return Value(build.add(o.Concatenate, node.name, names, shape, axis=axis))


READERS: dict[str, Reader] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze"), _reshape),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Transpose": _transpose,
    "Concat": _concatenate,
}
"""By kind of the node."""
