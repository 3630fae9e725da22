"""What goes over the ports of an RTL top module: rows to packed words and back, and the files of hexadecimal words of the test bench."""

import dataclasses
from typing import Any

import numpy as np

from hgqjax.description import integers as exact
from hgqjax.description.model import ModelDescription
from hgqjax.export import gate
from hgqjax.export.rtl.ports import Port, input_ports, port_values


@dataclasses.dataclass(frozen=True)
class Bus:
    """A packed port: element n has format `kif[n]` (k, i, f), the first element in the lowest bits."""

    kif: tuple[tuple[int, int, int], ...]

    @property
    def widths(self) -> list[int]:
        """Bits of each element."""
        return [sum(kif) for kif in self.kif]

    @property
    def width(self) -> int:
        """Bits of the port."""
        return sum(self.widths)

    def pack(self, integers: np.ndarray) -> np.ndarray:
        """Whole numbers (rows, elements), each taken modulo its width, as one Python int a row."""
        words, offset = np.zeros(len(integers), object), 0
        for n, width in enumerate(self.widths):
            if width:
                words |= (integers[:, n].astype(object) & ((1 << width) - 1)) << offset
                offset += width
        return words

    def unpack(self, words: np.ndarray) -> np.ndarray:
        """Whole numbers (rows, elements), Python ints, of packed words."""
        out, offset = np.zeros((len(words), len(self.kif)), object), 0
        for n, (width, (k, _, _)) in enumerate(zip(self.widths, self.kif, strict=True)):
            if width:
                part = (words >> offset) & ((1 << width) - 1)
                out[:, n] = part - ((part >> (width - 1)) << width) if k else part
                offset += width
        return out


def stimulus_values(description: ModelDescription, x: Any) -> np.ndarray:
    """Rows as values of all ports, one after the other: float64 (rows, elements)."""
    parts = x if isinstance(x, tuple) else (x,)
    ports: tuple[Port, ...] = input_ports(description)
    return np.concatenate([port_values(port, np.asarray(part, np.float64)) for port, part in zip(ports, parts, strict=True)], 1)


def stimulus_words(description: ModelDescription, x: Any, inputs: Bus) -> np.ndarray:
    """Rows as packed words of the input port. The port may have fewer bits than `input_ports` says: those that nothing reads."""
    f = np.array([f for _, _, f in inputs.kif], np.int64)
    values = np.floor(np.ldexp(stimulus_values(description, x), f))
    return inputs.pack(values.astype(np.int64))


def output_integers(description: ModelDescription, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Values (rows, elements of all outputs) as the words that `gate.check_words` takes."""
    parts, start = [], 0
    for name in description.outputs:
        grid = description.grids[name]
        parts.append(gate.to_words(values[:, start : start + grid.f.size], grid))
        start += grid.f.size
    return tuple(parts)


def bus_integers(description: ModelDescription, words: np.ndarray, outputs: Bus) -> tuple[np.ndarray, ...]:
    """Packed words of the output port as whole numbers on the grids of the outputs, exact.

    The port is never coarser than it must be, but may be finer or coarser than the grid; a word that the grid does not have stays a
    fraction, which the gate reports.
    """
    integers, parts, start = outputs.unpack(words), [], 0
    f_port = np.array([f for _, _, f in outputs.kif], np.int64)
    for name in description.outputs:
        f = description.grids[name].f.astype(np.int64)
        mine = slice(start, start + f.size)
        shift, m = f.ravel() - f_port[mine], integers[:, mine]
        shifted = exact.shift_left(m, np.maximum(shift, 0))
        whole = shifted.astype(object) >> np.maximum(-shift, 0).astype(object)
        lost = np.any(whole << np.maximum(-shift, 0).astype(object) != shifted)
        exact_words = exact.narrow(whole) if not lost else np.ldexp(shifted.astype(np.float64), np.minimum(shift, 0))
        parts.append(exact_words.reshape(len(words), *f.shape))
        start += f.size
    return tuple(parts)


def expected_words(description: ModelDescription, x: Any, outputs: Bus) -> np.ndarray:
    """Packed words of the output port that the exact evaluator demands."""
    values = gate.expected(description, x)
    f_port, parts, start = np.array([f for _, _, f in outputs.kif], np.int64), [], 0
    for name in description.outputs:
        f = description.grids[name].f.astype(np.int64)
        shift = f_port[start : start + f.size] - f.ravel()
        words = values[name].reshape(len(values[name]), -1)
        words = exact.shift_left(words, np.maximum(shift, 0)).astype(object) >> np.maximum(-shift, 0).astype(object)
        parts.append(words)
        start += f.size
    return outputs.pack(np.concatenate(parts, 1))


def hex_lines(words: np.ndarray, width: int) -> str:
    """One word a line, as $readmemh and VHDL's hread take them."""
    digits = -(-width // 4)
    return "".join(f"{int(word):0{digits}x}\n" for word in words)
