"""Layouts of label maps: what a spec may not say, and what a folder may not hold."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import yaml
from conftest import Outcome, fsseg
from phantom_collections import SHAPE, ct, image_of, save, save_series

from fsseg.config.errors import UsageError
from fsseg.data.conflicts import resolved_names
from fsseg.data.spec_loading import load_spec, load_specs
from fsseg.data.specs import DatasetSpec

FILES = {"kind": "label_map", "image": "images/{case}.nii.gz", "labels": "labels/{case}.nii.gz"}
SERIES = {"kind": "label_map", "image": "{case}/dicom/", "labels": "{case}/ground/*.png"}
SPEC: dict[str, Any] = {
    "name": "Livers",
    "folder": "Livers",
    "modality": "CT",
    "licence": "CC0",
    "citation": "nobody",
    "layout": FILES,
    "labels": {1: "liver"},
    "annotated": ["liver"],
}
LIVER = np.s_[3:8, 6:12, 6:20]


def write_spec(root: Path, file: str = "spec.yaml", **changes: Any) -> Path:
    root.mkdir(exist_ok=True)
    path = root / file
    path.write_text(yaml.safe_dump(SPEC | changes, sort_keys=False), encoding="utf-8")
    return path


def liver_labels() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[LIVER] = 1
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": FILES | {"image": "images/ct.nii.gz"}}, r"layout\.image: must hold \{case\}.*got 'images/ct\.nii"),
        ({"layout": FILES | {"labels": "labels/{case}.mha"}}, r"layout\.labels: must.*end in one of \.nii\.gz, \.nii"),
        ({"layout": FILES | {"image": "**/{case}.nii.gz"}}, r"not hold \{label\} or \*\*, got '\*\*/\{case\}"),
        ({"layout": FILES | {"labels": "{case}/{label}.nii.gz"}}, r"layout\.labels: must.*not hold \{label\}"),
        ({"layout": FILES | {"labels": "{case}/*.png"}}, "PNG slices need a DICOM series as image.*got 'images"),
        ({"layout": FILES | {"image": "/data/{case}.nii.gz"}}, "layout.image: must lie below the folder.*got '/data"),
        ({"layout": FILES | {"labels": "../{case}.nii.gz"}}, "layout.labels: must lie below the folder"),
        ({"layout": FILES | {"case": "case_("}}, r"layout\.case: no regular expression \(.*got 'case_\('"),
        ({"layout": FILES | {"label_geometry": "none"}}, "label_geometry.*'own' or 'image'"),
        ({"labels": {"liver": "liver"}}, "layout label_map needs integers from 1 as keys.*got 'liver'"),
        ({"labels": {0: "liver"}}, "layout label_map needs integers from 1 as keys.*got 0"),
        ({"split_sides": ["kidny"]}, r"split_sides: 'kidny' is not in labels \(there: liver\)"),
        (
            {"labels": {1: "kidney_left"}, "split_sides": ["kidney_left"], "annotated": ["kidney_left"]},
            "split_sides: 'kidney_left' is one side already; name what covers both, such as kidney",
        ),
        (
            {
                "labels": {1: "kidney", 2: "kidney_left"},
                "split_sides": ["kidney"],
                "annotated": ["kidney_left", "kidney_right"],
            },
            "split_sides: labels must not name 'kidney_left' besides 'kidney'",
        ),
        (
            {"labels": {1: "kidney"}, "split_sides": ["kidney"], "annotated": ["kidney"]},
            "annotated: 'kidney' is not in labels; did you mean 'kidney_(left|right)'",
        ),
        (
            {
                "labels": {1: "kidney"},
                "split_sides": ["kidney"],
                "annotated": ["kidney_left", "kidney_right"],
                "modality": "MR",
            },
            "split_sides: needs CT.*got modality 'MR'",
        ),
        ({"incomplete_cases": "ignore"}, "incomplete_cases.*'refuse' or 'leave_out'.*got 'ignore'"),
        ({"collection": "Many Livers"}, "collection: letters and digits only.*got 'Many Livers'"),
    ],
)
def test_a_mistake_in_a_spec_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_spec(write_spec(tmp_path, **changes))


def test_all_mistakes_of_a_layout_come_at_once(tmp_path: Path) -> None:
    layout = {"kind": "label_map", "image": "ct.mha", "labels": "{case}", "case": "["}
    outcome = fsseg("assemble", write_spec(tmp_path, layout=layout), "--check")
    assert outcome.code == 2
    assert "3 errors in" in outcome.err


def test_two_specs_may_share_a_folder_if_they_read_different_files(tmp_path: Path) -> None:
    one = write_spec(tmp_path, "one.yaml", layout=FILES | {"case": "a.*"})
    two = write_spec(tmp_path, "two.yaml", name="Others", layout=FILES | {"case": "b.*"})
    assert len(load_specs([one, two])) == 2
    same = write_spec(tmp_path, "same.yaml", name="Others", layout=FILES | {"case": "a.*"})
    with pytest.raises(UsageError, match="Two specs have the folder 'Livers' and the same layout"):
        load_specs([one, same])


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("HeadNeckNerve", "head_neck_nerve"),
        ("TotalSegmentatorV2", "total_segmentator_v2"),
        ("BTCVCervix", "btcv_cervix"),
        ("KiTS21", "kits21"),
        ("AbdomenCT12Organ", "abdomenct12_organ"),
    ],
)
def test_names_of_collections_in_structure_names(name: str, snake: str) -> None:
    assert DatasetSpec.model_validate(SPEC | {"name": name}).snake_name == snake


def check(root: Path, layout: dict[str, Any], *more: object, **changes: Any) -> Outcome:
    """Run an assembly and make sure that nothing stays of a refused one."""
    (root / "raw").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_raw", str(root / "raw"))
        patch.delenv("nnUNet_preprocessed", raising=False)  # other tests have a dataset of this number there
        spec = write_spec(root, layout=layout, **changes)
        outcome = fsseg("assemble", spec, "--root", root, "--id", 901, "--name", "Joined", *more)
    assert outcome.code == 0 or list((root / "raw").iterdir()) == []
    return outcome


def write_series(case: Path, first_is_top: bool = False) -> None:
    save_series(image_of(ct()), case / "dicom", "i{:04d}.dcm", first_is_top)
    (case / "ground").mkdir()
    for number, array in enumerate(liver_labels()):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(case / "ground" / f"mask_{number:03d}.png"))


def add_second_series(case: Path) -> None:
    save_series(image_of(ct()), case / "other", "j{:04d}.dcm")
    for file in (case / "other").iterdir():
        image = SimpleITK.ReadImage(str(file))
        image.SetMetaData("0020|000e", "1.2.826.0.1.3680043.2.9")
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(case / "dicom" / file.name))
        writer.Execute(image)


def tilt(case: Path) -> None:
    """Shift every slice 2 mm further along its rows, as a tilted gantry does."""
    for number, file in enumerate(sorted((case / "dicom").iterdir())):
        image = SimpleITK.ReadImage(str(file))
        x, y, z = (float(value) for value in image.GetMetaData("0020|0032").split("\\"))
        image.SetMetaData("0020|0032", f"{x + 2 * number}\\{y}\\{z}")
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(file))
        writer.Execute(image)


def remove(*files: Path) -> None:
    for file in files:
        file.unlink()


def shrink(*files: Path) -> None:
    for file in files:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((8, 8), np.uint8)), str(file))


SPOIL: dict[str, Callable[[Path], object]] = {
    "missing slice": lambda case: remove(case / "dicom/i0004.dcm", case / "ground/mask_004.png"),
    "tilted slices": tilt,
    "no series": lambda case: remove(*(case / "dicom").iterdir()),
    "two series": add_second_series,
    "damaged slice": lambda case: (case / "dicom/i0000.dcm").write_bytes(b"no image"),
    "single slice": lambda case: remove(*(case / f"dicom/i{number:04d}.dcm" for number in range(1, SHAPE[0]))),
    "missing png": lambda case: remove(case / "ground/mask_003.png"),
    "damaged png": lambda case: (case / "ground/mask_003.png").write_bytes(b"no image"),
    "png of another size": lambda case: shrink(*(case / "ground").iterdir()),
    "no labels": lambda case: shutil.rmtree(case / "ground"),
}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing slice", "image slices are missing or uneven: 8.00 mm between slices 4 and 5, 4.00 mm elsewhere"),
        ("tilted slices", "image slices are tilted by 26.6 degrees (gantry tilt"),
        ("no series", "image holds 0 DICOM series, one is needed"),
        ("two series", "image holds 2 DICOM series, one is needed"),
        ("damaged slice", "image holds damaged DICOM files: "),
        ("single slice", "image holds a single DICOM slice"),
        ("missing png", "labels not one PNG per DICOM file (11 for 12)"),
        ("damaged png", "labels unreadable"),
        ("png of another size", "have shape 8x8x12, but the image has 32x20x12"),
        ("no labels", "labels missing"),
    ],
)
def test_a_bad_series_is_refused_and_leaves_nothing(tmp_path: Path, kind: str, message: str, capfd: Any) -> None:
    write_series(tmp_path / "Livers" / "a")
    SPOIL[kind](tmp_path / "Livers" / "a")
    outcome = check(tmp_path, SERIES)
    assert outcome.code == 1
    assert "1 problem in 1 cases" in outcome.err
    assert "Livers_a: " in outcome.err
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert capfd.readouterr().err == ""  # ITK prints nothing beside


def test_a_case_with_two_files_is_refused(tmp_path: Path) -> None:
    for part in ("part1", "part2"):
        save(image_of(ct()), tmp_path / "Livers" / part / "a.nii.gz")
    save(image_of(liver_labels()), tmp_path / "Livers" / "labels" / "a.nii.gz")
    outcome = check(tmp_path, FILES | {"image": "part*/{case}.nii.gz"})
    assert outcome.code == 1
    assert "Livers: case a has two files: " in outcome.err


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_file_with_fewer_voxels_than_its_header_says_is_refused(tmp_path: Path, ending: str) -> None:
    plain = tmp_path / "whole.nii"
    save(image_of(ct()), plain)
    path = tmp_path / "Livers" / "images" / f"a{ending}"
    path.parent.mkdir(parents=True)
    content = plain.read_bytes()[:-100]
    path.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    save(image_of(liver_labels()), tmp_path / "Livers" / "labels" / "a.nii.gz")
    outcome = check(tmp_path, FILES | {"image": f"images/{{case}}{ending}"})
    assert outcome.code == 1
    assert "image truncated or damaged" in outcome.err
    assert "bytes that its header announces" in outcome.err


def test_labels_of_another_geometry_are_refused_unless_the_spec_lays_them_on_the_grid(tmp_path: Path) -> None:
    save(image_of(ct()), tmp_path / "Livers" / "images" / "a.nii.gz")
    moved = image_of(liver_labels(), "RAI")
    moved.SetOrigin((0.0, 0.0, 0.0))
    save(moved, tmp_path / "Livers" / "labels" / "a.nii.gz")
    outcome = check(tmp_path, FILES)
    assert outcome.code == 1
    assert "have origin" in outcome.err
    (tmp_path / "raw").rmdir()
    assert check(tmp_path, FILES | {"label_geometry": "image"}).code == 0
    joined = SimpleITK.ReadImage(str(tmp_path / "raw/Dataset901_Joined/labelsTr/Livers_a.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(joined), liver_labels())


def test_incomplete_cases_are_refused_unless_the_spec_leaves_them_out(tmp_path: Path) -> None:
    for case in "ab":
        save(image_of(ct()), tmp_path / "Livers" / "images" / f"{case}.nii.gz")
    save(image_of(liver_labels()), tmp_path / "Livers" / "labels" / "a.nii.gz")
    outcome = check(tmp_path, FILES)
    assert outcome.code == 1
    assert "Livers_b: labels missing" in outcome.err
    (tmp_path / "raw").rmdir()
    outcome = check(tmp_path, FILES, incomplete_cases="leave_out", known_issues=["Only a few have labels."])
    assert outcome.code == 0
    assert "Livers: cases without image or without labels are left out (1): b" in outcome.out
    assert "known issue: Only a few have labels." in outcome.out


def test_a_wrong_path_does_not_leave_out_everything(tmp_path: Path) -> None:
    save(image_of(ct()), tmp_path / "Livers" / "images" / "a.nii.gz")
    outcome = check(tmp_path, FILES, incomplete_cases="leave_out")
    assert outcome.code == 1
    assert "Livers_a: labels missing: " in outcome.err
    assert "labels/a.nii.gz" in outcome.err


def test_every_dataset_may_keep_its_own_channels(tmp_path: Path) -> None:
    one = write_spec(tmp_path, "one.yaml", definitions={"liver": "with vessels"})
    two = write_spec(tmp_path, "two.yaml", name="OtherLivers", folder="Other", definitions={"liver": "without vessels"})
    assert fsseg("assemble", one, two, "--check").code == 2
    outcome = fsseg("assemble", one, two, "--check", "--channels", "per_dataset", "--json")
    assert outcome.code == 0
    assert list(outcome.json["report"]["structures"]) == ["livers__liver", "other_livers__liver"]
    assert outcome.json["config"]["channels"] == "per_dataset"
    assert fsseg("assemble", one, two, "--check", "--channels", "all").code == 2


def test_sides_stay_pairs_when_every_dataset_has_its_own_channels(tmp_path: Path) -> None:
    spec = load_spec(
        write_spec(tmp_path, labels={1: "kidney_left", 2: "kidney_right"}, annotated=["kidney_left", "kidney_right"])
    )
    names = resolved_names([spec], "per_dataset")["Livers"]
    assert names == {"kidney_left": "livers__kidney_left", "kidney_right": "livers__kidney_right"}
