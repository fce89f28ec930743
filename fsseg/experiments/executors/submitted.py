"""Runs as jobs of submitit: submitted, watched, tried once more when they die; results go through files."""

import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from fsseg.config.errors import FssegError, shown_line
from fsseg.config.stopping import sigterm_interrupts
from fsseg.experiments.executors.submitted_record import Record

if TYPE_CHECKING:
    import submitit

logger = logging.getLogger(__name__)

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
class _Try(Generic[JobT]):
    """A job, what submitit calls one once it is submitted, and whether it is not tried again."""

    job: JobT
    ticket: Any = None
    last: bool = False


def run_submitted(
    work: Callable[[JobT], str],
    jobs: Sequence[JobT],
    executor: "submitit.Executor",
    record: Path,
    *,
    at_once: int,
) -> Generator[tuple[JobT, str], None, None]:
    """Submit jobs and yield each when it has ended, with what `work` returned.

    Jobs of a process that was killed, which still wait or run, are not submitted again. A job that dies is submitted
    once more, unless somebody has cancelled it; if it dies again, the text says what is known. When the caller stops,
    all jobs are cancelled; those that run are asked to keep their state.

    Args:
        work: a function of a module, called with a job; returns "" or why it failed.
        jobs: what to run, in this order.
        executor: of submitit.
        record: file that holds which jobs are submitted.
        at_once: how many jobs may wait or run in the cluster at a time.

    Raises:
        FssegError: the cluster takes no jobs.
    """
    submit, remembered = partial(_submit, executor, partial(run_on_node, work)), Record(record)
    found = [_Try(job, remembered.ticket(job.name, executor)) for job in jobs]
    waiting, at_work = deque(each for each in found if not each.ticket), [each for each in found if each.ticket]
    try:
        while waiting or at_work:
            at_work += submit(waiting, at_once - len(at_work), needed=not at_work)
            remembered.keep({each.job.name: each.ticket.job_id for each in at_work})
            for each in _ended(at_work):
                at_work.remove(each)
                said, again = _outcome(each)
                if again:
                    waiting.appendleft(_Try(each.job, last=True))
                else:
                    yield each.job, said
    finally:
        _cancel([each.ticket for each in at_work])
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
    executor: "submitit.Executor", work: Callable[[JobT], str], waiting: deque[_Try[JobT]], most: int, *, needed: bool
) -> list[_Try[JobT]]:
    """Submit the first of those that wait, and return them.

    Args:
        executor: of submitit.
        work: called with a job.
        waiting: loses what is submitted.
        most: how many to submit.
        needed: whether there is nothing else to wait for, if the cluster takes none.
    """
    chosen = list(islice(waiting, max(0, min(most, _MOST_IN_ARRAY))))
    if not chosen:
        return []
    try:
        tickets = executor.map_array(work, [each.job for each in chosen])
    except Exception as error:  # submitit's own kinds, and those of the commands that it runs
        said = f"The cluster took no job: {shown_line(error)}"
        if needed:
            raise FssegError(f"{said}\n  Look at what --slurm asks for, and at the bound that --jobs sets.") from error
        logger.warning("%s. It is asked again when another job has ended.", said)
        return []
    for _ in chosen:
        waiting.popleft()
    return [replace(each, ticket=ticket) for each, ticket in zip(chosen, tickets, strict=True)]


def _cancel(tickets: Sequence[Any]) -> None:
    for ticket in tickets:
        with suppress(OSError):
            ticket.cancel(check=False)


def _ended(at_work: Sequence[_Try[JobT]]) -> list[_Try[JobT]]:
    """Wait until something has ended, and return what has."""
    asked = time.monotonic()
    while True:
        ended = [each for each in at_work if each.ticket.done() or each.ticket.state == _PREEMPTED]
        if ended:
            return ended
        time.sleep(_LOOK_SECONDS)
        if time.monotonic() - asked > _ASK_SECONDS:  # submitit itself asks every ten minutes
            at_work[0].ticket.done(force_check=True)  # asks for all
            asked = time.monotonic()


def _outcome(ended: _Try[JobT]) -> tuple[str, bool]:
    """Return what a job said, or what is known of its death, and whether it is to be tried again."""
    if ended.ticket.done():  # for submitit a preempted job is not
        with suppress(Exception):  # submitit's own kinds, and whatever ended the job outside of `work`
            return str(ended.ticket.result()), False
    state = str(ended.ticket.state)
    return _death(ended, state), not ended.last and not state.startswith(_CANCELLED)


def _death(ended: _Try[JobT], state: str) -> str:
    log = Path(ended.ticket.paths.stderr)
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    lines = [line.strip() for line in lines if line.strip()][-_LAST_LINES:]
    last = f"{log} ends with: {shown_line(' | '.join(lines))}" if lines else f"it left no log in {log}"
    return f"job {ended.ticket.job_id} died{', the second one' if ended.last else ''} ({state}); {last}"
