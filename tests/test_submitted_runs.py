"""Runs as jobs of submitit: its own local and debug executors, and its Slurm executor on a Slurm of one machine."""

import os
import signal
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import fake_slurm
import pytest
import submitit

from fsseg.cli.main import main
from fsseg.config.base import validated
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.json_files import write_json
from fsseg.experiments.executors.slurm import slurm_executor
from fsseg.experiments.executors.slurm_settings import SlurmSettings
from fsseg.experiments.executors.submitted import run_on_node
from fsseg.experiments.executors.submitted import run_submitted as run_some


@dataclass(frozen=True)
class Task:
    """What `work` does, in a folder where it counts."""

    name: str
    folder: Path

    @property
    def tries(self) -> int:
        return len(self.counted.read_text()) if self.counted.is_file() else 0

    @property
    def counted(self) -> Path:
        return self.folder / self.name


run_submitted = partial(run_some, at_once=5)


def work(task: Task) -> str:
    with task.counted.open("a") as file:
        file.write("x")
    if task.name == "dies" or (task.name == "dies_once" and task.tries == 1):
        sys.stderr.write("slurmstepd: error: Detected 1 oom_kill event\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if task.name == "waits" and task.tries == 1:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            (task.folder / "kept").write_text("")
            raise
    return "no liver" if task.name == "bad" else ""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    return fake_slurm.install(tmp_path / "slurm", monkeypatch)


def executor(tmp_path: Path, **asked: object) -> submitit.Executor:
    return slurm_executor(tmp_path / "jobs", SlurmSettings(**asked), threads=2, at_once=5)


@pytest.mark.full
def test_a_job_that_dies_is_submitted_once_more(tmp_path: Path, slurm: Path) -> None:
    tasks = [Task(name, tmp_path) for name in ("good", "bad", "dies_once", "dies")]
    record = tmp_path / "jobs" / "jobs.json"
    with closing(run_submitted(work, tasks, executor(tmp_path, partition="gpu", gpus=1), record)) as results:
        said = {task.name: text for task, text in results}

    died = said.pop("dies")
    assert said == {"good": "", "bad": "no liver", "dies_once": ""}
    assert died.startswith("job ")
    assert "died, the second one (FAILED)" in died
    assert "_log.err ends with: slurmstepd: error: Detected 1 oom_kill event" in died
    assert [task.tries for task in tasks] == [1, 1, 2, 2]
    script = (slurm / "1.sbatch").read_text(encoding="utf-8")
    for line in ("partition=gpu", "gpus-per-node=1", "array=0-3%4", "no-requeue", "cpus-per-task=2", "time=1440"):
        assert f"#SBATCH --{line}" in script
    assert "export OMP_NUM_THREADS=2" in script
    assert not record.exists()


def test_only_so_many_jobs_are_in_the_cluster_at_a_time(tmp_path: Path) -> None:
    tasks = [Task(str(number), tmp_path) for number in range(3)]
    executor = submitit.DebugExecutor(tmp_path / "jobs")
    with closing(run_submitted(work, tasks, executor, tmp_path / "jobs.json", at_once=1)) as results:
        assert next(results) == (tasks[0], "")
        assert [task.tries for task in tasks] == [1, 0, 0]
        assert [task.name for task, _ in results] == ["1", "2"]


@pytest.mark.full
def test_a_table_that_stops_cancels_its_jobs_and_they_keep_their_state(tmp_path: Path, slurm: Path) -> None:
    tasks = [Task(name, tmp_path) for name in ("good", "waits")]
    with closing(run_submitted(work, tasks, executor(tmp_path), tmp_path / "jobs.json")) as results:
        assert next(results) == (tasks[0], "")
        wait_for(tasks[1].counted)
    wait_for(tmp_path / "kept")


@pytest.mark.full
def test_jobs_of_a_killed_table_are_found_again_and_preempted_ones_have_ended(tmp_path: Path, slurm: Path) -> None:
    task, other = Task("waits", tmp_path), Task("gone", tmp_path)
    earlier = executor(tmp_path).submit(run_on_node, work, task)
    wait_for(task.counted)
    write_json(tmp_path / "jobs.json", {"waits": earlier.job_id, "gone": "77"})
    with closing(run_submitted(work, [task, other], executor(tmp_path), tmp_path / "jobs.json")) as results:
        assert next(results) == (other, "")
        assert len(list(slurm.glob("*.sbatch"))) == 2  # the earlier one, and that for what no cluster knows any more
        (slurm / f"{earlier.job_id}.state").write_text("PREEMPTED")
        assert next(results) == (task, "")
    assert task.tries == 2
    os.killpg(int((slurm / f"{earlier.job_id}.pid").read_text()), signal.SIGKILL)


def wait_for(file: Path) -> None:
    until = time.monotonic() + 30
    while not file.is_file():
        assert time.monotonic() < until, file
        time.sleep(0.05)


def test_a_cluster_that_takes_no_job_is_one_message(tmp_path: Path, slurm: Path) -> None:
    task = Task("good", tmp_path)
    with pytest.raises(FssegError, match="invalid partition specified"):
        list(run_submitted(work, [task], executor(tmp_path, partition="none"), tmp_path / "jobs.json"))


@pytest.mark.full
def test_the_local_executor_of_submitit_runs_them(tmp_path: Path, slurm: Path) -> None:
    tasks = [Task(name, tmp_path) for name in ("good", "dies_once")]
    results = run_submitted(work, tasks, submitit.LocalExecutor(tmp_path / "jobs"), tmp_path / "jobs.json")
    assert {task.name: said for task, said in results} == {"good": "", "dies_once": ""}
    assert [task.tries for task in tasks] == [1, 2]


def test_the_debug_executor_of_submitit_runs_them(tmp_path: Path) -> None:
    tasks = [Task(name, tmp_path) for name in ("good", "bad")]
    results = run_submitted(work, tasks, submitit.DebugExecutor(tmp_path / "jobs"), tmp_path / "jobs.json")
    assert {task.name: said for task, said in results} == {"good": "", "bad": "no liver"}


@pytest.mark.parametrize("warning", [signal.SIGTERM, signal.SIGUSR2])
def test_the_warning_of_a_cluster_ends_a_run_as_ctrl_c_does(tmp_path: Path, warning: signal.Signals) -> None:
    def warned(_: Task) -> str:
        os.kill(os.getpid(), warning)
        return "not reached"

    with pytest.raises(KeyboardInterrupt):
        run_on_node(warned, Task("warned", tmp_path))


@pytest.mark.parametrize(
    ("time", "minutes"), [("90", 90), ("1:30:00", 90), ("2-12", 3600), ("1-00:00:01", 1441), ("10:30", 11)]
)
def test_times_are_read_as_slurm_reads_them(time: str, minutes: int) -> None:
    assert SlurmSettings(time=time, mem="1500M").parameters(1, 1)["time"] == minutes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"time": "soon"}, "D-H:M:S"),
        ({"mem": "16"}, "such as 16G"),
        ({"partion": "gpu"}, "did you mean 'partition'"),
        ({"gpus": "two"}, "gpus"),
        ({"partition": "a\n#SBATCH --wrap=x"}, "partition"),
    ],
)
def test_what_slurm_cannot_give_is_a_usage_error(values: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        validated(SlurmSettings, values, "the options")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--slurm", "time=90"], "add --executor slurm"),
        (["--executor", "slurm", "--slurm", "time"], "--slurm takes words like partition=gpu"),
        (["--executor", "slurm", "--slurm", "time=9", "time=9"], "names 'time' twice"),
        (["--executor", "slurm"], "There is no Slurm here"),
    ],
)
def test_a_cluster_that_is_not_there_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["table", "phantom", "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err


def test_without_submitit_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"pip install 'fsseg\[slurm\]'"):
        executor(tmp_path)
