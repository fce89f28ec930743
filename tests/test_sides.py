"""Both sides labelled as one: connected parts go to their side of the body, whatever the storage, or to none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import yaml
from phantom_collections import SHAPE, ct, image_of, save

from fsseg.data.sides import split_sides
from fsseg.data.structures import load_structures
from fsseg.stages.assemble import AssembleConfig, run_assemble

RIGHT, LEFT = np.s_[2:8, 6:12, 6:11], np.s_[3:8, 6:12, 20:26]  # x index grows towards the patient's left (LPS)
BRIDGE = np.s_[3, 8, 6:26]
CRUMB_RIGHT = np.s_[9, 3, 9]
ORIENTATIONS = ("LPS", "RAI", "SPL", "PIR", "LAS")


def mask_of(*places: Any) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    for place in places:
        mask[place] = True
    return mask


def stored(mask: np.ndarray, orientation: str) -> np.ndarray:
    """Return a mask in LPS as it lies in an image of another orientation."""
    return SimpleITK.GetArrayFromImage(image_of(mask.astype(np.uint8), orientation)) > 0


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_two_parts_go_to_their_sides(orientation: str) -> None:
    sides = split_sides(stored(mask_of(RIGHT, LEFT), orientation), image_of(ct(), orientation))
    assert sides.remark == ""
    assert np.array_equal(sides.right, stored(mask_of(RIGHT), orientation))
    assert np.array_equal(sides.left, stored(mask_of(LEFT), orientation))


def test_an_oblique_image_is_split_along_the_patient_not_along_its_rows() -> None:
    image = image_of(ct())
    turn = np.deg2rad(30)
    image.SetDirection((np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0, 0, 0, 1))
    sides = split_sides(mask_of(RIGHT, LEFT), image)
    assert np.array_equal(sides.left, mask_of(LEFT))


@pytest.mark.parametrize("orientation", ["LPS", "RAI"])
@pytest.mark.parametrize(("place", "side"), [(RIGHT, "right"), (LEFT, "left")])
def test_a_single_part_is_placed_by_the_midline_of_the_body(place: Any, side: str, orientation: str) -> None:
    sides = split_sides(stored(mask_of(place), orientation), image_of(ct(), orientation))
    assert sides.remark == f"it lies on the {side} of the body's midline only"
    other = "left" if side == "right" else "right"
    assert np.array_equal(getattr(sides, side), stored(mask_of(place), orientation))
    assert not getattr(sides, other).any()


def test_the_midline_is_that_of_the_body_not_of_the_image() -> None:
    array = np.full(SHAPE, -1000, np.int16)
    array[:, 2:18, 16:32] = 40  # the patient lies to one side; the middle of the body is at index 24
    sides = split_sides(mask_of(np.s_[3:8, 6:12, 18:22]), image_of(array))
    assert sides.remark == "it lies on the right of the body's midline only"


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_midline_is_found_in_the_slices_of_the_structure(orientation: str) -> None:
    array = np.full(SHAPE, -1000, np.int16)
    array[:6, 2:18, 14:32] = 40  # the structure's slices: the middle of the body is at index 22.5
    array[6:, 2:18, 0:18] = 40
    sides = split_sides(stored(mask_of(np.s_[1:5, 6:12, 16:21]), orientation), image_of(array, orientation))
    assert sides.remark == "it lies on the right of the body's midline only"


def test_a_part_that_reaches_across_the_midline_has_no_side() -> None:
    sides = split_sides(mask_of(RIGHT, LEFT, BRIDGE), image_of(ct()))
    assert sides.right is None
    assert sides.left is None
    assert "reaches across the body's midline" in sides.remark


def test_crumbs_go_to_their_side_and_make_no_pair() -> None:
    sides = split_sides(mask_of(LEFT, CRUMB_RIGHT), image_of(ct()))
    assert np.array_equal(sides.right, mask_of(CRUMB_RIGHT))
    assert sides.remark == "it lies on the left of the body's midline only"
    # A crumb across the midline does not make the rest unknown.
    sides = split_sides(mask_of(LEFT, RIGHT, np.s_[10, 3, 15:17]), image_of(ct()))
    assert sides.remark == ""
    assert (sides.left | sides.right).sum() == mask_of(LEFT, RIGHT, np.s_[10, 3, 15:17]).sum()


def test_without_tissue_there_is_no_midline() -> None:
    sides = split_sides(mask_of(LEFT), image_of(np.full(SHAPE, -1000, np.int16)))
    assert sides.left is None
    assert "no tissue above -300 HU" in sides.remark


def test_nothing_labelled_is_nothing_on_both_sides() -> None:
    sides = split_sides(mask_of(), image_of(ct()))
    assert sides.remark == ""
    assert not sides.left.any()
    assert not sides.right.any()


def kidneys(
    root: Path,
    cases: dict[str, dict[int, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
    split: tuple[str, ...] = ("kidney",),
) -> tuple[Any, Path]:
    """Assemble label maps with 1 kidney, 2 tumour in a kidney, 3 liver."""
    annotated = [part for name in ("kidney", "kidney_tumour") for part in sided(name, split)]
    (root / "raw").mkdir()
    monkeypatch.setenv("nnUNet_raw", str(root / "raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)  # other tests have a dataset of this number there
    for case, labels in cases.items():
        array = np.zeros(SHAPE, np.uint8)
        for value, mask in labels.items():
            array[mask] = value
        save(image_of(ct(), "RAI"), root / "Kidneys" / f"{case}.nii.gz")
        save(image_of(array, "RAI"), root / "Kidneys" / "labels" / f"{case}.nii.gz")
    spec = {
        "name": "Kidneys",
        "folder": "Kidneys",
        "modality": "CT",
        "licence": "CC0",
        "citation": "nobody",
        "layout": {"kind": "label_map", "image": "{case}.nii.gz", "labels": "labels/{case}.nii.gz"},
        "labels": {1: "kidney", 2: ["kidney", "kidney_tumour"], 3: "liver"},
        "split_sides": list(split),
        "annotated": [*annotated, "liver"],
    }
    (root / "spec.yaml").write_text(yaml.safe_dump(spec))
    config = AssembleConfig(specs=(root / "spec.yaml",), root=root, dataset_id=901, name="Joined")
    result = run_assemble(config)
    assert result.out is not None
    return result.report.as_json(), result.out


def sided(name: str, split: tuple[str, ...]) -> list[str]:
    """Return the parts of a structure."""
    return [f"{name}_right", f"{name}_left"] if name in split else [name]


def joined(out: Path, case: str, name: str) -> np.ndarray:
    image = SimpleITK.ReadImage(str(out / "labelsTr" / f"Kidneys_{case}.nii.gz"))
    array = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(image, "LPS"))
    return np.isin(array, load_structures(out).integers[name])


TUMOUR = np.s_[5:8, 10:14, 22:26]  # partly beyond the kidney's outline
LIVER = np.s_[9:11, 6:12, 5:15]


def test_tumours_go_with_their_kidney_and_integers_do_not_depend_on_the_data(tmp_path, monkeypatch) -> None:
    cases = {"a": {1: mask_of(RIGHT, LEFT), 2: mask_of(TUMOUR), 3: mask_of(LIVER)}}
    report, out = kidneys(tmp_path, cases, monkeypatch)
    assert np.array_equal(joined(out, "a", "kidney_left"), mask_of(LEFT, TUMOUR))
    assert np.array_equal(joined(out, "a", "kidney_right"), mask_of(RIGHT))
    assert np.array_equal(joined(out, "a", "kidney_tumour"), mask_of(TUMOUR))
    integers = load_structures(out).integers
    assert integers == {"kidney_right": (1, 3), "kidney_left": (2, 4), "kidney_tumour": (3, 4, 6), "liver": (5,)}
    assert report["pairs"]["checked"] == 1
    (warning,) = report["warnings"]  # no label says on which side a predicted tumour lies
    assert "where a prediction has kidney_tumour, it has no kidney_right and no kidney_left" in warning


def test_a_tumour_with_sides_is_painted_as_a_part_of_its_kidney(tmp_path, monkeypatch) -> None:
    cases = {"a": {1: mask_of(RIGHT, LEFT), 2: mask_of(TUMOUR)}}
    report, out = kidneys(tmp_path, cases, monkeypatch, split=("kidney", "kidney_tumour"))
    assert np.array_equal(joined(out, "a", "kidney_left"), mask_of(LEFT, TUMOUR))
    assert np.array_equal(joined(out, "a", "kidney_tumour_left"), mask_of(TUMOUR))
    integers = load_structures(out).integers
    for side in ("right", "left"):
        assert set(integers[f"kidney_tumour_{side}"]) < set(integers[f"kidney_{side}"])
    assert not any("where a prediction has" in text for text in report["warnings"])


def test_a_horseshoe_kidney_has_no_sides_but_its_tumour_and_other_organs_stay(tmp_path, monkeypatch) -> None:
    cases = {
        "horseshoe": {1: mask_of(RIGHT, LEFT, BRIDGE), 2: mask_of(TUMOUR), 3: mask_of(LIVER)},
        "plain": {1: mask_of(RIGHT, LEFT), 3: mask_of(LIVER)},
        "single": {1: mask_of(LEFT)},
    }
    report, out = kidneys(tmp_path, cases, monkeypatch)
    annotated = {case: set(value.annotated) for case, value in load_structures(out).cases.items()}
    assert annotated["Kidneys_horseshoe"] == {"kidney_tumour", "liver"}
    assert annotated["Kidneys_plain"] == {"kidney_right", "kidney_left", "kidney_tumour", "liver"}
    assert annotated["Kidneys_single"] == annotated["Kidneys_plain"]  # the absent kidney is truly absent
    assert np.array_equal(joined(out, "horseshoe", "kidney_tumour"), mask_of(TUMOUR))
    assert not joined(out, "horseshoe", "kidney_left").any()
    assert np.array_equal(joined(out, "horseshoe", "liver"), mask_of(LIVER))
    warnings = [text for text in report["warnings"] if ": kidney: " in text]
    assert len(warnings) == 2
    assert warnings[0].startswith("Kidneys_horseshoe: kidney: a connected part reaches across")
    assert warnings[0].endswith("its sides count as not annotated in this case")
    assert warnings[1] == "Kidneys_single: kidney: it lies on the left of the body's midline only"
