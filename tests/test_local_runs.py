"""Runs side by side on one machine: a process that dies takes no other run with it, and each sees its GPU."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from fsseg.config.progress import on_terminal
from fsseg.experiments.executors.gpus import gpus_for, shared_out
from fsseg.experiments.executors.local import run_locally


@dataclass(frozen=True)
class Task:
    """What the functions below do: how often they die first, and the file in which they count."""

    name: str
    deaths: int
    tries: Path


def work(task: Task) -> str:
    with task.tries.open("a") as file:
        file.write("x")
    if len(task.tries.read_text()) <= task.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    if task.name == "bad":
        raise ValueError("no liver")
    return ""


def surroundings(_: int) -> str:
    time.sleep(0.5)  # so that each process gets one
    return f"{os.environ['CUDA_VISIBLE_DEVICES']} {os.environ['OMP_NUM_THREADS']} {'torch' in sys.modules}"


def test_a_process_that_dies_is_replaced_and_its_run_tried_once_more(tmp_path: Path) -> None:
    tasks = [
        Task("dies", 9, tmp_path / "dies"),
        Task("lives", 0, tmp_path / "lives"),
        Task("died_once", 1, tmp_path / "died_once"),
        Task("bad", 0, tmp_path / "bad"),
    ]
    said = {task.name: text for task, text in run_locally(work, tasks, workers=2)}

    assert said == {
        "dies": "the process died (killed by signal 9: no memory left?), twice",
        "lives": "",
        "died_once": "",
        "bad": "ValueError: no liver",
    }
    assert {task.name: len(task.tries.read_text()) for task in tasks} == {
        "dies": 2,
        "lives": 1,
        "died_once": 2,
        "bad": 1,
    }


def test_processes_see_one_gpu_each_before_they_import_torch() -> None:
    said = {text for _, text in run_locally(surroundings, [1, 2], workers=2, threads=3, gpus=("4", "7"))}
    assert said == {"4 3 False", "7 3 False"}
    assert list(run_locally(surroundings, [], workers=2)) == []


def bar(_: int) -> str:
    sys.stderr = SimpleNamespace(isatty=lambda: True)  # type: ignore[assignment]
    return str(on_terminal())


def test_bars_of_runs_do_not_draw_over_that_of_the_table() -> None:
    assert list(run_locally(bar, [1], workers=1)) == [(1, "False")]


def test_more_runs_than_gpus_share_them_in_turn() -> None:
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shared_out(("0", "1"), 5)] == ["0", "1", "0", "1", "0"]
    assert shared_out((), 2) == [{}, {}]


@pytest.mark.parametrize(
    ("visible", "device", "gpus"),
    [
        (None, "auto", ("0", "1", "2")),
        ("5,GPU-7,1", "cuda", ("5", "GPU-7", "1")),
        (None, "cuda:1", ()),
        (None, "cpu", ()),
    ],
)
def test_gpus_are_those_that_the_user_lets_see(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, device: str, gpus: tuple[str, ...]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_for(device) == gpus


PROGRAM = """
import os, signal, sys, time
from pathlib import Path

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start its jobs without it

def work(number):
    Path(str(number)).write_text(str(os.getpid()))
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        Path("kept").write_text("")
        raise
    return ""

if __name__ == "__main__":
    from fsseg.config.stopping import sigterm_interrupts
    from fsseg.experiments.executors.local import run_locally
    with sigterm_interrupts():
        try:
            list(run_locally(work, [1, 2], workers=1))
        except KeyboardInterrupt:
            sys.exit(7)
"""


@pytest.mark.full
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_runs_keep_their_state_when_the_table_is_stopped_or_killed(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    with subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path, stderr=subprocess.PIPE) as table:
        worker = wait_for(tmp_path / "1")
        table.send_signal(how)
        said = table.stderr.read().decode() if table.stderr else ""
    wait_for(tmp_path / "kept")

    assert table.returncode == (-how if how == signal.SIGKILL else 7)
    assert "Traceback" not in said
    assert not (tmp_path / "2").exists()
    until = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < until
        time.sleep(0.1)


def wait_for(file: Path) -> str:
    until = time.monotonic() + 30
    while not file.is_file() or (file.name != "kept" and not file.read_text()):
        assert time.monotonic() < until, file
        time.sleep(0.05)
    return file.read_text()
