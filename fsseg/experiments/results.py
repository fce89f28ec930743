"""From the metrics of runs to the numbers of a table: means over cases, spread over seeds, paired differences."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from statistics import fmean, stdev
from typing import Any

from fsseg.evaluation.aggregation import CaseRow, Pair, Summary, case_means, summarise_pairs
from fsseg.evaluation.fseft import NATIVE
from fsseg.evaluation.metrics_csv import read_case_rows
from fsseg.evaluation.significance import LEVEL, holm, paired_p
from fsseg.experiments.definition.columns import Column
from fsseg.experiments.definition.grid import METHOD, Cell
from fsseg.experiments.workspace import RunFolder

Values = dict[Pair, float]
_TRAINED = itemgetter("trainable", "head")
RowKey = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Finished:
    """A cell whose run has ended.

    Attributes:
        cell: the cell.
        rows: scoring protocol -> rows of its metrics.
        manifest: of its adaptation; empty where nothing was adapted.
    """

    cell: Cell
    rows: Mapping[str, Sequence[CaseRow]]
    manifest: dict[str, Any]

    def values(self, metric: str, protocol: str = NATIVE) -> Values:
        """Return (case, structure) -> value."""
        return {(row.case, row.structure): float(getattr(row, metric)) for row in self.rows.get(protocol, ())}

    def mean(self, column: Column) -> float:
        """Return the mean DSC of a column in this run alone."""
        return summarise_pairs(self.values("dsc"), column.weights, resamples=0).mean


@dataclass(frozen=True)
class Difference:
    """How far one row is from a baseline, over the seeds and cases that both have.

    Attributes:
        dsc: paired difference of the DSC with its 95 % interval over cases.
        p: of Wilcoxon's signed-rank test over cases; nan without a difference.
        holm_p: corrected for all methods that are compared to the baseline in this column, at equal other labels.
    """

    dsc: Summary
    p: float
    holm_p: float = math.nan

    @property
    def is_better(self) -> bool:
        """Whether the row is ahead by more than chance."""
        return self.dsc.mean > 0 and self.holm_p < LEVEL


@dataclass(frozen=True)
class Number:
    """What one row shows in one column.

    Attributes:
        dsc: mean over cases, of values that are averaged over seeds first, with its 95 % interval.
        sd_over_seeds: of the mean; nan with one seed.
        nsd, hd95_mm: means over cases and seeds; nan where no case has a value.
        minus: baseline -> difference to it.
        values: case -> DSC, averaged over seeds and the structures of the column.
        protocols: other scoring protocol -> its DSC.
    """

    dsc: Summary
    sd_over_seeds: float
    nsd: float
    hd95_mm: float
    minus: Mapping[str, Difference] = field(default_factory=dict)
    protocols: Mapping[str, Summary] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    def of(self, protocol: str) -> Summary | None:
        """Return the DSC by a scoring protocol."""
        return self.dsc if protocol == NATIVE else self.protocols.get(protocol)

    def mean_of(self, protocol: str) -> float:
        """Return the mean DSC by a scoring protocol; nan where there is none."""
        found = self.of(protocol)
        return math.nan if found is None else found.mean


@dataclass(frozen=True)
class Row:
    """A row of a table: the runs that differ in the seed, the fold or the target alone.

    Attributes:
        labels: axis -> label, without seed and fold.
        base: name of the base.
        runs: those that are finished.
        expected: how many there are to be.
        failures: messages of those that failed.
        numbers: column -> its number; none where a structure of it has no finished run.
    """

    labels: Mapping[str, str]
    base: str
    runs: tuple[Finished, ...]
    expected: int
    failures: tuple[str, ...]
    numbers: Mapping[str, Number]

    @property
    def trained_parameters(self) -> int:
        """Trained parameters with those of the head; 0 where nothing was adapted."""
        return next((sum(_TRAINED(run.manifest["parameters"])) for run in self.runs if run.manifest), 0)

    @property
    def fit_seconds(self) -> float:
        """Mean seconds of a training; nan where nothing was adapted."""
        return _mean([run.manifest["fit_seconds"] for run in self.runs if run.manifest])


def finished(cell: Cell, folder: RunFolder) -> Finished:
    """Read what a finished run has left."""
    files = {**folder.other_metrics, NATIVE: folder.metrics}
    return Finished(cell, {name: read_case_rows(file) for name, file in files.items()}, folder.manifest())


def rows_of(
    cells: Sequence[Cell],
    runs: Mapping[int, Finished | str],
    columns: Mapping[str, Sequence[Column]],
    baselines: Sequence[str],
) -> list[Row]:
    """Return the rows in the order of the cells.

    Args:
        cells: of the table.
        runs: index of a cell -> its finished run, or the message of a failed one; none of a missing one.
        columns: base -> the columns of its rows.
        baselines: labels of the method axis that others are compared to, at equal labels of the other axes.
    """
    indices: dict[RowKey, list[int]] = {}
    for index, cell in enumerate(cells):
        indices.setdefault(cell.row, []).append(index)
    done = {row: [run for i in own if isinstance(run := runs.get(i), Finished)] for row, own in indices.items()}
    rows = []
    for row, own in indices.items():
        failures = tuple(run for i in own if isinstance(run := runs.get(i), str))
        base = cells[own[0]].base.title
        against = {name: done.get(_with_method(row, name), []) for name in baselines if dict(row)[METHOD] != name}
        numbers = {column.name: n for column in columns[base] if (n := _number(done[row], column, against))}
        rows.append(Row(dict(row), base, tuple(done[row]), len(own), failures, numbers))
    return _corrected(rows)


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with p values that are corrected for all methods that are compared to the same baseline."""
    families: dict[tuple[object, ...], dict[str, float]] = {}
    for index, row in enumerate(rows):
        for column, baseline, difference in _differences(row):
            families.setdefault((_without_method(row), column, baseline), {})[str(index)] = difference.p
    corrected = {family: holm(values) for family, values in families.items()}
    found = []
    for index, row in enumerate(rows):
        numbers = dict(row.numbers)
        for column, baseline, difference in _differences(row):
            p = corrected[_without_method(row), column, baseline][str(index)]
            minus = {**numbers[column].minus, baseline: replace(difference, holm_p=p)}
            numbers[column] = replace(numbers[column], minus=minus)
        found.append(replace(row, numbers=numbers))
    return found


def _differences(row: Row) -> list[tuple[str, str, Difference]]:
    """Return column, baseline and difference."""
    return [(name, baseline, each) for name, number in row.numbers.items() for baseline, each in number.minus.items()]


def _without_method(row: Row) -> RowKey:
    return tuple((axis, label) for axis, label in row.labels.items() if axis != METHOD)


def _with_method(row: RowKey, method: str) -> RowKey:
    return tuple((axis, method if axis == METHOD else label) for axis, label in row)


def _number(runs: Sequence[Finished], column: Column, against: Mapping[str, Sequence[Finished]]) -> Number | None:
    values = _averaged(runs, column, "dsc")
    if values is None:
        return None
    differences = {name: _difference(runs, others, column) for name, others in against.items()}
    names = sorted({name for run in runs for name in run.rows} - {NATIVE})
    others = {name: _averaged(runs, column, "dsc", name) for name in names}
    return Number(
        dsc=summarise_pairs(values, column.weights),
        sd_over_seeds=_sd_over_seeds(runs, column),
        nsd=_mean_of(runs, column, "nsd"),
        hd95_mm=_mean_of(runs, column, "hd95_mm"),
        minus={name: difference for name, difference in differences.items() if difference is not None},
        protocols={name: summarise_pairs(found, column.weights) for name, found in others.items() if found},
        values=case_means(values, column.weights),
    )


def _averaged(runs: Sequence[Finished], column: Column, metric: str, protocol: str = NATIVE) -> Values | None:
    """Return the values of a column, averaged over seeds; None while a structure of it has none."""
    found: dict[Pair, list[float]] = {}
    for run in runs:
        for pair, value in run.values(metric, protocol).items():
            if pair[1] in column.weights:
                found.setdefault(pair, []).append(value)
    if {structure for _, structure in found} != set(column.weights):
        return None
    return {pair: _mean(values) for pair, values in found.items()}


def _sd_over_seeds(runs: Sequence[Finished], column: Column) -> float:
    """Return the sd over seeds of the mean; nan with one seed, or while seeds lack runs that others have."""
    seeds = [_averaged(own, column, "dsc") for own in _by_replicate(runs).values()]
    if len(seeds) < 2 or any(values is None or values.keys() != (seeds[0] or {}).keys() for values in seeds):
        return math.nan
    return stdev(summarise_pairs(values or {}, column.weights, resamples=0).mean for values in seeds)


def _difference(runs: Sequence[Finished], others: Sequence[Finished], column: Column) -> Difference | None:
    """Return the paired difference over the seeds and cases that both have."""
    ours, theirs = _by_replicate(runs), _by_replicate(others)
    both = ours.keys() & theirs.keys() or (ours.keys() if len(theirs) == 1 else set())
    only = next(iter(theirs.values()), [])
    a = _averaged([run for key in both for run in ours[key]], column, "dsc")
    b = _averaged([run for key in both for run in theirs.get(key, ())] or only, column, "dsc")
    if a is None or b is None:
        return None
    pairs = {pair: a[pair] - b[pair] for pair in sorted(a.keys() & b.keys())}
    p = paired_p(list(case_means(pairs, column.weights).values()))
    return Difference(summarise_pairs(pairs, column.weights), p)


def _by_replicate(runs: Iterable[Finished]) -> dict[tuple[str, ...], list[Finished]]:
    found: dict[tuple[str, ...], list[Finished]] = {}
    for run in runs:
        found.setdefault(run.cell.replicate, []).append(run)
    return found


def _mean_of(runs: Sequence[Finished], column: Column, metric: str) -> float:
    values = _averaged(runs, column, metric)
    return summarise_pairs(values or {}, column.weights, resamples=0).mean


def _mean(values: Sequence[float]) -> float:
    """Return the mean of the values that there are; nan if there is none."""
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan
