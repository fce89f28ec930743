"""Which axes are flipped: none where a structure has a side, none that the base does not allow, and it is said."""

from pathlib import Path

import pytest

from fsseg.checkpoints.family import Translation
from fsseg.checkpoints.import_input import _mirroring_axes
from fsseg.config.errors import UsageError
from fsseg.config.pretraining import PretrainSettings
from fsseg.config.recipes import Recipe
from fsseg.nnunet.mirroring import ALL_AXES, flips_of_adaptation, flips_of_pretraining, kept_flips
from fsseg.nnunet.model_folder import ModelFolder


def base_with(axes: tuple[int, ...] | None, *names: str) -> ModelFolder:
    """Return a base with a head for these structures, or without one, that allows these axes."""
    labels = {"background": 0, **{name: [integer, integer] for integer, name in enumerate(names, 1)}}
    return ModelFolder(Path("base"), {}, {"labels": labels}, "3d_fullres", {}, axes)


@pytest.mark.parametrize("names", [("left kidney",), ("Kidney_L", "Kidney_R"), ("spleen", "PAROTID-RT")])
def test_nothing_is_flipped_where_a_structure_has_a_side(names: tuple[str, ...]) -> None:
    for base in (None, base_with(ALL_AXES, "spleen"), base_with(None)):
        flips = flips_of_adaptation(Recipe(), names, base)
        assert flips.axes == ()
        assert "so no flips" in flips.reason
    assert flips_of_adaptation(Recipe(), ("spleen",), base_with(ALL_AXES, *names)).axes == ()
    assert flips_of_pretraining(PretrainSettings(steps=1), names).axes == ()
    assert kept_flips(names, ALL_AXES).axes == ()


@pytest.mark.parametrize("axes", [None, (0, 1), (2,), ALL_AXES])
def test_an_adaptation_flips_no_axis_that_its_base_does_not_allow(axes: tuple[int, ...] | None) -> None:
    flips = flips_of_adaptation(Recipe(), ("spleen",), base_with(axes, "liver"))
    assert flips.axes == (axes or ())
    assert flips_of_adaptation(Recipe(), ("spleen",), None).axes == ALL_AXES  # from scratch


def test_how_a_base_without_a_head_was_trained_is_not_known() -> None:
    flips = flips_of_adaptation(Recipe(), ("spleen",), base_with(None))
    assert flips.axes == ()
    assert "not known" in flips.reason
    assert flips_of_adaptation(Recipe(mirroring=True), ("spleen",), base_with(None)).axes == ALL_AXES
    assert flips_of_adaptation(Recipe(), ("spleen",), base_with((0, 1))).axes == (0, 1)  # it says so itself


@pytest.mark.parametrize(
    ("recipe", "names", "base", "said"),
    [
        ({}, ("left kidney", "right kidney"), base_with(ALL_AXES, "liver"), "Paired: left kidney/right kidney"),
        ({}, ("LeftAtrium",), None, "On one side: LeftAtrium"),
        ({}, ("spleen",), base_with(None, "liver"), "The base allows no flips"),
        ({"augmentation": "intensity_shift"}, ("spleen",), None, "intensity_shift has no flips"),
    ],
)
def test_flips_that_there_cannot_be_are_refused_when_asked_for(
    recipe: dict[str, str], names: tuple[str, ...], base: ModelFolder | None, said: str
) -> None:
    with pytest.raises(UsageError, match=f"recipe.mirroring=true asks for flips, but: .*{said}"):
        flips_of_adaptation(Recipe(mirroring=True, **recipe), names, base)
    flips = flips_of_adaptation(Recipe(**recipe), names, base)
    assert (flips.axes, said in flips.reason) == ((), True)


def test_a_pretraining_asks_for_flips_or_has_none() -> None:
    with pytest.raises(UsageError, match="mirroring=true asks for flips, but: Paired: LK kidney/RK kidney"):
        flips_of_pretraining(PretrainSettings(steps=1, mirroring=True), ("LK kidney", "RK kidney"))
    assert flips_of_pretraining(PretrainSettings(steps=1, mirroring=True), ("spleen",)).axes == ALL_AXES
    assert flips_of_pretraining(PretrainSettings(steps=1, mirroring=False), ("spleen",)).axes == ()
    assert flips_of_pretraining(PretrainSettings(steps=1, augmentation="turn_and_shift"), ("spleen",)).axes == ()


def test_a_letter_has_its_partner_among_the_other_structures_of_the_dataset() -> None:
    assert flips_of_adaptation(Recipe(), ("tumour_L",), None).axes == ALL_AXES
    flips = flips_of_adaptation(Recipe(), ("tumour_L",), None, beside=("tumour_R", "tumour_L"))
    assert flips.axes == ()
    assert flips.reason.startswith("On one side: tumour_L; so no flips.")


def test_axes_of_a_checkpoint_are_those_of_its_own_arrays() -> None:
    plans = {"transpose_forward": [1, 0, 2]}
    translation = Translation({}, {}, plans, mirroring_axes=(0, 2))  # the second and the third axis of the image
    assert _mirroring_axes(translation, {"transpose_forward": [0, 1, 2]}) == (1, 2)
    assert _mirroring_axes(translation, plans) == (0, 2)


def test_a_letter_that_decides_is_named_and_so_is_one_that_does_not() -> None:
    flips = flips_of_adaptation(Recipe(), ("Kidney_L",), None)
    assert flips.reason.endswith("A letter or part of a word decided: Kidney_L (left).")
    flips = flips_of_adaptation(Recipe(), ("LV", "RV", "MYO"), None)
    assert flips.axes == ALL_AXES
    assert "not taken to: LV, RV. recipe.mirroring=false has none." in flips.reason
    assert flips_of_adaptation(Recipe(mirroring=False), ("LV", "RV"), None).axes == ()
