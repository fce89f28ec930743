"""Whether a zip archive of torch is whole and no larger than it looks: torch checks neither."""

import logging
import zipfile
from collections import Counter
from pathlib import Path

from fsseg.config.errors import FssegError, first_of
from fsseg.config.file_kinds import is_of_program

logger = logging.getLogger(__name__)

_START = b"PK\x03\x04"  # by which torch knows its archives
_CHUNK = 2**20
_ENCRYPTED = 1  # bit of an entry's flags
_SHOWN = 3


def is_archive(path: Path) -> bool:
    """Return whether torch would read a file as an archive, as it has written since torch 1.6."""
    with path.open("rb") as file:
        return file.read(len(_START)) == _START


def may_hold_weights(path: Path) -> bool:
    """Return whether an archive has the parts of weights, and not those of a program; True if it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # noqa: BLE001 - `require_intact_archive` says what is wrong with it
        return True
    return any(name.endswith("/data.pkl") for name in names) and not any(map(is_of_program, names))


def require_intact_archive(path: Path) -> None:
    """Refuse an archive that is damaged, or would unpack to more than it is.

    torch writes entries as they are, each with a checksum, and never looks at the checksum again.

    Raises:
        FssegError: entries are missing, changed, compressed, encrypted or there twice.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _require_bounded(entries, path)
            _require_checksums(archive, entries, path)
    except (FssegError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - a hostile or damaged archive may fail in any way
        raise _damaged(path, f"its archive cannot be read ({error})") from None


def pickle_of(path: Path) -> bytes:
    """Return the pickle of an intact archive, which says where its tensors belong; it is not executed."""
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        return b"" if name is None else archive.read(name)


def _require_bounded(entries: list[zipfile.ZipInfo], path: Path) -> None:
    held, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if unpacked > held or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise FssegError(
            f"{path} is refused: its {held:,} bytes would unpack to {unpacked:,}, and torch never compresses.\n"
            "  Load it where you trust it and save it again with torch.save, or get it from its source again."
        )
    twice = [name for name, count in Counter(entry.filename for entry in entries).items() if count > 1]
    if twice or any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise _damaged(path, f"it holds {first_of(twice, _SHOWN)} twice" if twice else "it is encrypted")


def _require_checksums(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], path: Path) -> None:
    if not any(entry.CRC for entry in entries):  # torch.serialization.set_crc32_options(False)
        logger.warning("%s was saved without checksums: damage to it would not be noticed.", path)
        return
    for entry in entries:
        with archive.open(entry) as file:  # raises BadZipFile at the end of an entry that has changed
            while file.read(_CHUNK):
                pass


def _damaged(path: Path, reason: str) -> FssegError:
    return FssegError(
        f"{path} cannot be loaded as a checkpoint: it is damaged: {reason}.\n  Copy it again from where it was made."
    )
