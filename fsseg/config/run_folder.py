"""A run folder is complete or absent: write into a staging folder beside it, rename at the end."""

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fsseg.config.errors import FssegError, UsageError

logger = logging.getLogger(__name__)

STAGING_SUFFIX = ".partial"
MARKER_NAME = ".fsseg"  # in a staging folder: fsseg made it, and the process that writes there holds a lock on it
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
_UNFINISHED = ("fold_*/checkpoint_latest.pth", "training*")  # states of trainings that can go on


def staging_of(folder: Path) -> Path:
    """Return the staging folder in which a run writes before it is complete."""
    return folder.with_name(folder.name + STAGING_SUFFIX)


def require_new(folder: Path, *, resume: bool = False) -> None:
    """Raise `UsageError` if `folder` cannot be started: it exists, or an unfinished run waits for `--resume`."""
    if folder.exists():
        raise UsageError(
            f"Output folder exists already: {folder}\n"
            "  A finished run is never overwritten. Choose another folder, or delete this one."
        )
    if staging_of(folder).exists() and not resume:
        _require_unused(folder)
        raise UsageError(
            f"An unfinished run lies in {staging_of(folder)}\n"
            "  Continue it with --resume, or delete that folder to start again."
        )


def clear_staging(staging: Path, keep: str = "") -> None:
    """Delete what a killed run left behind, but for the files of which the name fits the pattern `keep`."""
    for path in staging.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER_NAME and not (keep and path.match(keep)):
            path.unlink()


@contextmanager
def new_run_folder(folder: Path, *, checkpoints: str = "", resume: bool = False) -> Iterator[Path]:
    """Yield a staging folder that becomes `folder` when the block ends without an error.

    One process at a time writes there. A staging folder that fsseg did not make is never touched.

    Args:
        folder: the final run folder; must not exist.
        checkpoints: glob of the files from which the run can be resumed. When the block fails and one of them exists,
            the staging folder stays; otherwise a failed block leaves nothing behind.
        resume: continue in an existing staging folder.

    Raises:
        UsageError: `folder` exists, an unfinished run exists and `resume` is False, another process writes there, or
            the staging folder is somebody else's.
        FssegError: no space is left, or the folder cannot be written.
    """
    _require_own(folder, checkpoints)
    require_new(folder, resume=resume or not checkpoints)
    with locked_staging(folder) as staging:
        try:
            require_new(folder, resume=True)  # another process may have just completed it
            if not checkpoints:
                clear_staging(staging)  # left by a killed run that cannot be continued
            yield staging
            os.replace(staging, folder)
        except BaseException as error:
            resumable = bool(checkpoints and list(staging.glob(checkpoints)))
            if not resumable:
                shutil.rmtree(staging, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in _TOO_MANY_FILES:
                raise _too_many_files(folder, error, resumable=resumable) from error
            if isinstance(error, OSError) and _is_of_writing(error, staging):
                raise _not_written(folder, error, resumable=resumable) from error
            raise


def _require_own(folder: Path, checkpoints: str) -> None:
    """Raise `UsageError` if the staging folder is not one of fsseg, or holds the training of another command."""
    staging = staging_of(folder)
    if not staging.exists():
        return
    own = set(staging.glob(checkpoints)) if checkpoints else set()
    unfinished = {path for pattern in _UNFINISHED for path in staging.glob(pattern)}
    made_here = own or unfinished or (staging / MARKER_NAME).exists()
    if not made_here and (not staging.is_dir() or any(staging.iterdir())):
        raise UsageError(
            f"{staging} is in the way: fsseg would write there first, but has not made it.\n"
            "  Choose another output folder, or rename it."
        )
    if unfinished - own:
        raise UsageError(
            f"An unfinished training of another command lies in {staging}\n"
            "  Choose another output folder, or delete that one."
        )


@contextmanager
def locked_staging(folder: Path, made: Path | None = None) -> Iterator[Path]:
    """Make the staging folder and hold its lock, which ends with the process however that ends.

    Args:
        folder: beside which it lies.
        made: what is made there, for messages; None for `folder`.

    Raises:
        UsageError: another process has it.
        FssegError: it cannot be made.
    """
    staging = staging_of(folder)
    try:
        staging.mkdir(parents=True, exist_ok=True)
        marker = (staging / MARKER_NAME).open("a")
    except OSError as error:
        raise _not_written(folder, error) from error
    with marker:
        if not _lock(marker):
            raise _in_use(made or folder)
        try:
            yield staging
        finally:
            for place in (staging, folder):
                (place / MARKER_NAME).unlink(missing_ok=True)


def _lock(file: IO[str]) -> bool:
    """Lock a file for this process, its children excepted; return False if another process holds the lock."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        logger.warning("%s: no locks here (%s). Give no second command the same folder.", file.name, error.strerror)
    return True


def _require_unused(folder: Path) -> None:
    marker = staging_of(folder) / MARKER_NAME
    if marker.is_file():
        with marker.open("a") as file:
            if not _lock(file):
                raise _in_use(folder)


def _in_use(folder: Path) -> UsageError:
    return UsageError(f"Another process is making {folder} right now.\n  Wait for it, or choose another place.")


def _is_of_writing(error: OSError, staging: Path) -> bool:
    """Return whether an error says that nothing can be written; reading other files fails, too."""
    if error.errno in _NO_SPACE:
        return True
    file = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes | Path) else None
    return file is not None and file.absolute().is_relative_to(staging.absolute())


def _too_many_files(folder: Path, error: OSError, *, resumable: bool) -> FssegError:
    again = "give the command again" + (" (pretrain: with --resume)" if resumable else "")
    return FssegError(
        f"{folder} was not completed: {error.strerror} ({error.filename or staging_of(folder)})\n"
        f"  Raise the limit, for example by `ulimit -n 4096`, and {again}."
    )


def _not_written(folder: Path, error: OSError, *, resumable: bool = False) -> FssegError:
    choose = "Free some space or choose" if error.errno in _NO_SPACE else "Choose"
    advice = (
        "Free some space, then give the command again (pretrain: with --resume); the last checkpoint stays."
        if resumable
        else f"{choose} another output folder; finished results stay, nothing half-written does."
    )
    where = error.filename or staging_of(folder)
    return FssegError(f"Could not write {folder}: {error.strerror} ({where})\n  {advice}")
