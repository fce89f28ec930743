"""What the header of an image says, checked without reading a voxel."""

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK

from fsseg.data.geometry import AXES, Grid, grid_of
from fsseg.data.geometry_checks import REPAIR, nibabel_grid, require_geometry, require_right_angles, sheared
from fsseg.data.image_file import NotByItkError, UnreadableImageError, require_memory, require_regular_file
from fsseg.data.nifti_header import NiftiHeader, read_nifti_header
from fsseg.data.stored_voxels import StoredVoxels, require_all, stored_voxels
from fsseg.data.tiff_pages import require_all_pages

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
    require_geometry(path, header.grid, header.nifti)
    if reader == "ITK":
        require_right_angles(path, header.grid)
    return header


def is_for_nibabel(path: Path) -> bool:
    """Return whether a valid image, or the folder of a series, is a file that nibabel reads and ITK does not."""
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
        raise NotByItkError(f"a NIfTI-{nifti.version} file, which ITK does not read; {REPAIR}: {path}")
    stored = stored_voxels(path, kind)
    if kind == "TIFFImageIO":
        require_all_pages(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if nifti and nifti.affines and "orthonormal" in str(error):
            require_geometry(path, nibabel_grid(nifti), nifti)  # a size of voxels that contradicts sform is no shear
            raise sheared(path, next(iter(nifti.affines.values()))) from None
        raise
    grid, voxel_bytes = grid_of(reader), _voxel_bytes(reader)
    if min(grid.size_xyz) < 1:
        raise EOFError(f"its header announces {'x'.join(map(str, grid.size_xyz))} voxels")
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


def _is_named_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))
