"""What a mapped netlist is made of, the LUT sites that it takes, and its simulation, on netlists of a few cells."""

import itertools

import pytest

from hgqjax.synth import netlist
from hgqjax.synth.settings import SynthError
from hgqjax.synth.simulate import Simulator


def lut(out, *inputs, init=None):
    pins = {f"I{n}": [net] for n, net in enumerate(inputs)} | {"O": [out]}
    ways = dict.fromkeys(pins, "input") | {"O": "output"}
    return {"type": f"LUT{len(inputs)}", "connections": pins, "port_directions": ways, "parameters": {"INIT": init or ""}}


def carry(s, di, o, co, ci="0", cyinit="0"):
    pins = {"S": s, "DI": di, "O": o, "CO": co, "CI": [ci], "CYINIT": [cyinit]}
    ways = {name: "output" if name in ("O", "CO") else "input" for name in pins}
    return {"type": "CARRY4", "connections": pins, "port_directions": ways}


def cells(*found):
    return {f"c{n}": cell for n, cell in enumerate(found)}


def test_counts_are_complete():
    found = netlist.count({"LUT1": 1, "INV": 2, "LUT6": 3, "FDRE": 4, "FDSE": 1, "SRL16E": 5, "CARRY4": 6, "MUXF7": 7, "MUXF8": 8})
    assert found == {
        **{f"lut{k}": 0 for k in range(2, 6)},
        **{"lut1": 3, "lut6": 3, "lut": 6, "muxf7": 7, "muxf8": 8, "ff": 5, "srl": 5, "carry4": 6, "dsp": 0, "bram": 0},
    }
    with pytest.raises(SynthError, match=r"2 cells of type \$mul, which are not counted"):
        netlist.count({"LUT1": 1, "$mul": 2})


@pytest.mark.parametrize(
    ("found", "sites"),
    [
        ([lut(10, 1, 2, 3, 4, 5), lut(11, 1, 2, 3, 4, 5)], 1),
        ([lut(10, 1, 2, 3, 4, 5), lut(11, 1, 2, 3, 4, 6)], 2),  # six inputs together
        ([lut(10, 1, 2, 3), lut(11, 3, 4, 5)], 1),
        ([lut(10, 1, 2), lut(11, 3, 4)], 2),  # nothing shared
        ([lut(10, 1, 2, 3, 4, 5, 6), lut(11, 1, 2)], 2),
        ([lut(10, 1, 2), lut(11, 1, 2), lut(12, 1, 2)], 2),
        ([lut(10, 1, "1"), lut(11, 2, "0"), lut(12, 1, 2)], 2),  # constants are no inputs
    ],
)
def test_small_luts_share_a_site(found, sites):
    assert netlist.sites(cells(*found)) == sites


def test_two_propagate_inputs_never_share_a_site():
    both = [lut(10, 1, 2), lut(11, 1, 2)]
    assert netlist.sites(cells(*both)) == 1
    chain = carry([10, 11, "0", "0"], [1, 1, "0", "0"], [20, 21, 22, 23], [30, 31, 32, 33])
    assert netlist.sites(cells(*both, chain)) == 2
    generate = [lut(12, 3, 4), lut(13, 5, 6)]  # each with the propagate input of its own bit, although nothing is shared
    chain = carry([10, 11, "0", "0"], [12, 13, "0", "0"], [20, 21, 22, 23], [30, 31, 32, 33])
    assert netlist.sites(cells(*both, *generate, chain)) == 2


def test_carry8_are_counted_by_chain():
    def one(n, ci="0"):
        return carry([1] * 4, [1] * 4, [100 + 4 * n + k for k in range(4)], [200 + 4 * n + k for k in range(4)], ci)

    assert netlist.carry8(cells(one(0), one(1), one(2))) == 3
    assert netlist.carry8(cells(one(0), one(1, 203), one(2, 207))) == 2
    assert netlist.carry8(cells(one(2, 207), one(1, 203), one(0), one(3))) == 3  # in any order


def test_simulated_luts_follow_their_tables():
    truth = "10010110"  # its first bit is of all ones
    ports = {"a": {"bits": [2, 3, 4], "direction": "input"}, "y": {"bits": [5, 6], "direction": "output"}}
    invert = {"type": "INV", "connections": {"I": [5], "O": [6]}, "port_directions": {"I": "input", "O": "output"}}
    sim = Simulator({"ports": ports, "cells": cells(invert, lut(5, 2, 3, 4, init=truth))}, rows=8)
    sim.write("a", [sum(((row >> bit) & 1) << row for row in range(8)) for bit in range(3)])
    sim.settle()
    assert sim.read("y") == [int(truth, 2), int(truth, 2) ^ 255]


def test_simulated_carry_adds():
    rows = list(itertools.product(range(16), range(16)))
    ports = {"a": {"bits": [2, 3, 4, 5], "direction": "input"}, "b": {"bits": [6, 7, 8, 9], "direction": "input"}}
    ports |= {"y": {"bits": [20, 21, 22, 23, 33], "direction": "output"}}
    found = [lut(10 + n, 2 + n, 6 + n, init="0110") for n in range(4)]
    chain = carry([10, 11, 12, 13], [2, 3, 4, 5], [20, 21, 22, 23], ["x", "x", "x", 33], cyinit="1")
    sim = Simulator({"ports": ports, "cells": cells(chain, *found)}, rows=len(rows))
    for port, side in (("a", 0), ("b", 1)):
        sim.write(port, [sum(((row[side] >> bit) & 1) << n for n, row in enumerate(rows)) for bit in range(4)])
    sim.settle()
    bits = sim.read("y")
    assert [sum(((bit >> n) & 1) << k for k, bit in enumerate(bits)) for n in range(len(rows))] == [a + b + 1 for a, b in rows]


def test_what_cannot_be_simulated_is_refused():
    block = {"type": "DSP48E2", "connections": {"P": [2]}, "port_directions": {"P": "output"}}
    with pytest.raises(SynthError, match="has a DSP48E2, which its check does not simulate"):
        Simulator({"ports": {}, "cells": cells(block)}, rows=1)
    loop = [lut(2, 3, init="01"), lut(3, 2, init="01")]
    with pytest.raises(SynthError, match="a loop without a register"):
        Simulator({"ports": {}, "cells": cells(*loop)}, rows=1)
