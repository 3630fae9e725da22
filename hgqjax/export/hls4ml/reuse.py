"""Reuse factors: how often a multiplier works in an inference, for all layers with weights or for single ones."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Conv, Dense, Linear
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml.rewrite import is_wiring

SHARED = ("latency", "resource")
"""Strategies whose multipliers can work more than once."""


def legal_factors(n_in: int, n_out: int, strategy: str) -> list[int]:
    """The reuse factors that hardware of `n_in` times `n_out` weights can have.

    With strategy latency any up to the number of weights. With resource a divisor of `n_in`, or `n_in` times a divisor of `n_out`: the
    multipliers of hls4ml then work in whole columns.

    >>> legal_factors(4, 6, "resource")
    [1, 2, 4, 8, 12, 24]
    """
    if strategy == "latency":
        return list(range(1, n_in * n_out + 1))
    return sorted({*_divisors(n_in), *(n_in * n for n in _divisors(n_out))})


def _divisors(n: int) -> list[int]:
    small = [m for m in range(1, math.isqrt(n) + 1) if n % m == 0]
    return small + [n // m for m in small]


def check_reuse_factors(wanted: Any, by_layer: Mapping[str, Any], strategy: str) -> None:
    """Raises ExportError where a factor is no whole number of at least 1, or the strategy has none but 1."""
    for where, factor in (("", wanted), *((f" of layer {name!r}", factor) for name, factor in by_layer.items())):
        if type(factor) is not int or factor < 1:
            raise ExportError(f"reuse_factor{where} is {factor!r}; a whole number of at least 1 is needed")
        if factor > 1 and strategy not in SHARED:
            raise ExportError(f"reuse_factor{where} is {factor}, but with strategy {strategy} 1 is legal alone; use {' or '.join(SHARED)}")


def reuse_factors(
    description: ModelDescription, rewritten: ModelDescription, strategy: str, wanted: int, by_layer: Mapping[str, int]
) -> dict[str, int]:
    """The factor of each layer with weights of `rewritten`, which `description` became.

    Args:
      wanted: for all layers. by_layer: other ones for single layers, by their names in `description`.
    Raises: ExportError, which names the layer and the nearest legal factors, where hardware cannot have a factor.
    """
    known = [op.name for op in description.operations if isinstance(op, Linear)]
    odd = [name for name in by_layer if name not in known]
    if odd:
        raise ExportError(f"reuse_factor of layer {odd[0]!r}: there is no such layer with weights; there are {', '.join(known)}")
    found = {}
    for op in rewritten.operations:
        if not isinstance(op, Linear) or is_wiring(op):
            continue
        name = next((name for name in known if op.name == name or op.name.startswith(f"{name}__")), op.name)
        factor = by_layer.get(name, wanted)
        if not can_share(op):
            legal, why = [1], "whose multipliers hls4ml does not share"
        else:
            *terms, n_out = op.kernel.integers.shape
            legal, why = legal_factors(math.prod(terms), n_out, strategy), f"of {math.prod(terms)} x {n_out} weights"
        if factor not in legal:
            nearest = [max((n for n in legal if n < factor), default=None), min((n for n in legal if n > factor), default=None)]
            near = " and ".join(str(n) for n in nearest if n is not None)
            raise ExportError(
                f"reuse_factor of layer {name!r} is {factor}, which a layer {why} cannot have with strategy {strategy}; nearest: {near}"
            )
        found[op.name] = factor
    return found


def can_share(op: Linear) -> bool:
    """Whether hls4ml shares the multipliers of the layer: dense ones, and convolutions over all channels."""
    return isinstance(op, Dense) or (isinstance(op, Conv) and op.groups == 1)


def parse_reuse(words: Sequence[str]) -> dict[str, Any]:
    """Arguments of `to_hls4ml` of words as the command takes them: a factor for all layers, and ``layer=factor`` for single ones.

    >>> parse_reuse(["4", "dense_2=8"])
    {'reuse_factor': 4, 'reuse_factors': {'dense_2': 8}}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, _, factor = word.rpartition("=")
        if not factor.isdecimal() or not factor.isascii():
            raise ExportError(f"reuse_factor{f' of layer {name!r}' if name else ''} is {factor}; a whole number of at least 1 is needed")
        if name:
            found.setdefault("reuse_factors", {})[name] = int(factor)
        else:
            found["reuse_factor"] = int(factor)
    return found
