"""What every image must be before a reader opens it: a regular file, not a folder, pipe or device."""

import os
from pathlib import Path

from fsseg.config.host_memory import installed_bytes

BLOCK_BYTES = 1 << 22  # of a file at a time; a whole number of values of every type
MOST_COMPRESSED = 1032  # deflate cannot make anything smaller than by this factor


class UnreadableImageError(Exception):
    """A file that is missing, damaged or no image; the text says which."""


class NotByItkError(UnreadableImageError):
    """A valid image that ITK does not read: a NIfTI-2 file, or one whose axes are not at right angles."""


def require_regular_file(path: Path) -> None:
    """Raise `UnreadableImageError` unless a path is a file or a link to one.

    A reader would wait for ever on a named pipe, and read without end from a device such as /dev/zero.
    """
    if path.is_dir():
        raise UnreadableImageError(f"a folder, not a file: {path}")
    if path.is_symlink() and not path.exists():
        raise UnreadableImageError(f"missing: {path} (a link to {os.readlink(path)}, which does not exist)")
    if not path.exists():
        raise UnreadableImageError(f"missing: {path}")
    if not path.is_file():
        raise UnreadableImageError(f"a pipe or device, not a file: {path}")
    if path.stat().st_size == 0:
        raise UnreadableImageError(f"damaged, for it is empty: {path}")


def require_memory(needed_bytes: int, path: Path) -> None:
    """Raise `UnreadableImageError` if an image is larger than the memory of this machine."""
    installed = installed_bytes()
    if needed_bytes > installed:
        raise UnreadableImageError(
            f"its header announces {needed_bytes / 2**30:.3g} GiB of voxels, more than the {installed / 2**30:.0f} GiB"
            f" of memory that this machine has: {path}"
        )
