"""A run folder is complete or absent: write into a staging folder beside it, rename at the end."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsseg.config.errors import FssegError, UsageError

STAGING_SUFFIX = ".partial"
_UNFINISHED = ("fold_*/checkpoint_latest.pth", "training.pt")  # states of trainings that can go on


def staging_of(folder: Path) -> Path:
    """Return the staging folder in which a run writes before it is complete."""
    return folder.with_name(folder.name + STAGING_SUFFIX)


def require_new(folder: Path, *, resume: bool = False) -> None:
    """Raise `UsageError` if `folder` cannot be started: it exists, or an unfinished run waits for `--resume`."""
    if folder.exists():
        raise UsageError(
            f"Output folder exists already: {folder}\n"
            "  A finished run is never overwritten. Choose another --out, or delete the folder."
        )
    if staging_of(folder).exists() and not resume:
        raise UsageError(
            f"An unfinished run lies in {staging_of(folder)}\n"
            "  Continue it with --resume, or delete that folder to start again."
        )


def _require_own(folder: Path, checkpoints: str) -> None:
    """Raise `UsageError` if an unfinished training of another command lies where a run is to be made."""
    staging = staging_of(folder)
    own = set(staging.glob(checkpoints)) if checkpoints else set()
    if any(path not in own for pattern in _UNFINISHED for path in staging.glob(pattern)):
        raise UsageError(
            f"An unfinished training of another command lies in {staging}\n"
            "  Choose another --out, or delete that folder."
        )


@contextmanager
def new_run_folder(folder: Path, *, checkpoints: str = "", resume: bool = False) -> Iterator[Path]:
    """Yield a staging folder that becomes `folder` when the block ends without an error.

    Args:
        folder: the final run folder; must not exist.
        checkpoints: glob of the files from which the run can be resumed. When the block fails and one of them exists,
            the staging folder stays; otherwise a failed block leaves nothing behind.
        resume: continue in an existing staging folder.

    Raises:
        UsageError: `folder` exists, or an unfinished run exists and `resume` is False.
        FssegError: no space is left, or the folder cannot be written.
    """
    _require_own(folder, checkpoints)
    if not checkpoints and staging_of(folder).exists():
        shutil.rmtree(staging_of(folder))  # left by a killed run that cannot be continued
    require_new(folder, resume=resume)
    staging = staging_of(folder)
    try:
        staging.mkdir(parents=True, exist_ok=True)
        yield staging
        os.replace(staging, folder)
    except BaseException as error:
        resumable = bool(checkpoints and list(staging.glob(checkpoints)))
        if not resumable:
            shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise FssegError(_what_went_wrong(error, folder, resumable=resumable)) from error
        raise


def _what_went_wrong(error: OSError, folder: Path, *, resumable: bool) -> str:
    where = f"{error.strerror} ({error.filename or staging_of(folder)})"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        again = "give the command again" + (" (pretrain: with --resume)" if resumable else "")
        return f"{folder} was not completed: {where}\n  Raise the limit, for example by `ulimit -n 4096`, and {again}."
    advice = (
        "Free some space, then give the command again (pretrain: with --resume); the last checkpoint stays."
        if resumable
        else "Free some space or choose another --out; finished results stay, nothing half-written does."
    )
    return f"Could not write {folder}: {where}\n  {advice}"
