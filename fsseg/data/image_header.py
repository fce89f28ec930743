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
from typing import Literal

import numpy as np
import SimpleITK

from fsseg.data.geometry import (
    AXES,
    LARGEST_SHEAR_DEGREES,
    TOLERANCE_VOXELS,
    Grid,
    affine_of,
    distance_mm,
    distance_voxels,
    grid_of,
    is_invertible,
    orthonormal,
    shear_degrees,
    spacing_of,
)
from fsseg.data.image_file import NotByItkError, UnreadableImageError, require_memory, require_regular_file
from fsseg.data.nifti_header import NiftiHeader, read_nifti_header
from fsseg.data.stored_voxels import StoredVoxels, require_all, stored_voxels
from fsseg.data.tiff_pages import require_all_pages

log = logging.getLogger(__name__)

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's axes point to the left and back, those of NIfTI to the right and front
_WORTH_SAYING_VOXELS = 0.01
_LONGEST_VOXEL_MM = 1000.0
_REPAIR = "`fsseg assemble --repair` writes a copy that it reads"


Reader = Literal["ITK", "nibabel", "either"]


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image says.

    Attributes:
        path: the file.
        grid: its voxels in space; more or fewer than three axes are possible.
        components: numbers stored for each voxel.
        voxel_bytes: bytes of a voxel once it is read.
        nifti: the header of the NIfTI file, if it is one.
        stored: where other files keep their voxels, if that is known.
        by_nibabel: whether nibabel reads the file, not ITK.
    """

    path: Path
    grid: Grid
    components: int
    voxel_bytes: int
    nifti: NiftiHeader | None = None
    stored: StoredVoxels | None = None
    by_nibabel: bool = False

    @property
    def is_volume(self) -> bool:
        """Return whether it is one 3D image with one number per voxel."""
        return len(self.grid.size_xyz) == AXES and self.components == 1

    @property
    def needed_bytes(self) -> int:
        """Bytes of all voxels once they are read."""
        return math.prod(self.grid.size_xyz) * self.voxel_bytes

    def require_stored(self, *, unpack: bool) -> None:
        """Raise what `require_all` does unless the file holds the voxels that the header announces."""
        if self.stored:
            require_all(self.stored, self.needed_bytes, self.needed_bytes // self.grid.size_xyz[-1], unpack=unpack)


def check_header(path: Path, reader: Reader = "ITK") -> ImageHeader:
    """Check what can be told of an image without reading its voxels, and return what its header says.

    The file is a regular one or a link to one, in a format that is read; its type of numbers is supported, its size
    fits that of the file and this machine's memory, and it has one geometry.

    Args:
        path: the image or label map.
        reader: who will read the voxels. nibabel takes NIfTI-2 files and axes that are not at right angles, too;
            `either` leaves what ITK does not read to it.

    Raises:
        NotByItkError: nibabel would read the file, but ITK does not.
        UnreadableImageError: something else is wrong; the text says what.
    """
    try:
        with damage_named(path):
            require_regular_file(path)
            header = _nibabel_header(path) if reader == "nibabel" else _itk_header(path)
    except NotByItkError:
        if reader == "ITK":
            raise
        return check_header(path, "nibabel")
    _require_geometry(header)
    if reader == "ITK":
        _require_right_angles(header)
    return header


def is_for_nibabel(path: Path) -> bool:
    """Return whether a sound image, or the folder of a series, is a file that nibabel reads and ITK does not."""
    return path.is_file() and check_header(path, "either").by_nibabel


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
        raise NotByItkError(f"a NIfTI-{nifti.version} file, which ITK does not read; {_REPAIR}: {path}")
    stored = stored_voxels(path, kind)
    if kind == "TIFFImageIO":
        require_all_pages(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if nifti and nifti.affines and "orthonormal" in str(error):
            _require_geometry(_nibabel_header(path))  # a size of voxels that contradicts sform is no shear
            raise NotByItkError(_sheared(next(iter(nifti.affines.values())), path)) from None
        raise
    grid, voxel_bytes = grid_of(reader), _voxel_bytes(reader)
    header = ImageHeader(path, grid, reader.GetNumberOfComponents(), voxel_bytes, nifti, stored)
    header.require_stored(unpack=False)
    require_memory(header.needed_bytes, path)
    return header


def _voxel_bytes(reader: SimpleITK.ImageFileReader) -> int:
    single = SimpleITK.Image([1, 1], reader.GetPixelID())  # the only way to ask for the size of a type
    return single.GetSizeOfPixelComponent() * reader.GetNumberOfComponents()


def _nibabel_header(path: Path) -> ImageHeader:
    nifti = read_nifti_header(path)
    grid, components = nibabel_grid(nifti), _components(nifti.stored_type)
    voxel_bytes = np.dtype(float).itemsize  # nnU-Net reads with get_fdata
    header = ImageHeader(path, grid, components, voxel_bytes, nifti, by_nibabel=True)
    require_memory(header.needed_bytes, path)
    return header


def _components(stored_type: np.dtype) -> int:
    return 2 if stored_type.kind == "c" else len(stored_type.names or ("value",))


def nibabel_grid(nifti: NiftiHeader) -> Grid:
    """Return the grid that nibabel reads: the sform, else the qform, else none, turned to LPS."""
    affine = next(iter(nifti.affines.values()), None)
    if affine is None:
        affine = np.diag([*nifti.spacing_mm, *[1.0] * (AXES + 1 - len(nifti.spacing_mm))])
    affine = _LPS @ affine
    spacing_mm = spacing_of(affine)
    parts = (spacing_mm, affine[:AXES, AXES], (affine[:AXES, :AXES] / spacing_mm).ravel())
    return Grid(nifti.size, *(tuple(part.tolist()) for part in parts))


def _is_named_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _require_geometry(header: ImageHeader) -> None:
    """Refuse a geometry that places nothing, or two of them; that of an image without three axes is not looked at."""
    grid = header.grid
    if len(grid.size_xyz) != AXES:
        return
    if not is_invertible(grid.affine) or not 0 < min(grid.spacing_mm) <= max(grid.spacing_mm) <= _LONGEST_VOXEL_MM:
        texts = [", ".join(f"{value:g}" for value in values) for values in (grid.spacing_mm, grid.origin_mm)]
        raise UnreadableImageError(
            f"its geometry means nothing: voxels of {texts[0]} mm, the first at {texts[1]} mm: {header.path}"
        )
    if header.nifti:
        _require_one_geometry(header.path, grid, header.nifti)


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


def _require_right_angles(header: ImageHeader) -> None:
    if len(header.grid.size_xyz) != AXES:
        return
    affine, size = header.grid.affine, header.grid.size_xyz
    if distance_voxels(orthonormal(affine, size), affine, size) > TOLERANCE_VOXELS:
        raise NotByItkError(_sheared(affine, header.path))


def _sheared(affine: np.ndarray, path: Path) -> str:
    degrees = shear_degrees(affine)
    remedy = _REPAIR if degrees <= LARGEST_SHEAR_DEGREES else "resample it to axes at right angles"
    return f"its axes are sheared by {degrees:.3g} degrees, which ITK does not read; {remedy}: {path}"


@cache
def _warn_once(text: str) -> None:
    log.warning(text)
