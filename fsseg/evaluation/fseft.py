"""How FSEFT and ARENA score: Dice on a 1.5 mm grid, with a reference of one component where a task has one structure.

The grid is that of MONAI's Spacing: in RAS, 1.5 mm along each axis, its first voxel on the first of the label map.
Label maps are resampled to it by nearest neighbour, beyond their last voxel by its value.

One thing stays different: they score what the network gives on this grid. A label map that fsseg predicts was resampled
to the image's grid first, and is resampled back. On phantoms with large voxels that costs 0.02 DSC (docs/decisions.md).
"""

from typing import Literal

import numpy as np
import SimpleITK

from fsseg.data.geometry import grid_of
from fsseg.evaluation.label_maps import LabelMap

# "fseft" is for one structure at a time, as on TotalSegmentator, "fseft_multiclass" for several, as on FLARE22.
Protocol = Literal["native", "fseft", "fseft_multiclass"]
NATIVE: Protocol = "native"
SPACING_MM = 1.5


def on_fseft_grid(label_map: LabelMap) -> LabelMap:
    """Return a label map on the grid of FSEFT."""
    image = SimpleITK.GetImageFromArray(label_map.labels)
    image.SetSpacing(label_map.grid.spacing_mm)
    image.SetOrigin(label_map.grid.origin_mm)
    image.SetDirection(label_map.grid.direction)
    extents_mm = (np.array(image.GetSize()) - 1) * image.GetSpacing()  # between the centres of the outer voxels
    resample = SimpleITK.ResampleImageFilter()
    resample.SetReferenceImage(image)
    resample.SetSize([int(voxels) + 1 for voxels in np.round(extents_mm / SPACING_MM)])
    resample.SetOutputSpacing([SPACING_MM] * len(extents_mm))
    resample.SetInterpolator(SimpleITK.sitkNearestNeighbor)
    resample.SetUseNearestNeighborExtrapolator(True)
    resampled = resample.Execute(image)
    return LabelMap(label_map.path, SimpleITK.GetArrayFromImage(resampled), grid_of(resampled))


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Return the largest of the components of a (D, H, W) bool mask, whose voxels touch by a face, edge or corner."""
    components = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)), True)
    largest: np.ndarray = SimpleITK.GetArrayFromImage(SimpleITK.RelabelComponent(components)) == 1
    return largest


def fseft_dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Return 2 |overlap| / (|prediction| + |reference| + 1) of two bool arrays of one shape."""
    return 2 * int((prediction & reference).sum()) / (int(prediction.sum()) + int(reference.sum()) + 1)
