"""Cases whose names end like files, under which ITK writes a label map elsewhere and reads none."""

from pathlib import Path

import pytest
import SimpleITK
from conftest import fsseg
from phantom_collections import ct, image_of, save

from fsseg.config.errors import FssegError
from fsseg.data.case_files import find_cases
from fsseg.data.case_names import misread_names
from fsseg.data.specs import DatasetSpec
from fsseg.nnunet.raw_dataset import images_by_case

SPEC = {
    "name": "Livers",
    "folder": "Livers",
    "modality": "CT",
    "licence": "CC0",
    "citation": "nobody",
    "layout": {"kind": "nnunet_raw"},
    "labels": {1: "liver"},
    "annotated": ["liver"],
}


@pytest.mark.parametrize("ending", [".nii", ".NII", ".hdr", ".img", ".nia", ".nii.gz", ".img.gz"])
def test_no_label_map_is_written_under_such_a_name(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"x{ending}.nii.gz"
    save(image_of(ct()), file)
    with pytest.raises(RuntimeError):
        SimpleITK.ReadImage(str(file))
    assert misread_names([f"x{ending}", "x", "x.nii.1", "x.gz"]) == [f"x{ending}"]


def test_such_a_name_is_refused_where_cases_are_listed(tmp_path: Path) -> None:
    images = tmp_path / "imagesTr"
    save(image_of(ct()), images / "a_0000.nii.gz")
    save(image_of(ct()), images / "x.nii_0000.nii.gz")
    with pytest.raises(FssegError, match=r"names that end like those of files: x\.nii[\s\S]*Rename x\.nii to x"):
        images_by_case(images, {"file_ending": ".nii.gz", "channel_names": {"0": "CT"}})
    assert find_cases(DatasetSpec.model_validate(SPEC), tmp_path).problems == [
        "case x.nii has a name that ends like that of a NIfTI file"
    ]
    left_out = DatasetSpec.model_validate({**SPEC, "exclude": {"x.nii": "its name"}})
    assert not find_cases(left_out, tmp_path).problems


def test_predict_refuses_it_before_it_segments(tmp_path: Path, adapted: Path) -> None:
    save(image_of(ct()), tmp_path / "images" / "x.nii_0000.nii.gz")
    words = ("--input", tmp_path / "images", "--output", tmp_path / "out", "--dry-run")
    outcome = fsseg("predict", "--run", adapted, *words)
    assert outcome.code == 1
    assert "x.nii: its name ends like that of a NIfTI file" in outcome.err
