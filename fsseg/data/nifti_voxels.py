"""The voxels of a NIfTI file: are they all there and finite, and reading them as nibabel does."""

from pathlib import Path
from typing import IO

import nibabel
import numpy as np
import SimpleITK
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from fsseg.data.geometry import AXES, Grid
from fsseg.data.image_file import BLOCK_BYTES, UnreadableImageError
from fsseg.data.nifti_header import NiftiHeader, opened, require_no_more

_FLOATS = "fc"


def count_not_finite(header: NiftiHeader) -> int:
    """Return how many stored values are NaN or infinite, which ITK reads as 0; read to the end what is packed.

    Raises:
        EOFError: voxels are missing.
        zlib.error, gzip.BadGzipFile: what is packed is damaged, which its checksum at the end tells.
        UnreadableImageError: what is packed holds more slices than its header announces.
    """
    has_floats, packed = header.stored_type.kind in _FLOATS, header.file.name.lower().endswith(".gz")
    if not has_floats and not packed:
        return 0  # the size of the file has told that all are there
    count, left = 0, header.voxel_bytes
    with opened(header.file) as file:
        _skip(file, header.start)
        while left and (block := file.read(min(BLOCK_BYTES, left))):
            left -= len(block)
            if has_floats:
                whole = len(block) // header.stored_type.itemsize * header.stored_type.itemsize
                count += int(np.count_nonzero(~np.isfinite(np.frombuffer(block[:whole], header.stored_type))))
        if left:
            raise EOFError(f"shorter than the {header.start + header.voxel_bytes} bytes that its header announces")
        extra = 0
        while packed and (block := file.read(BLOCK_BYTES)):
            extra += len(block)
            require_no_more(header, extra)
    return count


def read_by_nibabel(path: Path, grid: Grid) -> SimpleITK.Image:
    """Read a NIfTI file with nibabel, whatever the angles between its axes."""
    try:
        array = np.asanyarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
    except (HeaderDataError, ImageFileError, ValueError) as error:
        raise UnreadableImageError(f"unreadable: {path} ({error})") from None
    image = SimpleITK.GetImageFromArray(array.astype(array.dtype.newbyteorder("=")).T)
    if len(grid.size_xyz) == AXES:
        image.SetSpacing(grid.spacing_mm)
        image.SetOrigin(grid.origin_mm)
        image.SetDirection(grid.direction)
    return image


def _skip(file: IO[bytes], count: int) -> None:
    while count and (block := file.read(min(BLOCK_BYTES, count))):
        count -= len(block)
