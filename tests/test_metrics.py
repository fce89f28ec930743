import math

import numpy as np
import pytest
from scipy import ndimage

from fsseg.evaluation.metrics import segmentation_metrics

SPACING_ZYX_MM = (3.0, 1.0, 0.5)


def mask_of(shape: tuple[int, int, int], *voxels: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def two_blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two irregular, overlapping, partly disconnected masks that touch the border of the volume."""
    noise = np.random.default_rng(seed).normal(size=(2, 9, 14, 16))
    smooth = ndimage.gaussian_filter(noise, sigma=(0, 1, 2, 2), mode="nearest")
    prediction = smooth[0] > 0.05
    return prediction, ndimage.shift(prediction.astype(float), (1, 0, 1), order=0) > 0.5


def edge_points_mm(mask: np.ndarray, spacing_zyx_mm: tuple[float, float, float]) -> np.ndarray:
    """Centres of the voxels of a mask that have a face neighbour outside it."""
    padded = np.pad(mask, 1)
    inside = padded.copy()
    for axis in range(3):
        for step in (-1, 1):
            inside &= np.roll(padded, step, axis)
    return np.argwhere(padded & ~inside) * np.array(spacing_zyx_mm)


def nearest_mm(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - others[None], axis=2).min(axis=1)


def surface_elements(mask: np.ndarray, spacing_zyx_mm: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Faces between inside and outside voxels: centres (N, 3) in mm and areas (N,) in mm2."""
    padded = np.pad(mask, 1).astype(int)
    spacing = np.array(spacing_zyx_mm)
    centres, areas = [], []
    for axis in range(3):
        faces = np.argwhere(np.diff(padded, axis=axis) != 0) + 0.5 * np.eye(3)[axis]
        centres.append(faces * spacing)
        areas.append(np.full(len(faces), spacing.prod() / spacing[axis]))
    return np.concatenate(centres), np.concatenate(areas)


@pytest.mark.parametrize(
    ("neighbour", "distance_mm"), [((2, 2, 3), 0.5), ((2, 3, 2), 1.0), ((3, 2, 2), 3.0), ((3, 3, 2), 10**0.5)]
)
def test_hd95_of_two_single_voxels_is_their_distance_in_mm(neighbour: tuple[int, int, int], distance_mm: float) -> None:
    shape = (6, 6, 6)
    metrics = segmentation_metrics(mask_of(shape, (2, 2, 2)), mask_of(shape, neighbour), SPACING_ZYX_MM, 2.0)
    assert metrics.hd95_mm == pytest.approx(distance_mm)
    assert metrics.dsc == 0.0
    assert metrics.status == "ok"


def test_two_voxels_against_one() -> None:
    shape = (4, 4, 4)
    prediction = mask_of(shape, (1, 1, 1), (2, 1, 1))
    reference = mask_of(shape, (1, 1, 1))
    metrics = segmentation_metrics(prediction, reference, SPACING_ZYX_MM, 2.0)
    assert metrics.dsc == pytest.approx(2 / 3)
    # Directed distances: prediction to reference 0 and 3 mm, 95th percentile 2.85 mm; the other way 0 mm.
    assert metrics.hd95_mm == pytest.approx(0.95 * 3.0)
    assert metrics.volume_prediction_ml == pytest.approx(2 * 3.0 * 1.0 * 0.5 / 1000)
    assert metrics.volume_reference_ml == pytest.approx(1 * 3.0 * 1.0 * 0.5 / 1000)


@pytest.mark.parametrize(("tolerance_mm", "nsd"), [(0.4, 0.5), (0.5, 1.0)])
def test_nsd_of_neighbouring_voxels_counts_the_shared_face(tolerance_mm: float, nsd: float) -> None:
    # The two voxels share one face of corners; the opposite corners are one voxel (0.5 mm) away.
    shape = (4, 4, 5)
    metrics = segmentation_metrics(mask_of(shape, (1, 1, 1)), mask_of(shape, (1, 1, 2)), SPACING_ZYX_MM, tolerance_mm)
    assert metrics.nsd == pytest.approx(nsd)


def test_identical_masks_are_perfect_also_at_the_border() -> None:
    mask = np.ones((3, 4, 5), dtype=bool)
    metrics = segmentation_metrics(mask, mask, SPACING_ZYX_MM, 0.0)
    assert (metrics.dsc, metrics.nsd, metrics.hd95_mm) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("predicted", "annotated", "status", "overlap"),
    [
        (False, False, "both_empty", math.nan),
        (True, False, "reference_empty", 0.0),
        (False, True, "prediction_empty", 0.0),
    ],
)
def test_empty_masks(predicted: bool, annotated: bool, status: str, overlap: float) -> None:
    shape = (3, 3, 3)
    metrics = segmentation_metrics(
        np.full(shape, predicted), np.full(shape, annotated), SPACING_ZYX_MM, tolerance_mm=2.0
    )
    assert metrics.status == status
    assert metrics.dsc == pytest.approx(overlap, nan_ok=True)
    assert metrics.nsd == pytest.approx(overlap, nan_ok=True)
    assert math.isnan(metrics.hd95_mm)


def test_outside_the_z_extent_neither_mask_counts() -> None:
    prediction, reference = two_blobs(seed=3)
    spoiled_prediction, spoiled_reference = prediction.copy(), reference.copy()
    spoiled_prediction[:2], spoiled_reference[:2] = True, False
    spoiled_prediction[6:], spoiled_reference[6:] = False, True
    expected = segmentation_metrics(prediction[2:6], reference[2:6], SPACING_ZYX_MM, 1.0)
    assert segmentation_metrics(prediction, reference, SPACING_ZYX_MM, 1.0) != expected
    assert segmentation_metrics(spoiled_prediction, spoiled_reference, SPACING_ZYX_MM, 1.0, (2, 6)) == expected


@pytest.mark.parametrize("seed", range(4))
def test_against_brute_force(seed: int) -> None:
    prediction, reference = two_blobs(seed)
    metrics = segmentation_metrics(prediction, reference, SPACING_ZYX_MM, 1.5)
    overlap = np.logical_and(prediction, reference).sum()
    assert metrics.dsc == pytest.approx(2 * overlap / (prediction.sum() + reference.sum()))
    points = edge_points_mm(prediction, SPACING_ZYX_MM), edge_points_mm(reference, SPACING_ZYX_MM)
    directed = nearest_mm(*points), nearest_mm(*points[::-1])
    assert metrics.hd95_mm == pytest.approx(max(np.percentile(distances, 95) for distances in directed))


@pytest.mark.parametrize("tolerance_mm", [0.6, 1.1, 3.1])
def test_nsd_against_a_count_of_voxel_faces(tolerance_mm: float) -> None:
    # Boxes have flat surfaces, on which corner elements and voxel faces give the same areas up to the edges.
    prediction, reference = np.zeros((2, 30, 40, 60), dtype=bool)
    prediction[3:27, 4:36, 5:55] = True
    reference[4:27, 6:36, 6:55] = True
    faces = surface_elements(prediction, SPACING_ZYX_MM), surface_elements(reference, SPACING_ZYX_MM)
    agreeing = sum(
        areas[nearest_in_blocks_mm(centres, others) <= tolerance_mm].sum()
        for (centres, areas), (others, _) in (faces, faces[::-1])
    )
    total = sum(areas.sum() for _, areas in faces)
    metrics = segmentation_metrics(prediction, reference, SPACING_ZYX_MM, tolerance_mm)
    assert metrics.nsd == pytest.approx(agreeing / total, abs=0.02)


def nearest_in_blocks_mm(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """As `nearest_mm`, in blocks that fit into memory."""
    blocks = np.array_split(points, max(1, len(points) // 200))
    squared = (others**2).sum(axis=1)
    nearest = [((block**2).sum(axis=1)[:, None] - 2 * block @ others.T + squared).min(axis=1) for block in blocks]
    return np.sqrt(np.maximum(np.concatenate(nearest), 0))


@pytest.mark.parametrize(
    ("prediction", "reference", "z_extent", "message"),
    [
        (np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), None, "shapes differ"),
        (np.ones((2, 2, 2), np.uint8), np.ones((2, 2, 2), bool), None, "prediction must be a boolean"),
        (np.ones((2, 2), bool), np.ones((2, 2), bool), None, "prediction must be a boolean"),
        (np.ones((2, 2, 2), bool), np.ones((2, 2, 2), bool), (1, 3), r"\[1, 3\) is not inside"),
        (np.ones((2, 2, 2), bool), np.ones((2, 2, 2), bool), (1, 1), r"\[1, 1\) is not inside"),
    ],
)
def test_wrong_arrays_are_refused(
    prediction: np.ndarray, reference: np.ndarray, z_extent: tuple[int, int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        segmentation_metrics(prediction, reference, SPACING_ZYX_MM, 2.0, z_extent)
