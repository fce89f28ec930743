"""Progress of long work: lines in the log where standard error is no terminal."""

import logging
import sys
import time

import pytest

from fsseg.config import progress
from fsseg.config.progress import LogLines, Pace, Progress


class Clock:
    """A clock that tests set, and the pace by it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pace = Pace(lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO, logger="fsseg")
    monkeypatch.setattr(progress, "_LOOK_SECONDS", 3600.0)  # the tests ask for lines themselves
    return Clock()


def lines_at(clock: Clock, work: Progress, caplog: pytest.LogCaptureFixture, seconds: list[int]) -> list[int]:
    """Return at which of the seconds after the beginning a line comes."""
    began, written = clock.now, []
    for second in seconds:
        clock.now = began + second
        caplog.clear()
        work.lines.write_if_due()
        written += [second] * len(caplog.messages)
    return written


def test_the_first_line_comes_after_ten_seconds_and_then_one_a_minute(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with Progress("predict", 3, "case", pace=clock.pace) as first:
        assert lines_at(clock, first, caplog, list(range(140))) == [10, 70, 130]
    with Progress("evaluate", 3, "case", pace=clock.pace) as second:  # a minute is a minute of all work together
        assert lines_at(clock, second, caplog, list(range(100))) == [51]


def test_a_line_tells_steps_loss_and_the_time_that_is_left(clock: Clock) -> None:
    with Progress("adapt lora", 100, "step", done=40, pace=clock.pace) as work:
        clock.now += 45
        assert work.lines.line() == "adapt lora: 40 of 100 steps, 45 s so far"
        for _ in range(10):
            work.advance(0.12345)
        clock.now += 15
        assert work.lines.line() == "adapt lora: 50 of 100 steps, loss 0.123, about 5 min left"  # 6 s a step


def test_what_is_iterated_over_counts_when_it_is_done(clock: Clock) -> None:
    with Progress("predict", 2, "case", pace=clock.pace) as work:
        assert [(item, work.done) for item in work.over("ab")] == [("a", 0), ("b", 1)]
        assert work.lines.line() == "predict: 2 of 2 cases, about 0 s left"


def test_work_of_unknown_progress_shows_life(clock: Clock) -> None:
    with LogLines("fingerprint of the dataset", pace=clock.pace) as lines:
        clock.now += 2 * 3600
        assert lines.line() == "fingerprint of the dataset: 2.0 h so far"


def test_a_thread_writes_until_the_work_ends(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="fsseg")
    for name in ("_LOOK_SECONDS", "_FIRST_LINE_SECONDS", "_LINE_SECONDS"):
        monkeypatch.setattr(progress, name, 0.01)

    def written() -> list[str]:  # trainings that other tests left in their middle may write, too
        return [line for line in caplog.messages if line.startswith("predict: ")]

    with Progress("predict", 2, "case", pace=Pace()):  # a case that takes long
        deadline = time.monotonic() + 10
        while not written() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert written()[0] == "predict: 0 of 2 cases, 0 s so far"
    time.sleep(0.1)
    before = len(written())
    time.sleep(0.1)
    assert len(written()) == before


def test_a_terminal_has_a_bar_and_no_lines(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads: list[object] = []
    monkeypatch.setattr(progress.threading, "Thread", lambda **options: threads.append(options))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("predict", 2, "case", pace=clock.pace) as work:
        list(work.over("ab"))
    assert not threads
    assert "predict: 100%" in capsys.readouterr().err
