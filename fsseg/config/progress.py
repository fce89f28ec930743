"""Progress of long work: a bar on a terminal, elsewhere lines in the log, such as in the file of a job under nohup."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import TypeVar

from tqdm import tqdm

logger = logging.getLogger(__name__)

_FIRST_LINE_SECONDS = 10.0  # so that one sees life
_LINE_SECONDS = 60.0
_LOOK_SECONDS = 1.0
Item = TypeVar("Item")


def on_terminal() -> bool:
    """Return whether standard error is a terminal, where bars are drawn; worker processes leave it to their parent."""
    return sys.stderr is not None and sys.stderr.isatty() and parent_process() is None


@dataclass
class Pace:
    """Says when the next line is due: one a minute, whatever writes it.

    Attributes:
        clock: seconds from any start.
        last: when the last line was written.
    """

    clock: Callable[[], float] = time.monotonic
    last: float = float("-inf")

    def due(self, began: float) -> bool:
        """Return whether work that began at a time of the clock should write a line now, and count it as written."""
        now = self.clock()
        if now - began < _FIRST_LINE_SECONDS or now - self.last < _LINE_SECONDS:
            return False
        self.last = now
        return True


_PACE = Pace()  # of this process


class LogLines:
    """Lines about the work in the block, at most one a minute; none where standard error is a terminal.

    A thread writes them, so that they come in the middle of a long step, too.

    Args:
        label: what is done, such as "predict".
        count: returns how many parts of the work are done; None where nobody knows.
        total: how many parts it has.
        unit: what such a part is, such as "case".
        pace: says when a line is due.
    """

    def __init__(
        self, label: str, count: Callable[[], int] | None = None, total: int = 0, unit: str = "", pace: Pace = _PACE
    ) -> None:
        self.label, self.count, self.total, self.unit, self.pace = label, count, total, unit, pace
        self.loss: float | None = None
        self._began, self._first = 0.0, 0
        self._ended = threading.Event()

    def __enter__(self) -> "LogLines":
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.close()

    def start(self) -> None:
        """Begin to write."""
        self._began, self._first = self.pace.clock(), 0 if self.count is None else self.count()
        if not on_terminal():
            threading.Thread(target=self._write, name=f"progress of {self.label}", daemon=True).start()

    def close(self) -> None:
        """Write no more."""
        self._ended.set()

    def write_if_due(self) -> None:
        """Write a line if it is time for one."""
        if self.pace.due(self._began):
            logger.info("%s", self.line())

    def line(self) -> str:
        """Return how far the work is, its last loss, and how long the rest will take at this rate."""
        seconds = self.pace.clock() - self._began
        facts, left = [], None
        if self.count is not None:
            done = self.count()
            facts.append(f"{done} of {self.total} {self.unit}s")
            if done > self._first:
                left = seconds / (done - self._first) * (self.total - done)
        if self.loss is not None:
            facts.append(f"loss {self.loss:.3f}")
        facts.append(f"{_about(seconds)} so far" if left is None else f"about {_about(left)} left")
        return f"{self.label}: {', '.join(facts)}"

    def _write(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self.write_if_due()


class Progress:
    """Progress of the work in the block: a bar on a terminal, elsewhere lines.

    Args:
        label: what is done, such as "predict".
        total: how many parts the work has.
        unit: what such a part is, such as "case".
        done: parts that an earlier run did.
        pace: says when a line is due.

    Example:
        with Progress("predict", len(cases), "case") as progress:
            for case in progress.over(cases):
                segment(case)
    """

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0, pace: Pace = _PACE) -> None:
        self.done = done
        self.lines = LogLines(label, lambda: self.done, total, unit, pace)
        self._bar = tqdm(total=total, initial=done, desc=label, unit=unit, disable=not on_terminal())

    def __enter__(self) -> "Progress":
        """Begin."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.close()

    def start(self) -> None:
        """Begin to show it."""
        self.lines.start()

    def close(self) -> None:
        """Show it no longer; a bar stays as it stands."""
        self.lines.close()
        self._bar.close()

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; each counts as a part of the work, done when the next one is asked for."""
        for item in items:
            yield item
            self.advance()

    def advance(self, loss: float | None = None) -> None:
        """Count one more part as done.

        Args:
            loss: of a step of a training.
        """
        self.done += 1
        self._bar.update()
        if loss is not None:
            self.lines.loss = loss
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)


def _about(seconds: float) -> str:
    """Return a duration to the minute, or to the tenth of an hour."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
