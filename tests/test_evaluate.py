import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from monai.data import MetaTensor
from monai.transforms import Orientation, Spacing

from fsseg.cli.main import main
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.staging import MARKER_NAME
from fsseg.data.splits import TRANSDUCTIVE_KEY
from fsseg.data.structures import CaseAnnotation, Structures
from fsseg.evaluation.fseft import on_fseft_grid
from fsseg.evaluation.label_maps import read_label_map
from fsseg.stages.evaluate import EvaluateConfig, run_evaluate

SHAPE = (8, 10, 12)
SPACING_ZYX_MM = (2.5, 1.0, 0.8)
LIVER, KIDNEY, TUMOUR = 1, 2, 3  # a tumour voxel is kidney and tumour


def labels_of_case(shift: int = 0) -> np.ndarray:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:4, 1:5, 1 + shift : 6 + shift] = LIVER
    labels[4:7, 5:9, 2 + shift : 8 + shift] = KIDNEY
    labels[5, 6:8, 3 + shift : 5 + shift] = TUMOUR
    return labels


def write_labels(
    path: Path,
    labels: np.ndarray,
    spacing_zyx_mm: tuple[float, float, float] = SPACING_ZYX_MM,
    stored_as: str = "LPS",
    origin_mm: tuple[float, float, float] = (-20.0, 5.0, 100.0),
) -> None:
    """Write labels given in RAS axis order, stored in another orientation of the same physical volume."""
    image = SimpleITK.GetImageFromArray(labels)
    image.SetSpacing(spacing_zyx_mm[::-1])
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    image.SetOrigin(origin_mm)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(image, stored_as), str(path))


def write_dataset_json(folder: Path, labels: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}, "file_ending": ".nii.gz"}))


def renumbered(labels: np.ndarray) -> np.ndarray:
    return np.array([0, 7, 2, 5], dtype=np.uint8)[labels]


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A raw dataset with two cases, whose structures.json leaves the tumour of case_b unannotated."""
    dataset = tmp_path / "Dataset901_Test"
    for case in ("case_a", "case_b"):
        write_labels(dataset / "labelsTs" / f"{case}.nii.gz", labels_of_case(), stored_as="LPI")
    Structures(
        integers={"liver": (LIVER,), "kidney": (KIDNEY, TUMOUR), "tumour": (TUMOUR,)},
        cases={
            "case_a": CaseAnnotation(source="one", annotated=("liver", "kidney", "tumour")),
            "case_b": CaseAnnotation(source="two", annotated=("liver", "kidney"), z_extent={"kidney": (4, 6)}),
        },
    ).save(dataset)
    return dataset / "labelsTs"


@pytest.fixture
def prediction(tmp_path: Path) -> Path:
    """Predictions numbered and oriented differently: case_a is perfect, case_b is one voxel to the right."""
    folder = tmp_path / "predictions"
    write_labels(folder / "case_a.nii.gz", renumbered(labels_of_case()), stored_as="RAI")
    write_labels(folder / "case_b.nii.gz", renumbered(labels_of_case(shift=1)), stored_as="PSL")
    write_dataset_json(folder, {"kidney": [2, 5], "tumour": [5, 5], "liver": 7, "spleen": 4})
    return folder


def read_rows(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(newline="") as file:
        return {(row["case"], row["structure"]): row for row in csv.DictReader(file)}


def configured(prediction: Path, reference: Path, **values: Any) -> EvaluateConfig:
    out = prediction.parent / "metrics.csv"
    return EvaluateConfig(**{"prediction": prediction, "reference": reference, "out": out, **values})


def test_structures_are_matched_by_name_over_numbering_and_orientation(prediction: Path, reference: Path) -> None:
    config = configured(prediction, reference)
    result = run_evaluate(config)
    rows = read_rows(config.out)
    assert [float(rows["case_a", name]["dsc"]) for name in ("liver", "kidney", "tumour")] == [1.0, 1.0, 1.0]
    assert float(rows["case_b", "liver"]["dsc"]) == pytest.approx(2 * 4 / (5 + 5))
    assert float(rows["case_b", "liver"]["hd95_mm"]) == pytest.approx(0.8)
    assert result.structures["liver"].dsc.mean == pytest.approx(0.9)
    assert list(result.structures) == ["liver", "kidney", "tumour"]


def test_columns_and_volumes(prediction: Path, reference: Path) -> None:
    config = configured(prediction, reference)
    run_evaluate(config)
    row = read_rows(config.out)["case_a", "kidney"]
    assert list(row) == [
        "case", "structure", "dsc", "nsd", "hd95_mm", "volume_prediction_ml", "volume_reference_ml", "status",
    ]  # fmt: skip
    assert float(row["volume_reference_ml"]) == pytest.approx(3 * 4 * 6 * 2.5 * 1.0 * 0.8 / 1000)
    assert row["status"] == "ok"


def test_unannotated_structures_are_skipped_and_counted(prediction: Path, reference: Path) -> None:
    config = configured(prediction, reference)
    result = run_evaluate(config)
    assert ("case_b", "tumour") not in read_rows(config.out)
    assert (result.rows, result.unannotated_pairs) == (5, 1)


def test_z_extent_is_counted_from_the_most_inferior_slice(prediction: Path, reference: Path) -> None:
    config = configured(prediction, reference)
    run_evaluate(config)
    row = read_rows(config.out)["case_b", "kidney"]
    assert float(row["volume_reference_ml"]) == pytest.approx(2 * 4 * 6 * 2.5 * 1.0 * 0.8 / 1000)


def test_structure_annotated_in_no_case_is_named(prediction: Path, reference: Path) -> None:
    config = configured(prediction, reference, cases=("case_b",))
    assert run_evaluate(config).never_annotated == ("tumour",)
    config = configured(
        prediction, reference, cases=("case_b",), structures=("tumour",), out=config.out.with_name("2.csv")
    )
    with pytest.raises(FssegError, match="annotates none of tumour"):
        run_evaluate(config)
    assert not config.out.exists()


def test_plain_dataset_json_annotates_everything(prediction: Path, reference: Path) -> None:
    (reference.parent / "structures.json").unlink()
    write_dataset_json(reference.parent, {"liver": 1, "kidney": [2, 3], "tumour": 3})
    assert run_evaluate(configured(prediction, reference)).unannotated_pairs == 0


def test_manifest_lies_beside_the_csv(prediction: Path, reference: Path) -> None:
    config = configured(prediction, reference, out=prediction.parent / "results" / "run 1.csv")
    result = run_evaluate(config)
    manifest = json.loads((config.out.parent / "run 1.manifest.json").read_text(encoding="utf-8"))
    assert manifest["config"]["tolerance_mm"] == 2.0
    assert manifest["result"] == result.as_json()
    assert len(manifest["inputs"]) == 6
    assert sorted(path.name for path in config.out.parent.iterdir()) == ["run 1.csv", "run 1.manifest.json"]


def test_empty_masks_in_the_summary(prediction: Path, reference: Path) -> None:
    for folder in (prediction, reference):
        write_labels(folder / "case_a.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    empty = np.where(labels_of_case() == LIVER, 0, labels_of_case())
    write_labels(prediction / "case_b.nii.gz", renumbered(empty))
    liver = run_evaluate(configured(prediction, reference)).structures["liver"]
    assert liver.statuses == {"both_empty": 1, "prediction_empty": 1}
    assert (liver.dsc.mean, liver.dsc.n, liver.dsc.left_out) == (0.0, 1, 1)
    assert math.isnan(liver.hd95_mm.mean)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing_zyx_mm": (2.5, 1.0, 0.9)}, r"spacing in mm .*\(2.5, 1, 0.9\) .*\(2.5, 1, 0.8\)"),
        ({"labels": np.zeros((8, 10, 11), np.uint8)}, r"shape .*\(8, 10, 11\) .*\(8, 10, 12\)"),
        ({"origin_mm": (-20.0, 5.0, 130.0)}, "origin in mm"),
    ],
)
def test_different_grids_are_refused_with_files_and_values(
    prediction: Path, reference: Path, changes: dict[str, Any], message: str
) -> None:
    path = prediction / "case_b.nii.gz"
    write_labels(path, **{"labels": renumbered(labels_of_case()), **changes})
    config = configured(prediction, reference)
    with pytest.raises(FssegError, match=message) as caught:
        run_evaluate(config)
    assert str(path) in str(caught.value)
    assert str(reference / "case_b.nii.gz") in str(caught.value)
    assert not config.out.exists()


def test_all_damaged_cases_are_listed_at_once(prediction: Path, reference: Path) -> None:
    (prediction / "case_a.nii.gz").write_bytes(b"no image")
    write_labels(reference / "case_b.nii.gz", np.full(SHAPE, 9, dtype=np.uint8))
    with pytest.raises(FssegError, match="2 of 2 cases") as caught:
        run_evaluate(configured(prediction, reference))
    assert "case_a.nii.gz cannot be read" in str(caught.value)
    assert "does not explain: 9\n  explained: 0, 1, 2, 3" in str(caught.value)


def truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def holding_nan(path: Path) -> None:
    image = SimpleITK.Cast(SimpleITK.ReadImage(str(path)), SimpleITK.sitkFloat32)
    image[5, 5, 5] = float("nan")
    SimpleITK.WriteImage(image, str(path))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize(("damage", "message"), [(truncated, "truncated or damaged"), (holding_nan, "NaN")])
@pytest.mark.parametrize("side", ["prediction", "reference"])
def test_a_damaged_label_map_is_never_scored(
    prediction: Path,
    reference: Path,
    capsys: pytest.CaptureFixture[str],
    side: str,
    damage: Callable[[Path], None],
    message: str,
    ending: str,
) -> None:
    """ITK reads missing bytes and NaN as 0, which is background."""
    folder = {"prediction": prediction, "reference": reference}[side]
    path = folder / f"case_b{ending}"
    if ending == ".nii":
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(folder / "case_b.nii.gz")), str(path))
        (folder / "case_b.nii.gz").unlink()
    damage(path)
    assert main(command(prediction, reference)) == 1
    error = capsys.readouterr().err
    assert message in error
    assert f"{path} cannot be read" in error
    assert not (prediction.parent / "metrics.csv").exists()


def test_z_extent_outside_the_volume_is_refused(prediction: Path, reference: Path) -> None:
    path = reference.parent / "structures.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["cases"]["case_b"]["z_extent"]["kidney"] = [4, 99]
    path.write_text(json.dumps(content))
    with pytest.raises(FssegError, match=r"z-extent \[4, 99\) of 'kidney' in case 'case_b'.* has 8"):
        run_evaluate(configured(prediction, reference))


def test_cases_that_the_model_was_adapted_to_are_named(
    prediction: Path, reference: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = prediction / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "support_cases": ["case_b", "case_z"]}))
    assert main(command(prediction, reference)) == 0
    assert "1 of the 2 scored cases have the names of support cases" in caplog.text
    assert "scored although the model was adapted to them: case_b" in capsys.readouterr().out
    caplog.clear()
    (prediction.parent / "metrics.csv").unlink()
    assert main(command(prediction, reference, "--cases", "case_a", "--json")) == 0
    assert "support" not in caplog.text
    assert json.loads(capsys.readouterr().out)["support_cases"] == []


def test_cases_must_match_unless_they_are_named(prediction: Path, reference: Path) -> None:
    (prediction / "case_a.nii.gz").rename(prediction / "case_c.nii.gz")
    with pytest.raises(UsageError, match="do not match") as caught:
        run_evaluate(configured(prediction, reference))
    assert f"without a prediction in {prediction}: case_a" in str(caught.value)
    assert f"without a reference in {reference}: case_c" in str(caught.value)
    with pytest.raises(UsageError, match="without a prediction"):
        run_evaluate(configured(prediction, reference, cases=("case_a", "case_b")))
    with pytest.raises(UsageError, match=r"Unknown case 'case_bb'. Did you mean 'case_b'"):
        run_evaluate(configured(prediction, reference, cases=("case_bb",)))
    assert run_evaluate(configured(prediction, reference, cases=("case_b",))).cases == 1


def test_unknown_structures_are_named_with_the_nearest(prediction: Path, reference: Path) -> None:
    with pytest.raises(UsageError, match=r"Unknown structure 'livre'. Did you mean 'liver'"):
        run_evaluate(configured(prediction, reference, structures=("livre",)))
    with pytest.raises(UsageError, match=r"Unknown structure 'spleen'[\s\S]*structures of the reference"):
        run_evaluate(configured(prediction, reference, structures=("spleen",)))
    write_dataset_json(prediction, {"a": 2, "b": 5, "c": 7})
    with pytest.raises(UsageError, match="no structure in common"):
        run_evaluate(configured(prediction, reference))


def test_folders_that_cannot_be_read_are_refused(prediction: Path, reference: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Folder not found"):
        run_evaluate(configured(prediction, tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="No label map in"):
        run_evaluate(configured(prediction, reference.parent))
    (prediction / "dataset.json").unlink()
    with pytest.raises(UsageError, match=r"Nothing says what the integers"):
        run_evaluate(configured(prediction, reference))
    (prediction / "case_a.nii").touch()
    with pytest.raises(FssegError, match="Two files for case 'case_a'"):
        run_evaluate(configured(prediction, reference))


def command(prediction: Path, reference: Path, *options: str) -> list[str]:
    out = prediction.parent / "metrics.csv"
    return [
        "evaluate",
        "--prediction",
        str(prediction),
        "--reference",
        str(reference),
        "--out",
        str(out),
        *options,
    ]


def test_command_prints_a_table(prediction: Path, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(prediction, reference, "--tolerance-mm", "0.5")) == 0
    output = capsys.readouterr().out
    assert "NSD at 0.5 mm" in output
    liver = next(line for line in output.splitlines() if line.startswith("liver"))
    assert "0.900 ± 0.141" in liver
    assert "[0.800, 1.000]" in liver
    assert "not scored, pairs of case and structure without annotation: 1" in output


def test_command_prints_json(prediction: Path, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(prediction, reference, "--json", "--structure", "tumour", "liver")) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["structures"]) == ["tumour", "liver"]
    assert result["structures"]["tumour"]["dsc"]["sd"] is None
    assert not math.isnan(result["structures"]["liver"]["dsc"]["sd"])


def test_command_never_overwrites(prediction: Path, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = prediction.parent / "metrics.csv"
    out.write_text("precious")
    assert main(command(prediction, reference)) == 2
    assert "exists already" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "precious"


def test_what_a_killed_evaluation_left_is_replaced(prediction: Path, reference: Path) -> None:
    left = prediction.parent / "metrics.csv.partial"
    left.mkdir()
    for name in (MARKER_NAME, "metrics.csv"):
        (left / name).write_text("half")
    before = set(prediction.parent.iterdir())
    assert main(command(prediction, reference)) == 0
    after = set(prediction.parent.iterdir())
    assert {path.name for path in after - before} == {"metrics.csv", "metrics.manifest.json"}
    assert before - after == {left}


def test_a_place_that_cannot_be_written_is_said_before_comparing(
    prediction: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fsseg.stages.evaluate.compare", lambda *_: pytest.fail("compared"))
    out = prediction.parent / "metrics.csv"
    out.symlink_to(prediction.parent / "gone")
    assert main(command(prediction, reference)) == 2
    assert "exists already" in capsys.readouterr().err
    file = prediction.parent / "file"
    file.touch()
    assert main(command(prediction, reference, "--out", str(file / "metrics.csv"))) == 1
    assert "Could not write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tolerance-mm", "-1"), "tolerance_mm: Input should be greater than or equal to 0, got -1.0"),
        (("--structure", "livre"), "Did you mean 'liver'"),
        (("--out", "metrics.txt"), "ending in .csv"),
    ],
)
def test_command_exits_with_2_on_wrong_use(
    prediction: Path,
    reference: Path,
    options: tuple[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(prediction, reference, *options)) == 2
    assert message in capsys.readouterr().err


def test_command_exits_with_1_on_label_maps_that_cannot_be_compared(prediction: Path, reference: Path) -> None:
    write_labels(prediction / "case_a.nii.gz", renumbered(labels_of_case()), spacing_zyx_mm=(5.0, 1.0, 0.8))
    assert main(command(prediction, reference)) == 1


def test_cases_that_the_model_saw_without_labels_are_named(
    prediction: Path, reference: Path, caplog: pytest.LogCaptureFixture
) -> None:
    definition = prediction / "dataset.json"
    content = {**json.loads(definition.read_text()), TRANSDUCTIVE_KEY: ["case_b"]}
    definition.write_text(json.dumps(content))
    config = configured(prediction, reference)
    assert run_evaluate(config).transductive_cases == ("case_b",)
    assert "saw the images of 1 of the 2 scored cases, without their label maps: case_b" in caplog.text


# FSEFT's protocol


def blob(shape: tuple[int, int, int] = (12, 10, 9)) -> np.ndarray:
    """A large component, one voxel that touches it by a corner, and a far one."""
    labels = np.zeros(shape, np.uint8)
    labels[2:6, 2:6, 2:6] = LIVER
    labels[6, 6, 6] = LIVER
    labels[10, 8, 7] = LIVER
    return labels


@pytest.mark.parametrize(("protocol", "kept"), [("fseft", 65), ("fseft_multiclass", 66)])
def test_fseft_scores_on_its_own_grid_against_the_largest_component(tmp_path: Path, protocol: str, kept: int) -> None:
    """On a grid that is theirs already the numbers are counted by hand; the prediction is never reduced."""
    for role in ("prediction", "reference"):
        write_dataset_json(tmp_path / role, {"liver": 1})
        write_labels(tmp_path / role / "case_a.nii.gz", blob(), (1.5, 1.5, 1.5), stored_as="LPI")
    config = configured(tmp_path / "prediction", tmp_path / "reference", protocol=protocol)
    run_evaluate(config)
    (row,) = csv.DictReader(config.out.read_text().splitlines())
    assert float(row["dsc"]) == pytest.approx(2 * kept / (66 + kept + 1))
    assert float(row["volume_reference_ml"]) == pytest.approx(kept * 1.5**3 / 1000)
    assert float(row["volume_prediction_ml"]) == pytest.approx(66 * 1.5**3 / 1000)


def test_the_grid_of_fseft_is_that_of_monai(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (9, 14, 11)).astype(np.uint8)
    file = tmp_path / "labels.nii.gz"
    write_labels(file, labels, (2.5, 0.8, 1.1), stored_as="ASL")
    ours = on_fseft_grid(read_label_map(file, Structures(integers={"liver": (1,), "kidney": (2,)})))
    image = nibabel.load(file)
    array = MetaTensor(np.asarray(image.dataobj)[None].astype(np.float32), affine=image.affine)
    theirs = Spacing((1.5, 1.5, 1.5), mode="nearest")(Orientation("RAS")(array))
    assert ours.spacing_zyx_mm == (1.5, 1.5, 1.5)
    assert ours.labels.shape == theirs.shape[:0:-1]
    assert (ours.labels == theirs[0].numpy().transpose(2, 1, 0)).mean() > 0.999  # a voxel in the middle may be rounded


def test_fseft_refuses_what_is_not_annotated_whole(prediction: Path, reference: Path) -> None:
    config = configured(prediction, reference, protocol="fseft")
    with pytest.raises(FssegError, match="on some of its slices only for kidney, and --protocol fseft"):
        run_evaluate(config)
    assert not config.out.exists()
    words = ["--prediction", prediction, "--reference", reference, "--out", config.out, "--structure", "liver"]
    assert main(["evaluate", *map(str, words), "--protocol", "fseft"]) == 0
    manifest = json.loads(config.out.with_name("metrics.manifest.json").read_text())
    assert manifest["config"]["protocol"] == manifest["result"]["protocol"] == "fseft"
