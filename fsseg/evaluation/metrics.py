"""Agreement of one predicted mask with its reference: DSC, NSD, HD95 and volumes.

Surfaces come from MONAI. NSD weighs every surface element by its area, at sub-voxel corners, so that it holds
at anisotropic spacing; HD95 is measured between the centres of edge voxels and is the larger of the two
directed 95th percentiles.

Rule for empty masks, by `status`:

    ok                both masks hold voxels   everything is defined
    both_empty        neither holds any        DSC, NSD and HD95 are nan, and means leave the case out
    reference_empty   only the prediction does DSC = NSD = 0, HD95 is nan (there is no distance to nothing)
    prediction_empty  only the reference does  DSC = NSD = 0, HD95 is nan
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

OK = "ok"
BOTH_EMPTY = "both_empty"
REFERENCE_EMPTY = "reference_empty"
PREDICTION_EMPTY = "prediction_empty"

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class CaseMetrics:
    """Metrics of one structure in one case; nan where the rule for empty masks leaves them undefined.

    Attributes:
        dsc: Dice similarity coefficient, 0 to 1.
        nsd: normalised surface distance (surface Dice) at the tolerance asked for, 0 to 1.
        hd95_mm: 95th percentile of the Hausdorff distance.
        volume_prediction_ml: volume of the prediction, within the annotated extent.
        volume_reference_ml: volume of the reference, within the annotated extent.
        status: ok, both_empty, reference_empty or prediction_empty.
    """

    dsc: float
    nsd: float
    hd95_mm: float
    volume_prediction_ml: float
    volume_reference_ml: float
    status: str


def segmentation_metrics(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_zyx_mm: Spacing,
    tolerance_mm: float,
    z_extent: tuple[int, int] | None = None,
) -> CaseMetrics:
    """Compare two masks of one structure.

    Args:
        prediction: (D, H, W) bool, axis 0 from inferior to superior.
        reference: (D, H, W) bool on the same grid.
        spacing_zyx_mm: voxel spacing in the axis order of the arrays.
        tolerance_mm: surfaces closer than or as close as this agree (NSD).
        z_extent: half-open slice range [first, last) in which the structure is annotated. Outside it the
            truth is unknown, so both masks are cut to it first; a structure that runs on beyond the range
            ends at the cut in both masks, and the cut faces count as surface, as at the border of a volume.

    Raises:
        ValueError: the masks are no boolean (D, H, W) arrays of one shape, or the z-extent is not inside.
    """
    _require_masks(prediction, reference)
    if z_extent is not None:
        prediction, reference = _cut(prediction, z_extent), _cut(reference, z_extent)
    voxels_prediction, voxels_reference = int(prediction.sum()), int(reference.sum())
    status = _status(voxels_prediction, voxels_reference)
    dsc = dice(prediction, reference)
    nsd, hd95_mm = _undefined(status)
    if status == OK:
        prediction, reference = _crop_to_content(prediction, reference)
        nsd, hd95_mm = _surface_metrics(prediction, reference, spacing_zyx_mm, tolerance_mm)
    voxel_ml = math.prod(spacing_zyx_mm) / 1000
    return CaseMetrics(dsc, nsd, hd95_mm, voxels_prediction * voxel_ml, voxels_reference * voxel_ml, status)


def dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Return the DSC of two boolean arrays of one shape; nan where neither holds any voxel."""
    voxels = int(prediction.sum()) + int(reference.sum())
    return 2 * int((prediction & reference).sum()) / voxels if voxels else math.nan


def _require_masks(prediction: np.ndarray, reference: np.ndarray) -> None:
    for name, mask in (("prediction", prediction), ("reference", reference)):
        if mask.dtype != bool or mask.ndim != 3:
            raise ValueError(f"{name} must be a boolean (D, H, W) array, got {mask.dtype} of shape {mask.shape}")
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes differ: prediction {prediction.shape}, reference {reference.shape}")


def _cut(mask: np.ndarray, z_extent: tuple[int, int]) -> np.ndarray:
    first, last = z_extent
    if not 0 <= first < last <= mask.shape[0]:
        raise ValueError(f"z-extent [{first}, {last}) is not inside a volume of {mask.shape[0]} slices")
    return mask[first:last]


def _status(voxels_prediction: int, voxels_reference: int) -> str:
    if voxels_prediction and voxels_reference:
        return OK
    if voxels_prediction:
        return REFERENCE_EMPTY
    return PREDICTION_EMPTY if voxels_reference else BOTH_EMPTY


def _undefined(status: str) -> tuple[float, float]:
    return math.nan if status == BOTH_EMPTY else 0.0, math.nan


def _crop_to_content(prediction: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crop both masks to their common bounding box and add one empty voxel on every side.

    The margin closes the surface of a mask that touches the border of the volume; the crop is what makes
    surface distances of a small organ in a whole CT affordable.
    """
    union = prediction | reference
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        occupied = np.flatnonzero(union.any(axis=others))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return np.pad(prediction[tuple(box)], 1), np.pad(reference[tuple(box)], 1)


def _surface_metrics(
    prediction: np.ndarray, reference: np.ndarray, spacing_zyx_mm: Spacing, tolerance_mm: float
) -> tuple[float, float]:
    """Return NSD and HD95 (mm) of two masks that both hold voxels."""
    predicted = torch.from_numpy(prediction)[None, None]
    truth = torch.from_numpy(reference)[None, None]
    with warnings.catch_warnings():
        # MONAI 1.5 and 1.6 call a deprecated argument of their own function.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        nsd = compute_surface_dice(
            predicted,
            truth,
            class_thresholds=[tolerance_mm],
            include_background=True,
            spacing=spacing_zyx_mm,
            use_subvoxels=True,
        )
        hd95_mm = compute_hausdorff_distance(
            predicted, truth, include_background=True, percentile=95, spacing=spacing_zyx_mm
        )
    return float(nsd), float(hd95_mm)
