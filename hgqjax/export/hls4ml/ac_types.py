"""Back ends whose numbers are Siemens' `ac_types`."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Quantize
from hgqjax.export.gate import ExportError

_HEAD = "template<typename input_t, typename output_t>\nvoid {}(input_t *inp, output_t *out) {{\n"


def mask_function(name: str, shape: Sequence[int], k, b, i, rounding: str, overflow: str) -> str:
    """hls4ml's function that casts each element to a type of its own; rounding and overflow are called as those of `ap_fixed`."""
    lines = []
    for n, (sign, bits, integer) in enumerate(zip(*(np.broadcast_to(v[0], shape).ravel().tolist() for v in (k, b, i)), strict=True)):
        kind = f"ac_fixed<{bits},{integer},{'true' if sign else 'false'},AC_{rounding},AC_{overflow}>"
        lines.append(f"    out[{n}] = {f'{kind}(inp[{n}])' if bits else 0};\n")
    return f"{_HEAD.format(name)}{''.join(lines)}}}\n"


def with_two_bits(rewritten: ModelDescription) -> ModelDescription:
    """One more integer bit where an element has one bit and nothing can leave its range.

    hls4ml 1.3 itself makes two bits of one for `ac_fixed`, with another fractional bit, so that nothing is rounded.
    Raises: ExportError where something can leave the range, as two bits would wrap or saturate elsewhere.
    """
    operations = []
    for op in rewritten.operations:
        if isinstance(op, Quantize) and (op.bits == 1).any():
            reach = dataclasses.replace(op, k=np.ones_like(op.k), i=np.full_like(op.i, 2000)).grid(rewritten.grids[op.inputs[0]])
            low, high = op.limits()
            if np.any((op.bits == 1) & ((reach.low < low) | (reach.high > high))):
                raise ExportError(f"layer {op.name!r} has elements of 1 bit, and values beyond them; this back end has 2 bits and more")
            op = dataclasses.replace(op, i=np.where(op.bits == 1, op.i + 1, op.i))
        operations.append(op)
    return dataclasses.replace(rewritten, operations=tuple(operations))
