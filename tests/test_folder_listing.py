"""Hidden files and those that operating systems leave are no cases, whichever folder they lie in."""

from pathlib import Path

import pytest

from fsseg.data.case_files import find_cases
from fsseg.data.folder_listing import listed
from fsseg.data.joined_files import case_hashes
from fsseg.data.spec_loading import load_specs
from fsseg.data.structures import structures_of_dataset_json
from fsseg.evaluation.label_folders import open_label_folder
from fsseg.nnunet.preprocessed_dataset import preprocessed_cases
from fsseg.nnunet.raw_dataset import ignored_images, images_by_case

FOREIGN = (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX")
DATASET_JSON = {"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Make an nnU-Net raw dataset of one case as a Mac packs and Windows shows it."""
    for name in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "gt_segmentations/a.nii.gz"):
        file = tmp_path / name
        file.parent.mkdir()
        for beside in (name.split("/")[1], f"._{file.name}", *FOREIGN):
            (file.parent / beside).write_text("content")
    (tmp_path / "dataset.json").write_text(str(DATASET_JSON).replace("'", '"'))
    return tmp_path


def test_only_the_users_own_files_are_listed(dataset: Path) -> None:
    assert [path.name for path in listed(dataset / "labelsTr")] == ["a.nii.gz"]
    (dataset / "__MACOSX").mkdir()
    (dataset / "__MACOSX" / "b.nii.gz").write_text("")
    assert listed(dataset, "*/b.nii.gz") == []
    assert listed(dataset / "nowhere") == []


def test_no_listing_of_cases_takes_them(dataset: Path) -> None:
    images = dataset / "imagesTr"
    assert images_by_case(images, DATASET_JSON) == {"a": [images / "a_0000.nii.gz"]}
    assert ignored_images(images, DATASET_JSON) == []
    assert list(structures_of_dataset_json(DATASET_JSON, dataset).cases) == ["a"]
    assert list(open_label_folder(dataset / "labelsTr").files) == ["a"]
    assert preprocessed_cases(dataset) == ["a"]


SPEC = """
name: Livers
folder: .
modality: CT
licence: CC0
citation: nobody
layout: {layout}
labels: {{1: liver}}
annotated: [liver]
"""
LAYOUTS = {
    "raw": "{kind: nnunet_raw}",
    "label map": "{kind: label_map, image: 'imagesTr/{case}_0000.nii.gz', labels: 'labelsTr/{case}.nii.gz'}",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_layout_takes_them(dataset: Path, layout: str) -> None:
    (dataset / "spec.yaml").write_text(SPEC.format(layout=LAYOUTS[layout]))
    found = find_cases(load_specs([dataset / "spec.yaml"])[0], dataset)
    assert ([files.case for files in found.cases], found.problems) == (["a"], [])


def test_they_do_not_change_the_hash_of_a_series(dataset: Path) -> None:
    (dataset / "spec.yaml").write_text(SPEC.format(layout=LAYOUTS["raw"]))
    (files,) = find_cases(load_specs([dataset / "spec.yaml"])[0], dataset).cases
    as_series = type(files)("a", dataset / "imagesTr", files.labels)
    before = case_hashes(as_series)
    (dataset / "imagesTr" / ".DS_Store").unlink()
    assert case_hashes(as_series) == before
