"""Runs as jobs of submitit: submitted, watched, tried once more when they die; results go through files."""

import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from fsseg.config.errors import FssegError, shown_line
from fsseg.config.stopping import sigterm_interrupts
from fsseg.experiments.submitted_record import Record

if TYPE_CHECKING:
    import submitit

_LOOK_SECONDS = 2.0  # between looks for results
_ASK_SECONDS = 60.0  # between questions to the cluster
_MOST_IN_ARRAY = 1000  # Slurm's own limit
_LAST_LINES = 5  # of a log
_CANCELLED, _PREEMPTED = "CANCELLED", "PREEMPTED"


class Named(Protocol):
    """What is run."""

    @property
    def name(self) -> str:
        """By which a later process knows it again."""


JobT = TypeVar("JobT", bound=Named)


@dataclass(frozen=True)
class _Submitted(Generic[JobT]):
    job: JobT
    ticket: "submitit.Job[str]"
    last: bool


def run_submitted(
    work: Callable[[JobT], str], jobs: Sequence[JobT], executor: "submitit.Executor", record: Path
) -> Generator[tuple[JobT, str], None, None]:
    """Submit jobs and yield each when it has ended, with what `work` returned.

    Jobs of a process that was killed, which still wait or run, are not submitted again. A job that dies is submitted
    once more, unless somebody has cancelled it; if it dies again, the text says what is known. When the caller stops,
    all jobs are cancelled; those that run are asked to keep their state.

    Args:
        work: a function of a module, called with a job; returns "" or why it failed.
        jobs: what to run.
        executor: of submitit.
        record: file that holds which jobs are submitted.

    Raises:
        FssegError: the cluster takes no jobs.
    """
    submit, remembered = partial(_submit, executor, partial(run_on_node, work)), Record(record)
    found = [(job, remembered.ticket(job.name, executor)) for job in jobs]
    open_jobs = [_Submitted(job, ticket, last=False) for job, ticket in found if ticket]
    try:
        open_jobs += submit([job for job, ticket in found if not ticket], last=False)
        while open_jobs:
            remembered.keep({each.job.name: each.ticket.job_id for each in open_jobs})
            for each in _ended(open_jobs):
                open_jobs.remove(each)
                said, again = _outcome(each)
                try:
                    open_jobs += submit([each.job], last=True) if again else []
                except FssegError as error:  # such as a cluster that does not answer: the others go on
                    said, again = f"{said}\n{error}", False
                if not again:
                    yield each.job, said
    finally:
        for each in open_jobs:
            with suppress(OSError):
                each.ticket.cancel(check=False)
        remembered.forget()


def run_on_node(work: Callable[[JobT], str], job: JobT) -> str:
    """Do a job where it was sent; the signal by which Slurm warns it ends as SIGTERM does."""
    warned = signal.signal(signal.SIGUSR2, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        with sigterm_interrupts():
            return work(job)
    finally:
        signal.signal(signal.SIGUSR2, warned)


def _submit(
    executor: "submitit.Executor", work: Callable[[JobT], str], jobs: Sequence[JobT], *, last: bool
) -> list[_Submitted[JobT]]:
    tickets: list[Any] = []
    try:
        for start in range(0, len(jobs), _MOST_IN_ARRAY):
            tickets += executor.map_array(work, jobs[start : start + _MOST_IN_ARRAY])
    except Exception as error:  # submitit's own kinds, and those of the commands that it runs
        raise FssegError(
            f"The cluster took no job: {shown_line(error)}\n  Look at what --slurm asks for: partition, time."
        ) from error
    return [_Submitted(job, ticket, last) for job, ticket in zip(jobs, tickets, strict=True)]


def _ended(open_jobs: Sequence[_Submitted[JobT]]) -> list[_Submitted[JobT]]:
    """Wait until something has ended, and return what has."""
    asked = time.monotonic()
    while True:
        ended = [each for each in open_jobs if each.ticket.done() or each.ticket.state == _PREEMPTED]
        if ended:
            return ended
        time.sleep(_LOOK_SECONDS)
        if time.monotonic() - asked > _ASK_SECONDS:  # submitit itself asks every ten minutes
            open_jobs[0].ticket.done(force_check=True)  # asks for all
            asked = time.monotonic()


def _outcome(ended: _Submitted[JobT]) -> tuple[str, bool]:
    """Return what a job said, or what is known of its death, and whether it is to be tried again."""
    if ended.ticket.done():  # for submitit a preempted job is not
        with suppress(Exception):  # submitit's own kinds, and whatever ended the job outside of `work`
            return str(ended.ticket.result()), False
    state = str(ended.ticket.state)
    return _death(ended, state), not ended.last and not state.startswith(_CANCELLED)


def _death(ended: _Submitted[JobT], state: str) -> str:
    log = Path(ended.ticket.paths.stderr)
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    lines = [line.strip() for line in lines if line.strip()][-_LAST_LINES:]
    last = f"{log} ends with: {shown_line(' | '.join(lines))}" if lines else f"it left no log in {log}"
    return f"job {ended.ticket.job_id} died{', the second one' if ended.last else ''} ({state}); {last}"
