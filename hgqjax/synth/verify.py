"""The mapped netlist against the exact evaluator: the stimulus of the RTL's own test bench, a row each clock, == its expected words."""

from collections.abc import Sequence
from typing import Any

from hgqjax.synth.designs import Rtl
from hgqjax.synth.settings import SynthError, ToolError
from hgqjax.synth.simulate import Simulator

CLOCKS = 4
"""Clocks on which rows go in, one after the other; so many rows at a time that all get in."""


def check(rtl: Rtl, module: dict[str, Any], rows: int) -> dict[str, int]:
    """``rows_checked`` and ``differing_words`` (0), for `rows` rows, or all that the project has where these are fewer.

    Args:
      module: the mapped netlist, of `netlist.read`.
    Raises: ToolError where a word differs; SynthError where the project has no test bench, or its netlist cannot be simulated.
    """
    given, expected = (_words(rtl, name) for name in ("stimulus.hex", "expected.hex"))
    rows = min(rows, len(given))
    chosen = [n * len(given) // rows for n in range(rows)]
    lanes = -(-rows // CLOCKS)
    batches = [chosen[start : start + lanes] for start in range(0, rows, lanes)]
    sim, words = Simulator(module, lanes), []
    if {"model_inp", "model_out"} - sim.ports.keys():
        raise SynthError(f"{rtl.top} has not the ports model_inp and model_out, which the check of its netlist feeds and reads")
    for clock in range(len(batches) + rtl.latency_cycles):
        if clock < len(batches):
            sim.write("model_inp", to_bits([given[n] for n in batches[clock]], len(sim.ports["model_inp"])))
        sim.settle()
        if rtl.latency_cycles:
            sim.tick()
            sim.settle()
        if clock >= rtl.latency_cycles:
            words += to_words(sim.read("model_out"), len(batches[clock - rtl.latency_cycles]))
    wrong = [(n, element) for n, word in zip(chosen, words, strict=True) for element in _differing(rtl, word ^ expected[n])]
    if wrong:
        (row, element), total = wrong[0], rows * len(rtl.output_formats)
        first = f"first: row {row} of the test bench, output element {element}"
        raise ToolError(f"the mapped netlist differs from the model in {len(wrong)} of {total} words; {first}")
    return {"rows_checked": rows, "differing_words": 0}


def to_bits(words: Sequence[int], width: int) -> list[int]:
    """For each bit of `words` a whole number whose bit n is that of word n.

    >>> to_bits([1, 3], 2)
    [3, 2]
    """
    return [sum((word >> bit & 1) << n for n, word in enumerate(words)) for bit in range(width)]


def to_words(bits: Sequence[int], rows: int) -> list[int]:
    """The words of which `to_bits` gave the bits.

    >>> to_words([3, 2], 2)
    [1, 3]
    """
    return [sum((bit >> n & 1) << k for k, bit in enumerate(bits)) for n in range(rows)]


def _words(rtl: Rtl, name: str) -> list[int]:
    path = rtl.folder / rtl.testbench / name
    try:
        return [int(line, 16) for line in path.read_text().split()]
    except (OSError, ValueError) as error:
        raise SynthError(f"{rtl.folder} has no test bench to check its netlist with ({error}); leave verify out") from error


def _differing(rtl: Rtl, bits: int) -> list[int]:
    """Elements of the output with a bit that differs."""
    found, low = [], 0
    for n, width in enumerate(sum(kif) for kif in rtl.output_formats):
        if bits >> low & ((1 << max(width, 0)) - 1):
            found.append(n)
        low += max(width, 0)
    return found
