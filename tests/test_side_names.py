"""Sides by names: every spelling that says one counts, and nothing that only looks like one."""

import pytest

from fsseg.data.side_names import sides_of, words_of


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("left kidney", ["left", "kidney"]),
        ("LeftKidney", ["left", "kidney"]),
        ("kidneyL", ["kidney", "l"]),
        ("LKidney", ["l", "kidney"]),
        ("PAROTID-RT", ["parotid", "rt"]),
        ("ctx-lh.insula/1", ["ctx", "lh", "insula", "1"]),
        ("vertebrae_L5", ["vertebrae", "l5"]),
        ("Rib5L", ["rib5", "l"]),
        ("left1", ["left", "1"]),
        ("Fémur_Left", ["fémur", "left"]),
    ],
)
def test_words_of_a_name(name: str, words: list[str]) -> None:
    assert words_of(name) == words


@pytest.mark.parametrize(
    "name",
    [
        *("left kidney", "Left-Kidney", "LeftKidney", "kidneyLeft", "KIDNEY_LEFT", "kidney.left", "Kidney (left)"),
        *("Lt_parotid", "PAROTID-LT", "Lt. parotid", "ren sinister", "arteria_renalis_sinistra", "kidney_sin"),
        *("left_atrium", "heart_ventricle_left", "rib_left_1", "left", "btcv__kidney_left", "lh.cortex"),
        *("Kidney_L", "kidney l", "KidneyL", "lungL", "l_carotid", "optic nerve L", "Glnd_Submand_L", "A_Carotid_L"),
        *("L kidney", "Lens-L", "Parotid (L)", "leftkidney", "kidneyleft", "leftatrium", "Left2Kidney", "rib5left"),
    ],
)
def test_a_name_on_the_left(name: str) -> None:
    assert sides_of([name]).of == {name: "left"}


@pytest.mark.parametrize("name", ["right", "RIGHT lung", "lungR", "r_lung", "Rt_parotid", "A_Carotid_R", "kidney_dex"])
def test_a_name_on_the_right(name: str) -> None:
    assert sides_of([name]).of == {name: "right"}


@pytest.mark.parametrize(
    "name",
    [
        *("vertebrae_L5", "L5", "vertebrae L 5", "lung_lower_lobe", "bright", "upright", "cleft", "leftover", "rectum"),
        *("LCX", "RCA", "LV", "RV", "LVmyo", "liver_segment_4", "liver", "lung", "rib_1", "renal", "spinal_cord"),
        *("left and right kidney", "Kidneys_L+R", "sinus", "rt1", "larynx", "tumour_L", "class_r", ""),
    ],
)
def test_a_name_without_a_side(name: str) -> None:
    assert not sides_of([name]).of


def test_a_letter_is_named_when_it_decides_and_when_it_might_have() -> None:
    sides = sides_of(["Kidney_L", "kidney_right", "spleen"])
    assert sides.pairs == (("kidney_right", "Kidney_L"),)
    assert sides.by_letter == ("Kidney_L",)
    assert not sides.doubtful
    assert sides_of(["tumour_L", "bright", "leftover", "vertebrae_L5"]).doubtful == ("tumour_L",)


@pytest.mark.parametrize(
    ("right", "left"),
    [
        ("tumour_R", "tumour_L"),
        ("R", "L"),
        ("rkidney", "lkidney"),
        ("rightthing", "leftthing"),
        ("Lung_RUL", "Lung_LUL"),
    ],
)
def test_a_partner_makes_a_doubtful_side_sure(right: str, left: str) -> None:
    sides = sides_of([left, right])
    assert sides.pairs == ((right, left),)
    assert set(sides.by_letter) == {left, right}


@pytest.mark.parametrize("names", [("LV", "RV"), ("LK", "RK"), ("liver", "river")])
def test_names_that_differ_in_their_first_letter_alone_are_doubtful(names: tuple[str, ...]) -> None:
    assert sides_of(names).doubtful == names
    assert not sides_of(names).of


def test_pairs_are_found_across_spellings_and_positions() -> None:
    names = ("rib_left_1", "Rib 1 right", "rib_left_2", "LeftKidney", "RT kidney", "left_atrium")
    sides = sides_of(names)
    assert sides.pairs == (("Rib 1 right", "rib_left_1"), ("RT kidney", "LeftKidney"))
    assert sides.single == ("rib_left_2", "left_atrium")


def test_swapped_sides_are_found_in_every_spelling() -> None:
    import numpy as np
    import SimpleITK

    from fsseg.data.orientation import swapped_pairs

    array = np.zeros((2, 4, 8), np.uint8)
    array[:, :, 0], array[:, :, 7] = 1, 2  # x grows towards the patient's left (LPS)
    labels = SimpleITK.GetImageFromArray(array)
    assert swapped_pairs(labels, {"Right Kidney": (1,), "KidneyL": (2,)}) == ([], 1, 0)
    (message,), *_ = swapped_pairs(labels, {"Right Kidney": (2,), "KidneyL": (1,)})
    assert message == "KidneyL lies 7.0 mm to the right of Right Kidney"
