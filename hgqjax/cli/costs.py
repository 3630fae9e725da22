"""Cost models that an option names: `--train.objective.cost luts`."""

from hgqjax import resources


def cost_names() -> dict[str, resources.AbstractCost]:
    """The cost models that an option names."""
    return {
        "ebops": resources.Ebops(),
        "ebops_paper_v1": resources.Ebops(definition="paper_v1"),
        "luts": resources.Luts(),
        "weight_bits": resources.WeightBits(),
    }
