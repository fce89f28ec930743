"""Reading and writing image files so that a damaged one is an error."""

import hashlib
from pathlib import Path

import numpy as np
import SimpleITK

from fsseg.config.errors import FssegError
from fsseg.data.image_file import UnreadableImageError
from fsseg.data.image_header import Reader, check_header, damage_named
from fsseg.data.nifti_voxels import count_not_finite, read_by_nibabel

__all__ = ["UnreadableImageError", "read_image", "require_written", "voxel_hash", "write_image"]

_ENDINGS = (".nii.gz", ".nii")


def read_image(path: Path, reader: Reader = "ITK") -> SimpleITK.Image:
    """Read an image.

    ITK alone reads a truncated NIfTI file as zeros and NaN or infinity as 0, so its bytes are checked first.

    Args:
        path: the file.
        reader: who reads the voxels; see `check_header`.

    Raises:
        UnreadableImageError: the file is missing, damaged, no image, holds values that are not finite, or its header
            means something else than is read.
    """
    header = check_header(path, reader)
    with damage_named(path):
        header.require_stored(unpack=True)
        not_finite = count_not_finite(header.nifti) if header.nifti else 0
        image = read_by_nibabel(path, header.grid) if header.by_nibabel else SimpleITK.ReadImage(str(path))
        # Values that are finite as they are stored may not be so when they are scaled.
        not_finite = not_finite or _count_not_finite(image)
    if not_finite:
        raise UnreadableImageError(f"holds {not_finite} values that are NaN or infinite: {path}")
    return image


def write_image(image: SimpleITK.Image, path: Path) -> None:
    """Write a .nii.gz or .nii file.

    Raises:
        FssegError: it cannot be written, or not whole.
    """
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise FssegError(f"{path} cannot be written: {reason}") from None
    require_written(path)


def require_written(path: Path, reader: Reader = "ITK") -> None:
    """Read back a .nii.gz or .nii file that ITK wrote, because there it does not notice when the disk is full.

    Files of other formats are not read: writing them fails loudly.

    Raises:
        FssegError: the file is not whole.
    """
    if not path.name.endswith(_ENDINGS):
        return
    try:
        read_image(path, reader)
    except UnreadableImageError as error:
        raise FssegError(
            f"A file was not written whole, {error}.\n"
            "  The disk is full, or a quota is reached: free some space, then give the command again."
        ) from None


def voxel_hash(image: SimpleITK.Image) -> str:
    """Return a SHA-256 of the voxels in RAS, which tells the same image whatever its file, type and stored axes."""
    oriented = SimpleITK.DICOMOrient(image, "RAS")  # a variable, because the view below does not keep it
    array = SimpleITK.GetArrayViewFromImage(oriented)
    digest = hashlib.sha256(str(array.shape).encode())
    for plane in array:
        digest.update(np.ascontiguousarray(plane, dtype=np.float32).tobytes())
    return digest.hexdigest()


def _count_not_finite(image: SimpleITK.Image) -> int:
    array = SimpleITK.GetArrayViewFromImage(image)
    if array.dtype.kind not in "fc":
        return 0
    return array.size - sum(int(np.count_nonzero(np.isfinite(part))) for part in array)
