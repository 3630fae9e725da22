"""Boards, and the ratio of row schemes that keeps both their LUTs and their DSPs busy."""

import dataclasses

PRECISE = 0.05
"""Share of rows of 8 bits, fixed."""
MACS_OF_DSP = (2, 1)
"""Multiplications of a DSP in a cycle by weights of 4 and of 8 bits; activations have 4."""
LUTS_OF_DSP = 22
"""LUTs that feed a DSP of the fixed-point core, and add up what it gives."""
LUTS_OF_SHIFT = 50
"""LUTs of a multiplication by a power of two: a shift of 4 bits by up to 6 places, its sign, and its accumulator."""
USABLE = 0.65
"""Share of the LUTs that both cores may take; memories, control and routing have the rest."""


@dataclasses.dataclass(frozen=True)
class Board:
    """What an FPGA has; from its data sheet."""

    luts: int
    dsps: int


BOARDS = {
    "XC7Z010": Board(17_600, 80),
    "XC7Z020": Board(53_200, 220),
    "XC7Z045": Board(218_600, 900),
    "XCZU7EV": Board(230_400, 1_728),
    "XCVU9P": Board(1_182_240, 6_840),
    "XCVU13P": Board(1_728_000, 12_288),
}


def row_ratio(board: str) -> tuple[float, float, float]:
    r"""Shares (powers of two, fixed 4 bits, fixed 8 bits) of the rows of every layer that take both cores of a board the same time.

    A core of all D DSPs multiplies the fixed-point rows, two by 4 bits or one by 8 in a cycle; a core of LUTs, which gets `USABLE` of the L
    LUTs less `LUTS_OF_DSP` for each DSP, shifts for the rows of powers of two. With :math:`F_8` = 5 % of the rows, P of powers of two and
    :math:`F_4 = 0.95 - P` both end at once for

    .. math:: P / N = (F_4 / 2 + F_8) / D, \qquad N = (USABLE\, L - LUTS\_OF\_DSP\, D) / LUTS\_OF\_SHIFT

    rounded to whole percents. The accounting is ours and its constants are round estimates, no synthesis results, with `USABLE` such that
    XC7Z020 has the 60 : 35 : 5 of the papers. They found 65 : 30 : 5 for XC7Z045 on hardware; this has 60 : 35 : 5 for it too, as its LUTs
    for each DSP are the same within 0.5 %. Source of the idea: Chang et al., arXiv:2111.00155.

    Raises: ValueError for a board that is not in `BOARDS`.

    >>> row_ratio("XC7Z020")
    (0.6, 0.35, 0.05)
    """
    if board not in BOARDS:
        raise ValueError(f"board is {board!r}; known are {', '.join(BOARDS)}, or give the ratio itself")
    luts, dsps = dataclasses.astuple(BOARDS[board])
    shifters = max(USABLE * luts - LUTS_OF_DSP * dsps, 0.0) / LUTS_OF_SHIFT
    four, eight = MACS_OF_DSP
    share = ((1 - PRECISE) / four + PRECISE / eight) / (dsps / max(shifters, 1e-9) + 1 / four)
    powers = round(min(share, 1 - PRECISE), 2)
    return powers, round(1 - PRECISE - powers, 2), PRECISE
