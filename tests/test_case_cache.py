"""The cache of preprocessed cases: entries are complete, and what a killed run leaves does not stay."""

import fcntl
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from fsseg.nnunet import case_cache
from fsseg.nnunet.case_cache import read_entry, write_entry

CASE = (np.ones((1, 2, 3, 4), np.float32), np.zeros((1, 2, 3, 4), np.int16), {"spacing": np.array([1.0, 2.0, 3.0])})


def _killed_while_writing(entry: Path) -> None:
    def die(file: Path, **_: object) -> None:
        Path(file).write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)

    case_cache.np.savez = die
    write_entry(entry, CASE)


def test_an_entry_is_read_as_it_was_written(tmp_path: Path) -> None:
    entry = tmp_path / "cache/a.npz"
    assert read_entry(entry) is None
    write_entry(entry, CASE)
    image, labels, properties = read_entry(entry) or pytest.fail("no entry")
    assert (image.dtype, labels.dtype, properties) == (np.float32, np.int16, {"spacing": [1.0, 2.0, 3.0]})
    entry.write_bytes(entry.read_bytes()[:100])
    assert read_entry(entry) is None


def test_the_next_writing_removes_what_a_killed_run_left(tmp_path: Path) -> None:
    run = multiprocessing.get_context("fork").Process(target=_killed_while_writing, args=(tmp_path / "a.npz",))
    run.start()
    run.join()
    assert [path.name for path in tmp_path.glob("*.npz")] == [f"a.{run.pid}.tmp.npz"]
    write_entry(tmp_path / "b.npz", CASE)
    assert [path.name for path in tmp_path.glob("*.npz")] == ["b.npz"]


def test_what_another_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    unfinished = tmp_path / "a.1.tmp.npz"
    unfinished.write_bytes(b"half of it")
    with (tmp_path / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        write_entry(tmp_path / "b.npz", CASE)
        assert unfinished.exists()
    write_entry(tmp_path / "c.npz", CASE)
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["b.npz", "c.npz"]


def test_without_locks_an_entry_is_written_and_nothing_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    unfinished = tmp_path / "a.1.tmp.npz"
    unfinished.write_bytes(b"half of it")
    monkeypatch.setattr(case_cache.fcntl, "flock", refuse)
    write_entry(tmp_path / "b.npz", CASE)
    assert read_entry(tmp_path / "b.npz") is not None
    assert unfinished.exists()
