"""One panel of an overlay: a slice with the reference as outline and a prediction as translucent fill, and the legend.

Arrays are in z, y, x and RAS orientation, see `slices.py`.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fsseg.reporting.slices import Array, Masks, ShownCase, View

_FILL_ALPHA = 0.45
_TITLES_AND_LEGEND_IN = 1.1


def sized_figure(panels_width_mm: float, panels_height_mm: float, width_in: float, max_height_in: float) -> Figure:
    """Return an empty figure for panels of this size together, with room for titles and legend."""
    height_in = min(max_height_in, width_in * panels_height_mm / panels_width_mm)
    return Figure(figsize=(width_in, height_in + _TITLES_AND_LEGEND_IN), layout="compressed", facecolor="white")


def draw_panel(axes: Axes, case: ShownCase, view: View, filled: Masks) -> None:
    """Draw a slice of a case with its reference and `filled`; the unit of the axes is mm."""
    height_mm, width_mm = case.size_mm(view)
    low_hu, high_hu = case.window_hu
    extent = (0.0, width_mm, height_mm, 0.0)
    grey = case.cut(case.image, view)
    axes.imshow(grey, cmap="gray", vmin=low_hu, vmax=high_hu, extent=extent, interpolation="bilinear")
    fill = np.zeros((*grey.shape, 4))
    for name, mask in filled.items():
        fill[case.cut(mask, view)] = to_rgba(case.colours[name], _FILL_ALPHA)
    axes.imshow(fill, extent=extent, interpolation="nearest")
    for name, mask in case.reference.items():
        _draw_outline(axes, case.cut(mask, view), (height_mm, width_mm), case.colours[name])
    axes.set(xlim=(0, width_mm), ylim=(height_mm, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    _draw_letters(axes, view.letters, height_mm, width_mm)


def _draw_outline(axes: Axes, mask: Array, size_mm: tuple[float, float], colour: str) -> None:
    if not mask.any():
        return
    # The frame of zeros closes outlines at the border of the array and allows masks one voxel wide.
    padded = np.pad(mask, 1).astype(float)
    y_mm, x_mm = (
        (np.arange(-1, count + 1) + 0.5) * size / count for count, size in zip(mask.shape, size_mm, strict=True)
    )
    axes.contour(x_mm, y_mm, padded, levels=[0.5], colors=[colour], linewidths=1.1)


def _draw_letters(axes: Axes, letters: str, height_mm: float, width_mm: float) -> None:
    outline: list[patheffects.AbstractPathEffect] = [patheffects.withStroke(linewidth=2, foreground="black")]
    places = ((0.02, 0.5, "left"), (0.98, 0.5, "right"), (0.5, 0.02, "top"), (0.5, 0.98, "bottom"))
    for letter, (x, y, border) in zip(letters, places, strict=True):
        horizontal, vertical = (border, "center") if border in ("left", "right") else ("center", border)
        text = axes.text(x * width_mm, y * height_mm, letter, fontsize=9, color="white")
        text.set(ha=horizontal, va=vertical, path_effects=outline)


def write_texts(figure: Figure, colours: Mapping[str, str], title: str) -> None:
    """Write the title above a figure and the legend of these structures below it."""
    figure.suptitle(title, fontsize=10, parse_math=False)
    handles: list[Artist] = [Patch(color=colour, label=name) for name, colour in colours.items()]
    handles.append(Line2D([], [], color="0.3", linewidth=1.1, label="reference: outline"))
    handles.append(Patch(facecolor="0.3", alpha=_FILL_ALPHA, label="prediction: fill"))
    entry_width_in = 0.4 + 0.075 * max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(figure.get_figwidth() / entry_width_in)))
    by_rows = list(_read_by_rows(handles, columns))
    figure.legend(handles=by_rows, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _read_by_rows(handles: list[Artist], columns: int) -> Iterable[Artist]:
    """Return entries so that a legend, which fills its columns one after the other, is read row by row."""
    return (handle for column in range(columns) for handle in handles[column::columns])
