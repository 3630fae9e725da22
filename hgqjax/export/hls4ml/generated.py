"""Operations that hls4ml has no layer for, as one layer of its extension API that brings its own C++; the code is written into the project.

A gather is wires. A lookup casts each element to its own type, which loses nothing, and takes the bits of that for the address of a ROM.
"""

import functools
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from hgqjax.description.operations import Gather, Grid, Lookup
from hgqjax.export.hls4ml.types import Fixed, enclosing

KIND = "HgqjaxGenerated"
"""hls4ml's name for the layer."""
BLOCK = 64
"""Elements of the result in one C++ function."""


@functools.cache
def register() -> None:
    """Makes the layer known to hls4ml, once in a process."""
    from hls4ml.backends import get_backend
    from hls4ml.backends.template import FunctionCallTemplate
    from hls4ml.model.attributes import Attribute
    from hls4ml.model.layers import Layer, register_layer
    from hls4ml.model.types import Source

    class HgqjaxGenerated(Layer):
        _expected_attributes: ClassVar = [
            Attribute("function", value_type=str),
            Attribute("cpp", value_type=str),
            Attribute("out_shape", value_type=list),
        ]

        def initialize(self):
            self.add_output_variable(list(self.attributes["out_shape"]))
            self.set_attr("hgqjax_codegen", Source(self.attributes["cpp"]))

    class Call(FunctionCallTemplate):
        def __init__(self):
            super().__init__(HgqjaxGenerated, include_header=[])

        def format(self, node):
            params = self._default_function_params(node)
            namespace = node.model.config.get_writer_config()["Namespace"]
            return "{namespace}::{function}<{input_t}, {output_t}>({input}, {output});".format(namespace=namespace, **params)

    register_layer(KIND, HgqjaxGenerated)
    for name in ("Vivado", "Vitis", "VivadoAccelerator", "Catapult", "oneAPI"):
        get_backend(name).register_template(Call)


def layer(op: Gather | Lookup, name: str, lines: list[str], size_in: int) -> dict:
    """hls4ml's dict of a layer whose C++ function has these `lines`; each line stands by itself."""
    function = f"hgqjax_{name}"
    blocks = [lines[n : n + BLOCK] for n in range(0, len(lines), BLOCK)]
    head = "template <class data_T, class res_T> inline void {}(data_T data[{}], res_T res[{}]) {{\n    #pragma HLS INLINE\n"
    parts = []
    for number, block in enumerate(blocks):
        parts += [head.format(f"{function}_{number}", size_in, op_size(op)), *(f"    {line}\n" for line in block), "}\n\n"]
    calls = "".join(f"    {function}_{number}<data_T, res_T>(data, res);\n" for number in range(len(blocks)))
    parts += [head.format(function, size_in, op_size(op)), calls, "}\n\n"]
    return {"class_name": KIND, "function": function, "cpp": "".join(parts), "out_shape": list(op.shape)}


def op_size(op: Gather | Lookup) -> int:
    """Elements of the result."""
    return int(np.prod(op.shape))


def gather_lines(op: Gather) -> list[str]:
    """A wire or a 0 for each element."""
    return [f"res[{n}] = {f'data[{source}]' if source >= 0 else 0};" for n, source in enumerate(op.index.ravel().tolist())]


def lookup_lines(op: Lookup, source: Grid, result: Fixed) -> Iterator[str]:
    """A table for each element, in raw bits of the type of the result; where all that occur are one, that word."""
    sign = "" if result.k else "u"
    word = f"ap_{sign}int<{result.width}>"
    first, last, step = op.reached(source)
    live = result.k + result.i + result.f > 0
    for n, where in enumerate(np.ndindex(op.shape)):
        words = op.words[op.start[n] : op.start[n + 1]]
        shift = result.f - int(op.f[where])
        seen = words[first[n] : last[n] + 1 : step[n]]
        if seen.min() == seen.max():
            yield f"res[{n}].range() = {word}({_raw(int(seen[0]), shift) if live else 0}LL);"
            continue
        kind = enclosing(Grid(*(np.asarray(v[where]).reshape(1) for v in source)))
        entries = [_raw(int(v), shift) if live else 0 for v in words[_entries(op, n, where, kind)]]
        table, key = f"table_{n}", f"ap_{'' if kind.k else 'u'}fixed<{kind.width}, {kind.k + kind.i}>"
        parts = f"static const {_storage(entries)} {table}[{len(entries)}] = {{{', '.join(map(str, entries))}}};"
        parts += f" {key} key_{n} = data[{n}]; ap_uint<{kind.width}> raw_{n} = key_{n}.range();"
        yield f"{parts} res[{n}].range() = {word}({table}[raw_{n}.to_uint()]);"


def _entries(op: Lookup, n: int, where: tuple[int, ...], kind: Fixed) -> np.ndarray:
    """For all raw bits of a key, what is not negative first, the entry; those that never occur have any."""
    raw = np.arange(2**kind.width)
    value = raw - np.where(raw >= 2 ** (kind.width - 1), 2**kind.width, 0) if kind.k else raw
    index = np.floor(np.ldexp(value.astype(np.float64), int(op.f_in[where]) - kind.f)).astype(np.int64) - int(op.low[where])
    return np.clip(index, 0, op.sizes[n] - 1)


def _raw(word: int, shift: int) -> int:
    """A word on the grid of the result; an entry that never occurs may lie off it, and be anything."""
    return word << shift if shift >= 0 else word >> -shift


def _storage(entries: list[int]) -> str:
    """The smallest C++ integer type that holds all entries; bits that no result has are not read."""
    bits = max((v if v >= 0 else -v - 1).bit_length() for v in entries) + 1
    return next((name for most, name in ((8, "signed char"), (16, "short"), (32, "int")) if bits <= most), "long long")
