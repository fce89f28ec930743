"""The pages that runs leave: report.html of adapt and pretrain, and that of `fsseg evaluate --report`."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from conftest import KNOWN, NOVEL, Lab, fsseg, succeed

from fsseg.adaptation import report
from fsseg.adaptation.fold_scores import FoldScores
from fsseg.adaptation.kept_masks import KeptMasks
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.ras_view import RasView
from fsseg.reporting.anonymous import without_folders

LEAVES_REPORTS = True  # see conftest.py
MOST_BYTES = 3 * 2**20


def page_of(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def test_an_adaptation_leaves_a_page_that_names_what_is_shown(lab: Lab, adapted: Path) -> None:
    page = page_of(adapted)
    assert "predictions on cases that were learned from" in page
    assert "Leave-one-out was not asked for" in page
    assert f"fsseg predict --run {adapted.name} " in page
    assert page.count("<img") == 2  # support cases, and the loss
    assert len(page) < MOST_BYTES
    for folder in (lab.root, Path.home()):
        assert f"{folder}/" not in page
    support = json.loads((adapted / "split.json").read_text(encoding="utf-8"))["support"]
    assert all(case in page for case in support)


@pytest.mark.full
def test_leave_one_out_predictions_are_shown(lab: Lab, tmp_path: Path) -> None:
    succeed(*lab.adapt_words(tmp_path / "run", "--estimate", "loo"))
    page = page_of(tmp_path / "run")
    assert "predicted by a training on the others" in page
    assert "learned from" not in page
    assert "DSC to expect" in page
    assert not list((tmp_path / "run").glob("training*"))


@pytest.mark.full
def test_an_adapter_is_said_how_to_predict_with(lab: Lab, tmp_path: Path) -> None:
    succeed(*lab.adapt_words(tmp_path / "run", method="adaptformer"))
    assert "fsseg predict --base base --adapter run/adapter.safetensors" in page_of(tmp_path / "run")


@pytest.mark.full
@pytest.mark.parametrize("broken", ["rows_figure", "write_report"])
def test_a_run_does_not_fail_with_its_picture(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no picture")

    monkeypatch.setattr(report, broken, fail)
    succeed(*lab.adapt_words(tmp_path / "run"))
    assert "could not be made: MemoryError: no picture" in caplog.text
    if broken == "rows_figure":
        assert "This part could not be made" in page_of(tmp_path / "run")


def test_what_leave_one_out_predicted_survives_a_stop(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((2, 3, 5, 7)) > 0.5
    for file in (None, tmp_path / "training_estimate.json"):
        folds = FoldScores(file, "one")
        folds.keep("a/b", KeptMasks.of(("liver", "spleen"), masks))
        kept = (folds if file is None else FoldScores(file, "one")).masks("a/b")
        assert kept is not None
        assert np.array_equal(kept.masks(["spleen", "other"])["spleen"], masks[1])
        assert folds.masks("other") is None
    (written,) = tmp_path.glob("*.npz")
    written.write_bytes(written.read_bytes()[:60])
    assert FoldScores(tmp_path / "training_estimate.json", "one").masks("a/b") is None


@pytest.mark.parametrize("reader", ["SimpleITKIO", "SimpleITKIOWithReorient"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2)])
def test_pictures_turn_what_was_read_to_ras(lab: Lab, tmp_path: Path, reader: str, axes: tuple[int, int, int]) -> None:
    file = tmp_path / "image_0000.nii.gz"
    image = SimpleITK.GetImageFromArray(np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4))
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(image, "PIL"), str(file))
    base = lab.copy_base(tmp_path / "base", reader=reader)
    plans = json.loads((base / "plans.json").read_text(encoding="utf-8"))
    plans |= {"transpose_forward": axes, "transpose_backward": axes}
    (base / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    model = ModelFolder.read(base)
    data, _ = model.plans_manager().image_reader_writer_class().read_images([str(file)])
    view = RasView(model, file)
    expected = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(image, "RAS"))
    assert np.array_equal(view.turned(data[0].transpose(axes)), expected)
    assert nibabel.load(file).shape == (3, 2, 4)  # it was stored otherwise


def test_a_pretraining_leaves_a_page(lab: Lab) -> None:
    page = page_of(lab.base)
    assert "Sources" in page
    assert "No case is held out" in page
    assert "fsseg adapt --checkpoint base " in page
    assert "held_out.txt" not in page
    assert str(lab.root) not in page
    assert len(page) < MOST_BYTES


@pytest.mark.full
def test_an_evaluation_leaves_a_page_where_it_is_asked_for(lab: Lab, adapted: Path, tmp_path: Path) -> None:
    masks, out = tmp_path / "masks", tmp_path / "metrics.csv"
    images, labels = lab.target / "imagesTr", lab.target / "labelsTr"
    cases = [lab.case(index) for index in range(4)]
    succeed("predict", "--run", adapted, "--input", images, "--output", masks, "--device", "cpu")
    words = ["evaluate", "--prediction", masks, "--reference", labels, "--structure", KNOWN, NOVEL, "--cases", *cases]
    succeed(*words, "--out", out, "--report")
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert page.count("<img") == 3  # the cases as dots, and a picture a structure
    assert 'class="viewer"' in page
    assert "The model was adapted to cases that are scored here" in page
    assert str(tmp_path) not in page
    out.unlink()
    again = fsseg(*words, "--out", out, "--report")
    assert again.code == 2
    assert "metrics.html" in again.err
    assert "--images goes with --report" in fsseg(*words, "--out", tmp_path / "x.csv", "--images", images).err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Starts from /home/me/runs/universal, whose head", "Starts from universal, whose head"),
        (r"C:\Users\me\run is", "run is"),
        ("../raw/splits_final.json decides", "splits_final.json decides"),
        ("NSD / HD95 of 1/2, see https://a.b/c", "NSD / HD95 of 1/2, see https://a.b/c"),
    ],
)
def test_no_folder_of_the_machine_is_shown(text: str, shown: str) -> None:
    assert without_folders(text) == shown
