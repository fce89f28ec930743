"""The published recipes: rates, turns of the support cases, loss, schedule, stop rule, augmentation."""

import gc
import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NOVEL, Lab, fsseg, succeed
from method_cases import FITTING_OPTIONS, Case, randomise
from safetensors.torch import load_file
from tiers import rest_full
from tiny import ARCHITECTURES, image_for, tiny_network
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fsseg.adaptation.job import Job
from fsseg.adaptation.notes import batch_statistics_notes
from fsseg.adaptation.start import make_start
from fsseg.adaptation.support import support_volumes
from fsseg.adaptation.target import LabelledDataset, make_target
from fsseg.adaptation.training import train
from fsseg.config.errors import UsageError
from fsseg.config.published_recipes import named_recipe
from fsseg.config.recipes import Family, Recipe
from fsseg.data.volumes import Volume
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.contract import DecoderChoice
from fsseg.methods.registry import METHODS, create_method, method_class
from fsseg.nnunet.augmentation import intensity_shift
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.normalization import range_beyond_unit
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.nnunet.raw_dataset import read_raw_dataset
from fsseg.training import activation_checkpointing
from fsseg.training.activation_checkpointing import checkpointed
from fsseg.training.cost import kept_for_backward
from fsseg.training.schedule import CosineEpochs, PlateauRule
from fsseg.training.seeding import seeded


def recipe(
    name: str, *, method: str = "lora", family: Family = "low_rank", decoder: str = "frozen", shots: int = 5
) -> Recipe:
    own = method_class(method).published_rate
    return Recipe(**named_recipe(name, family=family, decoder=decoder, shots=shots, published_rate=own))


# Settings


@pytest.mark.parametrize(
    ("method", "family", "frozen"),
    [
        ("full", "whole_network", 1e-4),
        ("from_scratch", "scratch", 1e-4),
        ("linear_probe", "head", 1e-2),
        ("spatial_adapter", "black_box", 1e-4),
        ("bitfit", "selective", 1e-2),
        ("affine", "selective", 1e-2),
        ("adaptformer", "adapter", 1e-2),
        ("lora", "low_rank", 1e-3),
        ("arena", "low_rank", 1e-3),
    ],
)
def test_published_rates(method: str, family: Family, frozen: float) -> None:
    for decoder, rate in (("frozen", frozen), ("tuned", 1e-4)):
        settings = recipe("fseft", method=method, family=family, decoder=decoder)
        assert method_class(method).family == family
        assert settings.rates(family) == (rate,) * 3


def test_published_stop_rules_count_in_epochs_of_one_step_a_case() -> None:
    for shots in (1, 10):
        fseft = recipe("fseft", shots=shots)
        assert (fseft.max_steps, fseft.plateau_first, fseft.epoch_steps) == (199 * shots, 31 * shots, shots)
        assert (fseft.plateau_window, fseft.plateau_patience) == (10 * shots, 19 * shots)
    fewer = recipe("fseft", shots=5).for_cases(4)
    assert fewer.model_dump() == recipe("fseft", shots=4).model_dump()
    assert fewer.for_cases(4) is fewer
    assert Recipe().for_cases(1) == Recipe()
    assert (recipe("fseft").plateau_improvement, recipe("fseft").plateau_relative) == (0.001, False)
    assert (recipe("arena").plateau_improvement, recipe("arena").plateau_relative) == (0.01, True)


def test_the_protocol_of_2023_has_fixed_epochs_and_rates_of_its_own() -> None:
    for method, family, rate, epochs in (("linear_probe", "head", 0.1, 49), ("full", "whole_network", 1e-4, 149)):
        medagi = recipe("medagi", method=method, family=family, shots=5)
        assert medagi.rates(family) == (rate,) * 3
        assert (medagi.max_steps, medagi.epoch_steps, medagi.weight_decay) == (epochs * 5, 5, 1e-5)
        assert medagi.plateau_first > medagi.max_steps
        assert medagi.for_cases(4).plateau_first > medagi.for_cases(4).max_steps
    with pytest.raises(UsageError, match="medagi has no rate for methods of the family 'low_rank'"):
        recipe("medagi")


def test_default_recipe_is_ours() -> None:
    assert recipe("default") == Recipe()


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Unknown recipe .fsft.\. Did you mean .fseft."):
        recipe("fsft")


# What each field does

# The same two crops in every step, so that the loss falls; a plateau is reached at once.
SAME_CROPS: dict[str, Any] = {"feature_crops": 2, "batch_size": 2}
AT_ONCE = {**SAME_CROPS, "plateau_window": 1, "plateau_patience": 1, "plateau_improvement": 0.99, "schedule": "cosine"}
TRANSDUCTIVE = {"transductive": True, "size_first_epoch": 1}
# Per field: a method with its decoder on which it acts, the settings besides, and another value.
ACTS: dict[str, tuple[str, DecoderChoice, dict[str, Any], Any]] = {
    "activation": ("bitfit", "frozen", {}, "softmax"),
    "loss": ("bitfit", "frozen", {}, "dice"),
    "decoder_learning_rate": ("bitfit", "tuned", {}, 1e-3),
    "head_learning_rate": ("bitfit", "frozen", {}, 1e-3),
    "weight_decay": ("bitfit", "frozen", {}, 0.5),
    "batch_size": ("bitfit", "frozen", {}, 1),
    "foreground_probability": ("bitfit", "frozen", {}, 0.0),
    "crop_jitter": ("bitfit", "frozen", {}, 0.0),
    "crop_centres": ("bitfit", "frozen", {"foreground_probability": 0.0}, "voxels"),
    "cut_to_body": ("bitfit", "frozen", {"foreground_probability": 0.0}, True),
    "crops_per_volume": ("bitfit", "frozen", {}, 2),
    "augmentation": ("bitfit", "frozen", {}, "intensity_shift"),
    "mirroring": ("from_scratch", "tuned", {}, False),  # the base has sides, and so no flips
    "gradient_clip_norm": ("bitfit", "frozen", {}, 1e-3),
    "schedule": ("bitfit", "frozen", {}, "cosine"),
    "new_head_rows": ("bitfit", "frozen", {}, "random"),
    "max_steps": ("bitfit", "frozen", {}, 3),
    "made_for_cases": ("bitfit", "frozen", {}, 4),  # the two cases here take half of the steps
    "epoch_steps": ("bitfit", "frozen", {"schedule": "cosine"}, 2),
    "plateau_first": ("linear_probe", "frozen", AT_ONCE, 3),
    "plateau_window": ("linear_probe", "frozen", AT_ONCE, 2),
    "plateau_patience": ("linear_probe", "frozen", AT_ONCE, 2),
    "plateau_improvement": ("linear_probe", "frozen", AT_ONCE, 1e-9),
    "plateau_relative": ("linear_probe", "frozen", AT_ONCE, False),
    "size_margin": ("linear_probe", "frozen", TRANSDUCTIVE, 0.999),
    "size_weight": ("bitfit", "frozen", TRANSDUCTIVE, 10.0),  # with the network in the loop
    "size_first_epoch": ("linear_probe", "frozen", TRANSDUCTIVE, 3),
    "precision": ("bitfit", "frozen", {}, "bfloat16"),
    "fresh_crops": ("linear_probe", "frozen", SAME_CROPS, True),
    "feature_crops": ("linear_probe", "frozen", {}, 3),
    "feature_cache_gib": ("linear_probe", "frozen", {"max_steps": 8}, 9.5e-4),  # 10 to 13 crops, of 16
}
FAMILIES = {method_class(name).family: name for name in reversed(METHODS) if not method_class(name).training_free}
Train = Callable[..., tuple[list[float], dict[str, Tensor]]]


def in_air(volume: Volume, voxels: int = 8) -> Volume:
    """Return a case with air in front of the body."""
    margin = ((0, 0), (0, 0), (voxels, 0), (0, 0))
    return replace(
        volume,
        image=np.pad(volume.image, margin, constant_values=volume.image.min()),
        labels=np.pad(volume.labels, margin),
        locations={name: np.add(found, (0, voxels, 0)) for name, found in volume.locations.items()},
    )


@pytest.fixture(scope="module")
def trained(lab: Lab) -> Train:
    """Return a function that trains four steps on two cases and gives the losses and the trained tensors."""
    base, dataset = ModelFolder.read(lab.base), read_raw_dataset(lab.target)
    target = make_target(LabelledDataset.of(dataset), (NOVEL,), base.head_rows())
    cases = [lab.case(0), lab.case(1)]
    found = support_volumes(dataset, target, cases, CasePreprocessor(base, cache=None))
    volumes = [in_air(volume) for volume in found]

    def run(
        method: str, decoder: DecoderChoice, *, transductive: bool = False, **settings: Any
    ) -> tuple[list[float], dict[str, Tensor]]:
        used = Recipe(**{"max_steps": 4, "batch_size": 2, **settings})
        options = FITTING_OPTIONS.get(method)
        job = Job(base, target, create_method(method, options), decoder, used, 0, torch.device("cpu"))
        start = make_start(job, volumes)
        if transductive:
            start = replace(start, queries={"query": volumes[0].image})
        return train(start, "test").losses, start.network.state()

    return run


def differ(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return any(first[name].shape != second[name].shape or not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("field", rest_full(Recipe.model_fields, "loss", "head_learning_rate", "mirroring"))
def test_every_field_of_a_recipe_changes_the_result(
    trained: Train, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    if field in ("learning_rates", "tile_step_size"):
        return  # one test per family, below; the step acts on predictions only, see test_inference_settings
    if field == "checkpoint_activations":  # the one field that must not change the result, only what it takes
        seen: list[Any] = []
        of_torch = activation_checkpointing.checkpoint
        monkeypatch.setattr(
            activation_checkpointing, "checkpoint", lambda *a, **k: seen.append(None) or of_torch(*a, **k)
        )
        trained("bitfit", "frozen")
        assert not seen
        trained("bitfit", "frozen", checkpoint_activations=True)
        assert seen
        return
    assert field in ACTS, f"give another value of the field {field} in ACTS"
    method, decoder, settings, other = ACTS[field]
    if field == "plateau_relative":  # between what either rule asks for
        losses, _ = trained(method, decoder, **{**settings, "plateau_improvement": 1e-9})
        settings = {**settings, "plateau_improvement": (losses[0] - losses[1]) / losses[0] ** 0.5}
    (_, first), (_, second) = (
        trained(method, decoder, **settings),
        trained(method, decoder, **{**settings, field: other}),
    )
    assert differ(first, second)


@pytest.mark.parametrize(("family", "method"), rest_full(FAMILIES.items(), ("low_rank", FAMILIES["low_rank"])))
def test_the_rate_of_every_family_changes_the_result(trained: Train, family: Family, method: str) -> None:
    decoder = method_class(method).decoder_choices[0]
    rates = [Recipe().learning_rates[family] * factor for factor in (1, 0.1)]
    (_, first), (_, second) = (trained(method, decoder, learning_rates={family: rate}) for rate in rates)
    assert differ(first, second)


def test_every_family_has_a_default_rate() -> None:
    assert set(Recipe().learning_rates) == set(FAMILIES)


@pytest.mark.parametrize(
    ("method", "words", "unused"),
    [
        (
            "lora",
            ("--set", "recipe.decoder_learning_rate=0.5", "recipe.feature_crops=7", "projections=joint"),
            "recipe.feature_crops, recipe.decoder_learning_rate, projections",
        ),
        ("decoder", ("--set", "recipe.decoder_learning_rate=0.5"), "recipe.decoder_learning_rate"),
        (
            "linear_probe",
            ("--set", "recipe.head_learning_rate=0.5", "recipe.checkpoint_activations=true"),
            "recipe.checkpoint_activations, recipe.head_learning_rate",
        ),
        ("lora", ("--decoder", "tuned", "--set", "recipe.decoder_learning_rate=0.5"), ""),
        ("lora", ("--recipe", "fseft"), ""),
        ("linear_probe", ("--recipe", "arena"), ""),
        ("bitfit", ("--set", "position_tables=true"), "position_tables"),
        ("lora", ("--set", "projections=joint"), "projections"),
        (
            "prototype",
            ("--set", "recipe.max_steps=50", "recipe.loss=dice", "recipe.batch_size=3", "recipe.feature_crops=7"),
            "recipe.loss, recipe.batch_size, recipe.max_steps",
        ),
    ],
)
def test_settings_without_effect_are_said(
    lab: Lab, tmp_path: Path, method: str, words: tuple[str, ...], unused: str
) -> None:
    notes = succeed(*lab.adapt_words(tmp_path / "run", *words, method=method), "--dry-run")["notes"]
    said = [note for note in notes if note.startswith("Without effect here")]
    assert said == ([f"Without effect here: {unused}."] if unused else [])


def test_a_pool_of_a_published_recipe_has_as_many_crops_of_every_case(lab: Lab, tmp_path: Path) -> None:
    """Six crops of each of two cases make a round; none may be missing because the pool ends in the middle of one."""
    options = (
        "--recipe",
        "fseft",
        "--set",
        "recipe.max_steps=3",
        "recipe.feature_crops=13",
        "recipe.fresh_crops=false",
    )
    manifest = succeed(*lab.adapt_words(tmp_path / "run", *options, method="linear_probe"))
    assert manifest["feature_cache"]["crops"] == min(24, 3 * 6)
    options = ("--recipe", "fseft", "--set", "recipe.feature_crops=13")
    manifest = succeed(*lab.adapt_words(tmp_path / "solved", *options, method="prototype"))
    assert manifest["feature_cache"]["crops"] == 24


def test_fresh_crops_go_on_where_a_pool_begins_again(trained: Train) -> None:
    pooled, fresh = (
        trained("linear_probe", "frozen", batch_size=2, feature_crops=4, fresh_crops=fresh)[0]
        for fresh in (False, True)
    )
    assert fresh[:2] == pytest.approx(pooled[:2], rel=1e-4)
    assert fresh[2:] != pytest.approx(pooled[2:], rel=1e-4)


def test_feature_settings_that_fresh_crops_do_not_use_are_said(lab: Lab, tmp_path: Path) -> None:
    options = ("--recipe", "fseft", "--set", "recipe.feature_crops=13", "--dry-run")
    notes = succeed(*lab.adapt_words(tmp_path / "run", *options, method="linear_probe"))["notes"]
    assert "Without effect here: recipe.feature_crops." in notes


def test_cached_features_of_a_network_that_normalises_by_the_batch_are_said_to_differ() -> None:
    for kind, said in (("genesis", 1), ("plain_batch_norm", 0), ("plain", 0)):
        assert len(batch_statistics_notes(AdaptedNetwork(tiny_network(kind), create_method("linear_probe")))) == said
    assert not batch_statistics_notes(AdaptedNetwork(tiny_network("genesis"), create_method("lora")))


# Schedule and stop rule


def test_cosine_changes_with_the_epoch_and_ends_before_zero() -> None:
    schedule = CosineEpochs(199 * 2, PlateauRule(window=10**6), epoch_steps=2)
    factors = []
    while True:
        factors.append(schedule.factor())
        if schedule.record(1.0):
            break
    assert len(factors) == 199 * 2
    assert factors[0] == factors[1] == 1
    for step in (10, 200, 397):
        assert factors[step] == pytest.approx(0.5 * (1 + math.cos(math.pi * (step // 2) / 199)))
    assert 0 < factors[-1] < 1e-4


def stop_of(rule: PlateauRule, losses: list[float]) -> int | None:
    return next((step for step in range(1, len(losses) + 1) if rule.reached(losses[:step])), None)


def test_absolute_rule_stops_at_the_first_epoch_that_it_looks_at() -> None:
    """Epochs of two steps; the loss falls by 0.0005 over 19 epochs, then the rule may look from epoch 31 on."""
    rule = PlateauRule(20, 38, 0.001, relative=False, first=62, every=2)
    slow = [1 - 0.0005 * step / 38 for step in range(400)]
    fast = [1 - 0.0011 * step / 38 for step in range(400)]
    assert stop_of(rule, slow) == 62
    assert stop_of(rule, fast) is None
    late = fast[:101] + [fast[100]] * 200
    stopped = stop_of(rule, late)
    assert stopped is not None
    assert stopped % 2 == 0
    assert 100 < stopped < 160


def test_relative_rule_compares_with_the_loss_itself() -> None:
    relative, absolute = PlateauRule(10, 19, 0.01), PlateauRule(10, 19, 0.01, relative=False)
    losses = [0.1 - 0.003 * step / 19 for step in range(200)]  # falls by 3 % of itself, and by 0.003
    assert stop_of(absolute, losses) == 29
    assert stop_of(relative, losses) is None


# Augmentation


def test_intensity_shift_moves_all_voxels_alike_and_seldom() -> None:
    augment = intensity_shift((4, 4, 4))
    image = np.random.default_rng(0).random((1, 8, 8, 8), dtype=np.float32)
    labels = np.zeros((2, 8, 8, 8), dtype=np.int16)
    shifts = []
    for number in range(200):
        with seeded(0, number):
            patch, _ = augment(image, labels)
        difference = patch.numpy() - image[:, 2:6, 2:6, 2:6]
        assert patch.dtype == torch.float32
        assert np.ptp(difference) < 1e-6
        shifts.append(float(difference.mean()))
    moved = [abs(shift) for shift in shifts if abs(shift) > 1e-6]
    assert 20 <= len(moved) <= 60  # 40 expected
    assert 0.05 < max(moved) <= 0.1


@pytest.mark.parametrize(
    ("scheme", "mean", "std", "words"),
    [
        ("CTNormalization", -175.0, 425.0, ""),  # the window [-175, 250] to [0, 1]
        ("RescaleTo01Normalization", 60.0, 120.0, ""),
        ("CTNormalization", 37.5, 100.0, "CTNormalization to [-2.12, 2.12]"),
        ("ZScoreNormalization", -175.0, 425.0, "ZScoreNormalization, without known bounds"),
    ],
)
def test_what_does_not_scale_to_0_and_1_is_known(scheme: str, mean: float, std: float, words: str) -> None:
    statistics = {"mean": mean, "std": std, "percentile_00_5": -175.0, "percentile_99_5": 250.0}
    assert range_beyond_unit(scheme, statistics) == words


# From the command line


def test_intensity_shift_on_a_base_that_scales_otherwise_is_said(lab: Lab, tmp_path) -> None:
    """The phantoms' base scales its window to [-2.17, 2.83]."""
    said = "the base scales CT by CTNormalization to [-2.17, 2.83]"
    words = ("--structure", NOVEL, "--recipe", "fseft", "--dry-run")
    assert any(said in note for note in succeed(*lab.adapt_words(tmp_path / "run", *words))["notes"])
    words = ("--structure", NOVEL, "--dry-run")
    (note,) = succeed(*lab.adapt_words(tmp_path / "run", *words))["notes"]
    assert note == "Paired: kidney_left/kidney_right; so no flips."
    plans = ("nnunet", "plans", "--checkpoint", lab.base, "--dataset", "804", "--method", "lora")
    notes = succeed(*plans, "--recipe", "arena", "--name", "scaled_otherwise")["notes"]
    assert any(said in note for note in notes)
    assert any("nnUNetv2_predict needs -step_size 0.75" in note for note in notes)


def test_published_recipe_trains_one_step_a_case_with_six_crops(lab: Lab, tmp_path) -> None:
    words = ("--structure", NOVEL, "--shots", 2, "--recipe", "arena", "--set", "recipe.max_steps=4")
    facts = succeed(*lab.adapt_words(tmp_path / "run", *words, method="lora"))
    assert facts["steps"] == 4
    used = facts["config"]["recipe"]
    assert (used["batch_size"], used["loss"], used["schedule"], used["epoch_steps"]) == (6, "dice", "cosine", 2)
    assert used["learning_rates"] == {"low_rank": 1e-3}


def test_unknown_recipe_is_refused_before_anything_is_written(lab: Lab, tmp_path) -> None:
    outcome = fsseg(*lab.adapt_words(tmp_path / "run", "--recipe", "fsfet"))
    assert outcome.code == 2
    assert "Did you mean 'fseft'" in outcome.err
    assert not (tmp_path / "run").exists()


# Activation checkpointing


def test_checkpointing_in_a_training_changes_nothing(lab: Lab, tmp_path) -> None:
    for enabled in ("false", "true"):
        words = ("--set", f"recipe.checkpoint_activations={enabled}", "recipe.max_steps=3")
        succeed(*lab.adapt_words(tmp_path / enabled, *words))
    kept, recomputed = (load_file(tmp_path / enabled / "adapter.safetensors") for enabled in ("false", "true"))
    for name, tensor in kept.items():
        torch.testing.assert_close(recomputed[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", rest_full(ARCHITECTURES, "plain"))
@pytest.mark.parametrize("method", ["full", "lora", "adaptformer", "compacter"])
def test_checkpointing_keeps_less_and_changes_nothing(network: str, method: str) -> None:
    gradients, kept = [], []
    for enabled in (False, True):
        adapted = Case(method, "tuned", network).adapt()
        randomise(adapted)
        adapted.train_mode()
        with checkpointed(adapted.network, enabled=enabled):
            with kept_for_backward(adapted.network) as counted:
                loss = adapted.network(image_for(adapted.network)).square().mean()
            kept.append(counted())
            loss.backward()
        assert counted() == 0, "the backward pass lets go of everything"
        gradients.append({name: p.grad.clone() for name, p in adapted.trainable().items() if p.grad is not None})
        assert not any("forward" in vars(module) for module in adapted.network.modules())
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)
    norms = [m for m in adapted.network.modules() if isinstance(m, nn.BatchNorm3d)]
    if not norms:  # blocks that follow the batches keep everything
        assert kept[1] < 0.8 * kept[0]


def test_counting_keeps_nothing_of_a_step_that_is_given_up() -> None:
    """A sigmoid keeps its own output, which has the graph, so counting must not keep that output whole."""
    layer = nn.Linear(4, 4)
    weight = weakref.ref(layer.weight)
    with kept_for_backward(layer) as kept:
        loss = layer(torch.randn(2, 4)).sigmoid().sum()
    assert kept() > 0
    del loss, layer
    gc.collect()
    assert kept() == 0
    assert weight() is None


def test_what_frozen_blocks_let_go_of_is_not_counted() -> None:
    """Each of them hands its input to a graph that ends with the block."""
    layers = [nn.Conv3d(2, 2, 3, padding=1) for _ in range(3)]
    network = nn.Sequential(*layers[:2], layers[2])
    network[:2].requires_grad_(False)
    pixels = torch.randn(1, 2, 8, 8, 8)
    with kept_for_backward(network) as kept:
        features = pixels
        for layer in layers:
            features = checkpoint(layer, features, use_reentrant=False)
        loss = features.sum()
    of_one_input = pixels.nbytes / 2**20
    assert kept() == pytest.approx(of_one_input, abs=1e-4)  # what the trained layer reads; the sum keeps nothing
    del loss, features
    assert kept() == 0
