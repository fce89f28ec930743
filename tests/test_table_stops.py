"""What a table leaves when it is stopped, when another one writes the same folder, and when the disk is full."""

import errno
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fsseg.cli.main import main
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.json_files import write_json
from fsseg.experiments import run_cell, table
from fsseg.experiments.open_table import OpenTable, TableConfig
from fsseg.experiments.out_lock import LOCK_NAME, sole_table
from fsseg.experiments.page.render import Rendering
from fsseg.experiments.workspace import RunFolder

HOLDER = """
import sys
from pathlib import Path
from fsseg.experiments.out_lock import sole_table
with sole_table(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "table.html")


def test_one_table_at_a_time_writes_a_folder_and_a_killed_one_is_taken_over(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UsageError) as error, sole_table(tmp_path):
            pass
        other.kill()
    assert f"process {other.pid} on {platform.node()}, since 20" in str(error.value)
    assert str(other.pid) in (tmp_path / LOCK_NAME).read_text(encoding="utf-8")  # it had no time to go
    with sole_table(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text(encoding="utf-8")
    assert not (tmp_path / LOCK_NAME).read_text(encoding="utf-8")


def test_a_table_of_another_machine_is_not_taken_over_unasked(tmp_path: Path) -> None:
    write_json(tmp_path / LOCK_NAME, {"pid": 7, "host": "node12", "since": "2030-01-01 10:00:00"})
    with pytest.raises(UsageError, match=r"process 7 on node12, since 2030-01-01 10:00:00.*\n.*delete .*\.lock"):  # noqa: SIM117
        with sole_table(tmp_path):
            pass


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise FULL

    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FssegError, match="Choose another output folder"), sole_table(tmp_path / "file" / "out"):
        pass
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FssegError, match="Free some space, then give the command again"), sole_table(tmp_path):
        pass


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(table, "prepare", stopped)
    assert main(["table", "phantom", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert said == ["fsseg table: stopped by Ctrl-C. Finished runs stay, and the same command goes on with the others."]
    assert not (tmp_path / LOCK_NAME).read_text(encoding="utf-8")


@pytest.fixture
def two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of two runs, the first of which fails."""
    jobs = [SimpleNamespace(folder=RunFolder(tmp_path / name)) for name in "ab"]
    for job in jobs:
        job.folder.path.mkdir()

    def run_jobs(*_: object) -> Iterator[tuple[Any, str]]:
        yield jobs[0], "no space"
        yield jobs[1], ""

    opened = OpenTable(
        TableConfig(table=tmp_path / "t.yaml", out=tmp_path), None, SimpleNamespace(out=tmp_path), ["cell"]
    )
    monkeypatch.setattr(OpenTable, "jobs", lambda _: jobs)
    monkeypatch.setattr(OpenTable, "run", lambda *_: jobs[0].folder)
    monkeypatch.setattr(table, "find_missing", lambda _: SimpleNamespace(stops=lambda *_: [], lines=[]))
    monkeypatch.setattr(table, "run_jobs", run_jobs)
    monkeypatch.setattr(table, "open_table", lambda _: opened)
    monkeypatch.setattr(table, "prepare", lambda _: None)


@pytest.mark.usefixtures("two_runs")
@pytest.mark.parametrize("full_at", [{2}, {2, 4}])
def test_a_page_that_finds_no_space_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: set[int]
) -> None:
    rendered: list[str] = []

    def write(_: object, failures: dict[RunFolder, str], *, last: bool = False) -> None:
        rendered.append("".join(failures.values()))
        if len(rendered) in full_at:
            raise FULL

    monkeypatch.setattr(Rendering, "write", write)
    config = TableConfig(table=tmp_path / "t.yaml", out=tmp_path)
    if 4 in full_at:
        with pytest.raises(FssegError, match="Free some space, then give the command again"):
            table.run_table(config, "fsseg table t")
    else:
        assert table.run_table(config, "fsseg table t").failures == ("no space",)
    assert rendered == ["", "no space", "no space", "no space"]  # at the start, after each run and at the end
    assert RunFolder(tmp_path / "a").failure.read_text(encoding="utf-8") == "no space\n"


def test_a_failure_is_said_even_where_it_cannot_be_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "there" / "is" / "none")
    assert run_cell.note_failure(folder, "no space", "details") == "no space"
