"""What was begun by an earlier version is resumed: the hash of what decides a training is the one that it wrote."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import write_tiny_model

from fsseg.adaptation.job import make_job
from fsseg.adaptation.outcome import fingerprint
from fsseg.adaptation.target import LabelledDataset
from fsseg.adaptation.task import Task
from fsseg.config.adaptation import AdaptationSettings
from fsseg.config.few_shot import FewShotSettings
from fsseg.data.splits import Split
from fsseg.data.structures import Structures
from fsseg.data.volumes import Volume
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.raw_dataset import RawDataset
from fsseg.stages.adapt import AdaptConfig
from fsseg.training import fit_checkpoint

# Computed by version 0.1.0 before the settings had one model and the command one way to a fitted network.
BASE = "8a3eff2a3bb6d274d0ae81c19986523336f81aca83f2ad338c83b653928002f2"
OF_THE_COMMAND = "314da999f91d38e867dbc18da95ce68e64d4d879e441a4165b9fb66f5f9ff40f"
OF_THE_TRAINER = "8e3d4d6e560d0fbf27a343b5961676b35d0baa412c8acb1b6e2c73eb548a70b2"
STRUCTURES = Structures(integers={"liver": (1,), "larynx": (2,)})
SETTINGS: dict[str, Any] = {
    "structures": ("larynx",),
    "shots": 2,
    "method": "lora",
    "method_options": {"rank": 2},
    "decoder": "tuned",
    "seed": 3,
    "recipe": {"max_steps": 6},
}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFolder:
    monkeypatch.setattr(fit_checkpoint, "__version__", "0.1.0")
    model = ModelFolder.read(write_tiny_model(tmp_path / "base"))
    weights = {name: torch.full_like(tensor, 0.5) for name, tensor in model.weights.items()}
    return replace(model, path=Path("base"), weights=weights)


@pytest.fixture
def volumes() -> list[Volume]:
    image, labels = np.zeros((1, 4, 4, 4), np.float32), np.ones((1, 4, 4, 4), np.int16)
    return [Volume("a", image, labels, {}, np.ones(4, np.int16), 0, np.ones((2, 1), bool))]


def dataset(base: ModelFolder) -> LabelledDataset:
    return LabelledDataset("target", {**base.dataset_json, "file_ending": ".nii.gz"}, STRUCTURES)


def test_the_command_goes_on_with_what_an_earlier_version_began(base: ModelFolder, volumes: list[Volume]) -> None:
    assert base.sha256 == BASE
    config = AdaptConfig(checkpoint=Path("base"), dataset="104", out=Path("runs/larynx"), **SETTINGS)
    job = make_job(config, base, dataset(base), torch.device("cpu"))
    split = Split(seed=3, shots=2, support=("a",), pool=("a",), test=())
    raw = RawDataset(Path("target"), base.dataset_json, STRUCTURES)
    assert fingerprint(Task(config, job, raw, split), volumes) == OF_THE_COMMAND


def test_so_does_the_trainer_class(base: ModelFolder, volumes: list[Volume]) -> None:
    settings = FewShotSettings(checkpoint=Path("base"), base_sha256=base.sha256, test=("b",), **SETTINGS)
    job = make_job(AdaptationSettings(**SETTINGS), base, dataset(base), torch.device("cpu"))
    facts = {**settings.model_dump(mode="json"), **job.decides()}
    assert fit_checkpoint.fingerprint_of(facts, volumes) == OF_THE_TRAINER
