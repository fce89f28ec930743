"""Charts of a comparison: a score over a number such as shots, over what it costs, and case by case."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fsseg.reporting.curves import COLOURS
from fsseg.reporting.overlays import png_bytes

_PANEL_IN = (4.4, 3.6)
_MOST_PANELS_A_ROW = 3
_LEGEND_ROW_IN = 0.24
_STRIP_ROW_IN = 0.26
_LOG_FROM = 30  # times the least


@dataclass(frozen=True)
class Point:
    """A score with its interval; nan where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan


Lines = Mapping[str, Mapping[float, Point]]  # method -> x -> score


def lines_figure(panels: Mapping[str, Lines], x_label: str, y_label: str, shown: Sequence[str]) -> bytes:
    """Draw scores over a number, such as DSC over shots, with intervals; a panel for each column of a table.

    Points of different methods at one x are drawn beside each other. Values of x are spaced evenly.

    Args:
        panels: column -> method -> x -> score.
        x_label: what x is.
        y_label: what the score is.
        shown: methods that are drawn in colour and named; the others are thin and grey.

    Returns:
        The bytes of a PNG file.
    """
    figure, axes = _panels(len(panels), legend_rows=math.ceil(len(shown) / 4))
    ticks = sorted({x for lines in panels.values() for points in lines.values() for x in points})
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for name, points in lines.items():
            places = np.array([ticks.index(x) for x in points], dtype=float)
            if name not in shown:
                axis.plot(places, [point.value for point in points.values()], color="0.82", linewidth=0.8, zorder=0)
                continue
            number = list(shown).index(name)
            places += 0.4 * ((number + 0.5) / len(shown) - 0.5)
            _draw_points(axis, places, list(points.values()), COLOURS[number % len(COLOURS)], name)
        axis.set_xticks(range(len(ticks)), [f"{x:g}" for x in ticks])
        axis.set_title(title, fontsize=10, parse_math=False)
        axis.set_xlabel(x_label, parse_math=False)
    axes[0].set_ylabel(y_label)
    _legend(figure, axes)
    return png_bytes(figure)


def cost_figure(panels: Mapping[str, Mapping[str, tuple[float, float]]], y_label: str) -> bytes:
    """Draw a score over what it costs; those that none beats at lower cost (the Pareto front) are joined and named.

    Args:
        panels: what the cost is, with its unit -> method -> (cost above 0, score).
        y_label: what the score is.

    Returns:
        The bytes of a PNG file.
    """
    figure, axes = _panels(len(panels), legend_rows=0)
    for axis, (title, points) in zip(axes, panels.items(), strict=True):
        front = pareto_front(points)
        others = [points[name] for name in points if name not in front]
        if others:
            axis.plot(*zip(*others, strict=True), "o", color="0.65", markersize=5)
        axis.plot(*zip(*(points[name] for name in front), strict=True), "o-", color=COLOURS[0], linewidth=1)
        for index, name in enumerate(front):
            offset = (-5, 5) if index % 2 else (5, -12)  # above to the left and below to the right in turn
            side = "right" if index % 2 else "left"
            axis.annotate(name, points[name], offset, textcoords="offset points", fontsize=8, ha=side, parse_math=False)
        costs = [cost for cost, _ in points.values()]
        if max(costs) > _LOG_FROM * min(costs):
            axis.set_xscale("log")
        axis.margins(0.12)
        axis.set_xlabel(title, parse_math=False)
    axes[0].set_ylabel(y_label)
    return png_bytes(figure)


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the methods that no other beats at equal or lower cost, cheapest first."""
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def strip_figure(panels: Mapping[str, Mapping[str, Sequence[float]]], x_label: str) -> bytes:
    """Draw the cases one by one: a row for each method, a dot a case, a bar at the mean.

    Args:
        panels: column of the table -> method -> a value a case, nan where there is none.
        x_label: what the values are.

    Returns:
        The bytes of a PNG file.
    """
    names = list(dict.fromkeys(name for methods in panels.values() for name in methods))
    width = 1.6 + _PANEL_IN[0] * min(len(panels), _MOST_PANELS_A_ROW) * 0.8
    figure = Figure(figsize=(width, 0.9 + _STRIP_ROW_IN * len(names)), layout="constrained", facecolor="white")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, methods) in zip(axes, panels.items(), strict=True):
        for name, given in methods.items():
            values = np.asarray(given, dtype=float)
            values, row = values[~np.isnan(values)], names.index(name)
            axis.plot(
                values, np.full(len(values), row), "o", color=COLOURS[0], alpha=0.45, markersize=4, markeredgewidth=0
            )
            if len(values):
                axis.plot([values.mean()] * 2, [row - 0.38, row + 0.38], color=COLOURS[1], linewidth=2)
        axis.set_title(title, fontsize=10, parse_math=False)
        axis.set_xlabel(x_label)
        _quiet(axis)
    axes[0].set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return png_bytes(figure)


def _draw_points(axis: Axes, places: np.ndarray, points: Sequence[Point], colour: str, name: str) -> None:
    values = np.array([point.value for point in points])
    spread = np.array([[point.value - point.low, point.high - point.value] for point in points]).T
    bars = np.nan_to_num(np.maximum(spread, 0))
    axis.errorbar(places, values, yerr=bars, color=colour, marker="o", markersize=4, linewidth=1.2, label=name)


def _panels(count: int, legend_rows: int) -> tuple[Figure, list[Axes]]:
    across = min(count, _MOST_PANELS_A_ROW)
    down = math.ceil(count / across)
    height = _PANEL_IN[1] * down + _LEGEND_ROW_IN * legend_rows
    figure = Figure(figsize=(max(6.0, _PANEL_IN[0] * across), height), layout="constrained", facecolor="white")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes[:count]:
        _quiet(axis)
    return figure, axes[:count]


def _quiet(axis: Axes) -> None:
    axis.grid(color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Write the names once, below all panels."""
    found = dict(pair[::-1] for axis in axes for pair in zip(*axis.get_legend_handles_labels(), strict=True))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
