"""Volumes inside a page: gzipped NIfTI bytes whose header holds geometry alone, made smaller where they must be.

Arrays have the axis order z, y, x and RAS orientation, see `slices.py`.
"""

import base64
import gzip
import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fsseg.reporting.slices import Array

_SMALLEST = 8  # an axis with fewer voxels than twice this is not thinned out further
_SAME_SPACING = 1.3  # axes whose spacings differ by less are thinned out together


def nifti_gz(array: Array, spacing_zyx_mm: Sequence[float], slope: float = 1.0, intercept: float = 0.0) -> bytes:
    """Return a uint8 array (D, H, W) as the bytes of a .nii.gz file.

    The header has shape, spacing and value scale, and no name, description, date or origin, so nothing in it tells
    where the volume is from.

    Raises:
        ValueError: the array is not uint8.
    """
    if array.dtype != np.uint8:
        raise ValueError(f"an embedded volume is uint8, got {array.dtype}")
    depth, height, width = array.shape
    z_mm, y_mm, x_mm = spacing_zyx_mm
    header = bytearray(352)  # and 4 bytes that say: no extensions
    struct.pack_into("<i", header, 0, 348)  # size of the header
    struct.pack_into("<8h", header, 40, 3, width, height, depth, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)  # uint8, bits of a voxel
    struct.pack_into("<8f", header, 76, 1, x_mm, y_mm, z_mm, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352, slope, intercept)  # where the values start
    struct.pack_into("<b", header, 123, 2)  # mm
    struct.pack_into("<h", header, 254, 1)  # the next rows say where the axes point to
    struct.pack_into("<12f", header, 280, x_mm, 0, 0, 0, 0, y_mm, 0, 0, 0, 0, z_mm, 0)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + np.ascontiguousarray(array).tobytes(), compresslevel=6, mtime=0)


def label_map(masks: Mapping[str, Array], structures: Sequence[str], shape: Sequence[int]) -> Array:
    """Return uint8 integers, 1 for the first of `structures`; where masks overlap, the smaller one is on top."""
    integers = np.zeros(shape, dtype=np.uint8)
    numbers = {name: number for number, name in enumerate(structures, start=1) if name in masks}
    for name in sorted(numbers, key=lambda name: -np.count_nonzero(masks[name])):
        integers[masks[name]] = numbers[name]
    return integers


def grey_levels(image: Array, window: tuple[float, float]) -> tuple[Array, float]:
    """Return an image as uint8, 0 at and below the window and 255 at and above it, and the width of a level."""
    low, high = window
    level = (high - low) / 255
    return np.round((np.clip(image, low, high) - low) / level).astype(np.uint8), level


def base64_text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def thinner(shape: Sequence[int], spacing_zyx_mm: Sequence[float]) -> Iterator[tuple[int, ...]]:
    """Yield steps over the voxels of each axis from 1 upwards: the axes of the finest spacing are doubled first.

    The end is where such an axis has few voxels left.
    """
    steps = [1] * len(shape)
    while True:
        yield tuple(steps)
        spacings = [mm * step for mm, step in zip(spacing_zyx_mm, steps, strict=True)]
        finest = [axis for axis, mm in enumerate(spacings) if mm < _SAME_SPACING * min(spacings)]
        if any(shape[axis] < 2 * _SMALLEST * steps[axis] for axis in finest):
            return
        for axis in finest:
            steps[axis] *= 2
