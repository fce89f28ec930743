"""Model folders that are read: which of nnU-Net's results are refused, and what is said of the others."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import SimpleITK
import torch
from conftest import NOVEL, Lab, fsseg, succeed
from tiny_model import write_tiny_model

from fsseg.config.pretraining import PLANS_KEY
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.planning import read_plans_file
from fsseg.training.torch_file import read_torch_file

FINAL = "fold_0/checkpoint_final.pth"


@pytest.fixture
def base(lab: Lab, tmp_path: Path) -> Path:
    shutil.copytree(lab.base, tmp_path / "base")
    return tmp_path / "base"


def test_a_changed_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    model = ModelFolder.read(write_tiny_model(tmp_path / "model"))
    changed = replace(model, path=tmp_path / "copy", mirroring_axes=(0,), tile_step_size=0.75)
    changed.write(tmp_path / "copy")
    again = ModelFolder.read(tmp_path / "copy")
    assert (again.sha256, again.plans, again.dataset_json) == (model.sha256, model.plans, model.dataset_json)
    assert (again.mirroring_axes, again.tile_step_size) == ((0,), 0.75)


def test_the_settings_of_a_training_are_no_part_of_stock_plans(tmp_path: Path) -> None:
    model = ModelFolder.read(write_tiny_model(tmp_path / "model"))
    trained = replace(model, plans={**model.plans, PLANS_KEY: {"pretrain": {}}})
    assert trained.stock_plans == model.plans
    assert trained.sha256 == model.sha256


@pytest.mark.parametrize(
    ("name", "changes"), [("2d", {"patch_size": [32, 32]}), ("3d_cascade_fullres", {"previous_stage": "3d_lowres"})]
)
def test_networks_of_slices_and_cascades_are_refused(lab: Lab, base: Path, name: str, changes: dict) -> None:
    plans = json.loads((base / "plans.json").read_text(encoding="utf-8"))
    plans["configurations"][name] = plans["configurations"]["3d_fullres"] | changes
    (base / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    checkpoint = read_torch_file(base / FINAL)
    checkpoint["init_args"]["configuration"] = name
    torch.save(checkpoint, base / FINAL)
    outcome = fsseg(*lab.adapt_words(base.parent / "run", base=base))
    assert outcome.code == 2
    assert f"is of the configuration '{name}'" in outcome.err


def test_the_fold_that_is_used_is_named(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    ModelFolder.read(base)
    assert not caplog.text
    shutil.copytree(base / "fold_0", base / "fold_1")
    ModelFolder.read(base)
    assert "has fold_0, fold_1: only fold_0 is used" in caplog.text


def test_a_run_reads_images_that_are_stored_as_those_of_its_dataset(lab: Lab, site: Lab, tmp_path: Path) -> None:
    for file in [*site.target.glob("*Tr/*.nii.gz")]:
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(file)), str(file).replace(".nii.gz", ".mha"))
        file.unlink()
    definition = site.target / "dataset.json"
    content = json.loads(definition.read_text(encoding="utf-8"))
    definition.write_text(json.dumps(content | {"file_ending": ".mha"}), encoding="utf-8")
    succeed(*site.adapt_words(tmp_path / "run", "--structure", NOVEL, method="bitfit"))
    words = ("--input", site.target / "imagesTr", "--cases", site.case(0))
    adapter = ("--base", site.base, "--adapter", tmp_path / "run" / "adapter.safetensors")
    for name, model in (("merged", ("--run", tmp_path / "run")), ("unmerged", adapter)):
        out = tmp_path / name
        succeed("predict", *model, *words, "--output", out)
        assert (out / f"{site.case(0)}.mha").is_file()
        scores = ("--reference", site.target / "labelsTr", "--cases", site.case(0), "--out", tmp_path / f"{name}.csv")
        assert succeed("evaluate", "--prediction", out, *scores)["structures"].keys() == {NOVEL}


def test_plans_that_inherit_are_read_whole(lab: Lab, tmp_path: Path) -> None:
    plans = json.loads(lab.plans.read_text(encoding="utf-8"))
    block = plans["configurations"]["3d_fullres"]
    plans["configurations"] = {"parent": block, "3d_fullres": {"inherits_from": "parent", "batch_size": 1}}
    file = tmp_path / "inheriting.json"
    file.write_text(json.dumps(plans), encoding="utf-8")
    found = read_plans_file(file)["configurations"]["3d_fullres"]
    assert found == {**block, "batch_size": 1}
