"""Files of the cache of preprocessed cases: several runs may read and write it at once, and any may be killed."""

import fcntl
import json
import logging
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

Case = tuple[np.ndarray, np.ndarray, dict[str, Any]]  # image, labels, properties
_TEMPORARY = ".tmp.npz"
_LOCK_NAME = ".lock"


def read_entry(entry: Path) -> Case | None:
    """Return what an entry holds; None where there is none, or where it is damaged, which is said."""
    if not entry.is_file():
        return None
    try:
        with entry.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return stored["image"], stored["labels"], json.loads(str(stored["properties"]))
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError):
        log.warning("Cache entry %s is damaged and is made again.", entry)
        return None


def write_entry(entry: Path, case: Case) -> None:
    """Write an entry, complete or not at all; remove what killed runs left.

    Args:
        entry: its file; the folder is made.
        case: image, labels, properties.
    """
    image, labels, properties = case
    entry.parent.mkdir(parents=True, exist_ok=True)
    with _writing(entry.parent):
        temporary = entry.with_suffix(f".{os.getpid()}{_TEMPORARY}")
        try:
            np.savez(temporary, image=image, labels=labels, properties=json.dumps(properties, default=plain))
            temporary.replace(entry)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    """Share a lock with all who write; who has it alone knows that unfinished files are of processes that are gone."""
    with (cache / _LOCK_NAME).open("a+") as lock:
        try:
            if _alone(lock.fileno()):
                for left in cache.glob(f"*{_TEMPORARY}"):
                    left.unlink(missing_ok=True)
            fcntl.flock(lock, fcntl.LOCK_SH)
        except OSError as error:  # no locks on this file system, so nobody removes anything
            log.debug("%s: %s", lock.name, error)
        yield


def _alone(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def plain(value: Any) -> Any:
    """Return what JSON can hold in the place of an array, a number of NumPy or another object."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
