"""Epoch lines and progress.png of an adaptation that nnU-Net's command runs."""

import json
import re
from pathlib import Path

import pytest

from fsseg.nnunet.few_shot.log import EpochLog

RATES = {"method": 3e-3, "head": 1e-2}


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else here, so one test alone draws."""
    if "nnunet" not in request.node.name:
        monkeypatch.setattr("fsseg.nnunet.few_shot.log.panels_figure", lambda panels, title: b"")


def run(folder: Path, first: int, last: int, epoch_steps: int = 1, *, close: bool = True) -> list[str]:
    """Report the steps after `first` to `last`, whose losses are 1, 1/2, 1/3, ...; return the lines of the log."""
    lines: list[str] = []
    log = EpochLog(folder, lambda *words: lines.append(" ".join(map(str, words))), epoch_steps)
    losses = [1 / (step + 1) for step in range(first)]
    for step in range(first, last):
        losses.append(1 / (step + 1))
        log(losses, RATES)
    if close:
        log.close(plateau=True)
    return lines


def progress(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text(encoding="utf-8").splitlines()]


def test_lines_are_those_of_nnunet(tmp_path: Path) -> None:
    lines = run(tmp_path, 0, 120)
    assert [line for line in lines if line.startswith("Epoch") and "time" not in line] == [
        "Epoch 0",
        "Epoch 1",
        "Epoch 2",
    ]
    assert lines.count("Current learning rate: 0.003 (method), 0.01 (head)") == 3
    losses = [float(line.split()[1]) for line in lines if line.startswith("train_loss")]
    means = [sum(1 / (s + 1) for s in range(*part)) / (part[1] - part[0]) for part in ((0, 50), (50, 100), (100, 120))]
    assert losses == pytest.approx(means, abs=1e-4)
    assert sum(bool(re.fullmatch(r"Epoch time: \d+\.\d\d s", line)) for line in lines) == 3
    assert lines[-1] == "Training done: 120 steps, the loss has reached its plateau."
    assert [line["step"] for line in progress(tmp_path)] == [50, 100, 120]
    assert (tmp_path / "progress.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress.jsonl", "progress.png"]


def test_a_training_that_goes_on_goes_on_in_the_log(tmp_path: Path) -> None:
    run(tmp_path, 0, 170, close=False)  # killed; its last checkpoint was of step 130
    lines = run(tmp_path, 130, 200)
    assert [line for line in lines if re.fullmatch(r"Epoch \d+", line)] == ["Epoch 2", "Epoch 3"]
    assert [line["step"] for line in progress(tmp_path)] == [50, 100, 150, 200]
    whole = tmp_path / "whole"
    whole.mkdir()
    run(whole, 0, 200)
    assert [line["train_loss"] for line in progress(tmp_path)] == [line["train_loss"] for line in progress(whole)]


def test_stretches_are_whole_epochs_of_the_recipe(tmp_path: Path) -> None:
    run(tmp_path, 0, 110, epoch_steps=7)
    assert [line["step"] for line in progress(tmp_path)] == [56, 110]


def test_a_method_without_training_says_so(tmp_path: Path) -> None:
    assert run(tmp_path, 0, 0) == ["The head was set without training."]
    assert list(tmp_path.iterdir()) == []  # no picture either
