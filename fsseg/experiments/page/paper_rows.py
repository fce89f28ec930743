"""The cells of a paper beside ours: each with the difference, and never mixed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fsseg.evaluation.aggregation import Summary
from fsseg.experiments.definition.paper import PRINTED_MEAN, Paper, PaperRow
from fsseg.experiments.results import Row
from fsseg.reporting.html import Table
from fsseg.reporting.tables import MISSING, count

_OURS, _PAPER, _DIFFERENCE = "ours", "paper", "ours − paper"


@dataclass(frozen=True)
class Beside:
    """A paper's table beside ours.

    Attributes:
        table: three lines for every row of the paper; None where it prints no scores.
        costs: its parameters and minutes beside ours; None where it prints none.
        cells: how many cells the paper has.
        ours: how many of them we have, too.
        doubts: what is doubtful about the paper's cells.
        absent: rows that ours cannot have, with the reason.
    """

    table: Table | None
    costs: Table | None
    cells: int
    ours: int
    doubts: tuple[str, ...]
    absent: tuple[str, ...]


def beside(paper: Paper, rows: Sequence[Row]) -> Beside:
    """Put ours beside the cells of a paper, in its scale."""
    axes = list(dict.fromkeys(axis for row in paper.rows for axis in row.labels))
    lines: list[list[str]] = []
    ours = 0
    for printed in paper.rows:
        own = None if printed.absent else _row_of(rows, printed.labels)
        cells = _cells(paper, printed)
        found = [_summary(own, column, paper.protocol) for column in paper.columns]
        both = [(summary, cell) for summary, (_, cell) in zip(found, cells, strict=True)]
        labels = [printed.labels.get(axis, "") for axis in axes]
        lines += [
            [*labels, _OURS, *(_interval(summary, paper) for summary in found)],
            [*labels, _PAPER, *(_printed(printed, column, cell, paper) for column, cell in cells)],
            [*labels, _DIFFERENCE, *(_minus(summary, cell, paper) for summary, cell in both)],
        ]
        ours += sum(summary is not None and cell is not None for summary, cell in both)
    printed_cells = sum(cell is not None for row in paper.rows for cell in row.cells)
    doubts = [f"{_named(row.labels)}: {row.doubt}" for row in paper.rows if row.doubt]
    absent = tuple(f"{_named(row.labels)}: {row.absent}" for row in paper.rows if row.absent)
    table = Table([*axes, "whose", *paper.columns], lines) if paper.columns else None
    return Beside(table, _costs(paper, rows, axes), printed_cells, ours, (*paper.doubts, *doubts), absent)


def _costs(paper: Paper, rows: Sequence[Row], axes: Sequence[str]) -> Table | None:
    header = ["parameters, ours", "parameters, paper", "minutes, ours", "minutes, paper"]
    lines = []
    for printed in paper.rows:
        if printed.parameters or printed.minutes:
            own = _row_of(rows, printed.labels)
            parameters = count(own.trained_parameters) if own and own.trained_parameters else MISSING
            minutes = MISSING if own is None or math.isnan(own.fit_seconds) else f"{own.fit_seconds / 60:.1f}"
            cells = [parameters, printed.parameters or MISSING, minutes, printed.minutes or MISSING]
            lines.append([*(printed.labels.get(axis, "") for axis in axes), *cells])
    return Table([*axes, *header], lines) if lines else None


def _cells(paper: Paper, row: PaperRow) -> list[tuple[str, float | None]]:
    return list(zip(paper.columns, row.cells or (None,) * len(paper.columns), strict=True))


def _row_of(rows: Sequence[Row], labels: Mapping[str, str]) -> Row | None:
    """Return our row with the labels of a paper's row."""
    return next((row for row in rows if labels.items() <= row.labels.items()), None)


def _summary(row: Row | None, column: str, protocol: str) -> Summary | None:
    number = row.numbers.get(column) if row else None
    found = number.of(protocol) if number else None
    return None if found is None or math.isnan(found.mean) else found


def _interval(summary: Summary | None, paper: Paper) -> str:
    if summary is None:
        return MISSING
    mean, low, high = (
        f"{value * paper.scale:.{paper.decimals}f}" for value in (summary.mean, summary.low, summary.high)
    )
    return mean if math.isnan(summary.low) else f"{mean} [{low}, {high}]"


def _printed(row: PaperRow, column: str, cell: float | None, paper: Paper) -> str:
    if cell is None:
        return MISSING
    text = f"{cell:.{paper.decimals}f}"
    others = [value for name, value in _cells(paper, row) if name != PRINTED_MEAN and value is not None]
    if column != PRINTED_MEAN or not others or len(others) < len(paper.columns) - 1:
        return text
    mean = sum(others) / len(others)
    unequal = abs(mean - cell) > 0.6 * 10**-paper.decimals  # more than rounding
    return f"{text} (mean of its cells {mean:.{paper.decimals}f})" if unequal else text


def _minus(summary: Summary | None, cell: float | None, paper: Paper) -> str:
    if summary is None or cell is None:
        return MISSING
    mean, low, high = (value * paper.scale - cell for value in (summary.mean, summary.low, summary.high))
    decimals = paper.decimals
    interval = "" if math.isnan(low) else f" [{low:+.{decimals}f}, {high:+.{decimals}f}]"
    return f"{mean:+.{decimals}f}{interval}"


def _named(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in labels.items())
