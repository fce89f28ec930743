"""What nnU-Net's functions print and raise: standard output is for results, and errors are messages."""

import contextlib
import logging
from collections.abc import Iterator

from fsseg.config.errors import FssegError

log = logging.getLogger(__name__)


class _ToLog:
    """A text stream whose lines go to the debug log."""

    def write(self, text: str) -> int:
        """Log the text."""
        if text.strip():
            log.debug("nnU-Net: %s", text.strip())
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""

    def isatty(self) -> bool:
        """A log is no terminal."""
        return False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send what a block prints on standard output to the debug log."""
    with contextlib.redirect_stdout(_ToLog()):
        yield


@contextlib.contextmanager
def nnunet_failures(what: str) -> Iterator[None]:
    """Turn what nnU-Net's functions raise in a block into an `FssegError`: `what`, and the last line of the reason."""
    try:
        yield
    except (RuntimeError, AssertionError, ValueError, IndexError, KeyError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise FssegError(f"{what}: {reason}") from None
