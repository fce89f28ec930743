"""What makes a base the same: its weights, and what in its plans decides what its network computes of an image."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NOVEL, TARGET, Lab, fsseg, succeed

from fsseg.adaptation.trainer import nnUNetTrainerFewShot
from fsseg.config.errors import UsageError
from fsseg.models.weights_hash import hash_of_weights
from fsseg.nnunet.model_folder import ModelFolder


def slope(plans: dict[str, Any], block: dict[str, Any]) -> None:
    block["architecture"]["arch_kwargs"]["nonlin_kwargs"]["negative_slope"] = 0.3


def spacing(plans: dict[str, Any], block: dict[str, Any]) -> None:
    block["spacing"] = [4.0, 8.0, 8.0]


def normalisation(plans: dict[str, Any], block: dict[str, Any]) -> None:
    block["normalization_schemes"] = ["ZScoreNormalization"]


def axes(plans: dict[str, Any], block: dict[str, Any]) -> None:
    plans["transpose_forward"], plans["transpose_backward"] = [2, 1, 0], [2, 1, 0]


def intensities(plans: dict[str, Any], block: dict[str, Any]) -> None:
    plans["foreground_intensity_properties_per_channel"]["0"]["std"] = 60.0


CHANGES = {
    slope: "architecture.arch_kwargs.nonlin_kwargs.negative_slope: None in its base, 0.3 here",
    spacing: "spacing: [8.0, 8.0, 8.0] in its base, [4.0, 8.0, 8.0] here",
    normalisation: "normalization_schemes: ['CTNormalization'] in its base, ['ZScoreNormalization'] here",
    axes: "transpose_forward: [0, 1, 2] in its base, [2, 1, 0] here",
    intensities: "foreground_intensity_properties_per_channel.0.std: 120.0 in its base, 60.0 here",
}


@pytest.fixture(scope="module")
def adapter(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "probe"
    succeed(*lab.adapt_words(run, "--structure", NOVEL, method="linear_probe"))
    return run / "adapter.safetensors"


@pytest.fixture
def changed(lab: Lab, tmp_path: Path) -> Callable[[Callable[[dict, dict], None]], Path]:
    """Returns a function that copies the base and changes its plans."""

    def copy(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
        base = tmp_path / "base"
        shutil.copytree(lab.base, base)
        plans = json.loads((base / "plans.json").read_text(encoding="utf-8"))
        change(plans, plans["configurations"]["3d_fullres"])
        (base / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
        return base

    return copy


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_equal_weights_with_other_plans_are_another_base(
    lab: Lab, adapter: Path, changed: Callable, tmp_path: Path, change: Callable
) -> None:
    base = changed(change)
    outcome = fsseg("adapter", "merge", adapter, "--base", base, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "was made on another base" in outcome.err
    assert f"  - {CHANGES[change]}\n" in outcome.err
    assert outcome.err.count("  - ") == 1
    for folder in (lab.base, base):
        assert ModelFolder.read(folder).sha256 in outcome.err
    assert not (tmp_path / "out").exists()


def test_other_weights_are_said_to_be_what_differs(lab: Lab, adapter: Path) -> None:
    outcome = fsseg("adapter", "merge", adapter, "--base", adapter.parent, "--out", adapter.parent / "out")
    assert outcome.code == 1
    assert "  - the weights; the plans agree" in outcome.err


def test_what_decides_nothing_may_differ(adapter: Path, changed: Callable, tmp_path: Path) -> None:
    def harmless(plans: dict[str, Any], block: dict[str, Any]) -> None:
        plans["plans_name"] = "renamed"
        block |= {"patch_size": [32, 32, 32], "batch_size": 1, "data_identifier": "elsewhere"}

    succeed("adapter", "merge", adapter, "--base", changed(harmless), "--out", tmp_path / "out")


def test_the_trainer_refuses_a_base_whose_plans_were_changed(
    lab: Lab, changed: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    base = changed(lambda *_: None)
    words = ("--checkpoint", base, "--dataset", "804", "--method", "linear_probe", "--name", "same_base")
    out = Path(succeed("nnunet", "plans", *words)["out"])
    plans, dataset_json = (json.loads((out.parent / name).read_text("utf-8")) for name in (out.name, "dataset.json"))
    assert out.parent.name == TARGET
    content = json.loads((base / "plans.json").read_text(encoding="utf-8"))
    slope(content, content["configurations"]["3d_fullres"])
    (base / "plans.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UsageError, match=r"not the base that the plans were made for(.|\n)*negative_slope: None"):
        nnUNetTrainerFewShot(plans | {"continue_training": False}, "3d_fullres", 0, dataset_json, torch.device("cpu"))


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_layout_in_memory_is_no_part_of_the_hash(kernel: int) -> None:
    weight = torch.randn(4, 2, kernel, kernel, kernel)
    channels_last = torch.empty_like(weight, memory_format=torch.channels_last_3d).copy_(weight)
    assert channels_last.stride() != weight.stride()
    assert hash_of_weights({"weight": channels_last}) == hash_of_weights({"weight": weight})
