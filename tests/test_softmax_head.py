"""A softmax over background and structures that exclude each other, as FSEFT and ARENA take it on FLARE22."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from conftest import KNOWN, NOVEL, Lab, fsseg, succeed
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tiers import rest_full
from torch import Tensor, nn
from torch.nn import functional as F

from fsseg.models.heads import BACKGROUND, RANDOM, RANDOM_BACKGROUND, replace_heads, row_sources
from fsseg.models.parts import parts_of
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.prediction.load_adapted import load_adapted
from fsseg.training.losses import MaskedLoss, fseft, softmax_ce_dice
from fsseg.training.targets import TargetTable

STEPS = ("recipe.max_steps=6", "recipe.head_learning_rate=0.05", "recipe.activation=softmax")
NAMES = [NOVEL, KNOWN]
CE_DICE = MaskedLoss(softmax_ce_dice, "softmax")


@pytest.fixture(scope="module")
def run(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA on a novel and a known structure at once, with leave-one-out."""
    out = tmp_path_factory.mktemp("softmax") / "run"
    succeed(*lab.adapt_words(out, "--set", *STEPS, "--estimate", "loo"))
    return out


def adapter(run: Path) -> Path:
    return run / "adapter.safetensors"


# Loss and targets


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Four classes, the last of them in no voxel; all known."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 4, 5, generator=generator)
    classes = torch.randint(0, 3, (2, 3, 4, 5), generator=generator)
    target = F.one_hot(classes, 4).movedim(-1, 1).bool()
    return logits, target, torch.ones_like(target)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def test_cross_entropy_and_dice_of_classes_equal_their_formula() -> None:
    logits, target, valid = batch()
    probability, classes = softmax(logits.numpy()), target.numpy()
    cross_entropy = -np.log(probability[classes.nonzero()]).mean()
    dice = [
        2 * (probability[:, c] * classes[:, c]).sum() / (probability[:, c].sum() + classes[:, c].sum()) for c in (1, 2)
    ]
    expected = cross_entropy + 1 - np.mean(dice)  # without background, and without the class that is not there
    assert CE_DICE(logits, target, valid).item() == pytest.approx(expected, rel=1e-5)


def test_a_voxel_with_something_unknown_does_not_count() -> None:
    logits, target, valid = batch()
    valid[0, 2, 0] = False
    logits.requires_grad_(True)
    CE_DICE(logits, target, valid).backward()
    assert logits.grad is not None
    assert not logits.grad[0, :, 0].any()
    assert logits.grad[0, :, 1:].abs().min() > 0


def test_patch_dice_of_a_softmax_counts_background_and_absent_classes() -> None:
    logits, target, valid = batch()
    probability, classes = softmax(logits.numpy()), target.numpy()
    sums = (2, 3, 4)
    dice = (2 * (probability * classes).sum(sums) + 1) / (probability.sum(sums) + classes.sum(sums) + 1)
    loss = MaskedLoss(fseft, "softmax")(logits, target, valid)
    assert loss.item() == pytest.approx(1 - dice.mean(), rel=1e-5)


def test_background_is_where_no_structure_is() -> None:
    table = TargetTable(torch.tensor([[False, False], [True, False], [False, True], [False, False]]), background=True)
    labels = torch.stack([torch.tensor([0, 1, 2, 3]), torch.zeros(4, dtype=torch.long)]).view(1, 2, 4, 1, 1)
    target, valid = table.expand(labels, torch.tensor([[[True, True]]]))
    assert target.flatten().view(3, 4).int().tolist() == [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert valid.all()
    _, valid = table.expand(labels, torch.tensor([[[True, False]]]))
    assert valid[0, :, 0, 0, 0].tolist() == [False, True, False]


# The head


def test_softmax_starts_as_the_sigmoid_of_each_row(lab: Lab) -> None:
    network = ModelFolder.read(lab.base).build_network()
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        before = network(image)[:, 0]
        replace_heads(network, [BACKGROUND, 0])
        after = network(image)
    assert torch.allclose(after.softmax(1)[:, 1], before.sigmoid(), atol=1e-6)


def test_background_starts_at_random_only_where_the_recipe_and_the_base_leave_it_open(lab: Lab) -> None:
    """Xavier-uniform beside rows of the base, as FSEFT takes it; as any new convolution where all rows are new."""
    sources = {
        "base": row_sources([2, None], [RANDOM, RANDOM], base="sigmoid", activation="softmax"),
        "new": row_sources([None, None], [RANDOM, RANDOM], base="sigmoid", activation="softmax"),
        "kept": row_sources([2, None], [RANDOM, RANDOM], base="softmax", activation="softmax"),
        "prior": row_sources([2, None], [0.1, 0.1], base="sigmoid", activation="softmax"),
    }
    assert {name: rows[0] for name, (rows, _) in sources.items()} == {
        "base": RANDOM_BACKGROUND,
        "new": RANDOM,
        "kept": 0,
        "prior": BACKGROUND,
    }
    network = ModelFolder.read(lab.base).build_network()
    replace_heads(network, [RANDOM_BACKGROUND, 0])
    head = parts_of(network).head
    assert isinstance(head, nn.Conv3d)
    bound = (6 / (head.in_channels + 1)) ** 0.5
    assert bound / 2 < head.weight[0].abs().max() <= bound
    assert head.bias is not None
    assert head.bias[0] == 0


# From the command line


def test_run_says_what_it_is(run: Path) -> None:
    labels = json.loads((run / "dataset.json").read_text(encoding="utf-8"))
    facts = succeed("adapter", "show", adapter(run))
    assert labels["labels"] == {"background": 0, **{name: i + 1 for i, name in enumerate(facts["structures"])}}
    assert "regions_class_order" not in labels
    assert facts["activation"] == "softmax"
    notes = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["notes"]
    assert any("integers of their own" in note for note in notes)
    assert set(facts["structures"]) == set(NAMES)
    estimate = json.loads((run / "estimate.json").read_text(encoding="utf-8"))
    assert all(len(estimate[name]["cases"]) == 2 for name in NAMES)


def test_stock_predictor_agrees_with_the_unmerged_network(lab: Lab, run: Path) -> None:
    adapted, _ = load_adapted(ModelFolder.read(lab.base), adapter(run))
    predictor = nnUNetPredictor(perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(run), (0,), "checkpoint_final.pth")
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    assert predictor.label_manager.has_regions is False
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        ours, stock = adapted.network.eval()(image), predictor.network.eval()(image)
    assert ours.shape[1] == 3
    assert torch.allclose(ours, stock, atol=1e-4)


def test_merged_and_unmerged_predictions_are_equal(lab: Lab, run: Path, tmp_path: Path) -> None:
    for out, words in (
        ("merged", ("--run", run)),
        ("unmerged", ("--base", lab.base, "--adapter", adapter(run))),
    ):
        succeed(
            "predict", *words, "--input", lab.target / "imagesTr", "--output", tmp_path / out, "--cases", lab.case(0)
        )
    read = [
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / out / f"{lab.case(0)}.nii.gz")))
        for out in ("merged", "unmerged")
    ]
    assert (read[0] == read[1]).all()
    assert set(np.unique(read[0])) <= {0, 1, 2}


def test_scale_zero_is_the_base_with_a_new_background(lab: Lab, run: Path, tmp_path: Path) -> None:
    succeed("adapter", "merge", adapter(run), "--base", lab.base, "--scale", 0, "--out", tmp_path / "merged")
    base, merged = ModelFolder.read(lab.base), ModelFolder.read(tmp_path / "merged")
    network = merged.build_network()
    channel = merged.structures.names.index(KNOWN) + 1
    row = base.structures.names.index(KNOWN)
    head, old = head_of(network), head_of(base.build_network())
    assert torch.equal(head.weight[channel], old.weight[row])
    assert head.weight[0].any()  # background has learned, and has no counterpart in the base


def head_of(network: nn.Module) -> nn.Conv3d:
    head = parts_of(network).head
    assert isinstance(head, nn.Conv3d)
    return head


@pytest.mark.parametrize("method", ["linear_probe", "prototype"])
@pytest.mark.parametrize("loss", rest_full(["dice", "bce_dice"], "dice"))
def test_methods_on_cached_features_have_classes_too(lab: Lab, tmp_path: Path, method: str, loss: str) -> None:
    words = ("--set", *STEPS, f"recipe.loss={loss}", "recipe.feature_crops=8")
    succeed(*lab.adapt_words(tmp_path / "run", *words, method=method))
    assert head_of(ModelFolder.read(tmp_path / "run").build_network()).out_channels == 3


# Bad input


def test_overlapping_structures_are_refused(lab: Lab, tmp_path: Path) -> None:
    damaged = lab.copy_target(tmp_path / "raw")
    file = damaged.target / "structures.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["integers"][NOVEL] = sorted({*content["integers"][NOVEL], *content["integers"][KNOWN]})
    content["cases"][lab.case(1)]["annotated"].remove(KNOWN)
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_raw", str(damaged.root / "raw"))
        outcome = fsseg(*damaged.adapt_words(tmp_path / "run", "--cases", *map(lab.case, (0, 1)), "--set", *STEPS))
    assert outcome.code == 2
    assert "overlap" in outcome.err
    assert f"{lab.case(1)} leaves (part of) {KNOWN} unknown" in outcome.err
    assert "recipe.activation=sigmoid" in outcome.err
    assert not (tmp_path / "run").exists()


def test_no_second_adapter_beside_a_softmax(lab: Lab, run: Path, tmp_path: Path) -> None:
    words = ("predict", "--base", lab.base, "--adapter", adapter(run), adapter(run))
    outcome = fsseg(*words, "--input", lab.target / "imagesTr", "--output", tmp_path / "out")
    assert outcome.code == 2
    assert "one by one" in outcome.err


# A base with a softmax


def test_classes_become_sigmoids_against_background(run: Path) -> None:
    model = ModelFolder.read(run)
    network = model.build_network()
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        logits = network(image)
        sources, minus = row_sources([2, None, 1], [0.1, 0.2, 0.3], base=model.activation, activation="sigmoid")
        replace_heads(network, sources, minus)
        after = network(image)
    pair = logits[:, [0, 2]].softmax(1)[:, 1]
    assert torch.allclose(after[:, 0].sigmoid(), pair, atol=1e-6)
    assert torch.allclose(after[:, 2], logits[:, 1] - logits[:, 0], atol=1e-5)


def test_classes_that_stay_classes_keep_all_their_rows(run: Path) -> None:
    model = ModelFolder.read(run)
    network = model.build_network()
    image = torch.randn(1, 1, 16, 16, 16)
    rows = list(model.head_rows().values())
    with torch.no_grad():
        before = network(image)
        replace_heads(network, *row_sources(rows, [0.5, 0.5], base="softmax", activation="softmax"))
        assert torch.equal(network(image), before[:, [0, *rows]])


@pytest.mark.parametrize(("activation", "note"), [("sigmoid", "minus the background's"), ("softmax", "is kept")])
def test_a_softmax_is_adapted_and_its_background_accounted_for(
    lab: Lab, run: Path, tmp_path: Path, activation: str, note: str
) -> None:
    words = ("--structure", KNOWN, "--set", "recipe.max_steps=2", f"recipe.activation={activation}")
    facts = succeed(*lab.adapt_words(tmp_path / "again", *words, base=run))
    assert facts["structures"] == {KNOWN: "known"}
    assert note in facts["notes"][-1]
    prediction = ("--base", run, "--adapter", adapter(tmp_path / "again"), "--cases", lab.case(0))
    succeed("predict", *prediction, "--input", lab.target / "imagesTr", "--output", tmp_path / "unmerged")
    merged = ("--run", tmp_path / "again", "--cases", lab.case(0))
    succeed("predict", *merged, "--input", lab.target / "imagesTr", "--output", tmp_path / "merged")
    read = [
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / out / f"{lab.case(0)}.nii.gz")))
        for out in ("merged", "unmerged")
    ]
    assert (read[0] == read[1]).all()
