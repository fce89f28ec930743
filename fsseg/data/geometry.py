"""Where the voxels of an image lie in space, and how far apart two such geometries put them.

An affine is a 4 x 4 matrix from voxel indices (x, y, z) to positions in mm.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

AXES = 3
TOLERANCE_VOXELS = 0.5  # as far apart as two geometries of one grid may put a voxel
_FLAT = 1e-3  # volume of a voxel as a share of that with axes at right angles


def affine_of(spacing_mm: Sequence[float], origin_mm: Sequence[float], direction: Sequence[float]) -> np.ndarray:
    """Return the affine of a geometry as ITK states it, with direction cosines row by row."""
    affine = np.eye(AXES + 1)
    affine[:AXES, :AXES] = np.reshape(direction, (AXES, AXES)) * np.asarray(spacing_mm)
    affine[:AXES, AXES] = origin_mm
    return affine


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """Return the distances in mm (x, y, z) between neighbouring voxels."""
    return np.linalg.norm(affine[:AXES, :AXES], axis=0)


def is_invertible(affine: np.ndarray) -> bool:
    """Return whether an affine gives every voxel a place of its own."""
    if not np.isfinite(affine).all() or not spacing_of(affine).all():
        return False
    return bool(abs(np.linalg.det(affine[:AXES, :AXES] / spacing_of(affine))) > _FLAT)


def corners(size_xyz: Sequence[int]) -> np.ndarray:
    """Return the indices (8, 4) of the corner voxels, each with a 1 behind it, which an affine multiplies."""
    return np.array([[*corner, 1] for corner in product(*((0, size - 1) for size in size_xyz))], dtype=float)


def distance_mm(first: np.ndarray, second: np.ndarray, size_xyz: Sequence[int]) -> float:
    """Return by how many mm two affines differ where they differ most in a volume, which is in a corner."""
    return float(np.linalg.norm(corners(size_xyz) @ (first - second).T, axis=1).max())


def distance_voxels(first: np.ndarray, second: np.ndarray, size_xyz: Sequence[int]) -> float:
    """Return the same in voxels of the second, along the axis on which they differ most."""
    apart_mm = (corners(size_xyz) @ (first - second).T)[:, :AXES]
    return float(np.abs(np.linalg.solve(second[:AXES, :AXES], apart_mm.T)).max())


def orthonormal(affine: np.ndarray, size_xyz: Sequence[int]) -> np.ndarray:
    """Return the nearest affine with axes at right angles, the same spacing and the same centre of the volume."""
    spacing_mm = spacing_of(affine)
    left, _, right = np.linalg.svd(affine[:AXES, :AXES] / spacing_mm)
    result = affine.copy()
    result[:AXES, :AXES] = (left @ right) * spacing_mm
    centre = [*((np.asarray(size_xyz) - 1) / 2), 1]
    result[:AXES, AXES] += ((affine - result) @ centre)[:AXES]
    return result


def shear_degrees(affine: np.ndarray) -> float:
    """Return by how much the angle between two axes differs from a right one where it differs most."""
    cosines = affine[:AXES, :AXES] / spacing_of(affine)
    off_diagonal = (cosines.T @ cosines)[np.triu_indices(AXES, 1)]
    return float(np.degrees(np.arcsin(np.clip(np.abs(off_diagonal), 0, 1).max())))
