"""Values off the scale are told with the likely cause, and those of real CT in all its variants are not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import yaml
from conftest import Lab, fsseg, succeed
from phantom_collections import SHAPE, ct, image_of, save

from fsseg.data.intensity_scale import OffScale, checks_of_channels, off_base, off_hounsfield, scale_notes
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.normalization import scale_checks
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.nnunet.raw_dataset import read_raw_dataset
from fsseg.nnunet.usable_cases import require_usable_dataset

SHARED = Path(__file__).parents[2] / "shared" / "data"
ABDOMEN = {"percentile_00_5": -175.0, "percentile_99_5": 250.0, "mean": -175.0, "std": 425.0, "median": 37.5}
NO_AIR = np.s_[:, 20:44, 12:30]
Change = Callable[[np.ndarray], np.ndarray]


def body() -> np.ndarray:
    """Return a (32, 64, 64) CT: noise on air, fat around muscle, lung and bone."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    radius = np.hypot(y / 0.7, x / 0.9)
    plane = np.select([radius < 0.85, radius < 1], [50.0, -100.0], -1000.0)
    plane[np.hypot(y, x - 0.4) < 0.2] = -800
    plane[np.hypot(y - 0.4, x) < 0.12] = 600
    return plane + generator.normal(0, 15, (32, 64, 64))


def padded(value: float) -> Change:
    """Return a change that puts a value outside the field of view of a scanner."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    return lambda array: np.where(np.hypot(y, x) < 1, array, value)


MISTAKES: list[tuple[str, Change]] = [
    ("stored 1024 too high", lambda array: array + 1024),
    ("stored 1024 too high", lambda array: array + 1000),
    ("stored 1024 too high", lambda array: padded(-2000)(array) + 1024),
    ("stored 1024 too low", lambda array: array - 1024),
    ("scaled to 0-1", lambda array: np.clip((array + 175) / 425, 0, 1)),
    ("scaled to 0-1", lambda array: (array - array.min()) / np.ptp(array)),
    ("scaled to a small range", lambda array: (array - array.mean()) / array.std()),
    ("scaled to 8 bits", lambda array: np.rint(np.clip((array + 175) / 425, 0, 1) * 255)),
    ("such as MR", lambda array: np.abs(array + 1000) * 0.4),
    ("such as MR", lambda array: np.clip(array, 0, None) * 2),
]
SOUND: list[Change] = [
    lambda array: array,
    padded(-2000),
    padded(-3024),
    lambda array: np.clip(array, -1024, 3071),
    lambda array: np.clip(array, -175, 250),
    lambda array: np.where(array < -900, -1024, array),  # air without noise
    lambda array: np.where((array > 0) & (array < 100), array + 200, array),  # contrast
]


@pytest.mark.parametrize("air", [True, False])
@pytest.mark.parametrize(("looks", "change"), MISTAKES)
def test_a_mistake_is_told_with_its_likely_cause(looks: str, change: Change, air: bool) -> None:
    array = change(body()) if air else change(body())[NO_AIR]
    found = off_hounsfield(array)
    assert found is not None
    assert looks in found.looks
    assert off_base(array, ABDOMEN) is not None


@pytest.mark.parametrize("change", SOUND)
def test_ct_in_hounsfield_units_is_left_alone(change: Change) -> None:
    for array in (change(body()), change(body())[NO_AIR]):
        assert off_hounsfield(array) is None
        assert off_base(array, ABDOMEN) is None


def test_a_few_voxels_tell_nothing() -> None:
    assert off_hounsfield(np.zeros((2, 3, 4))) is None
    assert off_hounsfield(np.zeros(0)) is None


def test_only_ct_has_a_scale() -> None:
    in_mr, in_ct = checks_of_channels(["MR", "ct"])
    assert in_mr(body() + 1024) is None
    assert in_ct(body() + 1024) is not None
    plans = {"foreground_intensity_properties_per_channel": {"0": ABDOMEN, "1": ABDOMEN, "2": {}}}
    ct, z_score, unknown = scale_checks(["CTNormalization", "ZScoreNormalization", "CTNormalization"], plans)
    assert (z_score(body() + 1024), unknown(body() + 1024)) == (None, None)
    assert words(ct(body() + 1024))[0] == "stored 1024 too high"


def words(off: OffScale | None) -> tuple[str, str]:
    assert off is not None
    return off.looks, off.expected


def test_the_scale_of_a_base_counts_more_than_that_of_ct() -> None:
    shifted = {"percentile_00_5": 850.0, "percentile_99_5": 1270.0, "mean": 1070.0, "std": 60.0, "median": 1075.0}
    assert off_base(body() + 1024, shifted) is None
    assert off_base(body(), shifted) is not None
    unit = {"percentile_00_5": 0.1, "percentile_99_5": 0.9, "mean": 0.5, "std": 0.2, "median": 0.5}
    assert off_base(np.clip((body() + 175) / 425, 0, 1), unit) is None
    assert "0.1 to 0.9" in words(off_base(body(), unit))[1]
    of_mr = {"percentile_00_5": 120.0, "percentile_99_5": 560.0, "mean": 410.0, "std": 70.0, "median": 405.0}
    assert off_base(np.abs(body() + 1000) * 0.4, of_mr) is None  # MR that was trained on under the name of CT


def test_images_of_one_cause_are_named_together() -> None:
    high = OffScale(0, 1500, "stored 1024 too high")
    notes = scale_notes({"a_0000.nii.gz": high, "b_0000.nii.gz": OffScale(0, 1, "scaled to 0-1"), "c": high})
    assert notes == [
        "INTENSITIES look stored 1024 too high: a_0000.nii.gz (0 to 1500), c (0 to 1500). Expected are Hounsfield units"
        " (air -1000, water 0).",
        "INTENSITIES look scaled to 0-1: b_0000.nii.gz (0 to 1). Expected are Hounsfield units (air -1000, water 0).",
    ]


@pytest.mark.parametrize(
    "dataset", ["101_HeadNeckNerve", "102_HeadNeckGlands", "103_HeadNeckBone", "104_HeadNeckTarget"]
)
def test_real_ct(dataset: str) -> None:
    files = sorted((SHARED / f"Dataset{dataset}" / "imagesTr").glob("*.nii.gz"))[::8]
    if not files:
        pytest.skip(f"no real data in {SHARED}")
    for file in files:
        array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))
        assert off_hounsfield(array) is None, file
        assert words(off_hounsfield(array + 1024))[0] == "stored 1024 too high", file
        assert words(off_hounsfield((array + 1024) / 4095))[0] == "scaled to 0-1", file


# What the commands say


def shift(file: Path) -> None:
    """Store an image 1024 too high, in a file of its own."""
    image = SimpleITK.ReadImage(str(file))
    file.unlink()
    SimpleITK.WriteImage(image + 1024, str(file))


@pytest.fixture
def shifted(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A dataset whose first case is stored 1024 too high."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    copy = lab.copy_target(tmp_path / "raw")
    shift(copy.image(0))
    return copy


def test_preprocessing_for_a_base_tells_it_also_from_its_cache(shifted: Lab, tmp_path: Path) -> None:
    dataset = read_raw_dataset(shifted.target)
    for _ in range(2):
        preprocessor = CasePreprocessor(ModelFolder.read(shifted.base), cache=tmp_path / "cache")
        for index in (0, 1):
            case = shifted.case(index)
            structures = dataset.structures
            preprocessor.volume(case, dataset.images(case), dataset.label(case), structures, structures.names[:1])
        assert list(preprocessor.off_scale) == [shifted.image(0).name]
    (note,) = scale_notes(preprocessor.off_scale)
    assert "as the base was trained on" in note


def test_adapt_predict_and_preprocess_name_the_image(
    shifted: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = f"INTENSITIES look stored 1024 too high: {shifted.image(0).name}"
    words = shifted.adapt_words(tmp_path / "run", "--cases", shifted.case(0), shifted.case(1), base=shifted.base)
    assert sum(said in note for note in succeed(*words, "--dry-run")["notes"]) == 1
    caplog.clear()
    where = ("--input", shifted.target / "imagesTr", "--cases", shifted.case(0), "--output", tmp_path / "out")
    assert said in succeed("predict", "--run", shifted.base, *where)["notes"][0]
    assert caplog.text.count(said) == 1
    caplog.clear()
    preprocessor = CasePreprocessor(ModelFolder.read(shifted.base), cache=None)
    preprocessor.image([shifted.image(0)])  # as for --zero-shot, which says it at its end
    assert list(preprocessor.off_scale) == [shifted.image(0).name]
    assert said not in caplog.text
    (note,) = require_usable_dataset(read_raw_dataset(shifted.target), 2, "ITK")
    assert note.startswith(said)


def test_assemble_names_the_case(tmp_path: Path) -> None:
    spec = {
        "name": "Livers",
        "folder": "Livers",
        "modality": "CT",
        "licence": "CC0",
        "citation": "nobody",
        "layout": {"kind": "label_map", "image": "{case}.nii.gz", "labels": "labels/{case}.nii.gz"},
        "labels": {1: "liver"},
        "annotated": ["liver"],
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    labels = np.zeros(SHAPE, np.uint8)
    labels[5, 5:9, 5:9] = 1
    for case, offset in (("a", 0), ("b", 1024)):
        save(image_of(ct() + np.int16(offset)), tmp_path / "Livers" / f"{case}.nii.gz")
        save(image_of(labels), tmp_path / "Livers" / "labels" / f"{case}.nii.gz")
    outcome = fsseg("assemble", tmp_path / "spec.yaml", "--root", tmp_path, "--check")
    assert "Livers_b: INTENSITIES look stored 1024 too high" in outcome.out
    assert "Livers_a: INTENSITIES" not in outcome.out
