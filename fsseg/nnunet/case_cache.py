"""Files of the cache of preprocessed cases: several runs may read and write it at once, and any may be killed."""

import json
import logging
import time
import uuid
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

Case = tuple[np.ndarray, np.ndarray, dict[str, Any]]  # image, labels, properties
_TEMPORARY = ".tmp.npz"
_ABANDONED_SECONDS = 3600.0


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
    _remove_abandoned(entry.parent)
    temporary = entry.with_suffix(f".{uuid.uuid4().hex}{_TEMPORARY}")
    try:
        np.savez(temporary, image=image, labels=labels, properties=json.dumps(properties, default=plain))
        temporary.replace(entry)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(cache: Path) -> None:
    """Remove unfinished files that nobody has written to for long; an entry is written within seconds.

    Not by locks: not every file system has them, and forked workers would hold them on.
    """
    for file in cache.glob(f"*{_TEMPORARY}"):
        with suppress(OSError):  # its process has just renamed it, or another one has removed it
            if time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
                file.unlink()


def plain(value: Any) -> Any:
    """Return what JSON can hold in the place of an array, a number of NumPy or another object."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
