"""A prediction that was stopped is resumed; one with bad cases says so before, and keeps the others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK
from conftest import Outcome, fsseg, succeed, tree
from damaged_images import truncated
from tiny_model import small_image, write_images, write_tiny_model

from fsseg.config.run_folder import new_run_folder
from fsseg.config.staging import staging_of
from fsseg.nnunet.prediction import Predictor
from fsseg.prediction.finished_cases import FINISHED_NAME, FinishedCases

CASES = ("a", "b", "c")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", *(f"{case}_0000.nii.gz" for case in CASES))


@pytest.fixture
def words(model: Path, images: Path, tmp_path: Path) -> list[object]:
    return ["predict", "--run", model, "--input", images, "--output", tmp_path / "out", "--device", "cpu"]


def label_maps(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(folder).items() if not name.endswith(".json")}


@pytest.fixture
def segmented(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with every case that goes through the network."""
    logits, seen = Predictor.logits, list[int]()

    def counted(self: Predictor, image: Any) -> Any:
        seen.append(1)
        return logits(self, image)

    monkeypatch.setattr(Predictor, "logits", counted)
    return seen


def stop_at(number: int, words: list[object], segmented: list[int]) -> None:
    """Stop a prediction in its case with this number; `segmented` is empty afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        logits = Predictor.logits

        def stopping(self: Predictor, image: Any) -> Any:
            if len(segmented) == number - 1:
                raise KeyboardInterrupt
            return logits(self, image)

        patch.setattr(Predictor, "logits", stopping)
        outcome = fsseg(*words)
    assert outcome.code == 1
    assert "Label maps that are finished stay, and the same command resumes behind them." in outcome.err
    segmented.clear()


def test_a_stopped_prediction_goes_on_to_the_same_label_maps(
    words: list[object], tmp_path: Path, segmented: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    whole = [tmp_path / "whole" if word == tmp_path / "out" else word for word in words]
    succeed(*whole, "--save-probabilities")
    segmented.clear()
    stop_at(3, [*words, "--save-probabilities"], segmented)
    staging = staging_of(tmp_path / "out")
    (staging / "in_work").mkdir(exist_ok=True)
    (staging / "in_work" / "c.nii.gz").write_bytes(b"half")  # as a kill leaves it
    (staging / "c.nii.gz").write_bytes(b"not recorded")
    assert succeed(*words, "--save-probabilities", "--dry-run")["finished_before"] == 2
    facts = succeed(*words, "--save-probabilities")
    assert (facts["finished_before"], len(segmented), facts["cases"]) == (2, 1, 3)
    assert "2 of 3 cases were finished before" in caplog.text
    assert len(facts["inputs"]) == 3 + 3
    assert label_maps(tmp_path / "out") == label_maps(tmp_path / "whole")
    assert tree(tmp_path / "out").keys() == tree(tmp_path / "whole").keys()
    assert not (tmp_path / "out" / FINISHED_NAME).exists()
    assert not staging.exists()


def other_image(images: Path, staging: Path) -> None:
    SimpleITK.WriteImage(small_image(5), str(images / "a_0000.nii.gz"))


def half_a_label_map(images: Path, staging: Path) -> None:
    truncated(staging / "a.nii.gz")


def no_label_map(images: Path, staging: Path) -> None:
    (staging / "a.nii.gz").unlink()


def damaged_record(images: Path, staging: Path) -> None:
    truncated(staging / FINISHED_NAME)


NOT_KEPT: dict[str, tuple[Callable[[Path, Path], None], list[object], int]] = {
    "image_changed": (other_image, [], 1),
    "label_map_damaged": (half_a_label_map, [], 1),
    "label_map_gone": (no_label_map, [], 1),
    "record_damaged": (damaged_record, [], 0),
    "other_settings": (lambda *_: None, ["--no-mirroring"], 0),
    "with_probabilities": (lambda *_: None, ["--save-probabilities"], 0),
}


@pytest.mark.parametrize("name", NOT_KEPT)
def test_only_label_maps_of_the_same_image_model_and_settings_are_kept(
    words: list[object], images: Path, tmp_path: Path, segmented: list[int], name: str
) -> None:
    change, more, kept = NOT_KEPT[name]
    stop_at(3, words, segmented)
    change(images, staging_of(tmp_path / "out"))
    facts = succeed(*words, *more)
    assert (facts["finished_before"], len(segmented)) == (kept, 3 - kept)
    if more:
        return
    whole = [tmp_path / "whole" if word == tmp_path / "out" else word for word in words]
    succeed(*whole)
    assert label_maps(tmp_path / "out") == label_maps(tmp_path / "whole")


def test_label_maps_of_another_model_and_of_other_cases_are_not_kept(
    words: list[object], tmp_path: Path, segmented: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    stop_at(3, words, segmented)
    other = write_tiny_model(tmp_path / "other", folds=("1", "0"))
    shutil.rmtree(other / "fold_1")
    assert succeed("predict", "--run", other, *words[3:], "--dry-run")["finished_before"] == 0
    assert "2 label maps of another model or other settings" in caplog.text
    assert succeed(*words, "--cases", "b")["finished_before"] == 1
    assert [file.name for file in (tmp_path / "out").glob("*.nii.gz")] == ["b.nii.gz"]


def test_no_other_command_takes_the_folder_of_an_unfinished_prediction(
    words: list[object], tmp_path: Path, segmented: list[int]
) -> None:
    stop_at(2, words, segmented)
    with pytest.raises(Exception, match="An unfinished run of another command"), new_run_folder(tmp_path / "out"):
        pass
    assert (staging_of(tmp_path / "out") / "a.nii.gz").is_file()


def refused(outcome: Outcome, *messages: str) -> None:
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    for message in messages:
        assert message in outcome.err


def text_for_an_image(path: Path) -> None:
    path.write_text("no image")


def constant(path: Path) -> None:
    """Damage what no header tells."""
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)) * 0, str(path))


def test_all_bad_headers_are_told_before_anything_is_segmented(
    words: list[object], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Predictor, "logits")
    for case in ("b", "c"):
        text_for_an_image(images / f"{case}_0000.nii.gz")
    for more in ([], ["--dry-run"]):
        refused(fsseg(*words, *more), "2 problems in 3 case(s)", "b: ", "c: ", "--skip-bad")
    text_for_an_image(images / "a_0000.nii.gz")
    refused(fsseg(*words, "--skip-bad"), "3 problems in 3 case(s)", "Repair or remove the files.")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("damage", [text_for_an_image, constant])
def test_bad_cases_are_skipped_on_request_and_listed(
    words: list[object], images: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(images / "b_0000.nii.gz")
    outcome = fsseg(*words, "--skip-bad", "--json")
    assert outcome.code == 1
    assert (outcome.json["cases"], list(outcome.json["not_segmented"])) == (2, ["b"])
    out = tmp_path / "out"
    assert sorted(file.name for file in out.glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz"]
    assert json.loads((out / "not_segmented.json").read_text(encoding="utf-8")) == outcome.json["not_segmented"]
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8")) == outcome.json
    assert ("constant" if damage is constant else "truncated or damaged") in outcome.json["not_segmented"]["b"]


def test_what_only_the_voxels_tell_stops_no_other_case(
    words: list[object], images: Path, tmp_path: Path, segmented: list[int]
) -> None:
    good = (images / "a_0000.nii.gz").read_bytes()
    constant(images / "a_0000.nii.gz")
    refused(fsseg(*words), "1 of 3 case(s) cannot be segmented", "a: ", "The 2 others are segmented and kept in")
    assert not (tmp_path / "out").exists()
    (images / "a_0000.nii.gz").write_bytes(good)
    segmented.clear()
    assert succeed(*words)["finished_before"] == 2
    assert len(segmented) == 1


def test_a_case_that_cannot_be_used_leaves_nothing_where_it_is_the_only_one(
    words: list[object], images: Path, tmp_path: Path
) -> None:
    constant(images / "a_0000.nii.gz")
    refused(fsseg(*words, "--cases", "a", "--skip-bad"), "1 of 1 case(s) cannot be segmented")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(
    "cases",
    [
        [],
        {"a": []},
        {"a": {"images": ["x"], "files": {"a.nii.gz": "y"}}},
        {"a": {"images": ["x"], "files": {"../a.nii.gz": "y"}, "seconds": 1.0}},
        {"a": {"images": ["x"], "files": {"..": "y"}, "seconds": 1.0}},
    ],
)
def test_a_record_of_another_form_counts_no_case(
    cases: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FINISHED_NAME).write_text(json.dumps({"fingerprint": "of this", "cases": cases}))
    assert "a" not in FinishedCases(tmp_path, "of this")
    assert "All cases are segmented again" in caplog.text
