"""Pretraining that starts from a base: what goes over, what does not, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import checkpoint_files
import pytest
import torch
from conftest import Lab, succeed
from pretraining_runs import equal, losses, refused, stop_before_epoch, weights
from tiers import rest_full
from tiny import ARCHITECTURES, SMOKE_ARCHITECTURES, tiny_network

from fsseg.data.splits import SUPPORT_KEY
from fsseg.data.structures import load_structures
from fsseg.models.parts import parts_of
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.pretraining.start import start_from

TINY_RATE = "learning_rate=1e-12"


def copy_of(base: Path, out: Path, change: Callable[[ModelFolder], ModelFolder]) -> Path:
    """Write a changed copy of a model folder."""
    change(ModelFolder.read(base)).write(out)
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
    base = ModelFolder.read(lab.base)
    after = weights(tmp_path / "run")
    assert after.keys() == base.weights.keys()
    for name, before in base.weights.items():
        torch.testing.assert_close(after[name], before, rtol=0, atol=1e-9)
    assert manifest["base"] == {"path": str(lab.base), "sha256": base.sha256, "licence": base.licence}
    assert any(
        f"Starts from {lab.base}, whose head knows {', '.join(base.structures.names)}" in n for n in manifest["notes"]
    )


def test_structures_that_the_base_lacks_start_anew(lab: Lab, tmp_path: Path) -> None:
    first, *known = ModelFolder.read(lab.base).structures.names
    base = copy_of(lab.base, tmp_path / "base", renamed({first: "another"}))
    manifest = succeed(*lab.pretrain_words(tmp_path / "run", TINY_RATE, steps=2), "--checkpoint", base)
    assert f"Starts from {base}, whose head knows {', '.join(known)}." in manifest["notes"]
    new, old = (parts_of(ModelFolder.read(folder).build_network()).head for folder in (tmp_path / "run", base))
    assert new.bias is not None
    torch.testing.assert_close(new.weight[1:], old.weight[1:], rtol=0, atol=1e-9)
    assert 0 < new.weight[0].abs().max() < 0.1 * old.weight.abs().max()
    assert abs(new.bias[0]) < 1e-9


def started(lab: Lab, name: str, changes: dict[str, Any], names: list[str]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return a network of zeros that started from a tiny one with changes of its dataset.json, and the tiny one."""
    pretrained, network = tiny_network(name), tiny_network(name)
    with torch.no_grad():
        for tensor in network.state_dict(keep_vars=True).values():
            tensor.zero_()
    model = ModelFolder.read(lab.base)
    kept = {key: value for key, value in model.dataset_json.items() if key != "regions_class_order"}
    base = replace(model, dataset_json={**kept, **changes})
    object.__setattr__(base, "build_network", lambda: pretrained)
    start_from(network, base, names, seed=0)
    return network, tiny_network(name)


@pytest.mark.parametrize("name", rest_full([*ARCHITECTURES, *SMOKE_ARCHITECTURES], "plain"))
def test_every_network_takes_weights_buffers_and_rows(lab: Lab, name: str) -> None:
    names = [f"structure {row}" for row in range(parts_of(tiny_network(name)).head.out_channels)]
    labels = {"background": 0, **{structure: [row, row] for row, structure in enumerate(names, 1)}}
    changes = {"labels": labels, "regions_class_order": list(range(1, len(names) + 1))}
    network, pretrained = started(lab, name, changes, names[::-1])
    heads = {id(p) for p in parts_of(network).heads.parameters()}
    theirs = pretrained.state_dict()
    for key, ours in network.state_dict(keep_vars=True).items():
        assert torch.equal(ours, theirs[key].flip(0) if id(ours) in heads else theirs[key]), key


def test_the_classes_of_a_softmax_start_against_its_background(lab: Lab) -> None:
    classes = [f"class {row}" for row in range(1, parts_of(tiny_network("plain")).head.out_channels)]
    labels = {"background": 0, **{name: row for row, name in enumerate(classes, 1)}}
    network, pretrained = started(
        lab, "plain", {"labels": labels}, [classes[0], "another", *classes[1:]][: len(classes) + 1]
    )
    ours, theirs = parts_of(network).head, parts_of(pretrained).head
    assert ours.bias is not None
    assert theirs.bias is not None
    assert torch.equal(ours.weight[0], theirs.weight[1] - theirs.weight[0])
    assert torch.equal(ours.bias[0], theirs.bias[1] - theirs.bias[0])
    assert 0 < ours.weight[1].abs().max() < 0.1


@pytest.mark.parametrize("setting", ["ema=None", "ema=0.5"])
def test_a_stopped_training_goes_on_to_the_same_result(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    def words(name: str, *base: object) -> list[object]:
        return [*lab.pretrain_words(tmp_path / name, *([] if setting == "ema=None" else [setting])), *base]

    succeed(*words("whole", "--checkpoint", lab.base))
    stop_before_epoch(monkeypatch, 2, words("stopped", "--checkpoint", lab.base))
    another = copy_of(lab.base, tmp_path / "another", lambda model: replace(model, weights=shifted(model.weights)))
    for base in ([], ["--checkpoint", another]):
        assert "base: sha256" in refused(*words("stopped", *base), "--resume")
    succeed(*words("stopped", "--checkpoint", lab.base), "--resume")
    assert losses(tmp_path / "whole") == losses(tmp_path / "stopped")
    assert equal(tmp_path / "whole", tmp_path / "stopped")


def shifted(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor + 1 for name, tensor in tensors.items()}


def test_licence_and_seen_cases_go_on(lab: Lab, tmp_path: Path) -> None:
    change = with_dataset_json(licence="CC BY-NC 4.0", **{SUPPORT_KEY: ["seen_case"]})
    base = copy_of(lab.base, tmp_path / "base", change)
    succeed(*lab.pretrain_words(tmp_path / "run", steps=2), "--checkpoint", base)
    content = json.loads((tmp_path / "run" / "dataset.json").read_text(encoding="utf-8"))
    assert content["licence"].endswith("; base: CC BY-NC 4.0")
    assert content[SUPPORT_KEY] == ["seen_case"]


def with_plans(**changes: Any) -> Callable[[ModelFolder], ModelFolder]:
    """Return a change of plans: of the statistics of the first channel, or of entries of the configuration."""

    def change(model: ModelFolder) -> ModelFolder:
        plans = json.loads(json.dumps(model.plans))
        statistics = plans["foreground_intensity_properties_per_channel"]["0"]
        block = plans["configurations"][model.configuration]
        for key, value in changes.items():
            (statistics if key in statistics else block)[key] = value
        return replace(model, plans=plans)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_plans(spacing=[3.0, 1.0, 1.0]), "spacing [3.0, 1.0, 1.0] before, [8.0, 8.0, 8.0] now"),
        (with_plans(mean=70.5), "mean 70.5, sd"),
        (with_plans(use_mask_for_norm=[True]), "use_mask_for_norm [True] before, [False] now"),
    ],
)
def test_other_images_are_named(
    lab: Lab, tmp_path: Path, change: Callable[[ModelFolder], ModelFolder], words: str
) -> None:
    base = copy_of(lab.base, tmp_path / "base", change)
    (note,) = (
        note
        for note in succeed(*lab.pretrain_words(tmp_path / "run"), "--checkpoint", base, "--dry-run")["notes"]
        if "made for other images" in note
    )
    assert words in note


def test_the_same_images_and_other_patches_are_no_news(lab: Lab, tmp_path: Path) -> None:
    base = copy_of(lab.base, tmp_path / "base", with_plans(patch_size=[32, 32, 32], median=1.0))
    notes = succeed(*lab.pretrain_words(tmp_path / "run"), "--checkpoint", base, "--dry-run")["notes"]
    assert not any("other images" in note for note in notes)


@pytest.mark.full
def test_held_out_cases_that_the_base_was_trained_on_are_named(lab: Lab, tmp_path: Path) -> None:
    file = lab.preprocessed / "splits_final.json"
    first, *others = load_structures(lab.preprocessed).cases
    file.write_text(json.dumps([{"train": others, "val": [first]}]), encoding="utf-8")
    said = f"The base was trained on held-out cases: {first}."
    try:
        succeed(*lab.pretrain_words(tmp_path / "all", steps=2), "--fold", "all")
        succeed(*lab.pretrain_words(tmp_path / "others", steps=2))
        for name, expected in (("all", True), ("others", False)):
            words = [*lab.pretrain_words(tmp_path / "run", steps=2), "--checkpoint", tmp_path / name, "--dry-run"]
            assert any(said in note for note in succeed(*words)["notes"]) == expected
    finally:
        file.unlink()


def deeper(model: ModelFolder) -> ModelFolder:
    arguments = model.plans["configurations"][model.configuration]["architecture"]["arch_kwargs"]
    lists = {key: [*value, value[-1]] for key, value in arguments.items() if isinstance(value, list)}
    return with_arguments(**lists, n_stages=arguments["n_stages"] + 1)(model)


def with_pet(model: ModelFolder) -> ModelFolder:
    plans = json.loads(json.dumps(model.plans))
    block = plans["configurations"][model.configuration]
    block |= {"normalization_schemes": ["CTNormalization", "ZScoreNormalization"], "use_mask_for_norm": [False, False]}
    return with_dataset_json(channel_names={"0": "CT", "1": "PET"})(replace(model, plans=plans))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_pet, "takes the channels ['CT', 'PET']"),
        (
            with_arguments(features_per_stage=[4, 8, 8]),
            "networks of different sizes: encoder.stages.2.0.convs.0.conv.weight",
        ),
        (deeper, "networks of different sizes: encoder.stages.3.0.convs.0.conv.weight ("),
        (with_arguments(kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]]), "other kernel sizes"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(
    lab: Lab, tmp_path: Path, change: Callable[[ModelFolder], ModelFolder], message: str
) -> None:
    base = copy_of(lab.base, tmp_path / "base", change)
    said = refused(*lab.pretrain_words(tmp_path / "run"), "--checkpoint", base)
    assert message in said
    assert len(said) < 1000
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run.partial").exists()


def test_a_network_of_another_class_is_refused_and_what_to_do_fits_the_base(lab: Lab, tmp_path: Path) -> None:
    plans = json.loads(lab.plans.read_text(encoding="utf-8"))
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture["network_class_name"] = architecture["network_class_name"].replace("PlainConv", "ResidualEncoder")
    architecture["arch_kwargs"]["n_blocks_per_stage"] = architecture["arch_kwargs"].pop("n_conv_per_stage")
    renamed_plans = {**plans, "plans_name": "of_base"}
    lowres = {**plans, "configurations": {"3d_lowres": plans["configurations"]["3d_fullres"]}}
    for name, changes, advice in (
        ("base", {"plans": plans}, "give a copy of {folder}/plans.json another plans_name"),
        ("named", {"plans": renamed_plans}, "--plans {folder}/plans.json, then pretrain with --plans of_base"),
        ("lowres", {"plans": lowres, "configuration": "3d_lowres"}, "Write the base's configuration '3d_lowres' as"),
    ):
        base = copy_of(lab.base, tmp_path / name, partial(replace, **changes))
        message = refused(*lab.pretrain_words(tmp_path / "run"), "--checkpoint", base)
        assert "The base is a ResidualEncoderUNet, but the plans describe a PlainConvUNet" in message
        assert advice.format(folder=base) in message


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
    before, after = ModelFolder.read(base).weights, weights(out)
    encoder = [name for name in before if name.startswith("down_") and before[name].is_floating_point()]
    assert encoder
    for name in encoder:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-9)
