"""Ctrl-C and SIGTERM: a training keeps the step that it is in, and resumes from there to the same result."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Lab, fsseg, succeed
from safetensors.torch import load_file
from tiers import as_full

from fsseg.config import stopping
from fsseg.config.run_folder import staging_of
from fsseg.config.stopping import Terminated, sigterm_interrupts, stops_after_step
from fsseg.training import fit
from fsseg.training.torch_file import read_torch_file

STEPS = 5
ADAPTER = "adapter.safetensors"


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Let Ctrl-C through: a job that a script has put into the background ignores it, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def kill_in_step(patch: pytest.MonkeyPatch, module: Any, number: int, how: signal.Signals = signal.SIGTERM) -> list:
    """Send this process a signal in the middle of a step; return a list that grows by every step."""
    step, taken = module.optimisation_step, []

    def counted(*arguments: Any, **options: Any) -> Any:
        taken.append(None)
        if len(taken) == number:
            os.kill(os.getpid(), how)
        return step(*arguments, **options)

    patch.setattr(module, "optimisation_step", counted)
    return taken


def test_sigterm_interrupts_as_ctrl_c_does_and_only_inside_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), sigterm_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("how", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
@pytest.mark.parametrize("obeys", [True, False])
def test_a_signal_waits_for_the_end_of_the_step_and_is_never_lost(
    how: signal.Signals, error: type[BaseException], obeys: bool
) -> None:
    done = []

    def train() -> None:
        with sigterm_interrupts():
            with stops_after_step() as stop:
                os.kill(os.getpid(), how)
                done.append(stop.number)
                if obeys:
                    stop.obey()
                    done.append("another step")
            done.append("after the block")

    with pytest.raises(error):
        train()
    assert done == [how]


@pytest.mark.parametrize(("seconds", "steps"), [(60.0, 1), (-1.0, 0)], ids=["at_once", "later"])
def test_a_second_signal_does_not_wait_unless_a_launcher_sent_the_first_one_on(
    monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int
) -> None:
    monkeypatch.setattr(stopping, "_SAME_STOP_SECONDS", seconds)
    done = []

    def train() -> None:
        with stops_after_step():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            done.append("step")

    with pytest.raises(KeyboardInterrupt):
        train()
    assert len(done) == steps


def test_outside_of_the_command_line_sigterm_still_ends_the_process_after_the_step() -> None:
    program = (
        "import os, signal\n"
        "from fsseg.config.stopping import sigterm_interrupts, stops_after_step\n"
        "with sigterm_interrupts():\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)\n"
        "with stops_after_step() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('step', flush=True)\n"
        "    stop.obey()\n"
        "    print('another step', flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8")
    assert ended.returncode == -signal.SIGTERM
    assert ended.stdout.split("\n")[:-1] == [str(int(signal.SIGTERM)), "step"]  # a child with the handler just ends


@pytest.mark.parametrize(
    ("more", "at", "where"),
    [
        ((), 3, "adapt bitfit resumes at step 4 of 5"),
        ((), STEPS, "adapt bitfit had taken its 5 steps when it was stopped"),
        as_full((("--estimate", "loo"), STEPS + 2, "leave-one-out 2/2 resumes at step 3 of 5")),
    ],
    ids=["in_the_middle", "at_the_end", "in_a_fold"],
)
def test_an_adaptation_stopped_by_sigterm_goes_on_at_the_next_step(
    lab: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    more: tuple[str, ...],
    at: int,
    where: str,
) -> None:
    def words(run: str) -> list[object]:
        return lab.adapt_words(tmp_path / run, *more, "--set", f"recipe.max_steps={STEPS}", method="bitfit")

    with monkeypatch.context() as patch:
        kill_in_step(patch, fit, at)
        stopped = fsseg(*words("run"))
    assert stopped.code == 1
    assert "stopped by SIGTERM. The same command resumes the training" in stopped.err
    with monkeypatch.context() as patch:
        taken = kill_in_step(patch, fit, 0)
        resumed = fsseg(*words("run"), "--json")
    trainings = 3 if more else 1
    assert resumed.code == 0, resumed.err
    assert len(taken) == trainings * STEPS - at  # not a step twice
    assert where in caplog.text
    whole = succeed(*words("whole"))
    assert resumed.json["estimate"] == whole["estimate"]
    assert resumed.json["resumed_at"] == ([] if more else [at])
    ours, theirs = (load_file(tmp_path / run / ADAPTER) for run in ("run", "whole"))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert (tmp_path / "run" / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()
    assert not list((tmp_path / "run").glob("training*"))


def test_seconds_before_a_stop_are_counted(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = lab.adapt_words(tmp_path / "run", method="bitfit")
    with monkeypatch.context() as patch:
        kill_in_step(patch, fit, 1)
        fsseg(*words)
    file = staging_of(tmp_path / "run") / "training.pt"
    state = torch.load(file, weights_only=True)
    assert 0 < state["course"]["seconds"] < 60
    state["course"]["seconds"] = 1000.0
    torch.save(state, file)
    manifest = succeed(*words)
    assert 1000 < manifest["fit_seconds"] <= manifest["seconds"] < 1060


@pytest.mark.parametrize("at", [3, as_full(4)], ids=["within_an_epoch", "at_its_end"])
def test_a_pretraining_stopped_by_sigterm_goes_on_at_the_next_step(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    from fsseg.nnunet.pretraining import seeded_trainer

    words = lab.pretrain_words(tmp_path / "run", steps=5)
    with monkeypatch.context() as patch:
        kill_in_step(patch, seeded_trainer, at)
        stopped = fsseg(*words)
    assert stopped.code == 1
    assert "stopped by SIGTERM" in stopped.err
    with monkeypatch.context() as patch:
        taken = kill_in_step(patch, seeded_trainer, 0)
        resumed = fsseg(*words, "--resume", "--json")
    assert resumed.code == 0, resumed.err
    assert len(taken) == 5 - at
    assert f"The pretraining resumes at step {at + 1} of 5" in caplog.text
    assert resumed.json["resumed_at"] == [at]
    succeed(*lab.pretrain_words(tmp_path / "whole", steps=5))
    ours, theirs = (
        read_torch_file(tmp_path / run / "fold_0" / "checkpoint_final.pth")["network_weights"]
        for run in ("run", "whole")
    )
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_files_of_a_run_have_the_mode_of_the_umask(adapted: Path) -> None:
    assert json.loads((adapted / "manifest.json").read_text(encoding="utf-8"))["command"] == "adapt"
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in adapted.rglob("*") if file.is_file()}
    assert set(modes.values()) == {modes["manifest.json"]}, modes
