"""The cache of preprocessed cases: entries are complete, and what a killed run leaves does not stay."""

import multiprocessing
import os
import signal
import time
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


def _age(file: Path, seconds: float) -> None:
    os.utime(file, times=(time.time() - seconds,) * 2)


def test_a_writing_removes_what_a_killed_run_left_an_hour_ago(tmp_path: Path) -> None:
    run = multiprocessing.get_context("fork").Process(target=_killed_while_writing, args=(tmp_path / "a.npz",))
    run.start()
    run.join()
    (left,) = tmp_path.glob("a.*.tmp.npz")
    _age(left, 3700)
    write_entry(tmp_path / "b.npz", CASE)
    assert [path.name for path in tmp_path.iterdir()] == ["b.npz"]


def test_what_another_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    unfinished = tmp_path / "a.1.tmp.npz"
    unfinished.write_bytes(b"half of it")
    _age(unfinished, 3500)
    write_entry(tmp_path / "b.npz", CASE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.1.tmp.npz", "b.npz"]


def test_what_fails_to_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(file: Path, **_: object) -> None:
        Path(file).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(case_cache.np, "savez", fill)
    with pytest.raises(OSError, match="No space left"):
        write_entry(tmp_path / "b.npz", CASE)
    assert list(tmp_path.iterdir()) == []
