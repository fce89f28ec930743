"""Splitting a structure that was labelled on both sides of the body at once into its right and left side."""

from dataclasses import dataclass

import numpy as np
import SimpleITK
from scipy import ndimage

from fsseg.data.orientation import inferior_superior_axis, x_positions_mm

_TISSUE_HU = -300  # above: body; below: air and lung
_MAIN_SHARE = 0.05  # a connected part with less of the structure's volume is a crumb
_CLEAR_SHARE = 0.7  # of a main part's volume must lie on one side of the midline
_MOST_SAMPLES = 96  # voxels per axis from which the midline is computed


@dataclass(frozen=True)
class Sides:
    """The two sides of a structure.

    Attributes:
        right: (z, y, x) bool, or None where the sides cannot be told apart.
        left: likewise.
        remark: what a user should know about this case; empty where both sides are clear.
    """

    right: np.ndarray | None
    left: np.ndarray | None
    remark: str


def split_sides(mask: np.ndarray, image: SimpleITK.Image) -> Sides:
    """Split a structure by its connected parts: each belongs to the side of the body's midline that it lies on.

    A part that reaches across the midline (a horseshoe kidney, lungs that touch) belongs to neither. Then no side is
    known, because a label on the wrong side teaches worse than none.

    Args:
        mask: (z, y, x) bool, what was labelled on both sides, with tumours and cysts inside.
        image: the CT of the case in HU, in any orientation; its geometry says where left is.
    """
    if not mask.any():
        return Sides(mask, mask, "")
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    midline_mm = _midline_mm(image, box)
    if midline_mm is None:
        return Sides(None, None, f"no tissue above {_TISSUE_HU} HU in its slices, so the body's midline is unknown")
    parts, count = ndimage.label(mask[box], structure=np.ones((3, 3, 3)))
    numbers = np.arange(1, count + 1)
    sizes = np.bincount(parts.ravel())[1:]
    left_shares = ndimage.mean(x_positions_mm(image, box) > midline_mm, parts, numbers)
    is_main = sizes >= _MAIN_SHARE * sizes.sum()
    unclear = is_main & (np.maximum(left_shares, 1 - left_shares) < _CLEAR_SHARE)
    if unclear.any():
        shares = ", ".join(f"{share:.0%}" for share in left_shares[unclear])
        return Sides(None, None, f"a connected part reaches across the body's midline ({shares} of it is on the left)")
    is_left = left_shares > 1 / 2
    left = np.zeros_like(mask)
    left[box] = np.isin(parts, numbers[is_left])
    return Sides(mask & ~left, left, _one_side_only(is_left[is_main]))


def _one_side_only(is_left: np.ndarray) -> str:
    if not is_left.any():
        return "it lies on the right of the body's midline only"
    return "it lies on the left of the body's midline only" if is_left.all() else ""


def _midline_mm(image: SimpleITK.Image, box: tuple[slice, ...]) -> float | None:
    # In the slices of the structure only; the median is hardly moved by the table or by one arm beside the body.
    slab = [slice(None)] * 3
    slab[inferior_superior_axis(image)] = box[inferior_superior_axis(image)]
    array = SimpleITK.GetArrayViewFromImage(image)[tuple(slab)]
    steps = tuple(slice(None, None, max(1, size // _MOST_SAMPLES)) for size in array.shape)
    body = array[steps] > _TISSUE_HU
    return float(np.median(x_positions_mm(image, tuple(slab))[steps][body])) if body.any() else None
