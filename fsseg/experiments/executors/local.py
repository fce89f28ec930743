"""Runs side by side on this machine, in processes of their own."""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from typing import Generic, TypeVar

from fsseg.experiments.executors.gpus import shared_out
from fsseg.experiments.executors.local_worker import Worker

JobT = TypeVar("JobT")
_THREADS = "OMP_NUM_THREADS"
_LOOK_SECONDS = 2.0  # a child that outlives a killed process hides its end


def run_locally(
    work: Callable[[JobT], str], jobs: Sequence[JobT], *, workers: int, threads: int = 1, gpus: Sequence[str] = ()
) -> Generator[tuple[JobT, str], None, None]:
    """Run jobs and yield each when it has ended, with what `work` returned.

    A job whose process dies is tried once more, after all others; if it dies again, the text says how. When the caller
    stops, jobs that have not begun are dropped, and those that run are asked to keep their state and to end.

    Args:
        work: a function of a module, called with a job; returns "" or why it failed.
        jobs: what to run, in this order.
        workers: processes.
        threads: of each process.
        gpus: what the processes share; each sees one.
    """
    waiting = deque(_Try(job, last=False) for job in jobs)
    shares = shared_out(gpus, min(workers, len(jobs)))
    seats = [_Seat(work, {_THREADS: str(threads), **share}) for share in shares]
    try:
        while waiting or any(seat.current for seat in seats):
            for seat in seats:
                if waiting and seat.current is None:
                    seat.begin(waiting.popleft())
            for seat in _ended(seats):
                done, said, died = seat.end()
                if died and not done.last:
                    waiting.append(_Try(done.job, last=True))
                else:
                    yield done.job, f"{said}, twice" if died else said
    finally:
        _close(seats)


@dataclass(frozen=True)
class _Try(Generic[JobT]):
    job: JobT
    last: bool


class _Seat(Generic[JobT]):
    """One process after another: a dead one is replaced, a living one is used again.

    Attributes:
        worker: the process; None before the first one and after a death.
        current: what it does.
    """

    def __init__(self, work: Callable[[JobT], str], environment: Mapping[str, str]) -> None:
        self._work, self._environment = work, environment
        self.worker: Worker[JobT] | None = None
        self.current: _Try[JobT] | None = None

    def begin(self, attempt: _Try[JobT]) -> None:
        self.current = attempt
        self.worker = self.worker or Worker(self._work, self._environment)
        self.worker.begin(attempt.job)

    def end(self) -> tuple[_Try[JobT], str, bool]:
        """Return what has ended, what is said of it, and whether the process died."""
        assert self.worker is not None
        assert self.current is not None
        attempt, worker, self.current = self.current, self.worker, None
        answer = worker.answer()
        if answer is None:
            self.worker = None
            return attempt, worker.death(), True
        return attempt, answer, False


def _ended(seats: Sequence[_Seat[JobT]]) -> list[_Seat[JobT]]:
    """Wait until something may have ended, and return what has."""
    busy = {seat: seat.worker for seat in seats if seat.current and seat.worker}
    connection.wait([sign for worker in busy.values() for sign in worker.signs], _LOOK_SECONDS)
    return [seat for seat, worker in busy.items() if worker.has_ended]


def _close(seats: Sequence[_Seat[JobT]]) -> None:
    """Let processes end; a second Ctrl-C does not wait for the step that they are in."""
    workers = {seat.worker: seat.current is not None for seat in seats if seat.worker}
    try:
        for worker, busy in workers.items():
            worker.stop(at_work=busy)
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.kill()
        raise
