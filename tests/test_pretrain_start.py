"""Pretraining that starts from a base: what goes over, what does not, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoint_files
import pytest
import torch
from conftest import PLANS_NAME, Lab, succeed
from test_pretraining import equal, losses, refused, stop_before_epoch, weights
from tiny import ARCHITECTURES, SMOKE_ARCHITECTURES, tiny_network

from fsseg.data.splits import SUPPORT_KEY
from fsseg.models.parts import parts_of
from fsseg.nnunet.model_folder import ModelFolder, read_model_folder, write_model_folder
from fsseg.stages.pretrain_start import start_from

TINY_RATE = "learning_rate=1e-12"


def copy_of(base: Path, out: Path, change: Callable[[ModelFolder], ModelFolder]) -> Path:
    """Write a changed copy of a model folder."""
    model = change(read_model_folder(base))
    names = ("plans", "dataset_json", "configuration", "weights", "mirroring_axes")
    write_model_folder(out, **{name: getattr(model, name) for name in names})
    return out


def with_dataset_json(**changes: Any) -> Callable[[ModelFolder], ModelFolder]:
    return lambda model: replace(model, dataset_json={**model.dataset_json, **changes})


def renamed(new_names: dict[str, str]) -> Callable[[ModelFolder], ModelFolder]:
    """Return a change of the names of structures."""

    def change(model: ModelFolder) -> ModelFolder:
        labels = {new_names.get(name, name): integers for name, integers in model.dataset_json["labels"].items()}
        return replace(model, dataset_json={**model.dataset_json, "labels": labels})

    return change


def with_arguments(**changes: Any) -> Callable[[ModelFolder], ModelFolder]:
    """Return a change of the network's arguments in the plans, with weights that fit them."""

    def change(model: ModelFolder) -> ModelFolder:
        plans = json.loads(json.dumps(model.plans))
        plans["configurations"][model.configuration]["architecture"]["arch_kwargs"].update(changes)
        changed = replace(model, plans=plans)
        return replace(changed, weights=changed.build_untrained_network().state_dict())

    return change


def test_the_weights_of_the_base_are_the_start(lab: Lab, tmp_path: Path) -> None:
    manifest = succeed(*lab.pretrain_words(tmp_path / "run", TINY_RATE, steps=2), "--checkpoint", lab.base)
    base = read_model_folder(lab.base)
    after = weights(tmp_path / "run")
    assert after.keys() == base.weights.keys()
    for name, before in base.weights.items():
        torch.testing.assert_close(after[name], before, rtol=0, atol=1e-9)
    assert manifest["base"] == {"path": str(lab.base), "sha256": base.sha256, "licence": base.licence}
    assert any(
        f"Starts from {lab.base}, whose head knows {', '.join(base.structures.names)}" in n for n in manifest["notes"]
    )


def test_structures_that_the_base_lacks_start_anew(lab: Lab, tmp_path: Path) -> None:
    first, *known = read_model_folder(lab.base).structures.names
    base = copy_of(lab.base, tmp_path / "base", renamed({first: "another"}))
    manifest = succeed(*lab.pretrain_words(tmp_path / "run", TINY_RATE, steps=2), "--checkpoint", base)
    assert f"Starts from {base}, whose head knows {', '.join(known)}." in manifest["notes"]
    new, old = (parts_of(read_model_folder(folder).build_network()).head for folder in (tmp_path / "run", base))
    assert new.bias is not None
    torch.testing.assert_close(new.weight[1:], old.weight[1:], rtol=0, atol=1e-9)
    assert 0 < new.weight[0].abs().max() < 0.1 * old.weight.abs().max()
    assert abs(new.bias[0]) < 1e-9


@pytest.mark.parametrize("name", [*ARCHITECTURES, *SMOKE_ARCHITECTURES])
def test_every_network_takes_weights_and_rows(lab: Lab, name: str) -> None:
    pretrained, network = tiny_network(name), tiny_network(name)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    model = read_model_folder(lab.base)
    names = [f"structure {row}" for row in range(parts_of(network).head.out_channels)]
    labels = {"background": 0, **{structure: [row, row] for row, structure in enumerate(names, 1)}}
    order = list(range(1, len(names) + 1))
    base = replace(model, dataset_json={**model.dataset_json, "labels": labels, "regions_class_order": order})
    object.__setattr__(base, "build_network", lambda: pretrained)
    start_from(network, base, list(reversed(names)), seed=0)
    heads = {id(p) for p in parts_of(network).heads.parameters()}
    for ours, theirs in zip(network.parameters(), tiny_network(name).parameters(), strict=True):
        assert torch.equal(ours, theirs.flip(0) if id(ours) in heads else theirs)


def test_a_stopped_training_goes_on_to_the_same_result(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {name: [*lab.pretrain_words(tmp_path / name), "--checkpoint", lab.base] for name in ("whole", "stopped")}
    succeed(*words["whole"])
    stop_before_epoch(monkeypatch, 2, words["stopped"])
    assert "base: sha256" in refused(*lab.pretrain_words(tmp_path / "stopped"), "--resume")
    succeed(*words["stopped"], "--resume")
    assert losses(tmp_path / "whole") == losses(tmp_path / "stopped")
    assert equal(tmp_path / "whole", tmp_path / "stopped")


def test_licence_and_seen_cases_go_on(lab: Lab, tmp_path: Path) -> None:
    change = with_dataset_json(licence="CC BY-NC 4.0", **{SUPPORT_KEY: ["seen_case"]})
    base = copy_of(lab.base, tmp_path / "base", change)
    succeed(*lab.pretrain_words(tmp_path / "run", steps=2), "--checkpoint", base)
    content = json.loads((tmp_path / "run" / "dataset.json").read_text(encoding="utf-8"))
    assert content["licence"].endswith("; base: CC BY-NC 4.0")
    assert content[SUPPORT_KEY] == ["seen_case"]


def test_other_images_are_named(lab: Lab, tmp_path: Path) -> None:
    def change(model: ModelFolder) -> ModelFolder:
        plans = json.loads(json.dumps(model.plans))
        plans["configurations"][model.configuration]["spacing"] = [3.0, 1.0, 1.0]
        return replace(model, plans=plans)

    base = copy_of(lab.base, tmp_path / "base", change)
    facts = succeed(*lab.pretrain_words(tmp_path / "run"), "--checkpoint", base, "--dry-run")
    assert any("made for other images: spacing_mm [3.0, 1.0, 1.0] before, [" in note for note in facts["notes"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_dataset_json(channel_names={"0": "CT", "1": "PET"}), "takes the channels ['CT', 'PET']"),
        (with_arguments(features_per_stage=[4, 8, 8]), "networks of different sizes"),
        (with_arguments(kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]]), "other kernel sizes"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(
    lab: Lab, tmp_path: Path, change: Callable[[ModelFolder], ModelFolder], message: str
) -> None:
    base = copy_of(lab.base, tmp_path / "base", change)
    assert message in refused(*lab.pretrain_words(tmp_path / "run"), "--checkpoint", base)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run.partial").exists()


def test_a_network_of_another_class_is_refused(lab: Lab, tmp_path: Path) -> None:
    plans = json.loads(lab.plans.read_text(encoding="utf-8"))
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    other = {
        "network_class_name": architecture["network_class_name"].replace("PlainConvUNet", "ResidualEncoderUNet"),
        "arch_kwargs": {
            **architecture["arch_kwargs"],
            "n_blocks_per_stage": architecture["arch_kwargs"]["n_conv_per_stage"],
        },
    }
    del other["arch_kwargs"]["n_conv_per_stage"]
    architecture.update(other)
    base = copy_of(lab.base, tmp_path / "base", lambda model: replace(model, plans=plans))
    message = refused(*lab.pretrain_words(tmp_path / "run"), "--checkpoint", base)
    assert "The base is a ResidualEncoderUNet, but the plans describe a PlainConvUNet" in message
    assert f"--plans {base}/plans.json" in message


def test_the_plans_of_a_base_preprocess_a_dataset_for_it(lab: Lab) -> None:
    """What a refusal advises is possible: the base's plans are plans for `fsseg preprocess`."""
    facts = succeed("preprocess", "--dataset", "901", "--plans", lab.base / "plans.json", "--dry-run")
    assert facts["plans"] in (PLANS_NAME, str(lab.base / "plans.json"))


def test_a_public_checkpoint_is_trained_further_on_its_own_plans(lab: Lab, tmp_path: Path) -> None:
    checkpoint_files.models_genesis(tmp_path / "file.pt")
    base = tmp_path / "base"
    succeed("import", tmp_path / "file.pt", "--patch-size", 16, 16, 16, "--out", base)
    plans = json.loads((base / "plans.json").read_text(encoding="utf-8"))
    plans["configurations"]["3d_fullres"] |= {"spacing": [8.0, 8.0, 8.0], "batch_size": 2}  # what the phantoms allow
    (base / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    succeed("preprocess", "--dataset", "901", "--plans", base / "plans.json")
    words = ["pretrain", "--dataset", "901", "--plans", plans["plans_name"], "--recipe", "suprem", "--steps", 2]
    out = tmp_path / "run"
    manifest = succeed(*words, "--checkpoint", base, "--out", out, "--device", "cpu", "--set", TINY_RATE)
    assert f"Starts from {base}, whose head knows none of the structures." in manifest["notes"]
    assert not any("starts from random" in note for note in manifest["notes"])
    before, after = read_model_folder(base).weights, weights(out)
    encoder = [name for name in before if name.startswith("down_") and before[name].is_floating_point()]
    assert encoder
    for name in encoder:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-9)
