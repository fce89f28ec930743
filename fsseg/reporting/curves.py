"""Curves over training steps, such as losses and learning rates, as a picture."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fsseg.reporting.overlays import png_bytes

# Okabe and Ito's colour-blind-safe palette, those first that read well as a thin line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINE_STYLES = ("-", "--", ":", "-.")

_MAX_RAW_POINTS = 50

Curves = Mapping[str, tuple[Sequence[int], Sequence[float]]]  # name in the legend -> steps and the value at each


def curves_figure(curves: Curves, title: str, y_label: str) -> bytes:
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
    return panels_figure({y_label: curves}, title)


def panels_figure(panels: Mapping[str, Curves], title: str) -> bytes:
    """Draw curves of several quantities below each other, over the same steps; see `curves_figure`.

    Args:
        panels: what the values are -> their curves, from top to bottom.
        title: the line above the first.

    Returns:
        The bytes of a PNG file.

    Raises:
        ValueError: a curve has another number of steps than of values.
    """
    height = 4 if len(panels) == 1 else 2.6 * len(panels)
    figure = Figure(figsize=(8, height), layout="constrained", facecolor="white")
    rows = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (y_label, curves) in zip(rows, panels.items(), strict=True):
        _draw_panel(axes, curves, y_label)
    rows[0].set_title(title, fontsize=11, parse_math=False)
    rows[-1].set_xlabel("step")
    return png_bytes(figure)


def _draw_panel(axes: Axes, curves: Curves, y_label: str) -> None:
    for number, (name, (steps, values)) in enumerate(curves.items()):
        if len(steps) != len(values):
            raise ValueError(f"curve {name!r} has {len(steps)} steps and {len(values)} values")
        colour = COLOURS[number % len(COLOURS)]
        style = _LINE_STYLES[number // len(COLOURS) % len(_LINE_STYLES)]
        _draw_curve(axes, name, np.asarray(steps), np.asarray(values, dtype=float), colour, style)
    axes.set_ylabel(y_label, parse_math=False)
    axes.grid(color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if curves:
        axes.legend(frameon=False, fontsize=9)


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
