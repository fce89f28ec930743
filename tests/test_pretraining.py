"""Pretraining beyond one plain run: recipes, averaged weights, accumulation, checkpoints within an epoch, processes."""

import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from conftest import KNOWN, PLANS_NAME, Lab, fsseg, succeed
from pretraining_runs import equal, losses, refused, stop_before_epoch, weights
from tiers import rest_full
from warm_process import program, write_scripts

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.pretraining import RECIPES, PretrainSettings
from fsseg.config.staging import staging_of
from fsseg.data.splits import read_case_list
from fsseg.data.structures import CaseAnnotation, Structures, load_structures
from fsseg.models.networks import set_deep_supervision
from fsseg.models.parts import parts_of
from fsseg.nnunet.augmentation import turn_and_shift
from fsseg.nnunet.environment import SPLITS_NAME
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.pretraining.holdout import stratified_holdout
from fsseg.nnunet.pretraining.sampling import source_weights
from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel
from fsseg.nnunet.softmax_head import with_background
from fsseg.pretraining.held_out import HELD_OUT_NAME, held_out_cases
from fsseg.pretraining.notes import fold_notes, process_notes
from fsseg.pretraining.recipe_notes import PUBLISHED_INPUT, PublishedInput, random_start_notes, recipe_notes
from fsseg.stages.pretrain import PretrainConfig, plan_pretrain, run_pretrain
from fsseg.training.processes import Processes, several_processes
from fsseg.training.schedule import WarmupCosine
from fsseg.training.seeding import seeded
from fsseg.training.torch_file import read_torch_file
from fsseg.training.validation import masked_counts

REPOSITORY = Path(__file__).resolve().parents[1]
FINAL = "fold_0/checkpoint_final.pth"


@pytest.fixture(scope="module")
def plain(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six plain steps."""
    out = tmp_path_factory.mktemp("pretraining") / "plain"
    succeed(*lab.pretrain_words(out, steps=6))
    return out


# Settings


@pytest.mark.parametrize(
    "setting",
    rest_full(
        [
            "loss=suprem",
            "loss=clip_driven",
            "loss=fseft",
            "loss=hermes",
            "loss=uniseg",
            "unannotated=background",
            "schedule=cosine",
            "schedule=cosine warmup=0.5",
            "accumulate=2",
            "ema=0.5",
            "augmentation=turn_and_shift",
            "foreground_probability=0.1",
            "optimizer=sgd",
            "weight_decay=0.5",
            "learning_rate=0.005",
            "seed=1",
        ],
        "loss=suprem",
        "unannotated=background",
        "learning_rate=0.005",
    ),
)
def test_every_setting_changes_the_result(lab: Lab, plain: Path, tmp_path: Path, setting: str) -> None:
    succeed(*lab.pretrain_words(tmp_path / "run", *setting.split(), steps=6))
    assert not equal(tmp_path / "run", plain)


@pytest.mark.parametrize("recipe", rest_full(RECIPES, "suprem"))
def test_a_recipe_sets_what_it_names_and_gives_way_to_set(lab: Lab, tmp_path: Path, recipe: str) -> None:
    words = lab.pretrain_words(tmp_path / "run", "weight_decay=0.125", "--recipe", recipe, steps=2)
    used = succeed(*words)["config"]["settings"]
    expected = PretrainSettings(**{"steps": 2, **RECIPES[recipe], "steps_per_epoch": 2, "weight_decay": 0.125})
    assert used == expected.model_dump(mode="json")


def test_plans_that_do_not_go_with_a_recipe_are_named(lab: Lab, tmp_path: Path) -> None:
    words = [*lab.pretrain_words(tmp_path / "run", "--recipe", "suprem"), "--dry-run"]
    notes = succeed(*words)["notes"]
    assert notes[0].startswith("suprem was published with patches of 96 x 96 x 96 at 1.5 x 1.5 x 1.5 mm")
    assert "shifts intensities by up to 0.1" in notes[1]
    assert notes[2:] == ["The augmentation turn_and_shift has no flips; so none in predictions."]
    assert "published from pretrained weights" not in "".join(notes)  # no published start is of this network
    assert all(note in fsseg(*words).out for note in notes)
    assert succeed(*lab.pretrain_words(tmp_path / "run"), "--dry-run")["notes"] == [
        "Paired: kidney_left/kidney_right; so no flips."
    ]


@pytest.mark.parametrize(("recipe", "published"), PUBLISHED_INPUT.items())
def test_shipped_plans_go_with_their_recipe(recipe: str, published: PublishedInput) -> None:
    settings = PretrainSettings(steps=1, **RECIPES[recipe])
    for name in published.plans:
        plans = json.loads((REPOSITORY / "plans" / f"{name}.json").read_text(encoding="utf-8"))
        assert recipe_notes(recipe, settings, plans) == []


@pytest.mark.parametrize(
    ("recipe", "plans", "family"),
    [
        ("suprem", "genesis_unet", "models_genesis"),
        ("suprem", "swinunetr_fseft", "swin_btcv"),
        ("suprem", "seg_resnet", None),
        ("fseft", "swinunetr_fseft", "swin_btcv"),
        ("multitalent", "multitalent_unet", None),
        ("default", "swinunetr_fseft", None),
    ],
)
def test_a_recipe_names_the_weights_that_it_was_published_from(recipe: str, plans: str, family: str | None) -> None:
    content = json.loads((REPOSITORY / "plans" / f"{plans}.json").read_text(encoding="utf-8"))
    notes = random_start_notes(recipe, content)
    assert [f"--family {family}`" in note for note in notes] == ([True] if family else [])


def test_batch_norms_in_several_processes_are_named() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 1), torch.nn.BatchNorm3d(1))
    assert process_notes(network, 1) == process_notes(network[:1], 2) == []
    assert "2 processes do not have the losses of one" in process_notes(network, 2)[0]


def test_structures_that_overlap_are_no_classes(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Structures, "overlapping", lambda _: [("liver", "liver_tumour")])
    said = refused(*lab.pretrain_words(tmp_path / "run", "loss=uniseg"))
    assert "loss=uniseg gives every voxel one structure, but these overlap:\n  - liver and liver_tumour" in said
    assert list(tmp_path.iterdir()) == []


def test_structures_overlap_where_they_share_an_integer() -> None:
    structures = Structures(integers={"liver": (1, 2), "tumour": (2,), "spleen": (3,)})
    assert structures.overlapping() == [("liver", "tumour")]


def test_an_unknown_recipe_is_refused(lab: Lab, tmp_path: Path) -> None:
    outcome = fsseg(*lab.pretrain_words(tmp_path / "run", "--recipe", "multitalen"))
    assert outcome.code == 2
    assert "Did you mean 'multitalent'" in outcome.err


def test_sources_are_balanced_as_asked() -> None:
    cases = {
        f"{source}{i}": CaseAnnotation(source=source, annotated=())
        for source, n in (("a", 9), ("b", 4))
        for i in range(n)
    }
    structures = Structures(integers={"liver": (1,)}, cases=cases)
    shares = {}
    for sampling in ("cases", "sqrt", "sources"):
        found = dict(zip(cases, source_weights(list(cases), structures, sampling), strict=True))
        of = {source: sum(w for case, w in found.items() if case[0] == source) for source in "ab"}
        shares[sampling] = of["a"] / of["b"]
    assert shares == pytest.approx({"cases": 9 / 4, "sqrt": 3 / 2, "sources": 1})


def test_the_same_share_of_every_source_is_held_out_whatever_the_other_sources() -> None:
    cases = {
        f"{source}{i}": CaseAnnotation(source=source, annotated=())
        for source, n in (("a", 20), ("b", 10), ("c", 4))
        for i in range(n)
    }
    structures = Structures(integers={"liver": (1,)}, cases=cases)
    training, held_out = stratified_holdout(list(cases), structures, 0.2, seed=0)
    assert [sum(case[0] == source for case in held_out) for source in "abc"] == [4, 2, 0]
    assert sorted([*training, *held_out]) == sorted(cases)
    _, alone = stratified_holdout([case for case in cases if case[0] == "b"], structures, 0.2, seed=0)
    assert alone == [case for case in held_out if case[0] == "b"]
    assert stratified_holdout(list(cases), structures, 0.2, seed=1)[1] != held_out


def test_five_folds_hold_out_every_case_of_every_source_once() -> None:
    counts = {"a": 23, "b": 7, "c": 5, "d": 4}
    cases = {
        f"{s}{i}": CaseAnnotation(source=s, collection="ab" if s in "ab" else None, annotated=())
        for s, n in counts.items()
        for i in range(n)
    }
    structures = Structures(integers={"liver": (1,)}, cases=cases)
    for share in (0.2, 0.1):
        folds = [stratified_holdout(list(cases), structures, share, seed=0, fold=fold)[1] for fold in range(5)]
        together = list(itertools.chain(*folds))
        assert len(together) == len(set(together))  # none twice
        assert share == 0.1 or set(together) == {case for case in cases if case[0] != "d"}  # each once
        for source in "abc":
            of_source = [sum(case[0] == source for case in fold) for fold in folds]
            assert min(of_source) >= 1
            assert max(of_source) - min(of_source) <= 1
    with pytest.raises(UsageError, match="Unknown fold 5"):
        stratified_holdout(list(cases), structures, 0.2, seed=0, fold=5)


def test_fold_0_holds_out_what_it_always_held_out() -> None:
    names = [f"case_{i:02d}" for i in range(23)]
    structures = Structures(
        integers={"liver": (1,)}, cases={n: CaseAnnotation(source="a", annotated=()) for n in names}
    )
    for share in (0.1, 0.2, 0.3):
        order = np.random.default_rng([0, *b"a"]).permutation(23)  # as version 0.1 had it
        assert stratified_holdout(names, structures, share, seed=0)[1] == sorted(
            names[index] for index in order[: round(share * 23)]
        )


def test_a_fold_says_what_it_held_out(lab: Lab, tmp_path: Path) -> None:
    splits = lab.preprocessed / SPLITS_NAME
    cases = sorted(load_structures(lab.preprocessed).cases)
    splits.write_text(json.dumps([{"train": cases[1:], "val": cases[:1]}, {"train": cases[:-1], "val": cases[-1:]}]))
    run = tmp_path / "run"
    try:
        facts = succeed(*lab.pretrain_words(run, steps=2), "--fold", 1)
        assert "has no fold 2" in refused(*lab.pretrain_words(tmp_path / "other"), "--fold", 2)
    finally:
        splits.unlink()
    assert (run / "fold_1/checkpoint_final.pth").is_file()
    assert held_out_cases(run) == tuple(cases[-1:])
    assert read_case_list(run / HELD_OUT_NAME) == tuple(cases[-1:])
    assert facts["config"]["settings"]["validation_share"] == 0.2
    assert any("No case is held out of these sources" in note for note in facts["notes"])
    with pytest.raises(UsageError, match="finished `fsseg pretrain`"):
        held_out_cases(tmp_path)


def test_cosine_rises_from_a_tenth_and_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    schedule = WarmupCosine(optimizer, 2.0, epochs=14, warmup_epochs=4)
    rates = []
    for epoch in range(15):
        schedule.step(epoch)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:5] == pytest.approx([0.2, 0.65, 1.1, 1.55, 2.0])
    assert rates[9] == pytest.approx(1.0)
    assert rates[14] == pytest.approx(0)


@pytest.mark.parametrize("zone_axis", [0, 2], ids=["z first", "z last"])
def test_turns_keep_the_axial_plane_move_image_and_labels_alike_and_never_reflect(zone_axis: int) -> None:
    size = [6, 6, 6]
    size[zone_axis] = 3
    plane = tuple(axis - 3 for axis in range(3) if axis != zone_axis)
    augment = turn_and_shift(size, zone_axis)
    image = np.arange(3 * 36, dtype=np.float32).reshape(1, *size)
    labels = np.concatenate([image, image]).astype(np.int16)
    turned = 0
    for number in range(100):
        with seeded(0, number):
            patch, patch_labels = augment(image, labels)
        shift = (patch[0] - patch_labels[0]).unique()
        assert shift.max() - shift.min() < 1e-4
        turns = [k for k in range(4) if torch.equal(patch_labels[0], torch.from_numpy(labels[0]).rot90(k, plane))]
        assert len(turns) == 1  # one of the four rotations, none of the reflections
        turned += turns != [0]
    assert 2 <= turned <= 25  # 10 expected


def test_a_plane_that_is_not_square_is_turned_by_halves() -> None:
    image = np.arange(2 * 4 * 6, dtype=np.float32).reshape(1, 2, 4, 6)
    labels = np.concatenate([image, image]).astype(np.int16)
    with seeded(0, 0):
        _, turned = turn_and_shift((2, 4, 6), 0, probability=1)(image, labels)
    assert torch.equal(turned, torch.from_numpy(labels).flip(-1, -2))


# Averaged weights, accumulation


def test_averaged_weights_follow_their_formula(lab: Lab, tmp_path: Path) -> None:
    from fsseg.nnunet.pretraining.make_trainer import make_trainer

    settings = {"steps": 4, "steps_per_epoch": 4, "validation_crops": 2, "ema": 0.75}
    plans = json.loads((lab.preprocessed / f"{PLANS_NAME}.json").read_text(encoding="utf-8")) | {
        "fsseg": {"pretrain": settings}
    }
    dataset_json = json.loads((lab.preprocessed / "dataset.json").read_text(encoding="utf-8"))
    trainer = make_trainer(
        plans=plans, fold=0, dataset_json=dataset_json, device=torch.device("cpu"), folder=tmp_path, resume_from=None
    )
    expected: list[torch.Tensor] = []
    step = trainer.train_step

    def recorded(batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        outputs = step(batch)
        now = [p.detach().clone() for p in trainer.network.parameters()]
        expected[:] = now if not expected else [0.75 * e + 0.25 * p for e, p in zip(expected, now, strict=True)]
        return outputs

    trainer.train_step = recorded
    trainer.run_training()
    saved = read_torch_file(tmp_path / FINAL)["network_weights"]
    for (name, parameter), mean in zip(trainer.network.named_parameters(), expected, strict=True):
        torch.testing.assert_close(saved[name], mean, rtol=0, atol=1e-6)
        assert parameter.grad is None or not torch.equal(saved[name], parameter)


def step_of(trainer: Any, monkeypatch: pytest.MonkeyPatch, *, stepped: bool) -> list[float]:
    """Let a trainer take a step that draws random numbers in place of a loss; return them."""
    drawn: list[float] = []

    def step(*_: Any, **__: Any) -> tuple[float, bool]:
        drawn.extend([torch.rand(()).item(), np.random.random(), random.random()])  # noqa: NPY002
        return 0.5, stepped

    monkeypatch.setattr("fsseg.nnunet.pretraining.seeded_trainer.optimisation_step", step)
    nnUNetTrainerPartialLabel.train_step(trainer, {})
    return drawn


@pytest.fixture
def bare_trainer() -> MagicMock:
    """Stand for a trainer in the middle of a training."""
    settings = PretrainSettings(steps=8, ema=0.5)
    processes = SimpleNamespace(rank=0, count=1)
    return MagicMock(settings=settings, steps_done=3, processes=processes, step_losses=[], steps_in_epoch=0)


def test_a_step_that_the_scaler_skipped_is_not_averaged(
    bare_trainer: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_of(bare_trainer, monkeypatch, stepped=False)
    bare_trainer.average.update_parameters.assert_not_called()
    step_of(bare_trainer, monkeypatch, stepped=True)
    bare_trainer.average.update_parameters.assert_called_once()


def test_what_is_random_in_a_step_follows_from_its_number(
    bare_trainer: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    first = step_of(bare_trainer, monkeypatch, stepped=True)
    before = torch.get_rng_state()
    again = step_of(bare_trainer, monkeypatch, stepped=True)
    assert torch.equal(torch.get_rng_state(), before), "the caller's generators are as they were"
    bare_trainer.steps_done = 4
    other = step_of(bare_trainer, monkeypatch, stepped=True)
    assert first == again
    assert not set(first) & set(other)


def test_accumulated_batches_are_averaged_into_one_step() -> None:
    from fsseg.training.step import Optimisation, optimisation_step

    def weight_after(*targets: float) -> float:
        weight = torch.nn.Parameter(torch.zeros(1))
        value, _ = optimisation_step(
            Optimisation(torch.optim.SGD([weight], 0.1), [weight], torch.device("cpu"), "float32"),
            *[lambda target=target: (weight - target).square().sum() for target in targets],
        )
        assert value == pytest.approx(np.mean([target**2 for target in targets]))
        return weight.item()

    assert weight_after(1.0, 3.0) == pytest.approx((weight_after(1.0) + weight_after(3.0)) / 2)


@pytest.mark.full
def test_a_loss_of_classes_makes_a_network_of_classes(lab: Lab, tmp_path: Path) -> None:
    """Painted as regions, every class whose logit is above background's would hide the ones before it."""
    from fsseg.nnunet.pretraining.make_trainer import make_trainer

    run = tmp_path / "run"
    succeed(*lab.pretrain_words(run, "loss=uniseg", "optimizer=sgd", "learning_rate=0.1", steps=6))
    model = ModelFolder.read(run)
    names = load_structures(lab.preprocessed).names
    assert model.activation == "softmax"
    assert model.head_rows() == {name: row for row, name in enumerate(names, start=1)}
    heads = parts_of(model.build_network()).heads
    assert all(not head.weight[0].any() and not head.bias[0] and head.weight[1:].any() for head in heads)
    # The trainer resumes with rows for structures only, and writes the same network again.
    plans = json.loads((run / "plans.json").read_text(encoding="utf-8"))
    trainer = make_trainer(
        plans=plans,
        fold=0,
        dataset_json=json.loads((lab.preprocessed / "dataset.json").read_text(encoding="utf-8")),
        device=torch.device("cpu"),
        folder=tmp_path / "again",
        resume_from=run / FINAL,
    )
    assert parts_of(trainer.plain_network).head.out_channels == len(names)
    trainer.run_training()
    saved = read_torch_file(tmp_path / "again" / FINAL)["network_weights"]
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.weights.items())
    # Its Dice is of what it predicts: the class with the highest logit, background having 0.
    batch = next(iter(trainer.crops.training(sorted(load_structures(lab.preprocessed).cases), 0, trainer.device)))
    network = with_background(trainer.plain_network).eval()
    set_deep_supervision(network, enabled=False)
    set_deep_supervision(trainer.plain_network, enabled=False)
    trainer.objective.scales = None
    with torch.no_grad():
        classes = network(batch["image"]).argmax(1)
        _, counts = trainer.objective.validation(trainer.plain_network.eval(), batch)
    target, valid = trainer.objective.table.expand(batch["labels"], batch["zone_annotated"])
    predicted = torch.stack([classes == row for row in model.head_rows().values()], dim=1)
    assert np.array_equal(counts.numpy(), masked_counts(predicted, target.bool(), valid.bool()))
    # It is predicted with, and adapted, like any other network with a softmax.
    succeed("predict", "--run", run, "--input", lab.target / "imagesTr", "--output", tmp_path / "out")
    labels = json.loads((tmp_path / "out" / "dataset.json").read_text(encoding="utf-8"))["labels"]
    assert labels == {"background": 0, **model.head_rows()}
    facts = succeed(*lab.adapt_words(tmp_path / "adapted", base=run))
    assert facts["structures"][KNOWN] == "known"


# Checkpoints within an epoch


def longer_epochs(words: list[object]) -> list[object]:
    """Leave the setting of two steps an epoch out of a command, to make room for another."""
    return [word for word in words if word != "steps_per_epoch=2"]


@pytest.mark.full
@pytest.mark.parametrize(
    ("more", "of_the_killed"),
    [((), ()), (("ema=0.9", "accumulate=2", "optimizer=sgd"), ()), ((), ("workers=2",))],
    ids=["plain", "ema", "workers"],
)
def test_a_run_killed_within_an_epoch_resumes_to_the_same_losses(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], of_the_killed: tuple[str, ...]
) -> None:
    settings = ("steps_per_epoch=4", "checkpoint_minutes=1.0e-9", *more)
    words = longer_epochs(lab.pretrain_words(tmp_path / "whole", *settings, steps=8))
    succeed(*words)
    run = tmp_path / "run"
    words[words.index(tmp_path / "whole")] = run
    words += of_the_killed
    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel

    step = nnUNetTrainerPartialLabel.train_step

    def stop(trainer: Any, batch: Any) -> Any:
        if trainer.steps_done == 6:
            raise KeyboardInterrupt
        return step(trainer, batch)

    with monkeypatch.context() as patch:
        patch.setattr(nnUNetTrainerPartialLabel, "train_step", stop)
        assert fsseg(*words).code == 1
    latest = read_torch_file(staging_of(run) / "fold_0/checkpoint_latest.pth")
    assert (latest["current_epoch"], latest["steps_in_epoch"], len(latest["step_losses"])) == (1, 2, 2)
    succeed(*words, "--resume")
    assert (run / "metrics.jsonl").read_text(encoding="utf-8") == (tmp_path / "whole" / "metrics.jsonl").read_text(
        encoding="utf-8"
    )
    assert equal(run, tmp_path / "whole")


@pytest.mark.full
@pytest.mark.parametrize("steps_before", [0, 3], ids=["no checkpoint", "checkpoint"])
def test_a_killed_worker_is_named_and_a_checkpoint_stays(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps_before: int
) -> None:
    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel

    step = nnUNetTrainerPartialLabel.train_step

    def killing(trainer: Any, batch: Any) -> Any:
        if trainer.steps_done == steps_before:
            for worker in multiprocessing.active_children():
                worker.kill()
                os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        return step(trainer, batch)

    monkeypatch.setattr(nnUNetTrainerPartialLabel, "train_step", killing)
    outcome = fsseg(*lab.pretrain_words(tmp_path / "run", "workers=1", steps=1000))
    assert outcome.code == 1
    assert "A process that prepares crops was lost: DataLoader worker" in outcome.err
    assert "--resume" in outcome.err
    assert len(outcome.err.splitlines()) == 2
    left = sorted(path.name for path in tmp_path.rglob("checkpoint_*"))
    assert left == (["checkpoint_latest.pth"] if steps_before > 2 else [])
    assert staging_of(tmp_path / "run").exists() == bool(left)


# What it will cost


def test_dry_run_says_what_a_pretraining_will_cost(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*lab.pretrain_words(tmp_path / "run", steps=100), "--dry-run")
    facts = succeed(*words)
    assert facts["validation_seconds"] == 0  # no case is held out
    monkeypatch.setattr("fsseg.pretraining.step_times.validation_seconds", lambda _: 36.0)
    averaged = succeed(*words, "--set", "ema=0.9", "workers=1")
    of_either = (averaged["network_seconds"], averaged["loading_seconds"])
    assert averaged["seconds_per_step"] == pytest.approx(max(of_either), abs=2e-4)
    assert (facts["workers"], averaged["workers"]) == (0, 1)
    assert facts["hours"] == pytest.approx(100 * facts["seconds_per_step"] / 3600, abs=6e-4)
    assert (averaged["epochs"], averaged["validation_seconds"]) == (50, 36.0)
    assert averaged["hours"] == pytest.approx(100 * averaged["seconds_per_step"] / 3600 + 0.5, abs=6e-4)
    assert facts["steps_per_second"] == pytest.approx(1 / facts["seconds_per_step"], rel=0.1)
    assert facts["seconds_per_step"] == pytest.approx(facts["network_seconds"] + facts["loading_seconds"], abs=2e-4)
    assert 0 < facts["memory_mib"] < 500
    assert facts["host_memory_mib"] > facts["memory_mib"]
    assert averaged["checkpoints_mib"] == pytest.approx(4 / 3 * facts["checkpoints_mib"], rel=0.2)
    files = [file.stat().st_size for file in lab.preprocessed.rglob("*") if file.is_file()]
    assert facts["preprocessed_mib"] == pytest.approx(sum(files) / 2**20, abs=0.1)
    text = fsseg(*words).out
    assert "steps a second" in text
    assert "MiB on the host" in text
    assert "MiB checkpoints" in text
    assert list(tmp_path.iterdir()) == []


# From Python


def test_a_pretraining_does_what_its_plan_says(lab: Lab, tmp_path: Path) -> None:
    settings = PretrainSettings(steps=2, steps_per_epoch=2, validation_crops=2, validation_share=0.3)
    config = PretrainConfig(dataset="901", plans=PLANS_NAME, settings=settings, out=tmp_path / "run")
    plan = plan_pretrain(config)
    assert list(tmp_path.iterdir()) == []
    assert plan is not None
    assert plan.cost is not None
    result = run_pretrain(config)
    assert result is not None
    assert result.plan == replace(plan, cost=None)
    assert result.validation_dice.keys() == set(plan.structures)
    assert {name for name, dice in result.validation_dice.items() if dice is None} == result.unvalidated.keys()
    assert result.manifest == json.loads((result.out / "manifest.json").read_text(encoding="utf-8"))
    assert plan.facts().keys() <= result.manifest.keys()


# Several processes


def torchrun_of_scripts(folder: Path, *words: object) -> str:
    """Run the command line in two processes that are started by a script, as torchrun does; return what it printed."""
    command = write_scripts(folder) / "fsseg"
    launcher = ("--standalone", "--nproc-per-node", 2, "--no-python", command)
    done = subprocess.run(
        program("from torch.distributed.run import main; main()", *launcher, *words),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def torchrun(*words: object, processes: int = 2) -> subprocess.Popen:
    """Start the command line in several processes, as torchrun does."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*launcher, "-m", "fsseg", *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


@pytest.mark.full
@pytest.mark.parametrize(("loss", "from_base"), [("multitalent", False), ("fseft", True)])
def test_two_processes_train_as_one_does_on_the_same_batches(
    lab: Lab, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, loss: str, *, from_base: bool
) -> None:
    settings = (f"loss={loss}", "optimizer=sgd", "learning_rate=0.01", "ema=0.5")
    base = ("--checkpoint", lab.base) if from_base else ()
    succeed(*lab.pretrain_words(tmp_path / "one", *settings, steps=6), *base)
    words = (*lab.pretrain_words(tmp_path / "two", *settings, steps=6), *base, "--json")
    out = torchrun_of_scripts(tmp_path_factory.mktemp("scripts") / "bin", *words)
    assert json.loads(out)["processes"] == 2  # the first alone speaks
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=2e-5)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-4)
    dice = [
        json.loads((tmp_path / run / "manifest.json").read_text(encoding="utf-8"))["validation_dice"]
        for run in ("one", "two")
    ]
    assert dice[0] == pytest.approx(dice[1], abs=0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.full
def test_dry_run_in_two_processes_measures_a_share_of_the_batch_each(
    lab: Lab, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    memory = succeed(*lab.pretrain_words(tmp_path / "run"), "--dry-run")["memory_mib"]
    words = (*lab.pretrain_words(tmp_path / "run"), "--dry-run", "--json")
    out = torchrun_of_scripts(tmp_path_factory.mktemp("scripts") / "bin", *words)
    assert json.loads(out)["memory_mib"] < memory
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_when_a_process_dies_all_stop_and_the_run_can_go_on(lab: Lab, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = lab.pretrain_words(run, steps=20)  # the first checkpoint is written after two
    process = torchrun(*words)
    latest = staging_of(run) / "fold_0/checkpoint_latest.pth"
    try:
        while not latest.exists():
            assert process.poll() is None, process.communicate()[1]
        (second,) = [pid for pid in workers_of(process.pid) if environment(pid).get("RANK") == "1"]
        os.kill(second, signal.SIGKILL)
        _, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    assert "SIGKILL" in err
    assert latest.exists()
    assert not run.exists()
    torchrun_of_scripts(tmp_path / "bin", *words, "--resume")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [*range(2, 21, 2)]


def workers_of(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(word) for word in children.read_text(encoding="utf-8").split()]


def environment(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(UsageError, match=r"A batch of 5 crops cannot be split over 2 processes"):
        Processes(rank=0, count=2).share_of(5)


def test_a_lost_process_is_named_and_other_errors_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_: None)
    monkeypatch.setattr("torch.distributed.barrier", lambda: None)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    with (
        pytest.raises(FssegError, match="The connection to another process of this training was lost"),
        several_processes(CPU),
    ):
        raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:4711")
    with pytest.raises(RuntimeError, match="mat1 and mat2"), several_processes(CPU):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


CPU = torch.device("cpu")


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with (
        pytest.raises(UsageError, match=r"2 processes were started on this machine, but it has 1 CUDA device"),
        several_processes(torch.device("cuda")),
    ):
        pass


def test_several_processes_refuse_one_numbered_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(UsageError, match=r"--device cuda:1 was given[\s\S]*CUDA_VISIBLE_DEVICES"),
        several_processes(torch.device("cuda", 1)),
    ):
        pass


def test_processes_that_do_not_meet_are_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise torch.distributed.DistNetworkError("The client socket cannot be initialized to connect to host:29500")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.init_process_group", refuse)
    with pytest.raises(FssegError, match="to another process of this training was lost"), several_processes(CPU):
        pass


# What must not be mixed up


def test_resume_refuses_another_training(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    words = lab.pretrain_words(run, "ema=0.9", steps=8)
    stop_before_epoch(monkeypatch, 2, words)
    outcome = fsseg(*lab.pretrain_words(run, "loss=fseft", steps=8), "--resume")
    assert outcome.code == 2
    assert "ema: 0.9 before, None now" in outcome.err
    assert "loss: multitalent before, fseft now" in outcome.err
    begun = staging_of(run) / "plans.json"
    plans = json.loads(begun.read_text(encoding="utf-8"))
    del plans["fsseg"]["pretrain"]["mirroring"]  # as if begun before there was this setting
    begun.write_text(json.dumps(plans), encoding="utf-8")
    assert succeed(*words, "--resume")["command"] == "pretrain"


def test_resume_refuses_other_data_and_foreign_folders(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    words = lab.pretrain_words(run, steps=8)
    stop_before_epoch(monkeypatch, 2, words)
    assert "fold: 0 before, all now" in refused(*words, "--resume", "--fold", "all")
    splits = lab.preprocessed / SPLITS_NAME
    cases = list(load_structures(lab.preprocessed).cases)
    splits.write_text(json.dumps([{"train": cases[1:], "val": cases[:1]}]), encoding="utf-8")
    try:  # other folds would train on cases that were held out, or the other way round
        assert "splits_final.json: None before, sha256" in refused(*words, "--resume")
        assert "decides which cases are held out" in fold_notes(lab.preprocessed, "0")[0]
        assert not fold_notes(lab.preprocessed, "all")
    finally:
        splits.unlink()
    structures = lab.preprocessed / "structures.json"
    text = structures.read_text(encoding="utf-8")
    structures.write_text(text.replace('"source": "', '"source": "another_', 1), encoding="utf-8")
    try:
        assert "structures and annotated cases: sha256" in refused(*words, "--resume")
    finally:
        structures.write_text(text, encoding="utf-8")
    plans_file = staging_of(run) / "plans.json"
    plans = json.loads(plans_file.read_text(encoding="utf-8"))
    plans["foreground_intensity_properties_per_channel"]["0"]["mean"] += 1
    plans_file.write_text(json.dumps(plans), encoding="utf-8")
    assert "the intensity statistics of the plans" in refused(*words, "--resume")
    plans_file.write_text(json.dumps({key: value for key, value in plans.items() if key != "fsseg"}), encoding="utf-8")
    assert "no training that --resume could continue" in refused(*words, "--resume")
    assert (staging_of(run) / "fold_0/checkpoint_latest.pth").is_file()


@pytest.mark.parametrize("command", ["adapt", "predict"])
def test_no_other_command_deletes_an_unfinished_training(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    run = tmp_path / "run"
    stop_before_epoch(monkeypatch, 2, lab.pretrain_words(run, steps=8))
    words = lab.adapt_words(run) if command == "adapt" else ["predict", "--run", lab.base, "--output", run]
    if command == "predict":
        words += ["--input", lab.target / "imagesTr"]
    outcome = fsseg(*words)
    assert outcome.code == 2
    assert "An unfinished run of another command lies in" in outcome.err
    assert (staging_of(run) / "fold_0/checkpoint_latest.pth").is_file()


def test_a_method_sees_no_gradients_of_a_step_that_the_scaler_skips() -> None:
    from fsseg.training.step import Optimisation, optimisation_step

    weight = torch.nn.Parameter(torch.ones(1))
    seen: list[float] = []

    class Scaler:
        """Stands for CUDA's gradient scaler; a step with infinite gradients is skipped."""

        scale_now = 4.0

        def scale(self, loss: torch.Tensor) -> torch.Tensor:
            return loss

        def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
            pass

        def get_scale(self) -> float:
            return self.scale_now

        def step(self, optimizer: torch.optim.Optimizer) -> None:
            if weight.grad is not None and weight.grad.isfinite().all():
                optimizer.step()
            else:
                self.scale_now /= 2

        def update(self) -> None:
            pass

    optimizer = torch.optim.SGD([weight], 0.1)
    for factor in (float("inf"), 1.0):
        _, stepped = optimisation_step(
            Optimisation(optimizer, [weight], torch.device("cpu"), "float32", Scaler()),  # type: ignore[arg-type]
            lambda factor=factor: (weight * factor).sum(),
            before_step=lambda: seen.append(weight.grad.item()),  # type: ignore[union-attr]
        )
        assert stepped == np.isfinite(factor)
    assert seen == [1.0]


def test_a_warmup_that_would_do_nothing_is_refused(lab: Lab, tmp_path: Path) -> None:
    outcome = fsseg(*lab.pretrain_words(tmp_path / "run", "warmup=0.5"))
    assert outcome.code == 2
    assert "goes with schedule=cosine only" in outcome.err
