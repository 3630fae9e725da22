"""The mapped netlist, simulated clock by clock in exact logic: a check that synthesis has kept every word.

Rows are the bits of Python's whole numbers, so each cell is evaluated once for all of them.
"""

import functools
import graphlib
from collections.abc import Callable, Sequence
from typing import Any

from hgqjax.synth.settings import SynthError

Step = tuple[Callable[..., int], int, tuple[int, ...]]
ZERO, ONE = 0, 1
"""Places of the constants among the nets; an undefined bit counts as 0."""
REGISTERS = {"FDRE": ("R", False), "FDSE": ("S", True), "FDCE": ("CLR", False), "FDPE": ("PRE", True)}
"""Pin that resets or sets, and what to; those of the last two act without a clock, and are only taken when tied to 0."""


class Simulator:
    """A netlist as `netlist.read` gives it, for so many rows at a time; registers begin with 0.

    Raises: SynthError for a cell that this does not simulate (DSP48E2, block RAM, SRLC32E).
    """

    def __init__(self, module: dict[str, Any], rows: int):
        self.mask = (1 << rows) - 1
        self._places: dict[Any, int] = {"0": ZERO, "1": ONE, "x": ZERO, "z": ZERO}
        self._registers: list[tuple[int, int, int, int, bool]] = []
        self._shifts: list[tuple[int, int, list[int]]] = []
        steps: list[Step] = []
        for cell in module["cells"].values():
            steps += self._cell(cell)
        self.ports = {name: [self._place(bit) for bit in port["bits"]] for name, port in module["ports"].items()}
        self._steps = _sorted(steps)
        self.values = [0] * (len(self._places) - 2)
        self.values[ONE] = self.mask

    def settle(self) -> None:
        """Lets the logic follow its inputs and registers."""
        values = self.values
        for function, out, sources in self._steps:
            values[out] = function(*[values[n] for n in sources])

    def tick(self) -> None:
        """A rising edge of the clock."""
        values, new = self.values, []
        for out, data, enable, reset, level in self._registers:
            kept = (values[data] & values[enable]) | (values[out] & ~values[enable])
            new.append((out, (kept | values[reset]) if level else (kept & ~values[reset])))
        for out, data, chain in self._shifts:
            chain[:] = [values[data], *chain[:-1]]
            new.append((out, chain[-1]))
        for out, value in new:
            values[out] = value & self.mask

    def write(self, port: str, bits: Sequence[int]) -> None:
        """Sets an input: for each of its bits, the lowest first, a whole number whose bits are the rows."""
        for place, value in zip(self.ports[port], bits, strict=True):
            self.values[place] = value

    def read(self, port: str) -> list[int]:
        """The bits of a port, as `write` takes them."""
        return [self.values[place] for place in self.ports[port]]

    def _place(self, bit: Any) -> int:
        if bit not in self._places:
            self._places[bit] = len(self._places) - 2  # of four names for two constants
        return self._places[bit]

    def _cell(self, cell: dict[str, Any]) -> list[Step]:
        kind, parameters = cell["type"], cell.get("parameters", {})
        outputs = {name for name, way in cell["port_directions"].items() if way == "output"}
        pins = {
            name: [self._place(object() if name in outputs and isinstance(bit, str) else bit) for bit in bits]  # unconnected ones apart
            for name, bits in cell["connections"].items()
        }
        if kind == "$scopeinfo":
            return []
        if kind == "INV":
            return [(_lut("01", self.mask), pins["O"][0], (pins["I"][0],))]
        if kind.startswith("LUT"):
            size = int(kind[3:])
            table = parameters["INIT"].zfill(1 << size)[-(1 << size) :]
            return [(_lut(table, self.mask), pins["O"][0], tuple(pins[f"I{n}"][0] for n in range(size)))]
        if kind in ("MUXF7", "MUXF8"):
            return [(_choose, pins["O"][0], (pins["S"][0], pins["I1"][0], pins["I0"][0]))]
        if kind == "CARRY4":
            return _carry(pins)
        if kind in REGISTERS and not parameters.get("IS_C_INVERTED", "0").strip("0"):
            pin, level = REGISTERS[kind]
            if pin in ("R", "S") or pins[pin][0] == ZERO:
                self._registers.append((pins["Q"][0], pins["D"][0], pins["CE"][0], pins[pin][0], level))
                return []
        address = [pins.get(f"A{n}", [-1])[0] for n in range(4)]
        if kind == "SRL16E" and set(address) <= {ZERO, ONE} and pins["CE"][0] == ONE:
            length = 1 + sum((place == ONE) << n for n, place in enumerate(address))
            self._shifts.append((pins["Q"][0], pins["D"][0], [0] * length))
            return []
        raise SynthError(f"the netlist has a {kind}, which its check does not simulate; leave verify out")


@functools.lru_cache(maxsize=4096)
def _lut(table: str, mask: int) -> Callable[..., int]:
    """The function of a truth table, its row of all ones first, as of Verilog's INIT; compiled once for all LUTs of the kind."""
    size = len(table).bit_length() - 1
    names = [f"i{n}" for n in range(size)]

    def expression(rows: str, n: int) -> str:
        if not set(rows) - {"0"}:
            return "0"
        if not set(rows) - {"1"}:
            return str(mask)
        half = len(rows) // 2
        high, low = rows[:half], rows[half:]
        if high == low:
            return expression(low, n - 1)
        a, b = expression(high, n - 1), expression(low, n - 1)
        return f"(i{n}&{a}|({mask}^i{n})&{b})"

    return eval(f"lambda {','.join(names)}: {expression(table, size - 1)}")


def _choose(select: int, one: int, zero: int) -> int:
    return (select & one) | (zero & ~select)


def _xor(a: int, b: int) -> int:
    return a ^ b


def _carry(pins: dict[str, list[int]]) -> list[Step]:
    """A CARRY4 bit by bit: O = S ^ carry, and the next carry is the carry where S, else DI."""
    steps: list[Step] = []
    carry = pins["CI"][0] if pins["CYINIT"][0] == ZERO else pins["CYINIT"][0]
    if pins["CI"][0] != ZERO and pins["CYINIT"][0] != ZERO:
        raise SynthError("the netlist has a CARRY4 with both CI and CYINIT, which its check does not simulate; leave verify out")
    for n in range(4):
        steps.append((_xor, pins["O"][n], (pins["S"][n], carry)))
        steps.append((_choose, pins["CO"][n], (pins["S"][n], carry, pins["DI"][n])))
        carry = pins["CO"][n]
    return steps


def _sorted(steps: list[Step]) -> list[Step]:
    by_out = {step[1]: step for step in steps}
    try:
        order = graphlib.TopologicalSorter({out: [n for n in step[2] if n in by_out] for out, step in by_out.items()}).static_order()
        return [by_out[out] for out in order]
    except graphlib.CycleError as error:
        raise SynthError("the netlist has a loop without a register") from error
