"""A netlist that Yosys mapped to AMD cells, as its JSON: what it is made of, and how many LUT sites that takes."""

import collections
import json
import re
from pathlib import Path
from typing import Any

from hgqjax.synth.settings import SynthError

LUT_INPUTS = 5
"""Inputs that two LUTs in one LUT6 site have together, at most."""
KNOWN = r"LUT[1-6]|INV|MUXF[78]|CARRY4|FD[RSCP]E|SRL16E|SRLC32E|DSP48E2|RAMB(18|36)E2|BUFG|\$scopeinfo"
Net = int | str
Cell = dict[str, Any]


def read(path: Path, top: str) -> dict[str, Any]:
    """The module `top` of a file of Yosys's write_json: its `ports` and `cells`."""
    module = json.loads(path.read_text())["modules"][top]
    return {"ports": module["ports"], "cells": module["cells"]}


def count(cells: dict[str, int]) -> dict[str, int | float]:
    """Columns of `Synthesis` from the cells by type, as Yosys's ``stat -json`` has them.

    Raises: SynthError for a cell that this does not know, so that nothing is left uncounted.

    >>> count({"LUT2": 3, "INV": 1, "LUT1": 1, "FDRE": 2, "RAMB18E2": 1})["lut1"]
    2
    """
    unknown = [kind for kind in cells if not re.fullmatch(KNOWN, kind)]
    if unknown:
        raise SynthError(f"the netlist has {cells[unknown[0]]} cells of type {unknown[0]}, which are not counted")

    def total(pattern: str) -> int:
        return sum(number for kind, number in cells.items() if re.fullmatch(pattern, kind))

    found: dict[str, int | float] = {f"lut{k}": total(f"LUT{k}") for k in range(1, 7)}
    found["lut1"] += total("INV")
    found["lut"] = sum(found[f"lut{k}"] for k in range(1, 7))
    found |= {"muxf7": total("MUXF7"), "muxf8": total("MUXF8"), "ff": total("FD.E"), "srl": total("SRL.*"), "carry4": total("CARRY4")}
    return found | {"dsp": total("DSP48E2"), "bram": total("RAMB36E2") + total("RAMB18E2") / 2}


def carry8(cells: dict[str, Cell]) -> int:
    """CARRY8 that the chains of CARRY4 fill: two in a row make one, and no two chains share one."""
    carries = [cell["connections"] for cell in cells.values() if cell["type"] == "CARRY4"]
    before = {c["CO"][3]: n for n, c in enumerate(carries)}
    follower = {before[c["CI"][0]]: n for n, c in enumerate(carries) if c["CI"][0] in before}
    followers, blocks = set(follower.values()), 0
    for n in range(len(carries)):
        if n in followers:
            continue
        length = 1
        while n in follower:
            n, length = follower[n], length + 1
        blocks += -(-length // 2)
    return blocks


def sites(cells: dict[str, Cell]) -> int:
    """LUT6 sites that the LUTs and shift registers take, when LUTs of few inputs share a site: an estimate of Vivado's "CLB LUTs".

    A site holds two LUTs that have at most five inputs together (LUT6_2). The propagate input of a carry bit comes from the site's O6
    output only, so two LUTs that both drive one never share. Paired are, in this order: the two LUTs that drive the propagate and the
    generate input of one carry bit; then each LUT, those of many inputs first, with the one with which it shares most inputs, at least
    one (Vivado combines LUTs that share inputs; what it does for the sake of timing or congestion is not modelled).
    """
    luts = [(cell["connections"]["O"][0], _inputs(cell)) for cell in cells.values() if _is_lut(cell)]
    driver = {net: n for n, (net, _) in enumerate(luts)}
    inputs = [nets for _, nets in luts]
    mates: dict[int, int] = {}
    propagate: set[int] = set()
    for cell in cells.values():
        if cell["type"] == "CARRY4":
            for s, d in zip(cell["connections"]["S"], cell["connections"]["DI"], strict=True):
                a, b = driver.get(s), driver.get(d)
                if a is not None:
                    propagate.add(a)
                if a is not None and b is not None and a != b and not {a, b} & mates.keys() and len(inputs[a] | inputs[b]) <= LUT_INPUTS:
                    mates |= {a: b, b: a}
    _pair(inputs, propagate, mates)
    return len(luts) - len(mates) // 2 + sum(cell["type"].startswith("SRL") for cell in cells.values())


def _pair(inputs: list[frozenset[Net]], propagate: set[int], mates: dict[int, int]) -> None:
    readers = collections.defaultdict(list)
    small = [n for n, nets in enumerate(inputs) if len(nets) <= LUT_INPUTS]
    for n in small:
        for net in inputs[n]:
            readers[net].append(n)
    for n in sorted(small, key=lambda n: -len(inputs[n])):
        if n in mates:
            continue
        shared = collections.Counter(m for net in inputs[n] for m in readers[net] if m != n and m not in mates)
        fit = [
            (number, len(inputs[m]), -m)
            for m, number in shared.items()
            if len(inputs[n] | inputs[m]) <= LUT_INPUTS and not {n, m} <= propagate
        ]
        if fit:
            m = -max(fit)[2]
            mates |= {n: m, m: n}


def _is_lut(cell: Cell) -> bool:
    return cell["type"] == "INV" or re.fullmatch("LUT[1-6]", cell["type"]) is not None


def _inputs(cell: Cell) -> frozenset[Net]:
    """Nets that a LUT reads; constants take no input."""
    return frozenset(bits[0] for port, bits in cell["connections"].items() if port != "O" and isinstance(bits[0], int))
