"""Cost models that an option names: `--train.objective.cost luts`."""

from hgqjax import resources

MEASURED = "measured:FILE"
"""A table that `hgqjax.synth.measure` made."""


def cost_names() -> dict[str, resources.AbstractCost]:
    """The cost models that an option names."""
    return {
        "ebops": resources.Ebops(),
        "ebops_paper_v1": resources.Ebops(definition="paper_v1"),
        "luts": resources.Luts(),
        "weight_bits": resources.WeightBits(),
    }


def cost_of(given: str) -> resources.AbstractCost:
    """The cost model that is given by its name, or as `MEASURED`."""
    name, _, path = given.partition(":")
    if name == "measured" and path:
        return resources.Measured.load(path)
    if given not in cost_names():
        raise ValueError(f"{given} is no cost; legal are {', '.join((*cost_names(), MEASURED))}")
    return cost_names()[given]
