"""Which slices of a case are shown, and which part of them.

Arrays have the axis order z, y, x and RAS orientation, as `SimpleITK.DICOMOrient(image, "RAS")` followed by
`GetArrayFromImage` gives them. RAS names, x first, where the axes point to: indices grow towards superior
along axis 0, towards anterior along axis 1, and towards the patient's right along axis 2.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Masks = Mapping[str, Array]

# Okabe and Ito's colour-blind-safe palette without black, and further colours that stand out from CT grey.
PALETTE = (
    *("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
    *("#33FFDD", "#B2DF8A", "#8C6BFF", "#A6611A", "#AA4499"),
)
_MARGIN_MM = 40.0


@dataclass(frozen=True)
class View:
    """A direction of view."""

    name: str
    axis: int  # the array axis that the slice is taken across
    letters: str  # what lies at the left, right, top and bottom border


# Slices are drawn with both of their axes reversed: the high end of an axis is at the top or on the left.
VIEWS = (View("axial", 0, "RLAP"), View("coronal", 1, "RLSI"), View("sagittal", 2, "APSI"))


@dataclass(frozen=True)
class ShownCase:
    """One case with the slices and the part of it that are drawn."""

    image: Array
    reference: Masks
    spacing_zyx_mm: Sequence[float]
    window_hu: tuple[float, float]
    colours: Mapping[str, str]
    box: tuple[slice, ...]  # the part of the arrays that is drawn
    indices_zyx: tuple[int, ...]  # the slice drawn across each axis

    def cut(self, array: Array, view: View) -> Array:
        """Return the drawn part of a slice of `array`, rows from the top down, columns from left to right."""
        box = [self.indices_zyx[axis] if axis == view.axis else part for axis, part in enumerate(self.box)]
        return array[tuple(box)][::-1, ::-1]

    def size_mm(self, view: View) -> tuple[float, float]:
        """Return height and width of the drawn part."""
        sizes = [(part.stop - part.start) * mm for part, mm in zip(self.box, self.spacing_zyx_mm, strict=True)]
        height, width = (size for axis, size in enumerate(sizes) if axis != view.axis)
        return height, width

    def slice_name(self, view: View) -> str:
        """Return the view with the array index of its slice."""
        return f"{view.name}, slice {self.indices_zyx[view.axis]}"


def shown_case(
    image: Array,
    reference: Masks,
    predictions: Sequence[Masks],
    spacing_zyx_mm: Sequence[float],
    structures: Sequence[str],
    window_hu: tuple[float, float],
) -> ShownCase:
    """Choose slices, part and colours of a case.

    Raises:
        ValueError: a mask is not boolean or not of the image's shape, or `window_hu` is empty.
    """
    if window_hu[0] >= window_hu[1]:
        raise ValueError(f"window_hu must be (low, high) with low < high, got {window_hu}")
    predicted = {f"{number} {name}": m for number, masks in enumerate(predictions) for name, m in masks.items()}
    masks = [*reference.values(), *predicted.values()]
    if any(mask.shape != image.shape or mask.dtype != bool for mask in masks):
        received = sorted({f"{mask.dtype} {mask.shape}" for mask in masks})
        raise ValueError(f"masks must be bool {image.shape} like the image, got {', '.join(received)}")
    middle = tuple(size // 2 for size in image.shape)
    indices = shown_slices(reference) or shown_slices(predicted) or middle
    box = _box(image.shape, masks, spacing_zyx_mm)
    colours = {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(structures)}
    return ShownCase(image, reference, spacing_zyx_mm, window_hu, colours, box, indices)


def shown_slices(masks: Masks) -> tuple[int, ...] | None:
    """Return the index across z, y and x of the slice that shows the structures best; None if all are empty.

    It is the slice with the most labelled voxels summed over structures, each structure's count relative to
    the slice that has most of it: a small structure weighs as much as a large one.
    """
    profiles = [_profiles_zyx(mask) for mask in masks.values() if mask.any()]
    if not profiles:
        return None
    return tuple(
        int(np.argmax(sum(profile / profile.max() for profile in of_axis))) for of_axis in zip(*profiles, strict=True)
    )


def _profiles_zyx(mask: Array) -> tuple[Array, Array, Array]:
    """Count the labelled voxels in each slice across z, y and x."""
    per_z = np.array([np.count_nonzero(plane) for plane in mask])
    per_yx = mask[np.flatnonzero(per_z)].sum(axis=0)
    return per_z, per_yx.sum(axis=1), per_yx.sum(axis=0)


def _box(shape: Sequence[int], masks: Iterable[Array], spacing_zyx_mm: Sequence[float]) -> tuple[slice, ...]:
    profiles = [_profiles_zyx(mask) for mask in masks if mask.any()]
    if not profiles:
        return tuple(slice(0, size) for size in shape)
    box = []
    for size, spacing_mm, of_axis in zip(shape, spacing_zyx_mm, zip(*profiles, strict=True), strict=True):
        occupied = np.flatnonzero(sum(of_axis))
        margin = math.ceil(_MARGIN_MM / spacing_mm)
        box.append(slice(max(0, int(occupied[0]) - margin), min(size, int(occupied[-1]) + 1 + margin)))
    return tuple(box)
