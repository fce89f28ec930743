"""Giving a sheared image axes at right angles, which ITK demands of NIfTI files; its voxels stay as they are."""

from dataclasses import dataclass

import SimpleITK

from fsseg.data.geometry import (
    AXES,
    LARGEST_SHEAR_DEGREES,
    distance_mm,
    distance_voxels,
    grid_of,
    orthonormal,
    shear_degrees,
    spacing_of,
)

_ROUNDING_VOXELS = 1e-3


@dataclass(frozen=True)
class Straightened:
    """An image with axes at right angles.

    Attributes:
        image: the image.
        degrees: by how much its axes were sheared; 0 where nothing had to be changed.
        moved_mm: how far away from its old place the voxel lies that has moved most, a corner.
    """

    image: SimpleITK.Image
    degrees: float = 0.0
    moved_mm: float = 0.0


def straightened(image: SimpleITK.Image) -> Straightened:
    """Give a 3D image the nearest geometry with axes at right angles; voxels, their size and the centre stay.

    Networks see voxels and their size alone, so they learn the same from the image as nnU-Net's readers that take a
    sheared one as it is.

    Raises:
        ValueError: the axes are so far from right angles that what the image shows would be distorted.
    """
    affine, size = grid_of(image).affine, image.GetSize()
    straight, degrees = orthonormal(affine, size), shear_degrees(affine)
    if distance_voxels(straight, affine, size) < _ROUNDING_VOXELS:
        return Straightened(image)
    if degrees > LARGEST_SHEAR_DEGREES:
        raise ValueError(
            f"is sheared by {degrees:.3g} degrees, more than the {LARGEST_SHEAR_DEGREES:g} that can be straightened"
            " without distorting it; resample it"
        )
    result = SimpleITK.Image(image)
    result.SetOrigin(straight[:AXES, AXES].tolist())
    result.SetDirection((straight[:AXES, :AXES] / spacing_of(straight)).ravel().tolist())
    return Straightened(result, degrees, distance_mm(straight, affine, size))
