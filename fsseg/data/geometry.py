"""Where the voxels of an image lie in space, and how far apart two such geometries put them.

An affine is a 4 x 4 matrix from voxel indices (x, y, z) to positions in mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import SimpleITK

AXES = 3
TOLERANCE_VOXELS = 0.5  # as far apart as two geometries of one grid may put a voxel
LARGEST_SHEAR_DEGREES = 5.0  # what is straightened beyond it would be visibly distorted
_FLAT = 1e-3  # volume of a voxel as a share of that with axes at right angles
_RELATIVE_SPACING_TOLERANCE = 1e-3  # NIfTI keeps spacing and direction in single precision
_DIRECTION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Grid:
    """The voxels of an image in space, as ITK states it.

    Attributes:
        size_xyz: numbers of voxels along each axis.
        spacing_mm, origin_mm: x first; the position is that of the first voxel, LPS.
        direction: direction cosines of the axes, row by row.
    """

    size_xyz: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]

    @property
    def affine(self) -> np.ndarray:
        """The affine of a grid with three axes, to LPS."""
        return affine_of(self.spacing_mm, self.origin_mm, self.direction)


def grid_of(image: SimpleITK.Image | SimpleITK.ImageFileReader) -> Grid:
    """Return the grid of an image, or of the file whose header a reader has read."""
    return Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def grid_differences(ours: Grid, theirs: Grid) -> list[tuple[str, Sequence[float], Sequence[float]]]:
    """Return in what two grids differ, with our values and theirs; nothing if no voxel is half a voxel off.

    The tolerance is relative to the voxel, because files keep positions in single precision, and programs round them.
    """
    if ours.size_xyz != theirs.size_xyz:
        return [("shape", ours.size_xyz, theirs.size_xyz)]
    tolerance_mm = _RELATIVE_SPACING_TOLERANCE * np.array(theirs.spacing_mm)
    result: list[tuple[str, Sequence[float], Sequence[float]]] = []
    if (np.abs(np.subtract(ours.spacing_mm, theirs.spacing_mm)) > tolerance_mm).any():
        result.append(("spacing", ours.spacing_mm, theirs.spacing_mm))
    if (np.abs(np.subtract(ours.direction, theirs.direction)) > _DIRECTION_TOLERANCE).any():
        result.append(("direction", ours.direction, theirs.direction))
    if distance_voxels(ours.affine, theirs.affine, (1,) * AXES) > TOLERANCE_VOXELS:
        result.append(("origin", ours.origin_mm, theirs.origin_mm))
    if not result and distance_voxels(ours.affine, theirs.affine, ours.size_xyz) > TOLERANCE_VOXELS:
        last = [grid.affine @ corners(grid.size_xyz)[-1] for grid in (ours, theirs)]
        result.append(("last voxel at", *(position[:AXES].tolist() for position in last)))
    return result


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
