"""Files of a cache: several runs may write them at once, any may be killed, and all may be deleted at any time."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ABANDONED_SECONDS = 3600.0


@contextmanager
def complete_or_absent(entry: Path) -> Iterator[Path]:
    """Yield a file beside `entry` that becomes it when the block ends without an error, and is removed otherwise.

    What killed runs left is removed, too.

    Args:
        entry: file of the cache; its folder is made.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(entry)
    temporary = entry.with_suffix(f".{uuid.uuid4().hex}{_temporary(entry)}")
    try:
        yield temporary
        temporary.replace(entry)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(entry: Path) -> None:
    """Remove unfinished files that nobody has written to for long; an entry is written within seconds.

    Not by locks: not every file system has them, and forked workers would hold them on.
    """
    for file in entry.parent.glob(f"*{_temporary(entry)}"):
        with suppress(OSError):  # its process has just renamed it, or another one has removed it
            if time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
                file.unlink()


def _temporary(entry: Path) -> str:
    return f".tmp{entry.suffix}"
