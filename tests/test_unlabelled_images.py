"""A few labelled images among many without a label map: those are left out and counted, wherever a dataset is read."""

import shutil
from pathlib import Path

import pytest
from conftest import TARGET, Lab, fsseg, succeed
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from fsseg.config.errors import UsageError
from fsseg.nnunet.preprocessed_dataset import new_preprocessed
from fsseg.nnunet.raw_dataset import read_raw_dataset

COUNTED = "2 images have no label map in"


@pytest.fixture
def site(site: Lab) -> Lab:
    """The target dataset with two images that nobody has labelled."""
    for index in range(2):
        shutil.copyfile(site.image(index), site.target / "imagesTr" / f"New_{index:03d}_0000.nii.gz")
    return site


def test_they_are_no_cases(site: Lab) -> None:
    dataset = read_raw_dataset(site.target)
    assert dataset.cases == tuple(site.case(index) for index in range(4))
    assert dataset.unlabelled == ("New_000", "New_001")
    assert dataset.unlabelled_notes()[0].endswith("take no part: New_000, New_001")
    assert dataset.images(site.case(0)) is dataset.images(site.case(0))  # the folder is listed once, not for every case
    (site.target / "structures.json").unlink()  # a plain dataset of nnU-Net
    assert read_raw_dataset(site.target).unlabelled == ("New_000", "New_001")
    shutil.rmtree(site.target / "labelsTr")
    with pytest.raises(UsageError, match=r"None of the 6 image\(s\)"):
        _ = read_raw_dataset(site.target).cases


def test_a_case_that_lost_its_label_map_is_no_unlabelled_one(site: Lab) -> None:
    site.label(1).unlink()
    assert site.case(1) not in read_raw_dataset(site.target).unlabelled
    outcome = fsseg("preprocess", "--dataset", 804, "--plans", site.plans)
    assert outcome.code == 1
    assert site.label(1).name in outcome.err


def test_preprocessing_counts_them_and_says_what_the_plans_are(site: Lab, caplog: pytest.LogCaptureFixture) -> None:
    dry = fsseg("preprocess", "--dataset", 804, "--plans", site.plans, "--dry-run")
    assert (caplog.text.count(COUNTED), dry.out.count(COUNTED)) == (0, 1)
    outcome = fsseg("preprocess", "--dataset", 804, "--plans", site.plans)
    assert outcome.code == 0, outcome.err
    assert (caplog.text.count(COUNTED), outcome.out.count(COUNTED)) == (1, 0)  # before the work, and not again
    for text in ("preprocessed 4 cases", "patch ", "batch size", "spacing ", "CT: CTNormalization", "stages"):
        assert text in outcome.out
    folder = site.root / "preprocessed" / TARGET
    assert len(list((folder / "gt_segmentations").iterdir())) == 4
    assert not list(folder.rglob("New_*"))
    assert [path.name for path in folder.parent.iterdir()] == [TARGET]


def test_nnunet_sees_the_labelled_cases_alone(site: Lab) -> None:
    dataset = read_raw_dataset(site.target)
    with new_preprocessed(site.root / "preprocessed" / TARGET, dataset) as folder:
        from fsseg.nnunet.environment import raw_folder

        seen = get_filenames_of_train_images_and_targets(str(raw_folder() / TARGET))
        (folder / "manifest.json").write_text('{"plans": "none"}')
        (folder / "none.json").write_text("{}")
        assert list(seen) == list(dataset.cases)
        assert all(Path(case["label"]).is_file() and Path(case["images"][0]).is_file() for case in seen.values())


def test_adaptations_count_them(site: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dry = succeed(*site.adapt_words(tmp_path / "run", "--dry-run"))
    assert any(COUNTED in note for note in dry["notes"])
    plans = ("nnunet", "plans", "--checkpoint", site.base, "--dataset", 804, "--name", "few")
    outcome = fsseg(*plans)
    assert COUNTED in outcome.out
    assert f"fsseg preprocess --dataset 804 --plans {site.root / 'preprocessed' / TARGET / 'few.json'}" in outcome.out
    assert "No method was given: lora with the decoder tuned" in caplog.text
    named = fsseg(*site.adapt_words(tmp_path / "run", "--cases", "New_000"))
    assert "Unknown support case 'New_000'" in named.err
    assert "images with a label map are the cases" in named.err
