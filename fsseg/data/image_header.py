"""What the header of an image says, checked without reading a voxel."""

import gzip
import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK

from fsseg.data.geometry import (
    AXES,
    TOLERANCE_VOXELS,
    affine_of,
    distance_mm,
    distance_voxels,
    is_invertible,
    orthonormal,
    shear_degrees,
    spacing_of,
)
from fsseg.data.image_file import UnreadableImageError, require_memory, require_regular_file
from fsseg.data.nifti_header import NiftiHeader, read_nifti_header

log = logging.getLogger(__name__)

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's axes point to the left and back, those of NIfTI to the right and front
_WORTH_SAYING_VOXELS = 0.01
_LONGEST_VOXEL_MM = 1000.0
_STORED_AS_THEY_ARE = ("GiplImageIO", "VTKImageIO", "MRCImageIO")  # of these ITK reads missing bytes as anything


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image says, in ITK's terms.

    Attributes:
        path: the file.
        size_xyz: numbers of voxels along each axis; more or fewer than three axes are possible.
        spacing_mm, origin_mm, direction: the geometry, x first, LPS; direction cosines row by row.
        components: numbers stored for each voxel.
        nifti: the header of the NIfTI file, if it is one.
    """

    path: Path
    size_xyz: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]
    components: int
    nifti: NiftiHeader | None

    @property
    def is_volume(self) -> bool:
        """Return whether it is one 3D image with one number per voxel."""
        return len(self.size_xyz) == AXES and self.components == 1

    @property
    def shape_text(self) -> str:
        """The size for messages, such as 512x512x80."""
        size = "x".join(str(size) for size in self.size_xyz)
        return f"{size} with {self.components} values per voxel" if self.components > 1 else size


def check_header(path: Path, *, by_nibabel: bool = False) -> ImageHeader:
    """Check what can be told of an image without reading its voxels, and return what its header says.

    The file is a regular one or a link to one, in a format that is read; its type of numbers is supported, its size
    fits that of the file and this machine's memory, and it has one geometry with axes at right angles.

    Args:
        path: the image or label map.
        by_nibabel: check it as nnU-Net's NibabelIO readers see it, which take sheared geometries, not as ITK does.

    Raises:
        UnreadableImageError: something is wrong; the text says what.
    """
    with damage_named(path):
        require_regular_file(path)
        header = _nibabel_header(path) if by_nibabel else _itk_header(path)
    _require_geometry(header)
    if header.nifti and header.is_volume:
        _require_one_geometry(header, header.nifti)
    if header.is_volume and not by_nibabel:
        _require_right_angles(header)
    return header


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what readers raise for a damaged file into `UnreadableImageError`."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableImageError(f"truncated or damaged: {path} ({error})") from None
    except MemoryError:
        raise UnreadableImageError(f"too large for the memory of this machine: {path}") from None
    except OSError as error:
        raise UnreadableImageError(f"unreadable: {path} ({error.strerror or error})") from None
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnreadableImageError(f"unreadable: {path} ({reason})") from None


def _itk_header(path: Path) -> ImageHeader:
    kind = SimpleITK.ImageFileReader.GetImageIOFromFileName(str(path))
    nifti = read_nifti_header(path) if kind == "NiftiImageIO" or _is_named_nifti(path) else None
    if nifti and nifti.version != 1:
        raise UnreadableImageError(
            f"a NIfTI-{nifti.version} file, which ITK does not read; store it as NIfTI-1: {path}"
        )
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if nifti and "orthonormal" in str(error):
            raise UnreadableImageError(_sheared(next(iter(nifti.affines.values())), path)) from None
        raise
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    needed_bytes = math.prod(size) * components * SimpleITK.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
    if kind in _STORED_AS_THEY_ARE and not path.name.endswith(".gz") and path.stat().st_size < needed_bytes:
        raise EOFError(f"shorter than the {needed_bytes} bytes that its header announces")
    require_memory(needed_bytes, path)
    return ImageHeader(path, size, reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection(), components, nifti)


def _nibabel_header(path: Path) -> ImageHeader:
    nifti = read_nifti_header(path)
    require_memory(math.prod(nifti.size) * np.dtype(float).itemsize, path)  # nnU-Net reads with get_fdata
    affine = nibabel_affine(nifti)
    spacing_mm, components = spacing_of(affine), _components(nifti.stored_type)
    direction = affine[:AXES, :AXES] / spacing_mm
    geometry = (tuple(spacing_mm.tolist()), tuple(affine[:AXES, AXES].tolist()), tuple(direction.ravel().tolist()))
    return ImageHeader(path, nifti.size, *geometry, components, nifti)


def _components(stored_type: np.dtype) -> int:
    return 2 if stored_type.kind == "c" else len(stored_type.names or ("value",))


def nibabel_affine(nifti: NiftiHeader) -> np.ndarray:
    """Return the affine that nibabel takes of those in a header, in LPS: the sform, else the qform, else none."""
    affine = next(iter(nifti.affines.values()), None)
    return _LPS @ (affine if affine is not None else np.diag([*nifti.spacing_mm, 1.0]))


def _is_named_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _require_geometry(header: ImageHeader) -> None:
    """Refuse a geometry that places nothing; that of an image with other than three axes is not looked at."""
    if len(header.size_xyz) != AXES:
        return
    affine = affine_of(header.spacing_mm, header.origin_mm, header.direction)
    sound = is_invertible(affine) and 0 < min(header.spacing_mm) <= max(header.spacing_mm) <= _LONGEST_VOXEL_MM
    if not sound:
        texts = [", ".join(f"{value:g}" for value in values) for values in (header.spacing_mm, header.origin_mm)]
        raise UnreadableImageError(
            f"its geometry means nothing: voxels of {texts[0]} mm, the first at {texts[1]} mm: {header.path}"
        )


def _require_one_geometry(header: ImageHeader, nifti: NiftiHeader) -> None:
    """Compare what is read with all that the header says; ITK takes the size of a voxel from pixdim, nibabel not."""
    if not nifti.affines:
        _warn_once(f"{header.path}: neither sform nor qform is set, so nothing says which side is left; ITK guesses.")
    read = affine_of(header.spacing_mm, header.origin_mm, header.direction)
    stated = {name: _LPS @ affine for name, affine in nifti.affines.items()}
    stated["pixdim"] = affine_of(nifti.spacing_mm, header.origin_mm, header.direction)
    for name, affine in stated.items():
        apart_mm = distance_mm(affine, read, header.size_xyz)
        apart_voxels = distance_voxels(affine, read, header.size_xyz)
        if apart_voxels > TOLERANCE_VOXELS:
            raise UnreadableImageError(
                f"its header holds two geometries: {name} puts voxels up to {apart_mm:.3g} mm away from where they"
                f" are read (allowed: half a voxel); keep the right one of sform, qform and pixdim: {header.path}"
            )
        if apart_voxels > _WORTH_SAYING_VOXELS:
            _warn_once(
                f"{header.path}: {name} puts voxels up to {apart_mm:.2g} mm away from where they are read; that is"
                " less than half a voxel."
            )


def _require_right_angles(header: ImageHeader) -> None:
    affine = affine_of(header.spacing_mm, header.origin_mm, header.direction)
    if distance_voxels(orthonormal(affine, header.size_xyz), affine, header.size_xyz) > TOLERANCE_VOXELS:
        raise UnreadableImageError(_sheared(affine, header.path))


def _sheared(affine: np.ndarray, path: Path) -> str:
    return (
        f"its axes are sheared by {shear_degrees(affine):.3g} degrees, which ITK does not read;"
        f" `fsseg assemble --repair` writes a copy with right angles: {path}"
    )


@cache
def _warn_once(text: str) -> None:
    log.warning(text)
