"""Curves over training steps, such as losses, as a picture."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fsseg.reporting.overlays import png_bytes

# Okabe and Ito's colour-blind-safe palette, those first that read well as a thin line on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINE_STYLES = ("-", "--", ":", "-.")

_MAX_RAW_POINTS = 50


def curves_figure(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], title: str, y_label: str) -> bytes:
    """Draw curves over steps; one with more than 50 points is drawn thin, its moving average thick above it.

    The average is centred and taken over a twentieth of the points, so it starts and ends a little inside the
    curve.

    Args:
        curves: per name in the legend, the steps in increasing order and the value at each; nan leaves a gap.
        title: the line above the curves.
        y_label: what the values are, with their unit where they have one.

    Returns:
        The bytes of a PNG file.

    Raises:
        ValueError: a curve has another number of steps than of values.
    """
    figure = Figure(figsize=(8, 4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for number, (name, (steps, values)) in enumerate(curves.items()):
        if len(steps) != len(values):
            raise ValueError(f"curve {name!r} has {len(steps)} steps and {len(values)} values")
        colour = _COLOURS[number % len(_COLOURS)]
        style = _LINE_STYLES[number // len(_COLOURS) % len(_LINE_STYLES)]
        _draw_curve(axes, name, np.asarray(steps), np.asarray(values, dtype=float), colour, style)
    axes.set_title(title, fontsize=11, parse_math=False)
    axes.set_xlabel("step")
    axes.set_ylabel(y_label, parse_math=False)
    axes.grid(color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if curves:
        axes.legend(frameon=False, fontsize=9)
    return png_bytes(figure)


def _draw_curve(axes: Axes, name: str, steps: np.ndarray, values: np.ndarray, colour: str, style: str) -> None:
    if len(steps) <= _MAX_RAW_POINTS:
        # Markers, because a line through a single point would be invisible.
        axes.plot(steps, values, color=colour, linestyle=style, marker="o", markersize=3, label=name)
        return
    width = max(3, len(steps) // 20) | 1  # odd, so that the average has a step at its centre
    average = np.convolve(values, np.full(width, 1 / width), mode="valid")
    centres = steps[width // 2 : len(steps) - width // 2]
    axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.35)
    axes.plot(centres, average, color=colour, linestyle=style, linewidth=2.0, label=name)
