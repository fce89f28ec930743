"""The header of a NIfTI file, checked against what readers make of a wrong one without a word.

nibabel knows the format (byte orders, NIfTI-1 and NIfTI-2, pairs of .hdr and .img, extensions); the rules say which
headers ITK or nibabel would read as other voxels or another geometry than were meant.
"""

import gzip
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from nibabel.nifti1 import Nifti1Header, data_type_codes
from nibabel.nifti2 import Nifti2Header

from fsseg.data.image_file import (
    BLOCK_BYTES,
    MOST_COMPRESSED,
    UnreadableImageError,
    require_memory,
    require_regular_file,
)
from fsseg.data.nifti_geometry import stated_affines, stated_spacing_mm

_SINGLE_MAGIC, _PAIR_MAGIC = (b"n+1", b"n+2"), (b"ni1", b"ni2")
_SIZE_BYTES, _SIZE_MODULUS = 4, 1 << 32  # of what was packed, at the end of a .gz file
_REAL = "iuf"  # kinds of numpy types
_LARGEST_BYTES = 8  # that ITK reads of these


@dataclass(frozen=True)
class NiftiHeader:
    """The header of a NIfTI file.

    Attributes:
        file: the file that holds the voxels: that of the header, or the .img of a pair.
        version: 1 or 2.
        stored_type: type of the numbers in the file, before scaling, with their byte order.
        size: numbers of voxels along all axes of the header, x first.
        spacing_mm: size of a voxel (pixdim) along the spatial axes.
        start: where the voxels start, in bytes.
        affines: what sform and qform say, for those that are set: indices to mm, RAS.
    """

    file: Path
    version: int
    stored_type: np.dtype
    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    start: int
    affines: dict[str, np.ndarray]

    @property
    def voxel_bytes(self) -> int:
        """Number of bytes of all voxels."""
        return math.prod(self.size) * self.stored_type.itemsize


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read the header of a .nii, .nii.gz, .hdr or .img file and check it.

    No voxel is read, but those of a packed file that may be cut off.

    Raises:
        UnreadableImageError: the file is too short or no NIfTI file, or its header means nothing or two things.
    """
    header_file, voxel_file = _files(path)
    for file in (header_file, voxel_file):
        require_regular_file(file)
    header = _raw_header(header_file)
    _require_magic(header, path, is_pair=header_file != voxel_file)
    result = NiftiHeader(
        file=voxel_file,
        version=2 if isinstance(header, Nifti2Header) else 1,
        stored_type=_stored_type(header, path),
        size=_size(header, path),
        spacing_mm=stated_spacing_mm(header, path),
        start=_start(header, path, lowest=0 if header_file != voxel_file else header.single_vox_offset),
        affines=stated_affines(header, path),
    )
    _require_scaling(header, path)
    _require_size_of_file(result)
    require_memory(result.voxel_bytes, path)
    _require_packed_whole(result)
    return result


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file of a NIfTI image, unpacking a .gz."""
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        yield file  # type: ignore[misc]


def _files(path: Path) -> tuple[Path, Path]:
    """Return the files of header and voxels, which are two for a pair of .hdr and .img."""
    name = path.name.lower()
    packed = path.name[-3:] if name.endswith(".gz") else ""
    stem = path.name.removesuffix(packed)
    for ours, other in ((".hdr", ".img"), (".img", ".hdr")):
        if name.removesuffix(".gz").endswith(ours):
            partner = path.with_name(stem[: -len(ours)] + other + packed)
            return (path, partner) if ours == ".hdr" else (partner, path)
    return path, path


def _raw_header(path: Path) -> Any:
    with opened(path) as file:
        block = file.read(Nifti2Header.template_dtype.itemsize)
    for kind in (Nifti1Header, Nifti2Header):
        size = kind.template_dtype.itemsize
        header = kind(block[:size], check=False) if len(block) >= size else None
        if header is not None and header["sizeof_hdr"] == size:
            return header
    if len(block) < Nifti1Header.template_dtype.itemsize:
        raise EOFError("too short for a NIfTI header")
    raise EOFError("it does not start as a NIfTI file does")


def _require_magic(header: Any, path: Path, *, is_pair: bool) -> None:
    magic, allowed = header["magic"].item()[:3], _PAIR_MAGIC if is_pair else _SINGLE_MAGIC
    if magic not in allowed:
        raise UnreadableImageError(
            f"its header is marked {magic!r}, which for a {'pair of files' if is_pair else 'single file'} must be"
            f" {allowed[0]!r} (a file of Analyze 7.5 does not say which side is left): {path}"
        )


def _stored_type(header: Any, path: Path) -> np.dtype:
    code = int(header["datatype"])
    known: Any = data_type_codes.dtype
    kind: np.dtype = known.get(code, np.dtype("V"))
    if not kind.itemsize or (kind.kind in _REAL and kind.itemsize > _LARGEST_BYTES):
        raise UnreadableImageError(f"its voxels are of a type that is not read (datatype {code}): {path}")
    return kind.newbyteorder(header.endianness)


def _size(header: Any, path: Path) -> tuple[int, ...]:
    axes, *sizes = (int(value) for value in header["dim"])
    if not 1 <= axes <= len(sizes):
        raise UnreadableImageError(f"its header announces {axes} axes (1 to {len(sizes)} are possible): {path}")
    if min(sizes[:axes]) < 1:
        raise UnreadableImageError(f"its header announces {'x'.join(map(str, sizes[:axes]))} voxels: {path}")
    return tuple(sizes[:axes])


def _start(header: Any, path: Path, lowest: int) -> int:
    offset = float(header["vox_offset"])
    if not (math.isfinite(offset) and offset >= lowest):
        raise UnreadableImageError(
            f"its header puts the first voxel at byte {offset:g} (vox_offset), but the voxels start at byte {lowest} or"
            f" later: {path}"
        )
    return int(offset)


def _require_scaling(header: Any, path: Path) -> None:
    """Refuse a scaling that ITK leaves out; a slope of 0 or NaN says that there is none."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    unscaled = slope == 0 or math.isnan(slope)
    if math.isinf(slope) or (not unscaled and not math.isfinite(inter)):
        raise UnreadableImageError(f"its values are scaled by {slope:g} and shifted by {inter:g}: {path}")


def _require_size_of_file(header: NiftiHeader) -> None:
    """Compare the voxels that are announced with the size of the file; of a packed one, only what is impossible."""
    packed = header.file.name.lower().endswith(".gz")
    present, needed = header.file.stat().st_size, header.start + header.voxel_bytes
    if present * (MOST_COMPRESSED if packed else 1) < needed:
        raise EOFError(f"shorter than the {needed} bytes that its header announces")
    if not packed:
        require_no_more(header, present - needed)


def require_no_more(header: NiftiHeader, extra_bytes: int) -> None:
    """Refuse a file with as much as a slice behind its voxels: its header is wrong. A little is padding."""
    if extra_bytes >= header.voxel_bytes // header.size[-1]:
        size = "x".join(map(str, header.size))
        raise UnreadableImageError(f"holds more than the {size} voxels that its header announces: {header.file}")


def _require_packed_whole(header: NiftiHeader) -> None:
    """Unpack a file to its end where its packed size is another than the header announces.

    It is cut off, which unpacking tells, or packed in several parts, of which only the last one says its size.
    """
    if not header.file.name.lower().endswith(".gz"):
        return
    with header.file.open("rb") as file:
        file.seek(-_SIZE_BYTES, os.SEEK_END)
        stated = int.from_bytes(file.read(), "little")
    if stated != (header.start + header.voxel_bytes) % _SIZE_MODULUS:
        read = 0
        with opened(header.file) as file:
            while block := file.read(BLOCK_BYTES):
                read += len(block)
                require_no_more(header, read - header.start - header.voxel_bytes)
