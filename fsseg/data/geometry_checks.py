"""Does an image have one geometry that can be read: sform, qform and pixdim agree, axes are at right angles."""

import logging
from functools import cache
from pathlib import Path

import numpy as np

from fsseg.data.geometry import (
    AXES,
    LARGEST_SHEAR_DEGREES,
    TOLERANCE_VOXELS,
    Grid,
    affine_of,
    distance_mm,
    distance_voxels,
    is_invertible,
    orthonormal,
    shear_degrees,
    spacing_of,
)
from fsseg.data.image_file import NotByItkError, UnreadableImageError
from fsseg.data.nifti_header import NiftiHeader

log = logging.getLogger(__name__)

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's axes point to the left and back, those of NIfTI to the right and front
_WORTH_SAYING_VOXELS = 0.01
_LONGEST_VOXEL_MM = 1000.0
REPAIR = "`fsseg assemble --repair` writes a copy that it reads"


def nibabel_grid(nifti: NiftiHeader) -> Grid:
    """Return the grid that nibabel reads: the sform, else the qform, else none, turned to LPS."""
    affine = next(iter(nifti.affines.values()), None)
    if affine is None:
        affine = np.diag([*nifti.spacing_mm, *[1.0] * (AXES + 1 - len(nifti.spacing_mm))])
    affine = _LPS @ affine
    spacing_mm = spacing_of(affine)
    parts = (spacing_mm, affine[:AXES, AXES], (affine[:AXES, :AXES] / spacing_mm).ravel())
    return Grid(nifti.size, *(tuple(part.tolist()) for part in parts))


def require_geometry(path: Path, grid: Grid, nifti: NiftiHeader | None) -> None:
    """Refuse a geometry that places nothing, or two of them; that of an image without three axes is not looked at.

    Args:
        path: the file.
        grid: what is read.
        nifti: what the header of a NIfTI file says besides.

    Raises:
        UnreadableImageError: the geometry means nothing, or two things.
    """
    if len(grid.size_xyz) != AXES:
        return
    if not is_invertible(grid.affine) or not 0 < min(grid.spacing_mm) <= max(grid.spacing_mm) <= _LONGEST_VOXEL_MM:
        texts = [", ".join(f"{value:g}" for value in values) for values in (grid.spacing_mm, grid.origin_mm)]
        raise UnreadableImageError(
            f"its geometry means nothing: voxels of {texts[0]} mm, the first at {texts[1]} mm: {path}"
        )
    if nifti:
        _require_one_geometry(path, grid, nifti)


def _require_one_geometry(path: Path, read: Grid, nifti: NiftiHeader) -> None:
    """Compare what is read with all that the header says; ITK takes the size of a voxel from pixdim, nibabel not."""
    if not nifti.affines:
        _warn_once(f"{path}: neither sform nor qform is set, so nothing says which side is left.")
    stated = {name: _LPS @ affine for name, affine in nifti.affines.items()}
    stated["pixdim"] = affine_of(nifti.spacing_mm, read.origin_mm, read.direction)
    for name, affine in stated.items():
        apart_mm = distance_mm(affine, read.affine, read.size_xyz)
        apart_voxels = distance_voxels(affine, read.affine, read.size_xyz)
        if apart_voxels > TOLERANCE_VOXELS:
            raise UnreadableImageError(
                f"its header holds two geometries: {name} puts voxels up to {apart_mm:.3g} mm away from where they"
                f" are read (allowed: half a voxel); keep the right one of sform, qform and pixdim: {path}"
            )
        if apart_voxels > _WORTH_SAYING_VOXELS:
            _warn_once(
                f"{path}: {name} puts voxels up to {apart_mm:.2g} mm away from where they are read, which is less than"
                " half a voxel."
            )


def require_right_angles(path: Path, grid: Grid) -> None:
    """Raise `NotByItkError` where axes at right angles would put voxels elsewhere."""
    if len(grid.size_xyz) != AXES:
        return
    affine, size = grid.affine, grid.size_xyz
    if distance_voxels(orthonormal(affine, size), affine, size) > TOLERANCE_VOXELS:
        raise sheared(path, affine)


def sheared(path: Path, affine: np.ndarray) -> NotByItkError:
    """Return the error that says by how much the axes of an image are sheared, and what to do."""
    degrees = shear_degrees(affine)
    remedy = REPAIR if degrees <= LARGEST_SHEAR_DEGREES else "resample it to axes at right angles"
    return NotByItkError(f"its axes are sheared by {degrees:.3g} degrees, which ITK does not read; {remedy}: {path}")


@cache
def _warn_once(text: str) -> None:
    log.warning(text)
