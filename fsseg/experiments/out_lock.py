"""One table at a time writes a working folder; the lock says who does, and ends with its process."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from fsseg.config.errors import UsageError
from fsseg.config.staging import lock, not_written

LOCK_NAME = ".lock"


@contextmanager
def sole_table(out: Path) -> Iterator[None]:
    """Hold the lock of a working folder, which is made.

    What a killed table left is taken over. Jobs on other machines that the table has submitted need no lock.

    Raises:
        FssegError: the folder cannot be written.
        UsageError: another table writes there; or one of another machine did and has not ended properly, so that
            nobody can tell from here.
    """
    with _opened(out) as file:
        holder = _holder(file)
        if not lock(file):
            raise UsageError(
                f"Another table writes {out} right now: {_named(holder)}.\n  Wait for it, or choose another --out."
            )
        if holder and holder.get("host") != platform.node():
            raise UsageError(
                f"Another table writes {out}: {_named(holder)}. It cannot be seen from here whether it still runs.\n"
                f"  If it does not, delete {out / LOCK_NAME}; else wait for it, or choose another --out."
            )
        _take(file, out)
        try:
            yield
        finally:
            os.ftruncate(file.fileno(), 0)  # it stays: a file that is deleted could be locked twice


def _opened(out: Path) -> IO[str]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return (out / LOCK_NAME).open("a+", encoding="utf-8")
    except OSError as error:
        raise not_written(out, error) from error


def _take(file: IO[str], out: Path) -> None:
    """Say who holds the lock."""
    holder = {"pid": os.getpid(), "host": platform.node(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    try:
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), json.dumps(holder).encode())
    except OSError as error:
        raise not_written(out, error, resumable=True) from error


def _holder(file: IO[str]) -> dict[str, Any]:
    """Return what a lock file says of its process; nothing when it is free, or cannot be read."""
    try:
        file.seek(0)
        content = json.loads(file.read(1000))
    except (OSError, ValueError):  # empty; Windows lets nobody read what is locked
        return {}
    return content if isinstance(content, dict) else {}


def _named(holder: dict[str, Any]) -> str:
    if not holder:
        return "a process that does not say which"
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"
