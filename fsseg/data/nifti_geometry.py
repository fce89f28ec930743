"""The geometry that the header of a NIfTI file states: size of a voxel, sform and qform, each checked by itself."""

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import from_matvec
from nibabel.quaternions import quat2mat

from fsseg.data.geometry import is_invertible
from fsseg.data.image_file import UnreadableImageError

_UNIT_MM = {1: 1000.0, 3: 0.001}  # NIfTI's codes of metre and micrometre; all others mean millimetres
_QUATERNION_SLACK = 1e-4  # rounding may leave the three stored parts of a quaternion a little too long
_HALF_TURN = 1e-7  # the NIfTI library takes a squared fourth part below this for 0


def stated_spacing_mm(header: Any, path: Path) -> tuple[float, ...]:
    """Return the size of a voxel along the spatial axes (pixdim); raise `UnreadableImageError` for what is none."""
    pixdim = header["pixdim"][1 : 1 + min(3, int(header["dim"][0]))].astype(float)
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        raise UnreadableImageError(f"its voxels have the size {_listing(pixdim)} mm (pixdim): {path}")
    return tuple((pixdim * _unit_mm(header)).tolist())


def stated_affines(header: Any, path: Path) -> dict[str, np.ndarray]:
    """Return what sform and qform say, for those that are set: indices to mm, RAS.

    Raises:
        UnreadableImageError: one is no geometry.
    """
    affines = {}
    if header["sform_code"] > 0:
        affines["sform"] = header.get_sform().astype(float)
    if header["qform_code"] > 0:
        affines["qform"] = _qform(header, path)
    scale = np.diag([_unit_mm(header)] * 3 + [1.0])
    affines = {name: scale @ affine for name, affine in affines.items()}
    for name, affine in affines.items():
        if not is_invertible(affine):
            raise UnreadableImageError(f"its {name} is no geometry ({_listing(affine[:3].ravel())}): {path}")
    return affines


def _qform(header: Any, path: Path) -> np.ndarray:
    """Return what the quaternion says; unlike nibabel's, this takes the 0 in pixdim[0] that the standard allows."""
    parts = np.array([float(header[f"quatern_{name}"]) for name in "bcd"])
    fourth_squared = 1.0 - float(parts @ parts)
    if not fourth_squared >= -_QUATERNION_SLACK:  # NaN, too
        raise UnreadableImageError(f"its qform is no rotation (quatern {_listing(parts)}): {path}")
    fourth = np.sqrt(fourth_squared) if fourth_squared >= _HALF_TURN else 0.0
    rotation = quat2mat([fourth, *parts])
    voxel_mm = header["pixdim"][1:4].astype(float)
    voxel_mm[2] *= -1 if header["pixdim"][0] < 0 else 1
    return from_matvec((rotation * voxel_mm).astype(float), [float(header[f"qoffset_{name}"]) for name in "xyz"])


def _unit_mm(header: Any) -> float:
    return _UNIT_MM.get(int(header["xyzt_units"]) & 7, 1.0)


def _listing(values: Any) -> str:
    return ", ".join(f"{float(value):g}" for value in values)
