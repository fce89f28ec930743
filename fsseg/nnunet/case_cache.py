"""Files of the cache of preprocessed cases: several runs may read and write it at once, and any may be killed."""

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fsseg.config.cache_files import complete_or_absent

log = logging.getLogger(__name__)

Case = tuple[np.ndarray, np.ndarray, dict[str, Any]]  # image, labels, properties


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
    with complete_or_absent(entry) as temporary:
        np.savez(temporary, image=image, labels=labels, properties=json.dumps(properties, default=plain))


def plain(value: Any) -> Any:
    """Return what JSON can hold in the place of an array, a number of NumPy or another object."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
