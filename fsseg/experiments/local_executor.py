"""Runs side by side on this machine, in processes of their own."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

JobT = TypeVar("JobT")
_THREADS = "OMP_NUM_THREADS"


def run_locally(
    work: Callable[[JobT], str], jobs: Sequence[JobT], *, workers: int, threads: int = 1
) -> Iterator[tuple[JobT, str]]:
    """Run jobs and yield each when it has ended, with what `work` returned.

    One process is used again for several jobs, so that libraries are imported once. When the caller stops, jobs that
    have not begun are dropped; those that run are told by Ctrl-C themselves and keep their state.

    Args:
        work: a function of a module, called with a job.
        jobs: what to run, in this order.
        workers: processes.
        threads: of each process.
    """
    with _threads(threads), ProcessPoolExecutor(min(workers, len(jobs)) or 1, mp_context=get_context("spawn")) as pool:
        waiting: dict[Future[str], JobT] = {pool.submit(work, job): job for job in jobs}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let processes that start now use so many threads each."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = str(number)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
