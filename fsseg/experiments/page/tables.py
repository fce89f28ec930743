"""The tables of a table's page: scores, differences to baselines, surfaces and costs, a line for every row."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fsseg.experiments.definition.columns import Column
from fsseg.experiments.definition.grid import METHOD
from fsseg.experiments.results import Difference, Number, Row
from fsseg.reporting.html import Table
from fsseg.reporting.tables import MISSING, Bold, count, mean_sd

_DECIMALS = 3


@dataclass(frozen=True)
class PageTables:
    """The tables of a page.

    Attributes:
        columns: base -> the columns of its rows.
        rows: the rows.
        baselines: methods that the others are compared to.
    """

    columns: Mapping[str, Sequence[Column]]
    rows: Sequence[Row]
    baselines: Sequence[str]

    @property
    def compared(self) -> list[str]:
        """The baselines that some row can be compared to by now."""
        found = {name for row in self.rows for number in row.numbers.values() for name in number.minus}
        return [name for name in self.baselines if name in found]

    @property
    def varied(self) -> list[str]:
        """The axes that tell rows apart; the method always is one."""
        axes = list(self.rows[0].labels)
        return [axis for axis in axes if axis == METHOD or len({row.labels[axis] for row in self.rows}) > 1]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(dict.fromkeys(column.name for columns in self.columns.values() for column in columns))

    def scores(self) -> Table:
        """Return DSC ± sd over seeds; bold is what is ahead of every baseline by more than chance."""
        return self._table(self._dsc)

    def minus(self, baseline: str) -> Table:
        """Return paired differences with interval and corrected p."""
        return self._table(lambda number: _difference(number.minus.get(baseline)))

    def surfaces(self) -> Table:
        """Return NSD and HD95."""
        return self._table(_surfaces)

    def costs(self) -> Table:
        """Return trained parameters, steps, seconds and memory of the rows that adapt."""
        adapted = [row for row in self.rows if row.runs and row.runs[0].manifest]
        lines = [[*self._labels(row), *_cost(row)] for row in adapted]
        return Table([*self.varied, "trained parameters", "steps", "seconds", "peak memory [MiB]"], lines)

    def _table(self, cell: Callable[[Number], str]) -> Table:
        lines = []
        for row in self.rows:
            numbers = [row.numbers.get(name) for name in self.names]
            cells = [MISSING if number is None else cell(number) for number in numbers]
            lines.append([*self._labels(row), *cells, _runs(row)])
        return Table([*self.varied, *self.names, "runs"], lines)

    def _labels(self, row: Row) -> list[str]:
        return [row.labels[axis] for axis in self.varied]

    def _dsc(self, number: Number) -> str:
        text = mean_sd(number.dsc.mean, number.sd_over_seeds, _DECIMALS)
        ahead = [name in number.minus and number.minus[name].is_better for name in self.compared]
        return Bold(text) if ahead and all(ahead) else text


@dataclass(frozen=True)
class Cost:
    """What the runs of a row cost, on average.

    Attributes:
        parameters: that are trained, with the head.
        steps: of a training.
        seconds: of a training.
        memory_mib: the most that a run took, on the device where there is one.
    """

    parameters: int
    steps: float
    seconds: float
    memory_mib: float


def cost_of(row: Row) -> Cost | None:
    """Return what a row costs; None where nothing was adapted."""
    manifests = [run.manifest for run in row.runs if run.manifest]
    if not manifests:
        return None
    trained = manifests[0]["parameters"]
    peaks = [manifest["peak_memory_mib"] for manifest in manifests]
    return Cost(
        parameters=trained["trainable"] + trained["head"],
        steps=fmean(manifest["steps"] for manifest in manifests),
        seconds=fmean(manifest["fit_seconds"] for manifest in manifests),
        memory_mib=max(peak.get("device", peak["host"]) for peak in peaks),
    )


def _cost(row: Row) -> list[str]:
    cost = cost_of(row)
    assert cost is not None
    steps = f"{cost.steps:.0f}" if cost.steps else MISSING
    return [count(cost.parameters), steps, f"{cost.seconds:.0f}", count(round(cost.memory_mib))]


def _surfaces(number: Number) -> str:
    distance = MISSING if math.isnan(number.hd95_mm) else f"{number.hd95_mm:.1f}"
    return f"{number.nsd:.{_DECIMALS}f} / {distance}"


def _difference(found: Difference | None) -> str:
    if found is None or math.isnan(found.dsc.mean):
        return MISSING
    interval = "" if math.isnan(found.dsc.low) else f" [{found.dsc.low:+.3f}, {found.dsc.high:+.3f}]"
    p = "" if math.isnan(found.holm_p) else f", p {found.holm_p:.3f}"
    return f"{found.dsc.mean:+.3f}{interval}{p}"


def _runs(row: Row) -> str:
    failed = f", {len(row.failures)} failed" if row.failures else ""
    return f"{len(row.runs)}/{row.expected}{failed}"
