"""Phantom CTs: anatomy, sides, HU and the files of the demo datasets."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import yaml

from fsseg.demo.phantom_anatomy import PHANTOM_STRUCTURES, Look, Phantom, make_phantom
from fsseg.demo.phantom_datasets import write_phantom_datasets

COARSE = Look(spacing_zyx_mm=(6.0, 5.5, 5.5), pose_degrees=6)
VOLUME_ML = {
    "liver": (800, 2200),
    "spleen": (80, 400),
    "kidney_right": (80, 250),
    "kidney_left": (80, 250),
    "aorta": (40, 120),
    "inferior_vena_cava": (30, 130),
    "gallbladder": (8, 40),
    "stomach": (100, 600),
    "pancreas": (30, 140),
}
MEDIAN_HU = {
    "liver": (85, 120),
    "spleen": (95, 130),
    "kidney_right": (120, 200),
    "kidney_left": (120, 200),
    "aorta": (130, 200),
    "inferior_vena_cava": (80, 130),
    "gallbladder": (-10, 30),
    "stomach": (-20, 80),
    "pancreas": (60, 110),
}


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return [make_phantom(seed, COARSE) for seed in range(20)]


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_phantom_datasets(tmp_path_factory.mktemp("raw"), cases_per_source=1, target_cases=2)


def centroid_x_mm(label_path: Path, integer: int) -> float:
    """Return x of the centroid in LPS coordinates: negative on the patient's right."""
    statistics = SimpleITK.LabelShapeStatisticsImageFilter()
    statistics.Execute(SimpleITK.ReadImage(label_path))
    return statistics.GetCentroid(integer)[0]


def label_paths(spec: Path) -> tuple[dict[str, int], list[Path]]:
    content = yaml.safe_load(spec.read_text(encoding="utf-8"))
    integers = {name: integer for integer, name in content["labels"].items()}
    return integers, sorted((spec.parent / content["folder"] / "labelsTr").iterdir())


def test_same_seed_is_bit_equal() -> None:
    first, second = make_phantom(7, COARSE), make_phantom(7, COARSE)
    np.testing.assert_array_equal(first.image, second.image)
    for name in PHANTOM_STRUCTURES:
        np.testing.assert_array_equal(first.masks[name], second.masks[name])


@pytest.mark.full
def test_seeds_differ(phantoms: list[Phantom]) -> None:
    volumes = [phantom.masks["liver"].sum() for phantom in phantoms]
    assert len(set(volumes)) > 15
    assert np.std(volumes) > 0.05 * np.mean(volumes)


def test_arrays_fit_field_of_view() -> None:
    phantom = make_phantom(0, Look(spacing_zyx_mm=(6.0, 5.0, 4.0)))
    assert phantom.image.dtype == np.int16
    assert phantom.image.shape == (40, 50, 85)
    assert set(phantom.masks) == set(PHANTOM_STRUCTURES)


@pytest.mark.parametrize("name", PHANTOM_STRUCTURES)
def test_volumes_and_hu_are_plausible(phantoms: list[Phantom], name: str) -> None:
    for seed, phantom in enumerate(phantoms):
        mask = phantom.masks[name]
        volume_ml = mask.sum() * np.prod(phantom.spacing_zyx_mm) / 1000
        assert VOLUME_ML[name][0] < volume_ml < VOLUME_ML[name][1], f"seed {seed}: {volume_ml:.0f} ml"
        median_hu = np.median(phantom.image[mask])
        assert MEDIAN_HU[name][0] < median_hu < MEDIAN_HU[name][1], f"seed {seed}: {median_hu:.0f} HU"


def test_masks_are_disjoint(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        assert np.sum(list(phantom.masks.values()), axis=0).max() == 1


def test_patient_is_surrounded_by_air_and_has_bones(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        for edge in (phantom.image[:, 0], phantom.image[:, :, 0], phantom.image[:, :, -1]):
            assert np.median(edge) < -950
        assert (phantom.image > 300).sum() > 200


def test_organs_lie_inside_the_body(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        for mask in phantom.masks.values():
            assert not mask[:, [0, -1]].any()
            assert not mask[:, :, [0, -1]].any()


def test_structures_lie_on_their_sides_in_files(specs: list[Path]) -> None:
    sides = {
        "liver": -1,
        "gallbladder": -1,
        "inferior_vena_cava": -1,
        "kidney_right": -1,
        "kidney_left": 1,
        "spleen": 1,
        "stomach": 1,
    }
    for spec in specs:
        integers, paths = label_paths(spec)
        for path in paths:
            for name in integers.keys() & sides.keys():
                assert sides[name] * centroid_x_mm(path, integers[name]) > 15, f"{name} in {path.name}"


@pytest.mark.full
def test_swapped_sides_are_wrong(tmp_path: Path) -> None:
    specs = write_phantom_datasets(tmp_path, cases_per_source=1, target_cases=0, swap_sides=True)
    integers, paths = label_paths(specs[1])
    assert centroid_x_mm(paths[0], integers["kidney_right"]) > 15
    assert centroid_x_mm(paths[0], integers["kidney_left"]) < -15


def test_orientations_differ_between_sources(specs: list[Path]) -> None:
    directions = {SimpleITK.ReadImage(label_paths(spec)[1][0]).GetDirection() for spec in specs}
    assert len(directions) == 2
    assert all(direction[8] == 1 for direction in directions)


def test_image_and_label_share_geometry(specs: list[Path]) -> None:
    for spec in specs:
        for label_path in label_paths(spec)[1]:
            case = label_path.name.removesuffix(".nii.gz")
            image = SimpleITK.ReadImage(label_path.parents[1] / "imagesTr" / f"{case}_0000.nii.gz")
            label = SimpleITK.ReadImage(label_path)
            assert image.IsSameImageGeometryAs(label)
            np.testing.assert_allclose(
                image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]),
                0,
                atol=1e-3,
            )


def test_folders_are_nnunet_raw_datasets(specs: list[Path]) -> None:
    assert [spec.stem for spec in specs] == ["PhantomNorth", "PhantomEast", "PhantomSouth", "PhantomTarget"]
    for spec in specs:
        content = yaml.safe_load(spec.read_text(encoding="utf-8"))
        integers, paths = label_paths(spec)
        dataset = json.loads((spec.parent / content["folder"] / "dataset.json").read_text(encoding="utf-8"))
        assert dataset["labels"] == {"background": 0, **integers}
        assert dataset["numTraining"] == len(paths) == (2 if spec.stem == "PhantomTarget" else 1)
        assert content["annotated"] == list(integers)
        for path in paths:
            values = np.unique(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)))
            assert values.tolist() == [0, *sorted(integers.values())]


def test_too_many_cases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="At most 1000"):
        write_phantom_datasets(tmp_path, cases_per_source=1001)
