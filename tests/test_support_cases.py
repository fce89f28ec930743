"""Support cases without a structure: true negatives, lesions that resampling removes, and what lies outside a zone."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK
from conftest import NOVEL, Lab, fsseg, succeed

from fsseg.adaptation.estimate import _dsc, _spread
from fsseg.adaptation.support_labels import labels_of, negative_notes, require_learnable
from fsseg.adaptation.target import Target
from fsseg.config.errors import FssegError
from fsseg.data.structures import CaseAnnotation, Structures, load_structures
from fsseg.data.volumes import SourceLabels, Volume, annotated_locations, annotation_zones, foreground_locations
from fsseg.evaluation.metrics import dice
from fsseg.methods.adapter_file import LabelMaps
from fsseg.nnunet import preprocessing
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.preprocessing import CasePreprocessor, source_labels
from fsseg.nnunet.raw_dataset import read_raw_dataset

INTEGERS: dict[str, tuple[int, ...]] = {"liver": (1, 2), "lesion": (2,)}
SHAPE = (8, 6, 6)
SPACING = (3.0, 2.0, 2.0)


def target_of(*volumes: Volume, z_extent: dict[str, tuple[int, int]] | None = None) -> Target:
    annotation = CaseAnnotation(source="a", annotated=tuple(INTEGERS), z_extent=z_extent or {})
    structures = Structures(integers=INTEGERS, cases={volume.case: annotation for volume in volumes})
    maps = LabelMaps(sha256="0", highest=2)
    rows: dict[str, int | None] = dict.fromkeys(INTEGERS)
    return Target(label_maps=maps, file_ending=".nii.gz", structures=structures, base_rows=rows)


def volume(case: str, slices: range, source_voxels: int = 0, z_extent: tuple[int, int] | None = None) -> Volume:
    """Return a case with a liver, and a lesion in some slices; its label map had some more voxels of it."""
    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[:, 1:5, 1:5] = 1
    labels[list(slices), 2, 2] = 2
    extents = {} if z_extent is None else {"lesion": z_extent}
    annotation = CaseAnnotation(source="a", annotated=tuple(INTEGERS), z_extent=extents)
    structures = Structures(integers=INTEGERS, cases={case: annotation})
    zones, annotated = annotation_zones(annotation, structures.names, np.arange(SHAPE[0]))
    found = foreground_locations(labels, structures, annotation.annotated)
    locations = annotated_locations(found, structures.names, zones, 0, annotated)
    source = SourceLabels({0: 9, 1: 500, 2: source_voxels}, (1.0, 0.5, 0.5))
    image = np.zeros((1, *SHAPE), dtype=np.float32)
    return Volume(case, image, labels[None], locations, zones, 0, annotated, source)


def test_a_case_without_a_lesion_is_used_beside_one_with_it_and_named() -> None:
    volumes = [volume("ill", range(2, 4), 30), volume("well", range(0))]
    target = target_of(*volumes)
    require_learnable([labels_of(each, target) for each in volumes], target, SPACING)
    assert negative_notes([labels_of(each, target) for each in volumes], target) == [
        "well is used as a case without lesion: its label map shows none."
    ]
    with pytest.raises(FssegError, match="no support case shows lesion"):
        require_learnable([labels_of(volumes[1], target)], target, SPACING)


def test_a_lesion_that_resampling_removes_is_named_with_its_size_and_the_spacing() -> None:
    volumes = [volume("ill", range(2, 4), 30), volume("small", range(0), 3)]
    with pytest.raises(FssegError) as refused:
        require_learnable([labels_of(each, target_of(*volumes)) for each in volumes], target_of(*volumes), SPACING)
    assert (
        "small shows lesion in 3 voxels of 1 x 0.5 x 0.5 mm (0.00075 ml), and nothing of it is left at the base's"
        " spacing of 3 x 2 x 2 mm"
    ) in str(refused.value)
    assert "ill" not in str(refused.value)


def test_what_lies_outside_the_annotated_slices_is_no_foreground() -> None:
    partly = volume("partly", range(1, 4), 30, z_extent=(3, 8))
    assert set(partly.locations["lesion"][:, 0].tolist()) == {3}
    outside = volume("outside", range(1, 3), 30, z_extent=(3, 8))
    assert "lesion" not in outside.locations
    volumes = [partly, outside]
    target = target_of(*volumes, z_extent={"lesion": (3, 8)})
    require_learnable([labels_of(each, target) for each in volumes], target, SPACING)
    (note,) = negative_notes([labels_of(each, target) for each in volumes], target)
    assert "outside shows lesion only outside the slices that it annotates" in note


@pytest.mark.parametrize(
    ("predicted", "score"), [(range(0), None), (range(1, 3), None), (range(4, 5), 0.0)], ids=["none", "outside", "some"]
)
def test_leave_one_out_scores_empty_masks_as_evaluate_does(predicted: range, score: float | None) -> None:
    held_out = volume("outside", range(1, 3), 30, z_extent=(3, 8))
    job = SimpleNamespace(target=target_of(held_out))
    mask = np.zeros(SHAPE, dtype=bool)
    mask[list(predicted), 2, 2] = True
    found = _dsc(mask, held_out, job, 1)  # type: ignore[arg-type]
    assert found == score
    empty = np.zeros(SHAPE, dtype=bool)
    inside = np.s_[3:8]  # `evaluate` scores the annotated slices
    expected = dice(mask[inside], empty[inside])
    assert math.isnan(expected) if found is None else found == expected


def test_a_score_of_nothing_is_left_out_of_the_mean_and_named() -> None:
    spread = _spread({"a": 0.5, "b": None, "c": 0.0})
    assert (spread.mean, spread.cases, spread.both_empty) == (0.25, {"a": 0.5, "c": 0.0}, ("b",))
    nothing = _spread({"b": None})
    assert (nothing.mean, nothing.both_empty) == (None, ("b",))


def test_a_volume_knows_what_its_label_map_held(lab: Lab) -> None:
    preprocessor = CasePreprocessor(ModelFolder.read(lab.base), cache=None)
    image = SimpleITK.ReadImage(str(lab.label(0)))
    values, counts = np.unique(SimpleITK.GetArrayFromImage(image), return_counts=True)
    source = source_labels(lab.label(0), preprocessor.plans)
    assert source.voxels == dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert source.spacing_mm == pytest.approx(image.GetSpacing()[::-1])


def test_a_case_is_hashed_once(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    of_file = preprocessing.sha256_of_file
    monkeypatch.setattr(preprocessing, "sha256_of_file", lambda file: hashed.append(file) or of_file(file))
    dataset = read_raw_dataset(lab.target)
    files, label, structures = dataset.images(lab.case(0)), dataset.label(lab.case(0)), dataset.structures
    preprocessor = CasePreprocessor(ModelFolder.read(lab.base), cache=tmp_path)
    assert not preprocessor.is_cached(files, label)
    preprocessor.volume(lab.case(0), files, label, structures, structures.names)
    assert preprocessor.is_cached(files, label)
    assert preprocessor.sha256(label) == of_file(label)
    assert hashed == [*files, label]


def test_a_true_negative_is_adapted_to_and_estimated(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = lab.copy_target(tmp_path / "raw")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    label = SimpleITK.ReadImage(str(copy.label(1)))
    array = SimpleITK.GetArrayFromImage(label)
    array[np.isin(array, load_structures(copy.target).integers[NOVEL])] = 0
    changed = SimpleITK.GetImageFromArray(array)
    changed.CopyInformation(label)
    SimpleITK.WriteImage(changed, str(copy.label(1)))
    cases = ("--cases", copy.case(0), copy.case(1), "--estimate", "loo")
    words = copy.adapt_words(tmp_path / "run", *cases, "--structure", NOVEL, method="bitfit")
    manifest = succeed(*words)
    assert f"{copy.case(1)} is used as a case without {NOVEL}: its label map shows none." in manifest["notes"]
    scores = manifest["estimate"][NOVEL]
    assert [*scores["cases"], *scores["both_empty"]] == [copy.case(1)]  # no other case shows it without case 0
    alone = fsseg(*copy.adapt_words(tmp_path / "alone", "--cases", copy.case(1), "--structure", NOVEL))
    assert alone.code == 1
    assert f"no support case shows {NOVEL}" in alone.err


def test_without_its_label_maps_a_preprocessed_case_counts_as_it_is() -> None:
    volumes = [replace(volume("gone", range(0), 3), source=None)]
    with pytest.raises(FssegError, match="no support case shows lesion"):
        require_learnable([labels_of(each, target_of(*volumes)) for each in volumes], target_of(*volumes), SPACING)
