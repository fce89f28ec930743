"""The worst, the median and the best case of a structure: which they are, and a picture of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fsseg.reporting.html import Picture
from fsseg.reporting.overlays import DrawnCase, rows_figure


@dataclass(frozen=True)
class RankedCase:
    """A case and its rank: "worst", "median" or "best", or "only" where no other has a DSC."""

    rank: str
    case: str
    dsc: float


def ranked_cases(dsc_of: Mapping[str, float]) -> list[RankedCase]:
    """Return the worst, the median and the best case by DSC; of two cases there is no median, and one is the only.

    Cases with the same DSC are ordered by name. Of an even number of cases the lower of the middle two is the median.
    Cases whose DSC is nan, because reference and prediction are empty, have no rank.
    """
    ordered = sorted((dsc, case) for case, dsc in dsc_of.items() if not math.isnan(dsc))
    if not ordered:
        return []
    last = len(ordered) - 1
    few = {0: {0: "only"}, 1: {0: "worst", 1: "best"}}
    ranks = few.get(last, {0: "worst", last // 2: "median", last: "best"})
    return [RankedCase(rank, ordered[at][1], ordered[at][0]) for at, rank in ranks.items()]


def ranked_picture(
    structure: str,
    structures: Sequence[str],
    dsc_of: Mapping[str, float],
    drawn_case: Callable[[str], DrawnCase],
    method: str,
) -> Picture | None:
    """Draw the worst, the median and the best case of a structure below each other; None if no case has a DSC.

    Args:
        structure: what is drawn.
        structures: all structures of the report, which give the colour.
        dsc_of: case -> DSC of the structure, nan where there is none.
        drawn_case: returns a case by name, and is called for those that are drawn.
        method: what made the predictions, for the text.

    Raises:
        ValueError: as `rows_figure`.
    """
    ranked = ranked_cases(dsc_of)
    if not ranked:
        return None
    rows = {f"{each.rank}: {each.case}\nDSC {each.dsc:.3f}": drawn_case(each.case) for each in ranked}
    ranks = ", ".join(f"{each.rank} {each.case} ({each.dsc:.3f})" for each in ranked)
    return Picture(
        rows_figure(rows, [structure], structures, f"{structure}: {method}"),
        f"{structure}, {method}: {ranks}, of {_counted(dsc_of)}.{_tied(ranked, dsc_of)}",
        f"slices of the worst, median and best case of {structure} with reference and prediction",
    )


def _counted(dsc_of: Mapping[str, float]) -> str:
    without = sum(math.isnan(dsc) for dsc in dsc_of.values())
    count = len(dsc_of) - without
    counted = f"{count} case{'s' if count > 1 else ''} by DSC"
    return f"{counted}; {without} more, where reference and prediction are empty, have none" if without else counted


def _tied(ranked: Sequence[RankedCase], dsc_of: Mapping[str, float]) -> str:
    values = list(dsc_of.values())
    tied = any(values.count(each.dsc) > 1 for each in ranked)
    return " Cases with the same DSC are ordered by name." if tied else ""
