"""The staging folder beside a result: one process at a time writes there, and only where fsseg made it."""

import errno
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.manifest import MANIFEST_NAME

logger = logging.getLogger(__name__)

STAGING_SUFFIX = ".partial"
MARKER_NAME = ".fsseg"  # in a staging folder: fsseg made it, and the process that writes there holds a lock on it
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_held: dict[Path, IO[str]] = {}  # staging folder -> its lock file, of those that this process writes


def staging_of(folder: Path) -> Path:
    """Return the staging folder in which a run writes before it is complete."""
    return folder.with_name(folder.name + STAGING_SUFFIX)


def clear_staging(staging: Path, keep: str = "") -> None:
    """Delete what a killed run left behind, but for the files of which the name fits the pattern `keep`."""
    for path in staging.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER_NAME and not (keep and path.match(keep)):
            path.unlink()


@contextmanager
def locked_staging(place: Path, made: Path | None = None, *, checkpoints: str = "") -> Iterator[Path]:
    """Make the staging folder and hold its lock, which ends with the process however that ends.

    Args:
        place: beside which it lies.
        made: what is made there, for messages; None for `place`.
        checkpoints: glob of the files by which a folder without a lock file is known as one of fsseg.

    Raises:
        UsageError: another process has it, or fsseg did not make it.
        FssegError: it cannot be made.
    """
    staging = staging_of(place)
    if staging.is_symlink() or (staging.exists() and not staging.is_dir()):
        raise _in_the_way(staging)
    try:
        staging.mkdir(parents=True, exist_ok=True)
        marker = _open_marker(staging, checkpoints)
    except OSError as error:
        raise not_written(made or place, error) from error
    with marker:
        if not lock(marker) or not _is_at(marker, staging / MARKER_NAME):
            raise _in_use(made or place)
        _held[staging] = marker
        try:
            yield staging
        finally:
            release(staging)
            with suppress(OSError):  # it has been renamed, or holds what can be resumed
                staging.rmdir()


def release(staging: Path) -> None:
    """Delete the lock file of a staging folder that this process has, unless it has done so."""
    marker, path = _held.pop(staging, None), staging / MARKER_NAME
    if marker is None or not _is_at(marker, path):  # the folder is gone, or there is one of another process
        return
    if sys.platform == "win32":
        marker.close()  # Windows deletes no open file
    path.unlink()


def _open_marker(staging: Path, checkpoints: str) -> IO[str]:
    """Open the lock file of a staging folder; make it only where fsseg may write.

    It is never made in a folder that is not empty: a process that has just completed its folder deletes the lock file
    before the rename, and another one must not take that folder for one that a killed run left.
    """
    marker = staging / MARKER_NAME
    try:
        return marker.open("r+")
    except FileNotFoundError:
        if any(staging.iterdir()) and not (checkpoints and any(staging.glob(checkpoints))):
            raise _in_the_way(staging) from None
    return marker.open("a")


def _is_at(file: IO[str], path: Path) -> bool:
    """Return whether an open file is the one that lies at `path`; it may have been deleted or replaced meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def require_unused(folder: Path) -> None:
    """Raise `UsageError` if another process is making `folder`."""
    try:
        marker = (staging_of(folder) / MARKER_NAME).open("r+")
    except OSError:
        return  # what stands in the way of writing is said when the staging folder is made
    with marker:
        if not lock(marker):
            raise _in_use(folder)


def lock(file: IO[str]) -> bool:
    """Lock an open file for this process, its children excepted; return False if another process holds the lock."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)  # the byte that is locked
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        logger.warning("%s: no locks here (%s). Give no second command the same folder.", file.name, error.strerror)
    return True


def _in_use(folder: Path) -> UsageError:
    return UsageError(f"Another process is making {folder} right now.\n  Wait for it, or choose another place.")


def _in_the_way(staging: Path) -> UsageError:
    if (staging / MANIFEST_NAME).is_file():
        return UsageError(
            f"{staging} is in the way: it looks like the complete result of a run that was stopped as it ended.\n"
            "  Rename it to keep it, or delete it."
        )
    return UsageError(
        f"{staging} is in the way: fsseg would write there first, but has not made it.\n"
        "  Choose another output folder, or rename it."
    )


def not_written(folder: Path, error: OSError, *, resumable: bool = False) -> FssegError:
    """Return what to raise where `folder` cannot be written.

    Args:
        folder: the result.
        error: of the system.
        resumable: whether a checkpoint stays.
    """
    choose = "Free some space or choose" if error.errno in NO_SPACE else "Choose"
    advice = (
        "Free some space, then give the command again (pretrain: with --resume); what was finished before stays."
        if resumable
        else f"{choose} another output folder; finished results stay, nothing half-written does."
    )
    where = error.filename or staging_of(folder)
    return FssegError(f"Could not write {folder}: {error.strerror} ({where})\n  {advice}")
