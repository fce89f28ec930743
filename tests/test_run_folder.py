"""A run folder is complete or absent, made by one process at a time, and nothing of somebody else is deleted for it."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import fsseg, tree

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.config.staging import MARKER_NAME, staging_of

HOLDING = """
import sys
from pathlib import Path
from fsseg.config.run_folder import new_run_folder
with new_run_folder(Path(sys.argv[1])) as staging:
    (staging / "half").write_text("written")
    print("ready", flush=True)
    sys.stdin.read()
"""


def make(folder: Path, *, checkpoints: str = "", resume: bool = False) -> None:
    with new_run_folder(folder, checkpoints=checkpoints, resume=resume) as staging:
        (staging / "result").write_text("new")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that is making tmp_path / run."""
    words = [sys.executable, "-c", HOLDING, str(tmp_path / "run")]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def test_a_run_folder_holds_what_was_written_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path / "run")
    assert tree(tmp_path) == {"run/result": b"new"}


@pytest.mark.parametrize("checkpoints", ["", "training*"])
def test_a_folder_of_somebody_else_is_never_deleted(tmp_path: Path, checkpoints: str) -> None:
    precious = staging_of(tmp_path / "run") / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("kept")
    with pytest.raises(UsageError, match="has not made it") as caught:
        make(tmp_path / "run", checkpoints=checkpoints, resume=True)
    assert str(precious.parent) in str(caught.value)
    assert tree(tmp_path) == {"run.partial/thesis.txt": b"kept"}


def test_what_a_kill_left_behind_is_replaced(tmp_path: Path) -> None:
    staging = staging_of(tmp_path / "run")
    (staging / "fold_0").mkdir(parents=True)
    for name in (MARKER_NAME, "half", "fold_0/half"):
        (staging / name).write_text("old")
    make(tmp_path / "run")
    assert tree(tmp_path) == {"run/result": b"new"}


def test_a_folder_that_another_process_makes_is_left_to_it(tmp_path: Path, elsewhere: subprocess.Popen) -> None:
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="Another process is making"):
        make(tmp_path / "run")
    with pytest.raises(UsageError, match="Another process is making"):
        require_new(tmp_path / "run")
    assert tree(tmp_path) == before
    elsewhere.communicate("go on")
    assert tree(tmp_path) == {"run/half": b"written"}


def test_the_lock_ends_with_its_process(tmp_path: Path, elsewhere: subprocess.Popen) -> None:
    elsewhere.kill()
    elsewhere.wait()
    make(tmp_path / "run")
    assert tree(tmp_path) == {"run/result": b"new"}


def test_an_unfinished_run_is_in_the_way_only_of_what_asks_for_resume(tmp_path: Path) -> None:
    (staging_of(tmp_path / "run")).mkdir()
    require_new(tmp_path / "run")
    with pytest.raises(UsageError, match="Continue it with --resume"):
        require_new(tmp_path / "run", resume=False)


def test_a_link_that_points_nowhere_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"a link that points nowhere.*gone"):
        make(tmp_path / "run")
    (tmp_path / "other.partial").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="has not made it"):
        make(tmp_path / "other")
    assert tree(tmp_path) == {}


def test_a_complete_result_is_kept_where_its_place_is_taken_at_the_end(tmp_path: Path) -> None:
    def work_while_the_place_is_taken() -> None:
        with new_run_folder(tmp_path / "run") as staging:
            (staging / "manifest.json").write_text("{}")
            (tmp_path / "run").symlink_to(tmp_path / "gone")

    with pytest.raises(FssegError, match=r"result is complete and lies in .*run\.partial"):
        work_while_the_place_is_taken()
    kept = {"run.partial/manifest.json": b"{}"}
    assert tree(tmp_path) == kept
    (tmp_path / "run").unlink()
    with pytest.raises(UsageError, match="complete result"):
        make(tmp_path / "run")
    assert tree(tmp_path) == kept


def test_a_complete_folder_never_holds_the_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    rename = os.replace
    monkeypatch.setattr("os.replace", lambda old, new: (seen.append(os.listdir(old)), rename(old, new)))
    make(tmp_path / "run")
    assert seen == [["result"]]


def test_a_folder_that_is_about_to_be_renamed_is_not_taken_for_one_of_a_kill(
    tmp_path: Path, elsewhere: subprocess.Popen
) -> None:
    (staging_of(tmp_path / "run") / MARKER_NAME).unlink()  # as the other process does just before its rename
    with pytest.raises(UsageError, match="in the way"):
        make(tmp_path / "run")
    assert (staging_of(tmp_path / "run") / "half").read_text() == "written"


def test_folders_of_one_place_are_made_one_at_a_time(tmp_path: Path) -> None:
    inside = "from fsseg.config.run_folder import new_run_folder as n; from pathlib import Path as P; import sys;"
    inside += "a = P(sys.argv[1]); n(a / 'b', place=a / 'both').__enter__()"
    with new_run_folder(tmp_path / "a", place=tmp_path / "both"):
        other = subprocess.run([sys.executable, "-c", inside, str(tmp_path)], capture_output=True, check=False)
    assert b"Another process is making" in other.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_asks_for_space(tmp_path: Path, number: int) -> None:
    with pytest.raises(FssegError, match=r"Could not write[\s\S]*Free some space"), new_run_folder(tmp_path / "run"):
        raise OSError(number, os.strerror(number))
    assert tree(tmp_path) == {}


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FssegError, match=r"Could not write.*nowhere"), new_run_folder(tmp_path / "run") as staging:
        (staging / "nowhere" / "file").write_text("")
    assert tree(tmp_path) == {}


def test_a_file_that_cannot_be_read_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_run_folder(tmp_path / "run"):
        (tmp_path / "gone.nii.gz").read_bytes()
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("predict", ["--run", "a", "--input", "b", "--output", "c"], "the same command resumes"),
        ("demo", [], "Nothing of it is kept."),
        ("pretrain", ["--dataset", "1", "--plans", "a", "--steps", "1", "--out", "b"], "--resume"),
    ],
)
def test_ctrl_c_says_what_stays(monkeypatch: pytest.MonkeyPatch, command: str, words: list[str], message: str) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"fsseg.cli.{command}.run", stop)
    outcome = fsseg(command, *words)
    assert outcome.code == 1
    assert outcome.err.startswith(f"fsseg {command}: stopped by Ctrl-C. ")
    assert message in outcome.err
