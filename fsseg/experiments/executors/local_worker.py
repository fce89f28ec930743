"""A process that does one job after another, so that libraries are imported once; and its end as seen from outside."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from fsseg.config.stopping import sigterm_interrupts

JobT = TypeVar("JobT")
_SPAWN = get_context("spawn")
_KILLED_HINT = {9: ": no memory left?"}


class Worker(Generic[JobT]):
    """A process of its own; it ends with the process that made it."""

    def __init__(self, work: Callable[[JobT], str], environment: Mapping[str, str]) -> None:
        """Start the process.

        Args:
            work: a function of a module, called with a job; returns "" or why it failed.
            environment: variables that the process has from its beginning, before it imports torch.
        """
        self._connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(work, theirs))
        with _variables(environment), _ctrl_c_ignored():
            self._process.start()
        theirs.close()

    def begin(self, job: JobT) -> None:
        """Let the process do a job."""
        with suppress(OSError):  # it is dead, as `has_ended` will say
            self._connection.send(job)

    @property
    def signs(self) -> list[Any]:
        """What becomes ready when the process answers or dies, for `multiprocessing.connection.wait`."""
        return [self._connection, self._process.sentinel]

    @property
    def has_ended(self) -> bool:
        """Whether the job has ended, or the process."""
        return self._connection.poll() or not self._process.is_alive()

    def answer(self) -> str | None:
        """Return what became of the job that has ended; None if the process died of it."""
        try:
            return str(self._connection.recv()) if self._connection.poll() else None
        except (EOFError, OSError):
            return None

    def death(self) -> str:
        """Return how the process died, and close what is left of it."""
        self._connection.close()
        self._process.join()
        code = self._process.exitcode or 0
        how = f"killed by signal {-code}{_KILLED_HINT.get(-code, '')}" if code < 0 else f"exit code {code}"
        return f"the process died ({how})"

    def stop(self, *, at_work: bool) -> None:
        """Ask the process to end; a training keeps the step that it is in."""
        self._connection.close()
        if at_work:
            self._process.terminate()

    def join(self) -> None:
        """Wait until it has ended."""
        self._process.join()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def _serve(work: Callable[[JobT], str], jobs: Connection) -> None:
    """Do jobs until the connection is closed, or until SIGTERM."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with sigterm_interrupts():
            while True:
                jobs.send(_outcome(work, jobs.recv()))
    except (EOFError, OSError):
        return
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)


def _outcome(work: Callable[[JobT], str], job: JobT) -> str:
    try:
        return work(job)
    except Exception as error:  # noqa: BLE001 - whatever fails a job leaves the others
        return f"{type(error).__name__}: {error}"


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Let processes that start now have these environment variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Let processes that start now leave Ctrl-C to this one, which stops its workers by SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
