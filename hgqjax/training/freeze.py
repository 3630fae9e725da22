"""Which parameters a run moves: all, or those of layers that are not frozen, or weights or widths alone."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hgqjax import layers


def layers_at(model: layers.Module, expressions: Sequence[str]) -> set[str]:
    """Names of the layers that an expression is found in; their batch norms keep their statistics from now on.

    Raises: ValueError, one sentence, where an expression is none, or is found in no layer.
    """
    names = list(model.operations_cost())
    found: set[str] = set()
    for text in expressions:
        try:
            fitting = {name for name in names if re.search(text, name)}
        except re.error as error:
            raise ValueError(f"freeze has {text!r}, which is no regular expression ({error})") from None
        if not fitting:
            raise ValueError(f"freeze has {text!r}, which is found in no layer; layers are {', '.join(names)}")
        found |= fitting
    for name, layer in model.named(layers.Layer):
        if name in found:
            layer.set_mode("settle")
    return found


def moves(still: set[str], fixed: set[str], params: dict[str, Any]) -> tuple[bool, ...] | None:
    """Of each leaf of `params` ("weights" and "widths") whether training moves it, neither in a layer that is `still` nor of a kind that is
    `fixed`; None where it moves all."""
    if not still and not fixed:
        return None
    found = []
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        kind, *steps = (str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", "")))) for key in path)
        inside = {"_".join(steps[:n]) for n in range(len(steps) + 1)}
        found.append(not (inside & still) and kind not in fixed)
    return tuple(found)


def held(updates: Any, moving: tuple[bool, ...] | None) -> Any:
    """`updates`, 0 for what does not move."""
    if moving is None:
        return updates
    leaves, structure = jax.tree.flatten(updates)
    return jax.tree.unflatten(structure, [leaf if moves else jnp.zeros_like(leaf) for leaf, moves in zip(leaves, moving, strict=True)])
