"""Left is not right: a network learns the sides of paired organs, and swapped sides in the data are refused."""

from pathlib import Path

import pytest
from conftest import fsseg

from fsseg.config.pretraining import PretrainSettings
from fsseg.demo.phantom_datasets import write_phantom_datasets
from fsseg.evaluation.label_folders import open_label_folder
from fsseg.evaluation.label_maps import read_label_map
from fsseg.stages.assemble import AssembleConfig, run_assemble
from fsseg.stages.demo import PLANS
from fsseg.stages.predict import PredictConfig, run_predict
from fsseg.stages.preprocess import PreprocessConfig, run_preprocess
from fsseg.stages.pretrain import PretrainConfig, run_pretrain

KIDNEYS = "Dataset802_PhantomEast"


def kidney_spec(root: Path) -> Path:
    return root / "PhantomEast.yaml"


def test_swapped_sides_are_refused_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    write_phantom_datasets(tmp_path / "data", cases_per_source=2, target_cases=0, swap_sides=True)
    words = ("assemble", kidney_spec(tmp_path / "data"), "--root", tmp_path / "data", "--id", 902, "--name", "Kidneys")
    outcome = fsseg(*words)
    assert outcome.code == 1
    assert "left and right" in outcome.err
    assert "east_000" in outcome.err
    assert not list((tmp_path / "raw").glob("Dataset902*"))


@pytest.mark.full
def test_a_network_tells_the_kidneys_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On unseen phantoms, nearly all that is called right kidney lies in the right one, and so for the left."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    write_phantom_datasets(tmp_path / "data", seed=0, cases_per_source=6, target_cases=0)
    write_phantom_datasets(tmp_path / "unseen", seed=1, cases_per_source=2, target_cases=0)
    spec = (kidney_spec(tmp_path / "data"),)
    run_assemble(AssembleConfig(specs=spec, root=tmp_path / "data", dataset_id=902, name="Kidneys"))
    run_preprocess(PreprocessConfig(dataset="902", plans=str(PLANS)))
    settings = PretrainSettings(steps=200, steps_per_epoch=20, validation_crops=2, learning_rate=3e-3)
    run = tmp_path / "run"
    run_pretrain(PretrainConfig(dataset="902", plans=PLANS.stem, out=run, settings=settings, fold="all"))
    unseen = tmp_path / "unseen" / KIDNEYS
    run_predict(PredictConfig(run=run, input=unseen / "imagesTr", output=tmp_path / "predictions"))

    predictions, references = open_label_folder(tmp_path / "predictions"), open_label_folder(unseen / "labelsTr")
    for case, file in predictions.files.items():
        predicted = read_label_map(file, predictions.structures)
        reference = read_label_map(references.files[case], references.structures)
        for side, other in (("right", "left"), ("left", "right")):
            found = predicted.mask(predictions.structures.integers[f"kidney_{side}"])
            same = reference.mask(references.structures.integers[f"kidney_{side}"])
            opposite = reference.mask(references.structures.integers[f"kidney_{other}"])
            assert (found & same).sum() > 0.5 * same.sum()
            assert (found & opposite).sum() < 0.02 * opposite.sum()
