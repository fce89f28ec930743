"""What `fsseg predict --input` takes: files, folders with and without channel numbers, DICOM."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from conftest import fsseg, succeed
from phantom_collections import save, save_series
from tiny_model import small_image, write_images, write_tiny_model

from fsseg.config.errors import UsageError
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.prediction.inputs import InputFinder, PredictionInputs

SLICES = "i{:04d}.dcm"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One that turns images, one that takes them as they are stored, one of two channels, one that nibabel serves."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "turning": write_tiny_model(folder / "turning"),
        "stored": write_tiny_model(folder / "stored", reader="SimpleITKIO"),
        "two_channels": write_tiny_model(folder / "two", channels=2),
        "nibabel": write_tiny_model(folder / "nibabel", reader="NibabelIO"),
    }


def find(model: Path, path: Path) -> PredictionInputs:
    return InputFinder(ModelFolder.read(model)).find(path)


def found(model: Path, path: Path) -> dict[str, list[str]]:
    inputs = find(model, path)
    assert not inputs.problems
    return {case.name: [file.name for file in case.files] for case in inputs.cases}


FOLDERS: dict[str, tuple[str, list[str], dict[str, list[str]]]] = {
    "as_nnunet": ("turning", ["a_0000.nii.gz", "b.nii.gz"], {"a": ["a_0000.nii.gz"]}),
    "without_numbers": ("turning", ["a.nii.gz", "b-1.nii.gz"], {"a": ["a.nii.gz"], "b-1": ["b-1.nii.gz"]}),
    "other_formats": (
        "turning",
        ["a.nrrd", "b.nii", "c_0000.mha", "d.txt"],
        {"a": ["a.nrrd"], "b": ["b.nii"], "c": ["c_0000.mha"]},
    ),
    "nibabel_reads_nifti_alone": ("nibabel", ["a.nii", "b.nrrd"], {"a": ["a.nii"]}),
    "hidden": ("turning", ["a.nii.gz", "._a.nii.gz", ".DS_Store"], {"a": ["a.nii.gz"]}),
    "two_channels": (
        "two_channels",
        ["a_0000.nii.gz", "a_0001.nii.gz", "b.nii.gz"],
        {"a": ["a_0000.nii.gz", "a_0001.nii.gz"]},
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_cases_of_a_folder(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    model, files, expected = FOLDERS[name]
    for file in files:
        (tmp_path / file).touch()
    assert found(models[model], tmp_path) == expected


FILES: dict[str, tuple[str, str, dict[str, list[str]]]] = {
    "without_number": ("turning", "ct.nii.gz", {"ct": ["ct.nii.gz"]}),
    "with_number": ("turning", "ct_0000.nii.gz", {"ct": ["ct_0000.nii.gz"]}),
    "numbered_patient": ("turning", "ct_0007.nii.gz", {"ct_0007": ["ct_0007.nii.gz"]}),
    "other_format": ("turning", "ct.mha", {"ct": ["ct.mha"]}),
    "first_of_two": ("two_channels", "ct_0000.nii.gz", {"ct": ["ct_0000.nii.gz", "ct_0001.nii.gz"]}),
}


@pytest.mark.parametrize("name", FILES)
def test_the_case_of_a_file(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    model, file, expected = FILES[name]
    for each in {file, "other.nii.gz", *next(iter(expected.values()))}:
        (tmp_path / each).touch()
    assert found(models[model], tmp_path / file) == expected


PROBLEMS: dict[str, tuple[str, list[str], dict[str, str]]] = {
    "channel_missing": (
        "two_channels",
        ["a_0000.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"],
        {"a": "2 channel(s) 0000, 0001: a_0000.nii.gz"},
    ),
    "one_channel_too_many": ("turning", ["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz"], {"a": "a_0001.nii.gz"}),
    "one_name_twice": ("turning", ["a.nii.gz", "a.nrrd", "b.nii.gz"], {"a": "a.nii.gz, a.nrrd"}),
    "named_like_a_file": ("turning", ["x.nii_0000.nii.gz", "b_0000.nii.gz"], {"x.nii": "ends like that of a NIfTI"}),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_case_whose_files_do_not_fit_is_a_problem_of_its_own(
    models: dict[str, Path], tmp_path: Path, name: str
) -> None:
    model, files, expected = PROBLEMS[name]
    for file in files:
        (tmp_path / file).touch()
    inputs = find(models[model], tmp_path)
    assert [case.name for case in inputs.usable] == ["b"]
    assert inputs.problems.keys() == expected.keys()
    for case, text in expected.items():
        assert text in inputs.problems[case]


NOTHING: dict[str, tuple[str, list[str], str, str]] = {
    "missing": ("turning", [], "nowhere", "Image folder not found"),
    "empty": ("turning", [], ".", "No image in"),
    "only_text": ("turning", ["a.txt"], ".", "No image in"),
    "text_file": ("turning", ["a.txt"], "a.txt", "is no image that the model reads"),
    "one_slice": ("turning", ["a.dcm"], "a.dcm", "is one slice: give the folder of its series"),
    "file_without_channel": ("two_channels", ["a.nii.gz"], "a.nii.gz", "does not say which of 2 channels"),
    "folder_without_channels": ("two_channels", ["a.nii.gz"], ".", "No image in .*, but a.nii.gz"),
    "series_for_two_channels": ("two_channels", ["a.dcm"], ".", "the model reads 2 channels a case"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_is_no_image_is_refused_with_the_forms_that_are_taken(
    models: dict[str, Path], tmp_path: Path, name: str
) -> None:
    model, files, path, message = NOTHING[name]
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises(UsageError, match=message + r"[\s\S]*CASE_0000\.nii\.gz"):
        find(models[model], tmp_path / path)


def test_dicom_folders_are_cases_wherever_their_series_lie_below(models: dict[str, Path], tmp_path: Path) -> None:
    save_series(small_image()[:, :, :2], tmp_path / "flat", SLICES)
    deep = tmp_path / "deep" / "study" / "series"
    save_series(small_image()[:, :, :2], deep, SLICES)
    for file in deep.iterdir():
        file.rename(file.with_suffix(""))  # as archives name them
    for part in ("one", "two"):
        save_series(small_image()[:, :, :2], tmp_path / "twice" / part, SLICES)
    (tmp_path / "notes").mkdir()
    (tmp_path / "DICOMDIR").touch()
    inputs = find(models["turning"], tmp_path)
    assert {case.name: case.files[0].name for case in inputs.usable} == {"flat": "flat", "deep": "series"}
    assert "DICOM files in several folders" in inputs.problems["twice"]
    assert inputs.ignored == ("notes",)
    assert found(models["turning"], tmp_path / "flat") == {"flat": ["flat"]}


def test_series_beside_images_are_named(
    models: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.nii.gz").touch()
    save_series(small_image()[:, :, :2], tmp_path / "patients" / "anna", SLICES)
    assert found(models["turning"], tmp_path) == {"a": ["a.nii.gz"]}
    assert "the DICOM files in patients" in caplog.text


def voxels(image: SimpleITK.Image, orientation: str) -> np.ndarray:
    return SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(image, orientation))


@pytest.mark.parametrize("model", ["turning", "stored"])
@pytest.mark.parametrize("first_is_top", [False, True])
def test_a_series_gives_the_label_map_of_the_same_image_in_a_file(
    models: dict[str, Path], tmp_path: Path, model: str, first_is_top: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """In its place and orientation; so does the image as dcm2niix would store it, where the base turns images."""
    save_series(small_image(), tmp_path / "patients" / "anna", SLICES, first_is_top)
    stored = {"lps": small_image(), "las": SimpleITK.DICOMOrient(small_image(), "LAS")}
    for name, image in stored.items():
        save(image, tmp_path / "images" / f"{name}.nii.gz")
    words = ("predict", "--run", models[model], "--device", "cpu")
    succeed(*words, "--input", tmp_path / "patients", "--output", tmp_path / "series")
    assert ("DICOM series as LPS" in caplog.text) is (model == "stored")
    succeed(*words, "--input", tmp_path / "images", "--output", tmp_path / "files")
    ours = SimpleITK.ReadImage(str(tmp_path / "series" / "anna.nii.gz"))
    assert [file.name for file in (tmp_path / "series").glob("*.nii*")] == ["anna.nii.gz"]
    file = SimpleITK.ReadImage(str(tmp_path / "files" / "lps.nii.gz"))
    for geometry in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(ours, geometry)() == pytest.approx(getattr(small_image(), geometry)(), abs=1e-4)
    array = SimpleITK.GetArrayFromImage(ours)
    assert 0.01 < (array > 0).mean() < 0.99
    assert np.array_equal(array, SimpleITK.GetArrayFromImage(file))
    turned = SimpleITK.ReadImage(str(tmp_path / "files" / "las.nii.gz"))
    assert np.array_equal(voxels(turned, "LPS"), array) is (model == "turning")


BAD_SERIES: dict[str, tuple[Any, str]] = {
    "gap": (lambda folder: (folder / "i0005.dcm").unlink(), "slices are missing or uneven"),
    "damaged": (lambda folder: (folder / "i0005.dcm").write_bytes(b"DICM"), "holds damaged DICOM files"),
    "single": (lambda folder: [file.unlink() for file in folder.glob("i*[1-9]*.dcm")], "a single DICOM slice"),
}


@pytest.mark.parametrize("name", BAD_SERIES)
def test_a_bad_series_is_told_before_anything_is_segmented(models: dict[str, Path], tmp_path: Path, name: str) -> None:
    damage, message = BAD_SERIES[name]
    for case in ("anna", "bert"):
        save_series(small_image(), tmp_path / "patients" / case, SLICES)
    damage(tmp_path / "patients" / "bert")
    words = ("--input", tmp_path / "patients", "--output", tmp_path / "out", "--device", "cpu", "--dry-run")
    outcome = fsseg("predict", "--run", models["turning"], *words)
    assert outcome.code == 1
    assert "bert: " in outcome.err
    assert message in outcome.err
    assert "--skip-bad" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_label_map_of_another_format_ends_as_the_model_says(models: dict[str, Path], tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.nrrd")
    words = ("--input", tmp_path / "images" / "a.nrrd", "--output", tmp_path / "out", "--device", "cpu")
    assert succeed("predict", "--run", models["turning"], *words)["cases"] == 1
    assert (tmp_path / "out" / "a.nii.gz").is_file()
