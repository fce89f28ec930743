"""The charts of a table's page: DSC over shots or another number, over what it costs, and case by case."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from fsseg.experiments.definition.grid import METHOD, SHOTS
from fsseg.experiments.page.tables import PageTables, cost_of
from fsseg.experiments.results import Number, Row
from fsseg.reporting.charts import Lines, Point, cost_figure, lines_figure, strip_figure
from fsseg.reporting.html import Picture

_MOST_PANELS = 6
_MOST_LINES = 7
_DSC = "DSC, mean over cases"
_COSTS = {"trained parameters": "parameters", "seconds of a training": "seconds", "peak memory [MiB]": "memory_mib"}


def chart_pictures(tables: PageTables) -> list[Picture]:
    """Return the charts that the finished runs allow."""
    finished = [row for row in tables.rows if row.numbers]
    names = [name for name in shown_columns(tables.names) if any(name in row.numbers for row in finished)]
    if not names:
        return []
    return [*_lines(tables, finished, names), *_costs(tables, finished, names), *_strips(tables, finished, names)]


def shown_columns(names: Sequence[str]) -> list[str]:
    """Return the columns that charts show: the means, and all where there are few."""
    means = [name for name in names if name.startswith("mean")]
    return list(names) if len(names) <= _MOST_PANELS else means or list(names)[:_MOST_PANELS]


def _lines(tables: PageTables, rows: Sequence[Row], names: Sequence[str]) -> list[Picture]:
    """Return a picture for every axis of numbers; rows of other axes have lines of their own."""
    pictures = []
    for axis in tables.varied:
        values = {row.labels[axis]: number for row in rows if not math.isnan(number := _number(row.labels[axis]))}
        if axis == METHOD or len({value for value in values.values() if value}) < 2:
            continue
        others = [other for other in tables.varied if other != axis]
        panels = {name: _line(rows, name, axis, values, others) for name in names}
        shown = _best(panels, tables.baselines)
        grey = " Others are grey." if any(set(lines) - set(shown) for lines in panels.values()) else ""
        text = f"DSC over {axis}: mean over cases, with its 95 % bootstrap interval over cases.{grey}"
        pictures.append(Picture(lines_figure(panels, axis, _DSC, shown), text, text))
    return pictures


def _line(
    rows: Sequence[Row], name: str, axis: str, values: dict[str, float], others: Sequence[str]
) -> dict[str, dict[float, Point]]:
    lines: dict[str, dict[float, Point]] = {}
    for row in rows:
        if row.labels[axis] in values and name in row.numbers:
            label = ", ".join(row.labels[other] for other in others)
            lines.setdefault(label, {})[values[row.labels[axis]]] = _point(row.numbers[name])
    return lines


def _best(panels: Mapping[str, Lines], baselines: Sequence[str]) -> list[str]:
    """Return the baselines and the lines that are highest on average, as many as can be told apart by colour."""
    scores: dict[str, list[float]] = {}
    for lines in panels.values():
        for label, points in lines.items():
            scores.setdefault(label, []).append(fmean(point.value for point in points.values()))
    first = [label for label in scores if any(label.endswith(name) for name in baselines)]
    others = sorted(set(scores) - set(first), key=lambda label: (-fmean(scores[label]), label))
    return [*first, *others][:_MOST_LINES]


def _costs(tables: PageTables, rows: Sequence[Row], names: Sequence[str]) -> list[Picture]:
    """Return the DSC over costs, for one label of every axis but the method: that with the most rows."""
    chosen, said = _one_of_each(tables, rows)
    adapted = [(row, cost) for row in chosen if (cost := cost_of(row)) is not None]
    pictures = []
    for name in names[-2:]:
        panels = {
            text: {
                row.labels[METHOD]: (getattr(cost, field), row.numbers[name].dsc.mean)
                for row, cost in adapted
                if name in row.numbers and getattr(cost, field) > 0
            }
            for text, field in _COSTS.items()
        }
        if all(len(points) > 1 for points in panels.values()):
            text = f"{name}{said}: DSC over what it costs. The line joins those that none beats at lower cost."
            pictures.append(Picture(cost_figure(panels, f"{_DSC}, {name}"), text, text))
    return pictures


def _strips(tables: PageTables, rows: Sequence[Row], names: Sequence[str]) -> list[Picture]:
    chosen, said = _one_of_each(tables, rows)
    panels = {
        name: {row.labels[METHOD]: list(row.numbers[name].values.values()) for row in chosen if name in row.numbers}
        for name in names[:3]
    }
    text = f"Every case{said}: a dot is a case, averaged over seeds; the bar is the mean."
    return [Picture(strip_figure(panels, "DSC"), text, text)]


def _one_of_each(tables: PageTables, rows: Sequence[Row]) -> tuple[list[Row], str]:
    """Return the rows of one label of every axis but the method, and which label that is."""
    chosen, said = list(rows), ""
    for axis in tables.varied:
        if axis == METHOD:
            continue
        labels = [row.labels[axis] for row in chosen]
        label = max(dict.fromkeys(labels), key=labels.count)
        chosen = [row for row in chosen if row.labels[axis] == label or (axis == SHOTS and row.labels[axis] == "0")]
        said += f", {axis} {label}"
    return chosen, said


def _point(number: Number) -> Point:
    return Point(number.dsc.mean, number.dsc.low, number.dsc.high)


def _number(label: str) -> float:
    """Return a label as a number, a share included; nan for words."""
    try:
        return float(label.removesuffix("%"))
    except ValueError:
        return math.nan
