"""Reading and writing NIfTI files so that a damaged one is an error."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import SimpleITK

from fsseg.config.errors import FssegError

_HEADER_BYTES = 352  # NIfTI-1: header and extension flag
_BLOCK_BYTES = 1 << 22
_ENDINGS = (".nii.gz", ".nii")
_HEADER_SIZE = 348  # as the header says itself, in the byte order of the file
_FLOAT_TYPES = {16: "f4", 64: "f8"}  # NIfTI's code of the voxel type -> numpy's name


class UnreadableImageError(Exception):
    """A file that is missing, damaged or no image; the text says which."""


def read_image(path: Path) -> SimpleITK.Image:
    """Read an image.

    ITK alone reads a truncated NIfTI file as zeros and NaN or infinity as 0, so its bytes are checked first.

    Raises:
        UnreadableImageError: the file is missing, damaged, no image, or holds values that are not finite.
    """
    if not path.exists():
        raise UnreadableImageError(f"missing: {path}")
    if path.is_dir():
        raise UnreadableImageError(f"a folder, not a file: {path}")
    try:
        is_nifti = path.name.endswith(_ENDINGS)
        not_finite = _not_finite_values(path) if is_nifti else 0
        image = SimpleITK.ReadImage(str(path))
        if not is_nifti:
            not_finite = int((~np.isfinite(SimpleITK.GetArrayViewFromImage(image))).sum())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableImageError(f"truncated or damaged: {path} ({error})") from None
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnreadableImageError(f"unreadable: {path} ({reason})") from None
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


def require_written(path: Path) -> None:
    """Read back a .nii.gz or .nii file that ITK wrote, because there it does not notice when the disk is full.

    Files of other formats are not read: writing them fails loudly.

    Raises:
        FssegError: the file is not whole.
    """
    if not path.name.endswith(_ENDINGS):
        return
    try:
        read_image(path)
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


def _not_finite_values(path: Path) -> int:
    # Reads to the end also where nothing is counted, because the checksum of a compressed file comes last.
    count = 0
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
        kind = _float_type(header)
        read = len(header)
        while block := file.read(_BLOCK_BYTES):
            read += len(block)
            if kind is not None:
                whole = len(block) // kind.itemsize * kind.itemsize
                count += int(np.count_nonzero(~np.isfinite(np.frombuffer(block[:whole], kind))))
    if read < _bytes_needed(header):
        raise EOFError(f"shorter than the {_bytes_needed(header)} bytes that its header announces")
    return count


def _byte_order(header: bytes) -> str:
    return "<" if header[:4] == _HEADER_SIZE.to_bytes(4, "little") else ">"


def _bytes_needed(header: bytes) -> int:
    order = _byte_order(header)
    axes, *sizes = np.frombuffer(header, f"{order}i2", 8, offset=40).tolist()
    bits = int(np.frombuffer(header, f"{order}i2", 1, offset=72)[0])
    start = np.nan_to_num(np.frombuffer(header, f"{order}f4", 1, offset=108)[0])
    return int(start) + math.prod(sizes[:axes]) * bits // 8


def _float_type(header: bytes) -> np.dtype | None:
    if len(header) < _HEADER_BYTES:
        raise EOFError("too short for a NIfTI header")
    order = _byte_order(header)
    if np.frombuffer(header, f"{order}i4", 1)[0] != _HEADER_SIZE:  # ITK does not read NIfTI-2
        raise EOFError("it does not start as a NIfTI-1 file does")
    # A longer header (extensions) would shift the values; then only the checksum is looked at.
    if np.frombuffer(header, f"{order}f4", 1, offset=108)[0] != _HEADER_BYTES:
        return None
    code = int(np.frombuffer(header, f"{order}i2", 1, offset=70)[0])
    return np.dtype(order + _FLOAT_TYPES[code]) if code in _FLOAT_TYPES else None
