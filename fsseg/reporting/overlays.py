"""Pictures of one case: CT slices in three views, the reference as outline, predictions as translucent fill.

Arrays are in z, y, x and RAS orientation, see `slices.py`.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fsseg.reporting.slices import VIEWS, Array, Masks, ShownCase, View, shown_case

_FILL_ALPHA = 0.45
_OVERLAY_WIDTH_IN, _COLUMN_WIDTH_IN, _MIN_WIDTH_IN = 10.0, 2.4, 6.0
_MAX_PANELS_HEIGHT_IN, _TITLES_AND_LEGEND_IN = 11.0, 1.1


def overlay_figure(
    image: Array,
    reference: Masks,
    prediction: Masks,
    spacing_zyx_mm: Sequence[float],
    structures: Sequence[str],
    window_hu: tuple[float, float],
    title: str,
) -> bytes:
    """Draw an axial, a coronal and a sagittal slice of one case side by side, all at the same scale.

    Radiological convention: axial slices from below and coronal slices from the front, so that the patient's
    right is on the left; sagittal slices with anterior on the left. The slices are those that `shown_slices`
    picks from the reference, or from the prediction where the reference is empty, cropped to all drawn masks
    and 40 mm around them; their numbers are array indices.

    Args:
        image: CT in HU, (D, H, W) in z, y, x and RAS orientation.
        reference: per structure a boolean (D, H, W) mask, drawn as outline. Leave out a structure that is not
            annotated in this case; its prediction is drawn all the same.
        prediction: per structure a boolean (D, H, W) mask, drawn as fill, later ones over earlier ones.
        spacing_zyx_mm: voxel spacing in z, y, x.
        structures: the structures to draw; their order gives the colours, which repeat after 12.
        window_hu: the HU values drawn black and white, (low, high).
        title: the line above the panels, such as the identifier of the case.

    Returns:
        The bytes of a PNG file.

    Raises:
        ValueError: a mask is not boolean or not of the image's shape, or `window_hu` is empty.
    """
    outlined = {name: reference[name] for name in structures if name in reference}
    filled = {name: prediction[name] for name in structures if name in prediction}
    case = shown_case(image, outlined, [filled], spacing_zyx_mm, structures, window_hu)
    widths_mm = [case.size_mm(view)[1] for view in VIEWS]
    height_mm = max(case.size_mm(view)[0] for view in VIEWS)
    figure = _sized_figure(sum(widths_mm), height_mm, _OVERLAY_WIDTH_IN)
    panels = figure.subplots(1, len(VIEWS), width_ratios=widths_mm)
    for axes, view in zip(panels, VIEWS, strict=True):
        _draw_panel(axes, case, view, filled)
        axes.set_ylim(height_mm, 0)  # one scale for all views
        axes.set_title(case.slice_name(view), fontsize=8)
    return _finished(figure, case, title)


def comparison_figure(
    image: Array,
    reference: Masks,
    predictions: Mapping[str, Masks],
    spacing_zyx_mm: Sequence[float],
    window_hu: tuple[float, float],
    title: str,
) -> bytes:
    """Draw several methods on the same slices: rows are views, columns the reference and then the methods.

    The reference is outlined in every column. Colours follow the order in which the predictions, and after
    them the reference, first name a structure. All else is as in `overlay_figure`.

    Args:
        image: CT in HU, (D, H, W) in z, y, x and RAS orientation.
        reference: per structure a boolean (D, H, W) mask.
        predictions: per method, in the order of the columns, per structure a boolean (D, H, W) mask.
        spacing_zyx_mm: voxel spacing in z, y, x.
        window_hu: the HU values drawn black and white, (low, high).
        title: the line above the panels.

    Returns:
        The bytes of a PNG file.

    Raises:
        ValueError: a mask is not boolean or not of the image's shape, or `window_hu` is empty.
    """
    structures = list(dict.fromkeys(name for masks in (*predictions.values(), reference) for name in masks))
    case = shown_case(image, reference, list(predictions.values()), spacing_zyx_mm, structures, window_hu)
    columns: list[tuple[str, Masks]] = [("reference", {}), *predictions.items()]
    heights_mm = [case.size_mm(view)[0] for view in VIEWS]
    width_mm = max(case.size_mm(view)[1] for view in VIEWS)
    width_in = max(_MIN_WIDTH_IN, _COLUMN_WIDTH_IN * len(columns))
    figure = _sized_figure(width_mm * len(columns), sum(heights_mm), width_in)
    grid = figure.subplots(len(VIEWS), len(columns), squeeze=False, height_ratios=heights_mm)
    for row, view in zip(grid, VIEWS, strict=True):
        row[0].set_ylabel(case.slice_name(view), fontsize=8)
        for axes, (_, filled) in zip(row, columns, strict=True):
            _draw_panel(axes, case, view, filled)
            padding_mm = (width_mm - case.size_mm(view)[1]) / 2
            axes.set_xlim(-padding_mm, width_mm - padding_mm)  # one scale for all views
    for axes, (name, _) in zip(grid[0], columns, strict=True):
        axes.set_title(name, fontsize=9, parse_math=False)
    return _finished(figure, case, title)


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file, trimmed to what is drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def _sized_figure(panels_width_mm: float, panels_height_mm: float, width_in: float) -> Figure:
    height_in = min(_MAX_PANELS_HEIGHT_IN, width_in * panels_height_mm / panels_width_mm)
    return Figure(figsize=(width_in, height_in + _TITLES_AND_LEGEND_IN), layout="compressed", facecolor="white")


def _draw_panel(axes: Axes, case: ShownCase, view: View, filled: Masks) -> None:
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


def _finished(figure: Figure, case: ShownCase, title: str) -> bytes:
    figure.suptitle(title, fontsize=10, parse_math=False)
    handles: list[Artist] = [Patch(color=colour, label=name) for name, colour in case.colours.items()]
    handles.append(Line2D([], [], color="0.3", linewidth=1.1, label="reference: outline"))
    handles.append(Patch(facecolor="0.3", alpha=_FILL_ALPHA, label="prediction: fill"))
    entry_width_in = 0.4 + 0.075 * max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(figure.get_figwidth() / entry_width_in)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return png_bytes(figure)
