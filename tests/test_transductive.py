"""Transductive adaptation: sizes in unlabelled images are held near those of the support cases."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import KNOWN, NOVEL, Lab, fsseg, succeed
from safetensors.torch import load_file
from torch import Tensor, nn

from fsseg.adaptation.target import Target
from fsseg.adaptation.transductive import target_sizes, typical_size
from fsseg.data.structures import Structures
from fsseg.data.volumes import Volume
from fsseg.methods.adapter_file import LabelMaps
from fsseg.training.size_constraint import SizeConstraint, SizeRule

MEDAGI = ("--transductive", "2", "--recipe", "medagi", "--set", "recipe.size_margin=0.5")
WORDS = ("--set", "recipe.max_steps=4", "recipe.size_first_epoch=1")


# The constraint


def images() -> list[list[Tensor]]:
    torch.manual_seed(0)
    return [[torch.randn(1, 3, 4, 4, 4) for _ in range(blocks)] for blocks in (2, 3)]


def head(channels: int = 2) -> nn.Conv3d:
    torch.manual_seed(1)
    return nn.Conv3d(3, channels, 1)


@pytest.mark.parametrize("softmax", [False, True])
def test_the_step_follows_the_gradient_of_the_formula(softmax: bool) -> None:
    layer, wanted, weight, margin = head(3 if softmax else 2), torch.tensor([200.0, 5.0]), 0.1, 0.2
    expected = 0.0
    for blocks in images():
        logits = torch.cat([layer(block) for block in blocks])
        probabilities = logits.softmax(1)[:, 1:] if softmax else logits.sigmoid()
        predicted = probabilities.sum((0, 2, 3, 4))
        error = (wanted - predicted) / torch.maximum(wanted, predicted).detach()
        assert error[0] > margin
        assert error[1] < -margin
        expected = expected + weight * (error.abs() - margin).clamp(min=0).mean() / 2
    gradient = torch.autograd.grad(expected, layer.weight)[0]
    before = layer.weight.detach().clone()
    rule = SizeRule(margin, weight, first=4, every=2)
    constraint = SizeConstraint(layer, images(), wanted, rule, softmax=softmax)
    optimizer = torch.optim.SGD(layer.parameters(), 0.5)
    for steps in (2, 3, 5):  # before the first, and between two
        constraint.step(optimizer, steps)
    assert torch.equal(layer.weight, before)
    constraint.step(optimizer, 6)
    torch.testing.assert_close(layer.weight, before - 0.5 * gradient)
    assert layer.weight.grad is None, "the next step of the loss does not see it"


def test_sizes_within_the_margin_cost_nothing() -> None:
    layer, wanted = head(), torch.zeros(2)
    with torch.no_grad():
        for block in images()[0]:
            wanted += layer(block).sigmoid().sum((0, 2, 3, 4))
    before = layer.weight.detach().clone()
    constraint = SizeConstraint(layer, images()[:1], 1.25 * wanted, SizeRule(0.3, 0.1, 1, 1), softmax=False)
    constraint.step(torch.optim.AdamW(layer.parameters(), 0.1, weight_decay=1.0), 1)
    assert torch.equal(layer.weight, before)


# The sizes


def test_of_five_sizes_those_far_from_the_median_are_left_out() -> None:
    assert typical_size([10, 20, 90]) == 40
    assert typical_size([10, 11, 12, 13, 90]) == 11.5
    assert typical_size([10] * 5) == 10


def test_a_size_is_that_of_the_largest_component_of_whole_annotations() -> None:
    labels = np.zeros((1, 6, 6, 6), np.int16)
    labels[0, :2, :2, :2] = 1
    labels[0, 2, 2, 2] = 1  # touches by a corner
    labels[0, 5, 5, 5] = 1
    found = {"liver": np.argwhere(labels[0] == 1)}
    whole = Volume("a", labels, labels, found, np.ones(6, np.int16), 0, np.ones((2, 1), bool))
    partial = np.array([[False], [True], [False]])
    zones = np.array([1, 1, 1, 1, 1, 2])
    part = Volume("b", labels, labels, found, zones, 0, partial)
    target = Target(
        label_maps=LabelMaps(sha256="", highest=1),
        file_ending=".nii.gz",
        structures=Structures(integers={"liver": (1,)}),
        base_rows={"liver": None},
    )
    assert target_sizes([whole, part], target) == {"liver": 9}


# From the command line


def adapted(lab: Lab, out: Path, *words: object, method: str = "linear_probe") -> dict[str, Tensor]:
    cases = ("--cases", lab.case(0), lab.case(1), "--structure", NOVEL, KNOWN)
    succeed(*lab.adapt_words(out, *cases, *WORDS, *words, method=method))
    return load_file(out / "adapter.safetensors")


def without_label(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    """Go on with a copy of the datasets in which a case has no label map."""
    copy = lab.copy_target(tmp_path / "raw")
    os.remove(copy.label(index))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))


@pytest.fixture
def no_tests(lab: Lab, tmp_path: Path) -> Path:
    """A list of test cases without the one that is seen."""
    file = tmp_path / "test.txt"
    file.write_text(lab.case(3))
    return file


@pytest.mark.parametrize("method", ["linear_probe", pytest.param("spatial_adapter", marks=pytest.mark.full)])
def test_images_take_part_and_label_maps_do_not(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_tests: Path, method: str
) -> None:
    query = ("--transductive", lab.case(2), "--test", no_tests)
    with_label = adapted(lab, tmp_path / "labelled", *query, method=method)
    inductive = adapted(lab, tmp_path / "inductive", "--test", no_tests, method=method)
    assert any(not torch.equal(with_label[name], tensor) for name, tensor in inductive.items())
    without_label(lab, tmp_path, monkeypatch, 2)
    unlabelled = adapted(lab, tmp_path / "unlabelled", *query, method=method)
    assert all(torch.equal(with_label[name], tensor) for name, tensor in unlabelled.items())
    manifest = json.loads((tmp_path / "unlabelled" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["transductive"] == [lab.case(2)]
    assert any(
        note.startswith(f"Transductive: the training sees the images of {lab.case(2)}") for note in manifest["notes"]
    )
    assert any(f"{lab.case(2)}_0000" in path for path in manifest["inputs"])
    assert not any(path.endswith(f"{lab.case(2)}.nii.gz") for path in manifest["inputs"])
    shown = succeed("adapter", "show", tmp_path / "unlabelled" / "adapter.safetensors")
    assert shown["transductive"] == [lab.case(2)]


def test_a_file_may_list_the_cases_and_predictions_know_them(lab: Lab, tmp_path: Path, no_tests: Path) -> None:
    listed = tmp_path / "queries.txt"
    listed.write_text(f"{lab.case(2)}\n{lab.case(3)}\n")
    adapted(lab, tmp_path / "run", "--transductive", listed, "--test", no_tests)
    dataset_json = json.loads((tmp_path / "run" / "dataset.json").read_text(encoding="utf-8"))
    assert dataset_json["transductive_cases"] == [lab.case(2), lab.case(3)]


@pytest.mark.parametrize(
    ("words", "method", "message"),
    [
        (("--transductive", "0"), "linear_probe", "{0} are support cases"),
        (("--transductive", "nobody"), "linear_probe", "Unknown transductive case 'nobody'"),
        (("--transductive", "2"), "prototype", "prototype sets the head without one"),
        (("--transductive", "2", "--estimate", "loo"), "linear_probe", "--estimate loo"),
        (
            ("--transductive", "2", "--recipe", "medagi", "--set", "recipe.size_margin=0.5"),
            "linear_probe",
            "begins after step 100 .*ends at step 98",
        ),
    ],
)
def test_what_is_not_defined_is_refused(
    lab: Lab, tmp_path: Path, words: tuple[str, ...], method: str, message: str
) -> None:
    words = tuple(lab.case(int(word)) if word.isdigit() else word for word in words)
    cases = ("--cases", lab.case(0), lab.case(1), *(() if "--set" in words else WORDS))
    outcome = fsseg(*lab.adapt_words(tmp_path / "run", *cases, *words, method=method))
    assert outcome.code == 2
    assert re.search(message.format(lab.case(0)), outcome.err), outcome.err
    assert not (tmp_path / "run").exists()


def test_settings_of_the_constraint_do_nothing_without_images(lab: Lab, tmp_path: Path) -> None:
    words = lab.adapt_words(tmp_path / "run", "--set", "recipe.size_margin=0.5", "--dry-run")
    assert "Without effect here, without --transductive: recipe.size_margin." in succeed(*words)["notes"]
