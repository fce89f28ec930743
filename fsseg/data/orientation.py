"""Where structures lie in the body: is left on the left, and which slices does a structure span."""

from collections.abc import Mapping

import numpy as np
import SimpleITK

from fsseg.data.side_names import sides_of

_AXES_ZYX = 3


def present_voxels(labels: SimpleITK.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the labelled voxels of a label map: integers (N,) and indices (3, N) in z, y, x order."""
    array = SimpleITK.GetArrayViewFromImage(labels)
    indices = np.stack(np.nonzero(array))
    return array[tuple(indices)], indices


def x_positions_mm(image: SimpleITK.Image, box: tuple[slice, ...]) -> np.ndarray:
    """Return the x coordinate (mm, LPS: it grows towards the patient's left) of every voxel of a box.

    Args:
        image: its geometry counts.
        box: slices in z, y, x order.
    """
    steps_zyx = (np.array(image.GetDirection()[:_AXES_ZYX]) * np.array(image.GetSpacing()))[::-1]
    sizes_zyx = image.GetSize()[::-1]
    along_z, along_y, along_x = (
        np.arange(size)[part] * step for size, part, step in zip(sizes_zyx, box, steps_zyx, strict=True)
    )
    return image.GetOrigin()[0] + along_z[:, None, None] + along_y[None, :, None] + along_x


def inferior_superior_axis(image: SimpleITK.Image) -> int:
    """Return which axis of the (z, y, x) array runs most nearly from feet to head."""
    towards_head = np.abs(image.GetDirection()[2 * _AXES_ZYX :])
    return _AXES_ZYX - 1 - int(np.argmax(towards_head))


def left_of_patient_mm(labels: SimpleITK.Image, highest: int) -> tuple[np.ndarray, np.ndarray]:
    """Locate each integer along the axis that points to the patient's left.

    Args:
        labels: label map.
        highest: highest integer of interest.

    Returns:
        Number of voxels of each integer and the sum of their x coordinates (mm, LPS: x grows towards the
        patient's left), each of shape (highest + 1,); the quotient is the centroid of a structure.
    """
    integers, indices = present_voxels(labels)
    direction = np.array(labels.GetDirection()).reshape(_AXES_ZYX, _AXES_ZYX)
    step_xyz = direction[0] * np.array(labels.GetSpacing())
    x_mm = labels.GetOrigin()[0] + step_xyz[::-1] @ indices
    counts = np.bincount(integers, minlength=highest + 1)
    return counts, np.bincount(integers, weights=x_mm, minlength=highest + 1)


def swapped_pairs(labels: SimpleITK.Image, integers: Mapping[str, tuple[int, ...]]) -> tuple[list[str], int, int]:
    """Check that what is left by its name lies further to the patient's left than its right partner.

    Args:
        labels: label map.
        integers: structure -> its integers in the label map.

    Returns:
        One description per swapped pair, the number of pairs checked, and the number of pairs of which this
        case has one side only, which cannot be checked.
    """
    pairs = sides_of(integers).pairs
    if not pairs:
        return [], 0, 0
    highest = max(max(values, default=0) for values in integers.values())
    counts, sums = left_of_patient_mm(labels, highest)
    swapped, checked, not_checkable = [], 0, 0
    for right, left in pairs:
        sizes = {name: counts[list(integers[name])].sum() for name in (right, left)}
        if not all(sizes.values()):
            not_checkable += any(sizes.values())
            continue
        checked += 1
        x_mm = {name: sums[list(integers[name])].sum() / sizes[name] for name in (right, left)}
        if x_mm[left] <= x_mm[right]:
            swapped.append(f"{left} lies {x_mm[right] - x_mm[left]:.1f} mm to the right of {right}")
    return swapped, checked, not_checkable


def z_extents(labels: SimpleITK.Image, integers: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, int]]:
    """Return the slices that each structure spans, for those that occur.

    Args:
        labels: label map in any orientation.
        integers: structure -> its integers in the label map.

    Returns:
        Structure -> half-open range along the inferior-superior axis after reorientation to RAS, index 0 the
        most inferior slice.
    """
    ras = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(labels, "RAS"))
    extents = {}
    for name, values in integers.items():
        slices = np.flatnonzero(np.isin(ras, values).any(axis=(1, 2)))
        if slices.size:
            extents[name] = (int(slices[0]), int(slices[-1]) + 1)
    return extents
