"""The numbers of a comparison: scores of every run, and paired differences to a baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fsseg.evaluation.aggregation import CaseRow, Summary, case_means, summarise_pairs
from fsseg.evaluation.significance import LEVEL, holm, paired_p

MEAN = "mean"  # of all structures
METRICS = ("dsc", "nsd", "hd95_mm")


@dataclass(frozen=True)
class Difference:
    """A paired difference to the baseline.

    Attributes:
        dsc: mean over cases, with its interval.
        p: of Wilcoxon's signed-rank test, corrected by Holm for all runs of the column; nan without a difference.
    """

    dsc: Summary
    p: float

    @property
    def is_better(self) -> bool:
        """Whether the run is ahead of the baseline by more than chance."""
        return self.dsc.mean > 0 and self.p < LEVEL


@dataclass(frozen=True)
class Scores:
    """What a run reaches on one structure, or on the mean of all.

    Attributes:
        dsc, nsd, hd95_mm: over cases.
        minus: paired difference of the DSC to the baseline; None for the baseline itself.
    """

    dsc: Summary
    nsd: Summary
    hd95_mm: Summary
    minus: Difference | None


@dataclass(frozen=True)
class Comparison:
    """What was compared, with all numbers.

    Attributes:
        rows: run -> one row a case and structure.
        structures: that are scored, without the mean.
        baseline: that the others are compared to.
    """

    rows: Mapping[str, Sequence[CaseRow]]
    structures: tuple[str, ...]
    baseline: str

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """Name of a column -> its structures: each, and the mean of all where there are several."""
        each: dict[str, tuple[str, ...]] = {name: (name,) for name in self.structures}
        return {**each, MEAN: self.structures} if len(each) > 1 else each

    def renamed(self, names: Mapping[str, str]) -> "Comparison":
        """Return it with the cases called otherwise."""
        rows = {run: [replace(row, case=names[row.case]) for row in own] for run, own in self.rows.items()}
        return replace(self, rows=rows)

    def scores(self, run: str, column: str) -> Scores:
        """Return what a run reaches in a column."""
        dsc, nsd, hd95_mm = (self._summary(self._values(run, metric), column) for metric in METRICS)
        return Scores(dsc, nsd, hd95_mm, self._minus.get((run, column)))

    def dsc_of_cases(self, run: str, column: str) -> dict[str, float]:
        """Return case -> mean DSC of the column's structures; nan where none has a value."""
        cases = dict.fromkeys((row.case for row in self.rows[run] if row.structure in self.columns[column]), math.nan)
        return cases | case_means(self._values(run, "dsc"), self._weights(column))

    @cached_property
    def _minus(self) -> dict[tuple[str, str], Difference]:
        """Return (run, column) -> difference to the baseline."""
        found: dict[tuple[str, str], Difference] = {}
        others = {run: self._differences(run) for run in self.rows if run != self.baseline}
        for column in self.columns:
            weights = self._weights(column)
            p = holm({run: paired_p(list(case_means(pairs, weights).values())) for run, pairs in others.items()})
            found |= {(run, column): Difference(self._summary(others[run], column), p[run]) for run in others}
        return found

    def _weights(self, column: str) -> dict[str, float]:
        return dict.fromkeys(self.columns[column], 1.0)

    def _summary(self, values: Mapping[tuple[str, str], float], column: str) -> Summary:
        return summarise_pairs(values, self._weights(column))

    def _values(self, run: str, metric: str) -> dict[tuple[str, str], float]:
        return {(row.case, row.structure): float(getattr(row, metric)) for row in self.rows[run]}

    def _differences(self, run: str) -> dict[tuple[str, str], float]:
        ours, theirs = self._values(run, "dsc"), self._values(self.baseline, "dsc")
        return {pair: value - theirs[pair] for pair, value in ours.items()}
