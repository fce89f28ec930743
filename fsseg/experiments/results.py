"""From the metrics of runs to the numbers of a table: means over cases, spread over seeds, paired differences."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from fsseg.evaluation.aggregation import (
    CaseRow,
    Summary,
    mean_over_seeds,
    paired_difference,
    summarise,
    summarise_seeds,
)
from fsseg.evaluation.metrics_csv import read_case_rows
from fsseg.experiments.grid import METHOD_AXIS, Cell
from fsseg.experiments.workspace import RunFolder

PerCase = dict[str, float]
METRICS = ("dsc", "nsd", "hd95_mm")


@dataclass(frozen=True)
class Finished:
    """A cell whose run has ended.

    Attributes:
        cell: the cell.
        rows: of its metrics.csv.
        manifest: of its adaptation.
    """

    cell: Cell
    rows: list[CaseRow]
    manifest: dict[str, Any]

    def per_case(self, structures: Sequence[str], metric: str) -> PerCase:
        """Return case -> mean of a metric over structures; nan where none has a value."""
        values: dict[str, list[float]] = {}
        for row in self.rows:
            if row.structure in structures:
                values.setdefault(row.case, []).append(float(getattr(row, metric)))
        return {case: _mean(found) for case, found in values.items()}


@dataclass(frozen=True)
class Group:
    """A column of a table: a structure, or the mean of several."""

    name: str
    structures: tuple[str, ...]


@dataclass(frozen=True)
class Number:
    """What one row shows of one group.

    Attributes:
        dsc: mean over cases, of values that are averaged over seeds first, with its 95 % interval.
        sd_over_seeds: of the mean; nan with one seed.
        nsd, hd95_mm: means over cases and seeds; nan where no case has a value.
        minus: baseline -> paired difference of the DSC.
    """

    dsc: Summary
    sd_over_seeds: float
    nsd: float
    hd95_mm: float
    minus: Mapping[str, Summary] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A row of a table: the runs that differ in the seed alone.

    Attributes:
        labels: axis -> label, without the seed.
        runs: those that are finished.
        expected: how many there are to be.
        failures: messages of those that failed.
        numbers: group -> its number; none without a finished run.
    """

    labels: Mapping[str, str]
    runs: tuple[Finished, ...]
    expected: int
    failures: tuple[str, ...]
    numbers: Mapping[str, Number]


def finished(cell: Cell, folder: RunFolder) -> Finished:
    """Read what a finished run has left."""
    return Finished(cell, read_case_rows(folder.metrics), folder.manifest())


def groups_of(structures: Sequence[str], known: Iterable[str]) -> list[Group]:
    """Return the columns: each structure, and the mean of those that the bases know and of those that they do not."""
    known = set(known)
    parts = {"known": [n for n in structures if n in known], "novel": [n for n in structures if n not in known]}
    columns = []
    for kind, names in parts.items():
        columns += [Group(name, (name,)) for name in names]
        columns += [Group(f"mean of {kind}", tuple(names))] if len(names) > 1 else []
    return columns


def rows_of(
    cells: Sequence[Cell], runs: Mapping[int, Finished | str], groups: Sequence[Group], baselines: Sequence[str]
) -> list[Row]:
    """Return the rows in the order of the cells.

    Args:
        cells: of the table.
        runs: index of a cell -> its finished run, or the message of a failed one; none of a missing one.
        groups: the columns.
        baselines: labels of the method axis that others are compared to, at equal labels of the other axes.
    """
    indices: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for index, cell in enumerate(cells):
        indices.setdefault(cell.row, []).append(index)
    done = {row: [run for i in own if isinstance(run := runs.get(i), Finished)] for row, own in indices.items()}
    rows = []
    for row, own in indices.items():
        failures = tuple(run for i in own if isinstance(run := runs.get(i), str))
        against = {name: done.get(_with_method(row, name), []) for name in baselines if dict(row)[METHOD_AXIS] != name}
        numbers = {group.name: number for group in groups if (number := _number(done[row], group, against))}
        rows.append(Row(dict(row), tuple(done[row]), len(own), failures, numbers))
    return rows


def _with_method(row: tuple[tuple[str, str], ...], method: str) -> tuple[tuple[str, str], ...]:
    return tuple((axis, method if axis == METHOD_AXIS else label) for axis, label in row)


def _number(runs: Sequence[Finished], group: Group, against: Mapping[str, Sequence[Finished]]) -> Number | None:
    per_seed = [run.per_case(group.structures, "dsc") for run in runs]
    if not per_seed or not per_seed[0]:
        return None
    seeds = summarise_seeds(per_seed)
    return Number(
        dsc=seeds.over_cases,
        sd_over_seeds=seeds.sd_over_seeds,
        nsd=_mean_of(runs, group, "nsd"),
        hd95_mm=_mean_of(runs, group, "hd95_mm"),
        minus={name: _difference(runs, others, group) for name, others in against.items() if others},
    )


def _difference(runs: Sequence[Finished], others: Sequence[Finished], group: Group) -> Summary:
    """Return the paired difference of the DSC over the seeds that both have."""
    both = {_seed(run) for run in runs} & {_seed(run) for run in others}
    ours, theirs = (
        [run.per_case(group.structures, "dsc") for run in some if _seed(run) in both] for some in (runs, others)
    )
    return paired_difference(mean_over_seeds(ours), mean_over_seeds(theirs)) if both else summarise(())


def _seed(run: Finished) -> int:
    return run.cell.settings.seed


def _mean_of(runs: Sequence[Finished], group: Group, metric: str) -> float:
    return _mean([value for run in runs for value in run.per_case(group.structures, metric).values()])


def _mean(values: Sequence[float]) -> float:
    """Return the mean of the values that there are; nan if there is none."""
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan
