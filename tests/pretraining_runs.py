"""What a pretraining left, and how to stop or refuse one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import fsseg

from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel
from fsseg.training.torch_file import read_torch_file


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [loss for line in lines for loss in json.loads(line)["losses"]]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_torch_file(run / "fold_0/checkpoint_final.pth")["network_weights"]


def equal(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def refused(*words: object) -> str:
    """Run a command that must be refused for its options; return what it says."""
    outcome = fsseg(*words)
    assert outcome.code == 2
    return outcome.err


def stop_before_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int, words: list[object]) -> None:
    """Run a command and stop it at the start of an epoch."""

    begin = nnUNetTrainerPartialLabel.on_train_epoch_start

    def stop(trainer: Any) -> None:
        if trainer.current_epoch == epoch:
            raise KeyboardInterrupt
        begin(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(nnUNetTrainerPartialLabel, "on_train_epoch_start", stop)
        assert fsseg(*words).code == 1
