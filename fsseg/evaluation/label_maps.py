"""Label maps in one orientation, one boolean mask per structure.

Every volume is turned to RAS on reading, so axis 0 runs from inferior to superior and the z-extents of
structures.json apply whatever the orientation of the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from fsseg.config.errors import FssegError
from fsseg.data.geometry import Grid, grid_differences, grid_of
from fsseg.data.images import UnreadableImageError, read_image
from fsseg.data.structures import Structures

ORIENTATION = "RAS"
# How differences of grids are written: their name, the order of the numbers, and the step that gives it.
_WRITTEN = {
    "shape": ("shape", "z, y, x", -1),
    "spacing": ("spacing in mm", "z, y, x", -1),
    "direction": ("direction", "row by row", 1),
}


@dataclass(frozen=True)
class LabelMap:
    """One label map turned to RAS.

    Attributes:
        path: the file.
        labels: (D, H, W) integers; axes from inferior to superior, posterior to anterior, left to right.
        grid: its voxels in space.
    """

    path: Path
    labels: np.ndarray
    grid: Grid

    @property
    def spacing_zyx_mm(self) -> tuple[float, float, float]:
        """Voxel spacing in the axis order of `labels`."""
        x_mm, y_mm, z_mm = self.grid.spacing_mm
        return z_mm, y_mm, x_mm

    def mask(self, integers: Sequence[int]) -> np.ndarray:
        """Return the (D, H, W) bool mask of a structure, the union of its integers."""
        return np.isin(self.labels, integers)


def read_label_map(path: Path, structures: Structures) -> LabelMap:
    """Read a label map and turn it to RAS.

    Args:
        path: a 3D image of integers.
        structures: what the integers mean; one that it does not know is an error, not background.

    Raises:
        FssegError: the file is damaged (ITK alone reads missing bytes and NaN as background), is not 3D, or holds
            values that mean nothing.
    """
    try:
        image = read_image(path, "either")
    except UnreadableImageError as error:
        raise FssegError(f"{path} cannot be read: {error}\n  Write or copy this file again.") from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise FssegError(f"{path} must be a 3D label map, got size {image.GetSize()}.")
    image = SimpleITK.DICOMOrient(image, ORIENTATION)
    labels = SimpleITK.GetArrayFromImage(image)
    _require_known_integers(path, labels, structures)
    return LabelMap(path, labels, grid_of(image))


def require_same_grid(prediction: LabelMap, reference: LabelMap) -> None:
    """Raise `FssegError` unless both label maps lie on one voxel grid; the message names files and values.

    Half a voxel is allowed. After turning to RAS it is the origin that tells a mirrored or shifted volume from one that
    matches.
    """
    differences = _grid_differences(prediction, reference)
    if differences:
        listing = "\n".join(f"    {difference}" for difference in differences)
        raise FssegError(
            f"Different voxel grids (both turned to {ORIENTATION}):\n"
            f"    {prediction.path} (prediction)\n    {reference.path} (reference)\n{listing}\n"
            "  Predict on the image that belongs to the reference, or resample the prediction onto it."
        )


def _grid_differences(prediction: LabelMap, reference: LabelMap) -> list[str]:
    return [
        f"{what} ({order}): {_text(ours[::step])} (prediction), {_text(theirs[::step])} (reference)"
        for name, ours, theirs in grid_differences(prediction.grid, reference.grid)
        for what, order, step in [_WRITTEN.get(name, (f"{name} in mm", "x, y, z", 1))]
    ]


def _text(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"


def _require_known_integers(path: Path, labels: np.ndarray, structures: Structures) -> None:
    known = sorted({0, *(integer for integers in structures.integers.values() for integer in integers)})
    unknown = np.unique(labels[~np.isin(labels, known)])
    if len(unknown):
        raise FssegError(
            f"{path} holds values that its folder does not explain: {_shortened(unknown)}\n"
            f"  explained: {_shortened(known)}\n"
            "  Check that its structures.json or dataset.json belongs to it. nnU-Net's ignore label is not\n"
            "  supported: list what such a case annotates in structures.json instead."
        )


def _shortened(values: Sequence[float] | np.ndarray, most: int = 20) -> str:
    listing = ", ".join(f"{value:g}" for value in values[:most])
    return f"{listing}, … ({len(values)} in all)" if len(values) > most else listing
