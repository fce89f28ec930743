"""Pictures of cases: slices in three views, the reference as outline, predictions as translucent fill.

Arrays are in z, y, x and RAS orientation, see `slices.py`.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from fsseg.reporting.panels import draw_panel, sized_figure, write_texts
from fsseg.reporting.slices import VIEWS, Array, Masks, shown_case

_OVERLAY_WIDTH_IN, _COLUMN_WIDTH_IN, _MIN_WIDTH_IN = 10.0, 2.4, 6.0
_MAX_PANELS_HEIGHT_IN, _MAX_ROW_HEIGHT_IN = 11.0, 3.6


@dataclass(frozen=True)
class DrawnCase:
    """A case as it is drawn.

    Attributes:
        image: (D, H, W) in z, y, x and RAS orientation: CT in HU, or another image in its own values.
        reference: per structure a boolean (D, H, W) mask, drawn as outline. Leave out a structure that is not
            annotated in this case; its prediction is drawn all the same.
        prediction: per structure a boolean (D, H, W) mask, drawn as fill, later ones over earlier ones.
        spacing_zyx_mm: voxel spacing in z, y, x.
        window: the values drawn black and white, (low, high).
    """

    image: Array
    reference: Masks
    prediction: Masks
    spacing_zyx_mm: Sequence[float]
    window: tuple[float, float]

    def of(self, structures: Sequence[str]) -> "DrawnCase":
        """Return the case with the masks of these structures alone, in their order."""
        reference = {name: self.reference[name] for name in structures if name in self.reference}
        prediction = {name: self.prediction[name] for name in structures if name in self.prediction}
        return replace(self, reference=reference, prediction=prediction)


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

    Arguments are those of `DrawnCase`, `structures` and title as in `rows_figure`.

    Returns:
        The bytes of a PNG file.

    Raises:
        ValueError: a mask is not boolean or not of the image's shape, or `window_hu` is empty.
    """
    case = DrawnCase(image, reference, prediction, spacing_zyx_mm, window_hu)
    return rows_figure({"": case}, structures, structures, title)


def rows_figure(rows: Mapping[str, DrawnCase], shown: Sequence[str], structures: Sequence[str], title: str) -> bytes:
    """Draw cases below each other, of each an axial, a coronal and a sagittal slice, all at the same scale.

    Radiological convention: axial slices from below and coronal slices from the front, so that the patient's
    right is on the left; sagittal slices with anterior on the left. The slices are those that `shown_slices`
    picks from the reference, or from the prediction where the reference is empty, cropped to all drawn masks
    and 40 mm around them; their numbers are array indices.

    Args:
        rows: what is written beside a case -> the case.
        shown: the structures that are drawn.
        structures: all structures of the report; their order gives the colours, which repeat after 12.
        title: the line above the panels.

    Returns:
        The bytes of a PNG file.

    Raises:
        ValueError: a mask is not boolean or not of the image's shape, or a window is empty.
    """
    drawn = [case.of(shown) for case in rows.values()]
    cases = [
        shown_case(each.image, each.reference, [each.prediction], each.spacing_zyx_mm, structures, each.window)
        for each in drawn
    ]
    widths_mm = [max(case.size_mm(view)[1] for case in cases) for view in VIEWS]
    heights_mm = [max(case.size_mm(view)[0] for view in VIEWS) for case in cases]
    max_height_in = max(_MAX_PANELS_HEIGHT_IN, _MAX_ROW_HEIGHT_IN * len(cases))
    figure = sized_figure(sum(widths_mm), sum(heights_mm), _OVERLAY_WIDTH_IN, max_height_in)
    grid = figure.subplots(len(cases), len(VIEWS), squeeze=False, width_ratios=widths_mm, height_ratios=heights_mm)
    for panels, case, each, height_mm in zip(grid, cases, drawn, heights_mm, strict=True):
        for axes, view, width_mm in zip(panels, VIEWS, widths_mm, strict=True):
            draw_panel(axes, case, view, each.prediction)
            padding_mm = (width_mm - case.size_mm(view)[1]) / 2
            axes.set(xlim=(-padding_mm, width_mm - padding_mm), ylim=(height_mm, 0))  # one scale for all panels
            axes.set_title(case.slice_name(view), fontsize=8)
    for panels, name in zip(grid, rows, strict=True):
        panels[0].set_ylabel(name, fontsize=8, parse_math=False)
    write_texts(figure, {name: cases[0].colours[name] for name in shown}, title)
    return png_bytes(figure)


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
    them the reference, first name a structure. All else is as in `rows_figure`.

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
    figure = sized_figure(width_mm * len(columns), sum(heights_mm), width_in, _MAX_PANELS_HEIGHT_IN)
    grid = figure.subplots(len(VIEWS), len(columns), squeeze=False, height_ratios=heights_mm)
    for row, view in zip(grid, VIEWS, strict=True):
        row[0].set_ylabel(case.slice_name(view), fontsize=8)
        for axes, (_, filled) in zip(row, columns, strict=True):
            draw_panel(axes, case, view, filled)
            padding_mm = (width_mm - case.size_mm(view)[1]) / 2
            axes.set_xlim(-padding_mm, width_mm - padding_mm)  # one scale for all views
    for axes, (name, _) in zip(grid[0], columns, strict=True):
        axes.set_title(name, fontsize=9, parse_math=False)
    write_texts(figure, case.colours, title)
    return png_bytes(figure)


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file, trimmed to what is drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()
