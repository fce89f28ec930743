"""A run folder is complete or absent: write into a staging folder beside it, rename at the end."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.staging import (
    NO_SPACE,
    clear_staging,
    locked_staging,
    not_written,
    release,
    require_unused,
    staging_of,
)

_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
_UNFINISHED = (
    "fold_*/checkpoint_latest.pth",
    "training*",
    "finished_cases.json",
    "masks/*",
)  # of runs that can be resumed


def require_new(folder: Path, *, resume: bool = True) -> None:
    """Raise `UsageError` if `folder` cannot be started.

    It exists, if only as a link that points nowhere; another process makes it; or `resume` is False and an unfinished
    run waits to be continued.
    """
    _require_absent(folder)
    if os.path.lexists(staging_of(folder)):
        require_unused(folder)
        if not resume:
            raise UsageError(
                f"An unfinished run lies in {staging_of(folder)}\n"
                "  Continue it with --resume, or delete that folder to start again."
            )


def _require_absent(folder: Path) -> None:
    if folder.is_symlink() and not folder.exists():
        raise UsageError(
            f"Output folder is a link that points nowhere: {folder} -> {os.readlink(folder)}\n"
            "  Choose another folder, delete the link, or make the folder that it points to and name one inside of it."
        )
    if folder.exists():
        raise UsageError(
            f"Output folder exists already: {folder}\n"
            "  A finished run is never overwritten. Choose another folder, or delete this one."
        )


@contextmanager
def new_run_folder(
    folder: Path, *, checkpoints: str = "", resume: bool = False, place: Path | None = None
) -> Iterator[Path]:
    """Yield a staging folder that becomes `folder` when the block ends without an error.

    One process at a time writes there. A staging folder that fsseg did not make is never touched, and a complete one
    is kept whatever becomes of `folder` meanwhile.

    Args:
        folder: the final run folder; must not exist.
        checkpoints: glob of the files from which the run can be resumed. When the block fails and one of them exists,
            the staging folder stays; otherwise a failed block leaves nothing behind.
        resume: continue in an existing staging folder.
        place: beside which the staging folder lies, on the same disk, where several folders must not be made at once;
            None for `folder`.

    Raises:
        UsageError: `folder` exists, an unfinished run exists and `resume` is False, another process writes there, or
            the staging folder is somebody else's.
        FssegError: no space is left, or the folder cannot be written.
    """
    require_new(folder, resume=resume or not checkpoints)
    _require_no_other_run(staging_of(place or folder), checkpoints)
    with locked_staging(place or folder, folder, checkpoints=checkpoints) as staging:
        try:
            _require_absent(folder)  # another process may have just completed it
            if not checkpoints:
                clear_staging(staging)  # left by a killed run that cannot be continued
            yield staging
        except BaseException as error:
            resumable = bool(checkpoints and list(staging.glob(checkpoints)))
            if not resumable:
                shutil.rmtree(staging, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in _TOO_MANY_FILES:
                raise _too_many_files(folder, error, resumable=resumable) from error
            if isinstance(error, OSError) and _is_of_writing(error, staging):
                raise not_written(folder, error, resumable=resumable) from error
            raise
        _complete(staging, folder)


def _complete(staging: Path, folder: Path) -> None:
    """Move a complete staging folder to its place; it stays where it is if the place is taken by now."""
    release(staging)  # before the rename: a complete folder never holds it
    try:
        if os.path.lexists(folder):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
        os.replace(staging, folder)
    except OSError as error:
        raise FssegError(
            f"{folder} could not take the result: {error.strerror}\n"
            f"  The result is complete and lies in {staging}. Rename that folder to keep it."
        ) from error


def _require_no_other_run(staging: Path, checkpoints: str) -> None:
    """Raise `UsageError` if the staging folder holds what another command has not finished."""
    own = set(staging.glob(checkpoints)) if checkpoints else set()
    unfinished = {path for pattern in _UNFINISHED for path in staging.glob(pattern)}
    if unfinished - own:
        raise UsageError(
            f"An unfinished run of another command lies in {staging}\n"
            "  Choose another output folder, or delete that one."
        )


def _is_of_writing(error: OSError, staging: Path) -> bool:
    """Return whether an error says that nothing can be written; reading other files fails, too."""
    if error.errno in NO_SPACE:
        return True
    file = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes | Path) else None
    return file is not None and file.absolute().is_relative_to(staging.absolute())


def _too_many_files(folder: Path, error: OSError, *, resumable: bool) -> FssegError:
    again = "give the command again" + (" (pretrain: with --resume)" if resumable else "")
    return FssegError(
        f"{folder} was not completed: {error.strerror} ({error.filename or staging_of(folder)})\n"
        f"  Raise the limit, for example by `ulimit -n 4096`, and {again}."
    )
