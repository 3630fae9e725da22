"""Mathematics of the accuracy/resource front: which points no other dominates, and what they are worth."""

import math
from collections.abc import Sequence


def pareto(merits: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Indices of the members that no other dominates, by rising cost; a merit is a score of which more is better (`AbstractScore.merit`).

    One dominates another when it is at least as good in both (greater merit, lower cost) and better in one; of equals the first is kept.
    A NaN dominates nothing and is never kept.

    >>> pareto([0.7, 0.8, 0.7, 0.6, 0.8], [10.0, 20.0, 10.0, 15.0, 30.0])
    [0, 1]
    """
    kept, best = [], -math.inf
    order = sorted((n for n in range(len(merits)) if not math.isnan(merits[n] + costs[n])), key=lambda n: (costs[n], -merits[n], n))
    for n in order:
        if merits[n] > best:
            kept.append(n)
            best = merits[n]
    return kept


def hypervolume(merits: Sequence[float], costs: Sequence[float], reference_merit: float, reference_cost: float) -> float:
    r"""Area that the front dominates within the reference point, exactly: :math:`\int_{c < c_{ref}} (\max_{c_n \le c} s_n - s_{ref})^+ dc`.

    Args:
      merits, costs: one of each point, greater and lower is better; a point that is not better than the reference in both adds nothing.
        For an axis of decades give the logarithms of the costs and of `reference_cost`.

    Returns: in units of merit times cost, at least 0.

    >>> hypervolume([0.7, 0.8], [10.0, 20.0], 0.5, 30.0) == (0.7 - 0.5) * 10 + (0.8 - 0.5) * 10
    True
    """
    area, lowest = 0.0, reference_merit
    for n in pareto(merits, costs):
        if costs[n] < reference_cost and merits[n] > lowest:
            area += (merits[n] - lowest) * (reference_cost - costs[n])
            lowest = merits[n]
    return area


def chosen_within(merits: Sequence[float], costs: Sequence[float], budget: float) -> int | None:
    """Index of the point of the front with the greatest merit at a cost of `budget` or less; None where there is none.

    Choose by validation rows, and show the test score of what was chosen: the best of test scores is better than its network.

    >>> chosen_within([0.7, 0.8], [10.0, 20.0], 15.0), chosen_within([0.7, 0.8], [10.0, 20.0], 5.0)
    (0, None)
    """
    return next((n for n in reversed(pareto(merits, costs)) if costs[n] <= budget), None)
