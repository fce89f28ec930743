"""Specs: the shipped ones are valid, and every mistake gets one clear message."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fsseg.cli.main import main
from fsseg.config.errors import UsageError
from fsseg.data.conflicts import half_defined, resolved_names
from fsseg.data.spec_loading import load_spec, load_specs

SHIPPED = sorted((Path(__file__).parents[1] / "dataset_specs").glob("*.yaml"))

GOOD: dict[str, Any] = {
    "name": "LiverSet",
    "dataset_id": 201,
    "folder": "Dataset201_LiverSet",
    "modality": "CT",
    "licence": "CC0",
    "citation": "nobody",
    "layout": {"kind": "nnunet_raw"},
    "labels": {1: "liver", 2: ["liver", "liver_tumour"]},
    "annotated": ["liver", "liver_tumour"],
}
MASKS = {
    "kind": "mask_per_structure",
    "image": "{case}/ct.nii.gz",
    "mask": "{case}/segmentations/{label}.nii.gz",
}


def write_spec(where: Path, file: str = "spec.yaml", /, **changes: Any) -> Path:
    """Write the good spec with changes; a value of None takes the key out."""
    content = {key: value for key, value in (GOOD | changes).items() if value is not None}
    path = where / file
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def test_there_are_shipped_specs():
    assert len(SHIPPED) >= 6


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_spec_is_valid_and_checks_without_data(path, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert main(["assemble", str(path), "--check"]) == 0
    assert load_spec(path).name in capsys.readouterr().out
    assert load_spec(path).citation


def test_a_spec_of_ones_own_data_needs_no_citation(tmp_path):
    assert load_spec(write_spec(tmp_path, citation=None)).citation is None


def test_totalsegmentator_has_117_structures_with_their_own_names():
    spec = load_spec(next(path for path in SHIPPED if path.stem == "totalsegmentator_v2"))
    assert len(spec.labels) == len(spec.annotated) == 117
    assert all(stem == name for stem, name in spec.labels.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anotated": ["liver"]}, "unknown key 'anotated'; did you mean 'annotated'"),
        ({"licence": None}, "missing key 'licence'"),
        ({"dataset_id": 5000}, "dataset_id.*less than or equal to 999, got 5000"),
        ({"dataset_id": 7}, "dataset_id: 7 does not fit the folder 'Dataset201_LiverSet'"),
        ({"name": "Liver Set"}, "name: letters and digits only.*got 'Liver Set'"),
        ({"folder": "../elsewhere"}, "must lie below --root"),
        ({"layout": {"kind": "dicom"}}, "layout.*nnunet_raw.*mask_per_structure"),
        ({"layout": MASKS}, "needs file stems as keys, got 1"),
        ({"labels": {0: "liver", 1: ["liver", "liver_tumour"]}}, "integers from 1 as keys.*got 0"),
        ({"labels": {"liver": ["liver", "liver_tumour"]}}, "integers from 1 as keys.*got 'liver'"),
        ({"labels": {1: "liver", 2: []}, "annotated": ["liver"]}, "labels: 2 names no structure"),
        ({"labels": {1: "Liver"}, "annotated": ["Liver"]}, "lower snake case.*got 'Liver'"),
        (
            {"labels": {1: "kidney_l"}, "annotated": ["kidney_l"]},
            "write the side out \\('left' instead of 'l'\\)",
        ),
        ({"labels": {1: "background"}, "annotated": ["background"]}, "'background' is reserved"),
        ({"annotated": ["liver"]}, "'liver_tumour', but it is not in annotated"),
        (
            {"annotated": ["liver", "liver_tumor", "liver_tumour"]},
            "'liver_tumor' is not in labels; did you mean",
        ),
        ({"annotated": ["liver", "liver", "liver_tumour"]}, "annotated: 'liver' occurs twice"),
        ({"annotated": []}, "annotated.*at least 1"),
        ({"partial_extent": ["spleen"]}, "partial_extent: 'spleen' is not in annotated"),
        (
            {"definitions": {"livr": "all of it"}},
            "definitions: 'livr' is not in annotated; did you mean 'liver'",
        ),
        ({"conflicts": {"liver": "merge"}}, "conflicts.liver.*'same' or 'separate'"),
    ],
)
def test_a_mistake_is_named(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        load_spec(write_spec(tmp_path, **changes))


@pytest.mark.parametrize("key", ["image", "mask"])
def test_layout_patterns_need_their_placeholders(tmp_path, key):
    layout = MASKS | {key: "ct.nii.gz"}
    path = write_spec(tmp_path, layout=layout, labels={"liver": "liver"}, annotated=["liver"])
    with pytest.raises(UsageError, match=rf"layout\.{key}: must hold \{{case\}}.*got 'ct\.nii\.gz'"):
        load_spec(path)


def test_all_mistakes_of_all_specs_come_at_once(tmp_path):
    first = write_spec(tmp_path, "first.yaml", name="Liver Set", partial_extent=["spleen"])
    second = write_spec(tmp_path, "second.yaml", licence=None)
    with pytest.raises(UsageError) as caught:
        load_specs([first, second])
    for text in ("2 errors in", "letters and digits", "'spleen'", "second.yaml", "missing key 'licence'"):
        assert text in str(caught.value)


def test_a_key_given_twice_is_refused(tmp_path):
    path = write_spec(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace("  1: liver\n", "  1: liver\n  1: liver\n"))
    with pytest.raises(UsageError, match=r"key labels\.1 occurs twice"):
        load_spec(path)


def test_missing_file_and_broken_yaml(tmp_path, capsys):
    assert main(["assemble", str(tmp_path / "none.yaml"), "--check"]) == 2
    assert "File not found" in capsys.readouterr().err
    (tmp_path / "broken.yaml").write_text("labels: {1: liver")
    assert main(["assemble", str(tmp_path / "broken.yaml"), "--check"]) == 2
    assert "is not valid YAML" in capsys.readouterr().err


def test_modalities_must_agree_and_names_must_differ(tmp_path, capsys):
    ct = write_spec(tmp_path, "ct.yaml")
    mr = write_spec(tmp_path, "mr.yaml", modality="MR")
    assert main(["assemble", str(ct), str(mr), "--check"]) == 2
    message = capsys.readouterr().err
    assert "The modalities differ (LiverSet: CT, LiverSet: MR)" in message
    assert "Two specs have the name 'LiverSet'" in message


def two_definitions(folder: Path, **conflicts: dict[str, str]) -> list[Path]:
    other = {"name": "OtherSet", "folder": "Other", "dataset_id": None}
    return [
        write_spec(folder, "a.yaml", definitions={"liver": "with vessels"}, conflicts=conflicts.get("first", {})),
        write_spec(
            folder,
            "b.yaml",
            definitions={"liver": "without vessels"},
            conflicts=conflicts.get("second", {}),
            **other,
        ),
    ]


def test_different_definitions_are_refused(tmp_path, capsys):
    paths = two_definitions(tmp_path)
    assert main(["assemble", *map(str, paths), "--check"]) == 2
    message = capsys.readouterr().err
    assert "LiverSet: with vessels" in message
    assert "OtherSet: without vessels" in message
    assert "same" in message
    assert "separate" in message


def half_definitions(folder: Path, **changes: Any) -> list[Path]:
    """Three specs with two structures, of which one is defined in the first spec alone."""
    other = {"name": "OtherSet", "folder": "Other", "dataset_id": None}
    third = {"name": "ThirdSet", "folder": "Third", "dataset_id": None}
    return [
        write_spec(folder, "a.yaml", definitions={"liver": "with\nvessels"}),
        write_spec(folder, "b.yaml", **{**other, **changes}),
        write_spec(folder, "c.yaml", **third),
    ]


def test_a_definition_of_one_spec_alone_is_reported(tmp_path, capsys):
    assert main(["assemble", *map(str, half_definitions(tmp_path)), "--check"]) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if "liver" in line and "warning:" in line]
    assert len(warnings) == 1
    for words in ("liver of LiverSet (with vessels)", "OtherSet, ThirdSet", "`same` or `separate`"):
        assert words in warnings[0]


@pytest.mark.parametrize(
    ("changes", "channels", "reported"),
    [
        ({}, "merged", True),
        ({"conflicts": {"liver": "same"}}, "merged", False),
        ({"conflicts": {"liver": "separate"}}, "merged", True),  # the third dataset's is merged with it, all the same
        ({"definitions": {"liver": "with vessels"}}, "merged", True),
        ({}, "per_dataset", False),
    ],
)
def test_what_is_decided_or_apart_is_not_reported(tmp_path, changes, channels, reported):
    specs = load_specs(half_definitions(tmp_path, **changes))
    assert len(half_defined(specs, resolved_names(specs, channels))) == reported


def test_shipped_specs_together_give_few_such_warnings():
    specs = [spec for spec in map(load_spec, SHIPPED) if spec.modality == "CT"]
    assert len(half_defined(specs, {spec.name: {name: name for name in spec.annotated} for spec in specs})) <= 6


def test_same_makes_one_structure(tmp_path):
    names = resolved_names(load_specs(two_definitions(tmp_path, second={"liver": "same"})))
    assert names["LiverSet"]["liver"] == names["OtherSet"]["liver"] == "liver"


def test_separate_makes_a_structure_of_its_own(tmp_path):
    names = resolved_names(load_specs(two_definitions(tmp_path, second={"liver": "separate"})))
    assert names["LiverSet"]["liver"] == "liver"
    assert names["OtherSet"]["liver"] == "other_set__liver"


def test_separate_changes_nothing_where_no_other_dataset_claims_the_structure(tmp_path):
    spec = write_spec(tmp_path, conflicts={"liver": "separate"})
    assert resolved_names(load_specs([spec]))["LiverSet"]["liver"] == "liver"
