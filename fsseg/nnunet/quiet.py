"""nnU-Net prints progress to standard output; fsseg keeps standard output for results."""

import contextlib
import logging
from collections.abc import Iterator

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
