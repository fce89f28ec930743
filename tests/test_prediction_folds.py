"""Which checkpoints of a model folder predict: the folds that nnU-Net would take, averaged as nnU-Net does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from conftest import fsseg, succeed
from nnunetv2.ensembling.ensemble import merge_files
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tiny_model import write_images, write_tiny_model

from fsseg.config.errors import UsageError
from fsseg.nnunet.model_checkpoints import checkpoint_file, fold_checkpoints
from fsseg.nnunet.model_folder import ModelFolder

FINAL, BEST = "checkpoint_final.pth", "checkpoint_best.pth"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds."""
    return write_tiny_model(tmp_path_factory.mktemp("folds") / "model", folds=("0", "1", "2"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), "a_0000.nii.gz", "b_0000.nii.gz")


def stock_predictions(model: Path, folds: tuple[int, ...], images: Path, out: Path) -> None:
    """Do what `nnUNetv2_predict_from_modelfolder --save_probabilities` does, in this process."""
    predictor = nnUNetPredictor(perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), folds, FINAL)
    out.mkdir()
    files = [[str(file)] for file in sorted(images.glob("*.nii.gz"))]
    predictor.predict_from_files_sequential(files, [str(out / "a"), str(out / "b")], save_probabilities=True)


def array(path: Path) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


@pytest.mark.parametrize("folds", [(0, 1, 2), (1,)])
def test_folds_give_what_nnunet_gives_with_the_same_folds(
    model: Path, images: Path, tmp_path: Path, folds: tuple[int, ...]
) -> None:
    stock_predictions(model, folds, images, tmp_path / "stock")
    words = () if len(folds) == 3 else ("--folds", *folds)
    words += ("--input", images, "--output", tmp_path / "ours", "--save-probabilities", "--device", "cpu")
    facts = succeed("predict", "--run", model, *words)
    assert [Path(file).parent.name for file in facts["checkpoints"]] == [f"fold_{fold}" for fold in folds]
    for case in ("a", "b"):
        stock, ours = (np.load(tmp_path / who / f"{case}.npz")["probabilities"] for who in ("stock", "ours"))
        assert ours.shape == stock.shape
        assert np.abs(ours - stock).max() < 1e-3  # nnU-Net resamples its logits in half precision
        undecided = np.abs(stock - 0.5).min(axis=0) < 1e-3
        differing = array(tmp_path / "stock" / f"{case}.nii.gz") != array(tmp_path / "ours" / f"{case}.nii.gz")
        assert not (differing & ~undecided).any()
        assert undecided.mean() < 0.05


def test_the_logits_of_folds_are_those_of_nnunet_to_the_bit_with_one_network(
    model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsseg.nnunet.prediction import Predictor
    from fsseg.prediction.model import run_to_predict

    built: list[ModelFolder] = []
    build = ModelFolder.build_untrained_network

    def counted(self: ModelFolder) -> torch.nn.Module:
        built.append(self)
        return build(self)

    monkeypatch.setattr(ModelFolder, "build_untrained_network", counted)
    chosen = run_to_predict(model)
    ours = Predictor(chosen.network, chosen.model, torch.device("cpu"), chosen.folds)
    assert len(built) == 1
    stock = nnUNetPredictor(perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    stock.initialize_from_trained_model_folder(str(model), None, FINAL)
    image, _ = ours.preprocessor.image([images / "a_0000.nii.gz"])
    for _ in range(2):  # the second case starts from the weights of the last fold
        assert torch.equal(
            ours.logits(image), stock.predict_logits_from_preprocessed_data(torch.from_numpy(image)).float()
        )


def test_nnunet_ensembles_the_probabilities(model: Path, images: Path, tmp_path: Path) -> None:
    words = ("--input", images, "--cases", "a", "--save-probabilities", "--device", "cpu")
    for fold in ("0", "1"):
        succeed("predict", "--run", model, "--folds", fold, *words, "--output", tmp_path / fold)
    read = ModelFolder.read(model, model / "fold_0" / FINAL)
    manager = read.plans_manager()
    labels = manager.get_label_manager(read.dataset_json)
    files = [str(tmp_path / fold / "a.npz") for fold in ("0", "1")]
    merge_files(files, str(tmp_path / "both"), ".nii.gz", manager.image_reader_writer_class(), labels)
    mean = np.mean([np.load(file)["probabilities"] for file in files], axis=0)
    expected = SimpleITK.ReadImage(str(tmp_path / "0" / "a.nii.gz"))
    together = SimpleITK.ReadImage(str(tmp_path / "both.nii.gz"))
    assert together.GetOrigin() == expected.GetOrigin()
    assert together.GetDirection() == expected.GetDirection()
    ras = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(together, "RAS"))
    painted = np.where(mean[1] > 0.5, 2, np.where(mean[0] > 0.5, 1, 0))
    assert np.array_equal(ras, painted)


def empty_model(folder: Path, files: Mapping[str, Any]) -> Path:
    """Make files of these names, empty ones: which are chosen is a matter of names."""
    for name in ("plans.json", "dataset.json", *files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


CHOICES: dict[str, tuple[list[str], tuple[str, ...], str | None, list[str]]] = {
    "numbers": (["0/final", "2/final", "10/final", "all/final"], (), None, ["0/final", "2/final", "10/final"]),
    "only_all": (["all/final"], (), None, ["all/final"]),
    "all_by_name": (["0/final", "all/final"], ("all",), None, ["all/final"]),
    "named_twice": (["0/final", "1/final"], ("1", "1"), None, ["1/final"]),
    "unfinished": (["0/final", "1/latest"], (), None, ["0/final"]),
    "only_best": (["0/best", "1/best"], (), None, ["0/best", "1/best"]),
    "best_beside_final": (["0/best", "0/final"], (), None, ["0/final"]),
    "best_by_name": (["0/best", "0/final"], (), BEST, ["0/best"]),
    "latest_by_name": (["0/final", "1/latest"], (), "checkpoint_latest.pth", ["1/latest"]),
}


def path_of(short: str) -> str:
    fold, name = short.split("/")
    return f"fold_{fold}/checkpoint_{name}.pth"


@pytest.mark.parametrize("case", CHOICES)
def test_which_checkpoints_predict(tmp_path: Path, case: str) -> None:
    there, folds, name, expected = CHOICES[case]
    model = empty_model(tmp_path / "model", dict.fromkeys(map(path_of, there)))
    chosen = fold_checkpoints(model, folds, name)
    assert [file.relative_to(model).as_posix() for file in chosen] == list(map(path_of, expected))
    if not folds and name is None:
        assert checkpoint_file(model) == chosen[0]


def test_a_fold_or_checkpoint_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    model = empty_model(tmp_path / "model", dict.fromkeys(map(path_of, ["0/final", "1/final", "2/latest"])))
    with pytest.raises(UsageError, match=r"no checkpoint_final\.pth of fold 2, 7\.\n  allowed: 0, 1"):
        fold_checkpoints(model, ("0", "2", "7"))
    with pytest.raises(UsageError, match=rf"No fold of .* has a {BEST}\.\n  allowed: {FINAL}, checkpoint_latest\.pth"):
        fold_checkpoints(model, (), BEST)


def test_the_checkpoint_that_validated_best_is_taken_where_it_is_the_only_one_and_named(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = write_tiny_model(tmp_path / "model", folds=("0",))
    (model / "fold_0" / FINAL).rename(model / "fold_0" / BEST)
    words = ("--run", model, "--input", images, "--output", tmp_path / "out", "--device", "cpu")
    assert succeed("predict", *words, "--dry-run")["checkpoints"] == [str(model / "fold_0" / BEST)]
    assert f"{BEST} is used, which validated best during its training" in caplog.text
    outcome = fsseg("predict", *words, "--folds", "3")
    assert outcome.code == 2
    assert f"has no {BEST} of fold 3" in outcome.err


def test_folds_left_out_are_named(model: Path, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ("--run", model, "--input", images, "--output", tmp_path / "out", "--device", "cpu", "--dry-run")
    succeed("predict", *words)
    assert "only" not in caplog.text
    succeed("predict", *words, "--folds", 0, 2)
    assert "has fold_0, fold_1, fold_2: only fold_0, fold_2 are used." in caplog.text


def test_folds_belong_to_a_run(tmp_path: Path) -> None:
    words = ("--base", "a", "--adapter", "b", "--folds", 0, "--input", "c", "--output", tmp_path / "out")
    outcome = fsseg("predict", *words)
    assert outcome.code == 2
    assert "--folds and --checkpoint-name go with --run" in outcome.err
