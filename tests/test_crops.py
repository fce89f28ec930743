from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fsseg.data.body import body_mask, cut_to_body
from fsseg.data.crops import CropPlan, CropSampler
from fsseg.data.structures import CaseAnnotation, Structures
from fsseg.data.volumes import MAX_LOCATIONS, Volume, annotation_zones, foreground_locations
from fsseg.data.voxel_crops import VoxelCropSampler
from fsseg.nnunet.augmentation import crop_size_for, training_augmentation
from fsseg.training.seeding import seeded

INTEGERS: dict[str, tuple[int, ...]] = {"liver": (1, 2), "tumour": (2,), "spleen": (3,)}
SHAPE = (24, 28, 32)
PATCH = (8, 12, 10)


def label_map(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """A large liver with a tumour of one voxel in it, and no spleen."""
    labels = np.zeros(shape, dtype=np.int16)
    labels[tuple(slice(length // 4, 3 * length // 4) for length in shape)] = 1
    labels[tuple(length // 2 for length in shape)] = 2
    return labels


def volume(
    annotated: tuple[str, ...] = ("liver", "tumour"),
    shape: tuple[int, int, int] = SHAPE,
    *,
    z_extent: dict[str, tuple[int, int]] | None = None,
    zone_axis: int = 0,
    dtype: Any = np.int16,
) -> Volume:
    annotation = CaseAnnotation(source="a", annotated=annotated, z_extent=z_extent or {})
    structures = Structures(integers=INTEGERS, cases={"case": annotation})
    labels = label_map(shape)
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    zones, zone_annotated = annotation_zones(annotation, structures.names, np.arange(shape[zone_axis]))
    locations = foreground_locations(labels, structures, annotation.annotated)
    return Volume("case", image, labels[None].astype(dtype), locations, zones, zone_axis, zone_annotated)


def sampler(*volumes: Volume, patch: tuple[int, ...] = PATCH, **settings: Any) -> CropSampler:
    settings = {"crop_size": patch, "foreground_probability": 1.0, **settings}
    return CropSampler(volumes, patch, **settings)


def plans(drawn_from: CropSampler, count: int = 200, seed: int = 0) -> list[CropPlan]:
    generator = np.random.default_rng(seed)
    return [drawn_from.draw(generator) for _ in range(count)]


def patch_corner(drawn_from: CropSampler, plan: CropPlan) -> np.ndarray:
    """Lowest voxel of the central patch of a crop."""
    return np.array(plan.corner) + (drawn_from.crop_size - drawn_from.patch_size) // 2


def test_the_generator_decides_the_crops() -> None:
    drawn_from = sampler(volume(), volume(("liver",)), foreground_probability=0.5)
    assert plans(drawn_from, seed=1) == plans(drawn_from, seed=1)
    assert plans(drawn_from, seed=1) != plans(drawn_from, seed=2)


def test_cutting_a_plan_again_gives_the_same_crop() -> None:
    drawn_from = sampler(volume(), crop_size=(12, 16, 14))
    plan = plans(drawn_from, 1)[0]
    for first, second in zip(drawn_from.cut(plan), drawn_from.cut(plan), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("corner", [(4, 5, 6), (-3, 0, 0)], ids=["inside", "padded"])
def test_changing_a_crop_in_place_does_not_change_its_volume(corner: tuple[int, int, int]) -> None:
    case = volume()
    image, labels = case.image.copy(), case.labels.copy()
    crop_image, crop_labels = sampler(case).cut(CropPlan(0, None, corner))
    crop_image += 1
    crop_labels += 1
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.labels, labels)


@pytest.mark.parametrize(
    ("annotated", "drawn"),
    [
        (("tumour",), {"tumour"}),
        (("liver",), {"liver"}),
        (("liver", "tumour"), {"liver", "tumour"}),
        (("tumour", "spleen"), {"tumour"}),  # annotated but absent: nothing to draw
        (("spleen",), {None}),
        ((), {None}),
    ],
)
def test_foreground_is_drawn_only_for_structures_that_the_case_annotates_and_shows(
    annotated: tuple[str, ...], drawn: set[str | None]
) -> None:
    assert {plan.structure for plan in plans(sampler(volume(annotated)))} == drawn


@pytest.mark.parametrize("crop_size", [PATCH, (13, 19, 17), (14, 20, 18)])
def test_a_voxel_of_the_drawn_structure_lies_in_the_patch(crop_size: tuple[int, ...]) -> None:
    drawn_from = sampler(volume(), crop_size=crop_size)
    for plan in plans(drawn_from):
        assert plan.structure is not None
        low = patch_corner(drawn_from, plan)
        patch = label_map()[tuple(slice(a, a + size) for a, size in zip(low, PATCH, strict=True))]
        assert np.isin(patch, INTEGERS[plan.structure]).any(), plan


def test_a_voxel_is_not_always_in_the_middle_of_the_patch() -> None:
    drawn_from = sampler(volume(("tumour",)))
    offsets = np.array(SHAPE) // 2 - np.array([plan.corner for plan in plans(drawn_from)])
    assert (offsets.min(0) == np.array(PATCH) // 4 + np.array(PATCH) % 4 // 2).all()
    assert (offsets.max(0) == np.array(PATCH) // 2 + np.array(PATCH) // 4).all()


def test_small_structures_are_drawn_as_often_as_large_ones() -> None:
    count = 2000
    drawn = Counter(plan.structure for plan in plans(sampler(volume()), count))
    assert set(drawn) == {"liver", "tumour"}
    assert drawn["tumour"] == pytest.approx(count / 2, abs=5 * (count / 4) ** 0.5)  # five standard deviations


def test_the_foreground_share_is_the_one_asked_for() -> None:
    count, share = 2000, 0.33
    drawn = sum(plan.structure is not None for plan in plans(sampler(volume(), foreground_probability=share), count))
    assert drawn == pytest.approx(share * count, abs=5 * (count * share * (1 - share)) ** 0.5)
    assert not any(plan.structure for plan in plans(sampler(volume(), foreground_probability=0.0)))


def test_weights_decide_which_volumes_are_drawn() -> None:
    count = 2000
    drawn = Counter(plan.volume for plan in plans(sampler(volume(), volume(), volume(), weights=[3, 0, 1]), count))
    assert set(drawn) == {0, 2}
    assert drawn[0] == pytest.approx(0.75 * count, abs=5 * (count * 0.1875) ** 0.5)


@pytest.mark.parametrize("patch", [PATCH, (7, 11, 9), SHAPE])
@pytest.mark.parametrize("margin", [0, 1, 4, 5])
@pytest.mark.parametrize("foreground_probability", [0.0, 1.0])
def test_patches_stay_inside_large_volumes(
    patch: tuple[int, int, int], margin: int, foreground_probability: float
) -> None:
    crop_size = tuple(length + margin for length in patch)
    drawn_from = sampler(volume(), patch=patch, crop_size=crop_size, foreground_probability=foreground_probability)
    corners = np.array([patch_corner(drawn_from, plan) for plan in plans(drawn_from, 400)])
    assert (corners >= 0).all()
    assert (corners + patch <= SHAPE).all()


def test_crops_anywhere_reach_both_ends_of_the_volume() -> None:
    corners = np.array([plan.corner for plan in plans(sampler(volume(), foreground_probability=0.0), 2000)])
    assert (corners.min(0) == 0).all()
    assert (corners.max(0) == np.array(SHAPE) - PATCH).all()


@pytest.mark.parametrize("foreground_probability", [0.0, 1.0])
def test_a_volume_smaller_than_the_patch_is_contained_whole(foreground_probability: float) -> None:
    shape = (5, 28, 6)
    case = volume(("liver",), shape)
    drawn_from = sampler(case, crop_size=(12, 16, 14), foreground_probability=foreground_probability)
    for plan in plans(drawn_from, 50):
        low = patch_corner(drawn_from, plan)
        for axis in (0, 2):
            assert low[axis] <= 0
            assert low[axis] + PATCH[axis] >= shape[axis]
        image, labels = drawn_from.cut(plan)
        assert image.shape == (2, 12, 16, 14)
        assert labels.shape == (2, 12, 16, 14)


def test_a_crop_is_the_volume_inside_and_padding_outside() -> None:
    case = volume()
    image, labels = sampler(case).cut(CropPlan(0, None, (-3, 20, 5)))
    assert image.dtype == np.float32
    assert labels.dtype == np.int16
    np.testing.assert_array_equal(image[:, 3:, :8], case.image[:, :5, 20:28, 5:15])
    np.testing.assert_array_equal(labels[0, 3:, :8], case.labels[0, :5, 20:28, 5:15])
    outside = np.ones(PATCH, dtype=bool)
    outside[3:, :8] = False
    assert (image[:, outside] == 0).all()
    assert (labels[0, outside] == -1).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32])
def test_labels_of_any_integer_type_are_padded_with_minus_one(dtype: Any) -> None:
    _, labels = sampler(volume(dtype=dtype)).cut(CropPlan(0, None, (-1, 0, 0)))
    assert (labels[:, 0] == -1).all()
    assert (labels[:, 1:] >= 0).all()


@pytest.mark.parametrize("zone_axis", [0, 1, 2])
def test_zones_follow_the_extent_of_a_structure(zone_axis: int) -> None:
    first, last = 10, 16
    case = volume(z_extent={"liver": (first, last)}, zone_axis=zone_axis)
    corner = [2, 2, 2]
    corner[zone_axis] = -4
    size = (40, 40, 40)
    _, labels = sampler(case, patch=size).cut(CropPlan(0, None, (corner[0], corner[1], corner[2])))
    zones = np.moveaxis(labels[1], zone_axis, 0)
    assert (zones == zones[:, :1, :1]).all(), "zones are slabs"
    line = zones[:, 0, 0]
    slices = np.arange(40) - 4
    inside = (slices >= 0) & (slices < SHAPE[zone_axis])
    assert (line[~inside] == -1).all()
    assert (line[inside] >= 1).all()
    liver, tumour, spleen = range(3)
    annotated = case.zone_annotated[line.clip(min=0)]
    np.testing.assert_array_equal(annotated[:, liver], (slices >= first) & (slices < last))
    assert annotated[:, tumour].all()
    assert not annotated[:, spleen].any()


@pytest.mark.parametrize(
    ("z_extent", "zones"),
    [
        ({}, 1),
        ({"liver": (10, 16)}, 2),
        ({"liver": (0, 24)}, 1),
        ({"liver": (10, 16), "tumour": (12, 20)}, 4),
        ({"liver": (10, 16), "tumour": (10, 16)}, 2),
    ],
)
def test_slices_that_annotate_the_same_are_one_zone(z_extent: dict[str, tuple[int, int]], zones: int) -> None:
    case = volume(z_extent=z_extent)
    assert len(case.zone_annotated) == zones + 1
    assert set(case.zones) == set(range(1, zones + 1))
    for slice_number, zone in enumerate(case.zones):
        for channel, name in enumerate(INTEGERS):
            first, last = z_extent.get(name, (0, SHAPE[0]))
            expected = name in ("liver", "tumour") and first <= slice_number < last
            assert case.zone_annotated[zone, channel] == expected
    outside = [name in ("liver", "tumour") and name not in z_extent for name in INTEGERS]
    assert case.zone_annotated[0].tolist() == outside


def test_zones_of_a_resampled_volume_follow_the_original_slices() -> None:
    annotation = CaseAnnotation(source="a", annotated=("liver",), z_extent={"liver": (2, 4)})
    source_slices = np.array([5, 4, 4, 3, 3, 2, 2, 1])  # twice as many slices, top first
    zones, annotated = annotation_zones(annotation, ("liver",), source_slices)
    assert annotated[zones, 0].tolist() == [False, False, False, True, True, True, True, False]


def test_foreground_locations_are_voxels_of_the_structure_and_bounded() -> None:
    structures = Structures(integers=INTEGERS)
    labels = label_map((48, 48, 48))
    found = foreground_locations(labels, structures, ("liver", "tumour", "spleen"))
    assert set(found) == {"liver", "tumour"}
    assert found["tumour"].tolist() == [[24, 24, 24]]
    assert len(found["liver"]) == MAX_LOCATIONS < (labels > 0).sum()
    assert np.isin(labels[tuple(found["liver"].T)], INTEGERS["liver"]).all()
    assert len(np.unique(found["liver"], axis=0)) == MAX_LOCATIONS
    again = foreground_locations(labels, structures, ("liver",))
    np.testing.assert_array_equal(again["liver"], found["liver"])


def test_flat_patches_are_turned_within_their_slices_as_nnunet_does() -> None:
    assert crop_size_for((8, 32, 32))[0] == 8
    assert crop_size_for((16, 32, 32))[0] > 16
    augment = training_augmentation((8, 32, 32), mirror_axes=())
    labels = np.zeros((2, *crop_size_for((8, 32, 32))), np.int16)
    labels[0, 3] = 1
    for seed in range(10):
        with seeded(seed):
            _, turned = augment(np.zeros((1, *labels.shape[1:]), np.float32), labels)
        slices = np.flatnonzero((turned[0].numpy() == 1).any(axis=(1, 2)))
        assert slices.tolist() == [3]


def in_air(air: float = -2.0) -> Volume:
    """A case whose image is air but for a box around the liver."""
    case = volume()
    image = np.full_like(case.image, air)
    image[:, 3:20, 4:26, 5:30] = case.image[:, 3:20, 4:26, 5:30] + 10
    return replace(case, image=image)


def test_voxels_are_drawn_by_size_or_from_the_background_of_the_body() -> None:
    """As MONAI's RandCropByPosNegLabel with an image threshold: large structures come more often, air never."""
    case, share, count = in_air(), 0.5, 4000
    drawn_from = VoxelCropSampler(
        [case],
        (1, 1, 1),  # the corner is the voxel itself
        crop_size=(1, 1, 1),
        foreground_probability=share,
        jitter=0,
        structures={"liver": (1,), "tumour": (2,), "spleen": (3,)},
        lower_ends=[-2.0, None],
    )
    drawn = plans(drawn_from, count)
    by_structure = Counter(plan.structure for plan in drawn)
    assert by_structure[None] == pytest.approx(count * (1 - share), abs=5 * (count / 4) ** 0.5)
    assert by_structure["tumour"] < 20 < by_structure["liver"]  # one voxel of thousands
    elsewhere = np.array([plan.corner for plan in drawn if plan.structure is None])
    assert (case.labels[0][tuple(elsewhere.T)] == 0).all()
    assert body_mask(case.image, [-2.0, None])[tuple(elsewhere.T)].all()
    assert len(np.unique(elsewhere, axis=0)) > count / 4


def test_a_rare_background_is_found() -> None:
    case = volume()
    case.labels[:] = 1
    case.labels[0, 3, 4, 5] = 0
    drawn_from = VoxelCropSampler(
        [case],
        (1, 1, 1),
        crop_size=(1, 1, 1),
        foreground_probability=0.0,
        jitter=0,
        structures={"liver": (1, 2)},
        lower_ends=[-9.0, -9.0],
    )
    assert {plan.corner for plan in plans(drawn_from, 5)} == {(3, 4, 5)}


def test_a_case_cut_to_its_body_shows_the_same_voxels() -> None:
    case = in_air()
    case.locations["far"] = np.array([[0, 0, 0]])  # outside
    cut = cut_to_body(replace(case, zones=np.arange(SHAPE[0])), [-2.0, -2.0])
    assert cut.shape == (17, 22, 25)
    np.testing.assert_array_equal(cut.image, case.image[:, 3:20, 4:26, 5:30])
    np.testing.assert_array_equal(cut.labels, case.labels[:, 3:20, 4:26, 5:30])
    assert cut.zones.tolist() == list(range(3, 20))
    assert set(cut.locations) == {"liver", "tumour"}
    for name, voxels in cut.locations.items():
        np.testing.assert_array_equal(np.add(voxels, (3, 4, 5)), case.locations[name])
    empty = replace(case, image=np.zeros_like(case.image))
    assert cut_to_body(empty, [None, None]).shape == SHAPE
