"""What happens at Ctrl-C and SIGTERM: a command ends with a message, a training first keeps the step that it is in."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME_STOP_SECONDS = 1.0  # a launcher sends on what the terminal has sent to its processes already
_SAID = "Stopping after this step, which is kept; once more stops at once."


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which a batch system warns a job before it kills it."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` inside the block, as Ctrl-C raises `KeyboardInterrupt`."""

    def interrupt(number: int, _: object) -> None:
        raise Terminated

    with _handled((signal.SIGTERM,), interrupt):
        yield


class StopRequest:
    """Whether the user or a batch system has asked a training to stop.

    Attributes:
        number: of the signal; 0 if there was none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def obey(self, number: int | None = None) -> None:
        """Do what the signal would have done without `stops_after_step`; nothing if there was none.

        Args:
            number: of the signal that another process of the training got; None for that of this one.
        """
        number = self.number if number is None else number
        self.number = 0
        if number:
            _pass_on(number, self._before.get(number, signal.getsignal(number)))

    def _note(self, number: int, _: object) -> None:
        if self.number and time.monotonic() - self._at > _SAME_STOP_SECONDS:
            self.obey(number)
        elif not self.number:
            self.number, self._at = number, time.monotonic()
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{_SAID}\n".encode())


@contextmanager
def stops_after_step() -> Iterator[StopRequest]:
    """Let Ctrl-C and SIGTERM wait inside the block until a step of a training is over.

    The training asks after every step, saves its state, and obeys. A second signal does not wait. One that nobody
    obeyed is obeyed when the block ends without an error.
    """
    request = StopRequest()
    with _handled(_SIGNALS, request._note) as request._before:
        yield request
    request.obey()


def ignore_stop_signals(*_: object) -> None:
    """Let a worker process leave Ctrl-C and SIGTERM to its parent, which may need it to finish a step, and ends it."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _handled(numbers: tuple[int, ...], handler: Callable[[int, object], None]) -> Iterator[dict[int, Any]]:
    """Handle signals of this process inside the block; give the handlers that they had.

    Ignored ones stay so, as do those of a process in which this is not the main thread.
    """
    owner = os.getpid()
    before = {number: signal.getsignal(number) for number in numbers}
    if threading.current_thread() is not threading.main_thread():
        before = {}
    before = {number: other for number, other in before.items() if other not in (signal.SIG_IGN, None)}

    def of_owner(number: int, frame: object) -> None:
        if os.getpid() == owner:
            handler(number, frame)
        else:  # a child process that has inherited this handler
            _pass_on(number, before[number])

    for number in before:
        signal.signal(number, of_owner)
    try:
        yield before
    finally:
        for number, other in before.items():
            signal.signal(number, other)


def _pass_on(number: int, handler: Any) -> None:
    if callable(handler):
        handler(number, None)
    elif handler == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
