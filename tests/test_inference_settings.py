"""Which flips a prediction averages over, and its sliding-window step: what the training was, not what names allow."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import KNOWN, NOVEL, PLANS_NAME, Lab, fsseg, succeed

from fsseg.config.json_files import read_json
from fsseg.data.side_names import sides_of
from fsseg.methods.adapter_file import load_adapter, save_adapter
from fsseg.nnunet.model_folder import TILE_STEP_KEY, ModelFolder
from fsseg.prediction.load_adapted import load_adapted

ALL_AXES = (0, 1, 2)


@pytest.fixture(scope="module")
def unsided(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base as if trained with flips: with other names for its kidneys no structure has a side."""
    base = tmp_path_factory.mktemp("unsided") / "base"
    shutil.copytree(lab.base, base)
    for name in ("dataset.json", "structures.json"):
        text = (base / name).read_text(encoding="utf-8")
        (base / name).write_text(text.replace("kidney_right", "kidney_a").replace("kidney_left", "kidney_b"), "utf-8")
    file = base / "fold_0" / "checkpoint_final.pth"
    torch.save(torch.load(file, weights_only=True) | {"inference_allowed_mirroring_axes": ALL_AXES}, file)
    return base


@pytest.fixture(scope="module")
def flipped(lab: Lab, unsided: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose training had flips."""
    out = tmp_path_factory.mktemp("runs") / "flipped"
    succeed(*lab.adapt_words(out, "--structure", KNOWN, method="linear_probe", base=unsided))
    return out


@pytest.fixture(scope="module")
def unflipped(lab: Lab, unsided: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by FSEFT's recipe, which has none."""
    out = tmp_path_factory.mktemp("runs") / "unflipped"
    words = ("--structure", NOVEL, "--recipe", "fseft")
    facts = succeed(*lab.adapt_words(out, *words, method="linear_probe", base=unsided))
    assert any("nnUNetv2_predict needs -step_size 0.75" in note for note in facts["notes"])
    return out


def settings_of(*words: object, images: Path, out: Path) -> tuple[list[int], float]:
    """Return axes and step with which a predict command would run."""
    facts = succeed("predict", *words, "--input", images, "--output", out, "--dry-run")
    return facts["mirroring_axes"], facts["tile_step_size"]


def test_only_a_run_whose_training_had_flips_may_be_mirrored(flipped: Path, unflipped: Path) -> None:
    for run, axes, step in ((flipped, ALL_AXES, 0.5), (unflipped, (), 0.75)):
        model, (_, info) = ModelFolder.read(run), load_adapter(run / "adapter.safetensors")
        assert (model.mirroring_axes or (), model.tile_step_size) == (axes, step)
        assert (info.mirroring_axes, info.tile_step_size) == (axes, step)


def test_prediction_takes_axes_and_step_of_the_run(
    lab: Lab, unsided: Path, flipped: Path, unflipped: Path, tmp_path: Path
) -> None:
    where = {"images": lab.image(1).parent, "out": tmp_path / "out"}
    adapters = {run: ("--base", unsided, "--adapter", run / "adapter.safetensors") for run in (flipped, unflipped)}
    for words in (("--run", flipped), adapters[flipped]):
        assert settings_of(*words, **where) == ([0, 1, 2], 0.5)
        assert settings_of(*words, "--no-mirroring", "--tile-step-size", 1, **where) == ([], 1)
    for words in (("--run", unflipped), adapters[unflipped]):
        assert settings_of(*words, **where) == ([], 0.75)
    both = (*adapters[flipped], unflipped / "adapter.safetensors")
    assert settings_of(*both, **where) == ([], 0.5)  # the axes of both, the smaller step


def test_a_merged_adapter_keeps_axes_and_step(unsided: Path, unflipped: Path, tmp_path: Path) -> None:
    adapter = unflipped / "adapter.safetensors"
    succeed("adapter", "merge", adapter, "--base", unsided, "--out", tmp_path / "merged")
    merged = ModelFolder.read(tmp_path / "merged")
    assert (merged.mirroring_axes, merged.tile_step_size) == (None, 0.75)


def test_an_adapter_that_allows_flips_of_a_side_is_not_believed(
    unsided: Path, flipped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state, info = load_adapter(flipped / "adapter.safetensors")
    ((_, row),), ((_, integers),) = info.structures.items(), info.integers.items()
    renamed = {"structures": {"Left kidney": row}, "integers": {"Left kidney": integers}}
    save_adapter(tmp_path, state, info.model_copy(update=renamed))
    assert load_adapted(ModelFolder.read(unsided), tmp_path / "adapter.safetensors")[1].mirroring_axes == ()
    assert "On one side: Left kidney; so no flips in predictions" in caplog.text


def test_the_estimate_predicts_as_the_run_will(
    lab: Lab, unsided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsseg.adaptation import estimate

    seen = []

    class Spy(estimate.Predictor):
        def __init__(self, network: torch.nn.Module, model: Any, device: torch.device) -> None:
            super().__init__(network, model, device)
            seen.append((self._predictor.allowed_mirroring_axes, self._predictor.tile_step_size))

    monkeypatch.setattr(estimate, "Predictor", Spy)
    words = ("--structure", KNOWN, "--recipe", "fseft", "--estimate", "loo")
    succeed(*lab.adapt_words(tmp_path / "run", *words, method="linear_probe", base=unsided))
    assert seen == [(None, 0.75)] * 2


@pytest.mark.parametrize(
    ("settings", "axes"),
    [({}, ALL_AXES), ({"mirroring": False}, None), ({"augmentation": "turn_and_shift"}, None)],
)
def test_a_pretraining_without_flips_is_not_mirrored(
    lab: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    axes: tuple[int, ...] | None,
) -> None:
    from fsseg.nnunet.pretraining import loaders as pretrain_loaders
    from fsseg.nnunet.pretraining.make_trainer import make_trainer

    monkeypatch.setattr("fsseg.nnunet.mirroring.sides_of", lambda _: sides_of(()))  # as if unsided
    flipped: list[tuple[int, ...]] = []
    augmentation = pretrain_loaders.training_augmentation
    monkeypatch.setattr(
        pretrain_loaders, "training_augmentation", lambda patch, found: flipped.append(found) or augmentation(patch, ())
    )
    settings = {"steps": 1, **settings}
    trainer = make_trainer(
        plans=read_json(lab.preprocessed / f"{PLANS_NAME}.json") | {"fsseg": {"pretrain": settings}},
        fold=0,
        dataset_json=read_json(lab.preprocessed / "dataset.json"),
        device=torch.device("cpu"),
        folder=tmp_path,
        resume_from=None,
    )
    assert trainer.inference_allowed_mirroring_axes == axes
    trainer.crops.training(trainer.do_split()[0], 0, torch.device("cpu"))
    assert flipped == ([] if "augmentation" in settings else [axes or ()])


@pytest.mark.parametrize("step", [0, 2.0, "0.5", float("nan")])
def test_a_step_that_is_none_is_refused(flipped: Path, tmp_path: Path, step: object) -> None:
    run = tmp_path / "run"
    shutil.copytree(flipped, run)
    file = run / "fold_0" / "checkpoint_final.pth"
    torch.save(torch.load(file, weights_only=True) | {TILE_STEP_KEY: step}, file)
    outcome = fsseg("predict", "--run", run, "--input", run, "--output", tmp_path / "out")
    assert outcome.code == 1
    assert f"{TILE_STEP_KEY}: " in outcome.err
    assert f"got {step!r}" in outcome.err
