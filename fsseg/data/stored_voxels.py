"""Where other formats than NIfTI keep their voxels, and whether all of them are there.

ITK reads missing bytes of some formats as anything, takes a file for a shorter image than it holds, and opens whatever
a header names as the file of the voxels.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fsseg.data.image_file import BLOCK_BYTES, MOST_COMPRESSED, UnreadableImageError, require_regular_file

_LONGEST_HEADER_BYTES = 1 << 20
_MOST_FILES = 10_000
_META_AXES = re.compile(rb"(?im)^\s*NDims\b[\s=:]*(\S*)")
_POSSIBLE_AXES = {str(number) for number in range(1, 11)}  # ITK writes beyond its memory where there are more
_PATTERN = re.compile(r"[^%]*%(0?[1-9])?d[^%]*")
_GIPL_HEADER_BYTES = 256
_MRC_HEADER_BYTES = 1024  # or more
_NRRD_PACKINGS = {"raw": "none", "gz": "gzip", "gzip": "gzip"}


@dataclass(frozen=True)
class StoredVoxels:
    """Where voxels lie.

    Attributes:
        files: the files that hold them.
        start: bytes in front of them in a single file.
        packing: "none", "gzip", "zlib", or "other" where only ITK can tell whether all voxels are there.
        exact: whether nothing may follow them.
    """

    files: tuple[Path, ...]
    start: int = 0
    packing: str = "none"
    exact: bool = True

    @property
    def is_countable(self) -> bool:
        """Return whether their bytes can be counted."""
        return len(self.files) == 1 and self.packing != "other"


def stored_voxels(path: Path, kind: str) -> StoredVoxels | None:
    """Return where an image keeps its voxels, or None for a format whose own library tells when some are missing.

    Args:
        path: the image.
        kind: ITK's class that reads it.

    Raises:
        UnreadableImageError: a file that the header names is missing or no regular file.
    """
    packing = "gzip" if path.name.lower().endswith(".gz") else "none"
    if kind == "GiplImageIO":
        return StoredVoxels((path,), _GIPL_HEADER_BYTES, packing)
    if kind == "MRCImageIO":
        return StoredVoxels((path,), _MRC_HEADER_BYTES, exact=False)
    if kind not in ("MetaImageIO", "NrrdImageIO", "VTKImageIO"):
        return None
    with path.open("rb") as file:
        content = file.read(_LONGEST_HEADER_BYTES)
    result = {"MetaImageIO": _of_meta_image, "NrrdImageIO": _of_nrrd, "VTKImageIO": _of_vtk}[kind](path, content)
    for voxel_file in result.files:
        require_regular_file(voxel_file)
    return result


def require_all(stored: StoredVoxels, needed_bytes: int, slice_bytes: int, *, unpack: bool) -> None:
    """Raise `EOFError` where voxels are missing, and `UnreadableImageError` where there are more than announced.

    Args:
        stored: where the voxels lie.
        needed_bytes: all voxels that the header announces.
        slice_bytes: those of a slice; less may follow the voxels as padding.
        unpack: count what is packed, too; without, only what is impossible is told.

    Raises:
        zlib.error, gzip.BadGzipFile: what is packed is damaged.
    """
    if not stored.is_countable:
        return
    (file,) = stored.files
    present = file.stat().st_size - stored.start
    if stored.packing != "none":
        present = _unpacked_bytes(stored, needed_bytes + slice_bytes) if unpack else present * MOST_COMPRESSED
    if present < needed_bytes:
        raise EOFError(f"shorter than the {needed_bytes} bytes that its header announces")
    may_tell = stored.exact and (unpack or stored.packing == "none")
    if may_tell and present >= needed_bytes + slice_bytes:
        raise UnreadableImageError(f"holds more slices than its header announces: {file}")


def _unpacked_bytes(stored: StoredVoxels, most: int) -> int:
    count = 0
    for block in _unpacked(stored):
        count += len(block)
        if count >= most:
            break
    return count


def _unpacked(stored: StoredVoxels) -> Iterator[bytes]:
    (path,) = stored.files
    if path.name.lower().endswith(".gz"):  # the whole file is packed, its header too
        with gzip.open(path) as unpacked:
            unpacked.read(stored.start)
            while block := unpacked.read(BLOCK_BYTES):
                yield block
        return
    with path.open("rb") as file:
        file.seek(stored.start)
        if stored.packing == "gzip":
            with gzip.open(file) as unpacked:
                while block := unpacked.read(BLOCK_BYTES):
                    yield block
            return
        unpacker = zlib.decompressobj()
        while (packed := unpacker.unconsumed_tail or file.read(BLOCK_BYTES)) and not unpacker.eof:
            yield unpacker.decompress(packed, BLOCK_BYTES)


def _of_meta_image(path: Path, content: bytes) -> StoredVoxels:
    """Read "Key = value" lines up to ElementDataFile, which ends the header."""
    keys, length = _key_lines(content, "=", last="elementdatafile")
    axes = {found.decode("latin-1") for found in _META_AXES.findall(content[:length])}
    if len(axes) != 1 or not axes <= _POSSIBLE_AXES:
        raise EOFError(f"its header announces {' and '.join(sorted(axes)) or 'no number of'} axes")
    packing = "zlib" if keys.get("compresseddata", "").lower() == "true" else "none"
    skipped = keys.get("headersize", "0")
    if keys.get("binarydata", "true").lower() != "true" or not skipped.isdecimal():
        skipped, packing = "0", "other"
    place = keys.get("elementdatafile", "")
    if not place.split():
        raise EOFError("its header does not say where its voxels are")
    if place.upper() == "LOCAL":
        return StoredVoxels((path,), length + int(skipped), packing)
    return StoredVoxels(_named_files(path, place, content[length:]), int(skipped), packing)


def _of_vtk(path: Path, content: bytes) -> StoredVoxels:
    """Voxels of one number each follow the line of the lookup table; of others a few bytes may be missing unnoticed."""
    if b"\nASCII" in content:
        raise UnreadableImageError(f"stored as text, which is not checked; store its voxels as binary: {path}")
    table = content.find(b"\nLOOKUP_TABLE")
    return StoredVoxels((path,), content.find(b"\n", table + 1) + 1 if table >= 0 else 0, exact=False)


def _of_nrrd(path: Path, content: bytes) -> StoredVoxels:
    """Read "key: value" lines up to an empty one; the voxels follow, or lie in the files that `data file` names."""
    keys, length = _key_lines(content, ":", last="")
    place = keys.get("data file", keys.get("datafile", ""))
    packing = _NRRD_PACKINGS.get(keys.get("encoding", "").lower(), "other")
    skipped = keys.get("byte skip", keys.get("byteskip", "0"))
    if not skipped.isdecimal() or "line skip" in keys or "lineskip" in keys:
        skipped, packing = "0", "other"
    if not place.split():
        return StoredVoxels((path,), length + int(skipped), packing)
    return StoredVoxels(_named_files(path, place, content[length:]), int(skipped), packing)


def _key_lines(content: bytes, separator: str, last: str) -> tuple[Mapping[str, str], int]:
    """Return key, in lower case -> value of the lines up to that with the last key, and the bytes that they take."""
    keys: dict[str, str] = {}
    position = 0
    while position < len(content):
        end = content.find(b"\n", position)
        end = len(content) if end < 0 else end
        line = content[position:end].decode("latin-1").strip()
        position = end + 1
        name, _, value = line.partition(separator)
        keys[name.strip().lower()] = value.strip()
        if name.strip().lower() == last or value.strip() == "LIST":
            break
    return keys, position


def _named_files(path: Path, place: str, following: bytes) -> tuple[Path, ...]:
    """Return the files that a header names: one, the lines that follow the word LIST, or a pattern with its numbers."""
    pattern, *numbers = place.split()
    if pattern.upper() == "LIST":
        names = following.decode("latin-1").split("\n")
    elif _PATTERN.fullmatch(pattern) and len(numbers) >= 2 and all(number.isdecimal() for number in numbers):
        first, last, step = (int(number) for number in [*numbers, "1"][:3])
        names = [pattern % number for number in range(first, last + 1, step or 1)[:_MOST_FILES]]
    else:
        names = [place]
    return tuple(path.parent / name.strip() for name in names if name.strip())
