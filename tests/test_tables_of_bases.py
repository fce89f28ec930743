"""Tables that compare bases, sites and amounts of data: from files in the collections' layouts to the page.

The tables are the shipped ones. What is cut is their size: cells, steps, and cases that are named.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from checkpoint_files import GENESIS_WIDTH, WRITERS
from phantom_collections import SHAPE, image_of, phantom, save

from fsseg.cli.main import main
from fsseg.config.csv_file import read_csv
from fsseg.config.shipped_files import PLANS, SPECS, TABLES, find_file
from fsseg.data.spec_loading import load_spec
from fsseg.experiments.definition.table_file import read_table

PRETRAINING = {"steps": 1, "steps_per_epoch": 1, "validation_crops": 1}
SMALL = {"suprem_segresnet": ("suprem_segresnet", "seg_resnet"), "genesis_unet": ("models_genesis", "genesis_unet")}
RAW_PATHS = ("imagesTr/{case}_0000.nii.gz", "labelsTr/{case}.nii.gz")
SETTINGS = {"recipe.max_steps": 1, "recipe.batch_size": 1, "recipe.feature_crops": 2}


def write_collection(root: Path, name: str, cases: Iterable[str]) -> None:
    """Write phantoms of a shipped spec, in the layout that it reads; every case has another image."""
    spec = load_spec(find_file(name, SPECS))
    marked = phantom(spec.meanings, spec.split_sides)
    folder, layout = root / spec.folder, spec.layout
    for number, case in enumerate(cases):
        random = np.random.default_rng([*name.encode(), *case.encode()])
        image = image_of(large(random.integers(-100, 200, SHAPE).astype(np.int16)))
        if layout.kind == "mask_per_structure":
            save(image, folder / layout.image.format(case=case))
            for label, mask in marked.labels.items():
                path = folder / layout.mask.format(case=case, label=label)
                save(image_of(large(mask.astype(np.uint8))), path)
            continue
        raw = layout.kind == "nnunet_raw"
        image_path, labels_path = RAW_PATHS if raw else (layout.image, layout.labels)
        save(image, folder / image_path.format(case=case))
        save(image_of(large(marked.label_map())), folder / labels_path.format(case=case))
        if raw:
            integers = {"background": 0, **{"_".join(names): label for label, names in spec.meanings.items()}}
            content = {"channel_names": {"0": spec.modality}, "labels": integers, "file_ending": ".nii.gz"}
            (folder / "dataset.json").write_text(json.dumps({**content, "numTraining": number + 1}), encoding="utf-8")


def large(array: np.ndarray) -> np.ndarray:
    """Triple each axis, so that no structure is lost at the voxel size of a network."""
    for axis in range(3):
        array = np.repeat(array, 3, axis)
    return array


def cut(name: str, *, bases: Iterable[str], axes: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a shipped table with few cells and steps, and only these bases."""
    content = read_table(find_file(name, TABLES)).model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    content["bases"] = {base: content["bases"][base] for base in bases}
    for base in content["bases"].values():
        if "pretrained" in base:
            base["pretrained"] |= {"plans": "headneck_cpu", "recipe": "default"}
            base["pretrained"]["settings"] = {**base["pretrained"]["settings"], **PRETRAINING}
    content["settings"] = {**content.get("settings", {}), **SETTINGS}
    own = {"axes": dict(axes), "leave_out": [], "baselines": [], "papers": [], "scoring": {"tile_step_size": 1.0}}
    return {**content, **own, **changes}


def write_checkpoint(root: Path, table: dict[str, Any], base: str, family: str, plans: str) -> None:
    """Write the file of an imported base, and plans with large voxels and a small patch for it."""
    imported = table["bases"][base]["imported"]
    WRITERS[family](root / imported["file"])
    content = json.loads(find_file(plans, PLANS).read_text(encoding="utf-8"))
    content["configurations"]["3d_fullres"] |= {"patch_size": [32, 32, 32], "spacing": [4.0, 4.0, 4.0]}
    if plans == "genesis_unet":  # the file is narrower than the published one
        content["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["base_features"] = GENESIS_WIDTH
    (root / "small.json").write_text(json.dumps({**content, "plans_name": "small"}), encoding="utf-8")
    imported["plans"] = "small.json"


def numbers_of(content: dict[str, Any], root: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    """Make a table; return its numbers. Every cell must be finished."""
    file, out = root / "cut.yaml", root / "tables"
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    code = main(["table", str(file), "--root", str(root), "--out", str(out), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err + said.out
    result = json.loads(said.out)
    assert result["done"] == result["cells"] > 0
    assert (out / "tables" / "cut" / "table.html").is_file()
    return read_csv(out / "tables" / "cut" / "numbers.csv")


@pytest.mark.slow
def test_one_network_of_all_sets_against_one_of_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = {"SegTHOR": "segthor", "Spleen": "msd09_spleen"}
    write_collection(tmp_path, "segthor", [f"Patient_{number:02d}" for number in range(1, 6)])
    write_collection(tmp_path, "msd09_spleen", [f"spleen_{number}" for number in range(5)])
    whole = cut(
        "multitalent",
        bases=("joint", *(f"alone_{name}" for name in sets)),
        axes={"method": read_table(find_file("multitalent", TABLES)).axes["method"], "pretrain.fold": [4]},
    )
    whole["axes"]["method"] = [{**value, "pretrain.steps": 1} for value in whole["axes"]["method"]]
    whole["targets"] = {name: whole["targets"][name] for name in sets}
    whole["columns"] = {name: whole["columns"][name] for name in sets} | {"sets": list(sets)}
    joint = whole["datasets"]["joint"]
    whole["datasets"] = {name: whole["datasets"][name] for name in sets}
    whole["datasets"]["joint"] = {**joint, "specs": list(sets.values())}
    rows = numbers_of(whole, tmp_path, capsys)

    assert {(row["method"], row["structures"]) for row in rows} == {
        (method, column) for method in ("each set alone", "all sets together") for column in (*sets, "sets")
    }
    scored = read_csv(tmp_path / "tables/tables/cut/per_case.csv")
    alone, together = (
        {row["case"] for row in scored if row["method"] == method} for method in ("each set alone", "all sets together")
    )
    assert len(alone) == 2  # one of the five cases of either set
    assert alone == together


@pytest.mark.full
def test_tables_on_head_and_neck(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("headneck_nerve", "headneck_glands", "headneck_bone", "headneck_target"):
        write_collection(tmp_path, name, [f"pt_{number}" for number in range(5)])
    few = {"pool": {"first": 3}, "test": {"last": 1}}
    axes = {"target": ["in_domain", "out_of_domain"], "method": ["zero_shot", "decoder"], "shots": [1], "seed": [0]}
    sites = cut("in-out-domain", bases=["universal"], axes=axes)
    sites["targets"]["out_of_domain"] |= few
    rows = numbers_of(sites, tmp_path, capsys)
    assert {(row["target"], row["method"]) for row in rows} == {(t, m) for t in axes["target"] for m in axes["method"]}

    label = "lora encoder r3 + decoder"
    methods = read_table(find_file("dinov2-lora-ranks", TABLES)).axes["method"]
    (lora,) = [value for value in methods if isinstance(value, dict) and value["label"] == label]
    ranks = cut("dinov2-lora-ranks", bases=["universal"], axes={"method": [lora], "shots": ["all"], "seed": [0]})
    ranks["bases"] = sites["bases"]  # not pretrained again
    ranks["targets"]["site"] |= few
    rows = numbers_of(ranks, tmp_path, capsys)
    assert {row["method"] for row in rows} == {label}
    assert {"mean of known", "mean of novel", "larynx"} <= {row["structures"] for row in rows}


@pytest.mark.full
def test_hippocampus_starts_from_a_base_for_ct(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("headneck_nerve", "headneck_glands", "headneck_bone"):
        write_collection(tmp_path, name, ["pt_1", "pt_2"])
    write_collection(tmp_path, "hippocampus", ["hippocampus_001", "hippocampus_003", "hippocampus_004"])
    axes = {"method": ["full"], "shots": [1], "seed": [0]}
    table = cut("hippocampus", bases=["universal", "ct"], axes=axes)
    table["targets"]["mr"] |= {"pool": {"first": 2}, "test": {"last": 1}}
    rows = numbers_of(table, tmp_path, capsys)

    assert {row["structures"] for row in rows} >= {"hippocampus_anterior", "hippocampus_posterior", "mean of novel"}
    (base,) = (tmp_path / "tables" / "bases").glob("ct_*")
    (configuration,) = json.loads((base / "plans.json").read_text(encoding="utf-8"))["configurations"].values()
    assert configuration["spacing"] == [1.0, 1.0, 1.0]
    assert configuration["normalization_schemes"] == ["ZScoreNormalization"]


@pytest.mark.full
def test_hermes_takes_shares_of_the_pool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_collection(tmp_path, "amos22", ["amos_0001", "amos_0002"])
    write_collection(tmp_path, "msd07_pancreas", [f"pancreas_00{number}" for number in range(1, 6)])
    methods = {value["label"]: value for value in read_table(find_file("hermes", TABLES)).axes["method"]}
    table = cut("hermes", bases=["amos_ct"], axes={"method": [methods["AMOS-CT"]], "shots": ["50%"], "seed": [0]})
    table["targets"]["pancreas"] |= {"pool": {"first": 4}, "test": {"last": 1}}
    rows = numbers_of(table, tmp_path, capsys)

    assert {(row["shots"], row["structures"]) for row in rows} == {
        ("50%", name) for name in ("pancreas", "tumour", "mean")
    }


@pytest.mark.full
def test_word_is_adapted_to_from_a_public_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_collection(tmp_path, "word", ["word_0002", "word_0003"])
    write_collection(tmp_path, "word_test", ["word_0014"])
    axes = {"base": ["suprem_segresnet"], "method": ["full"], "shots": [1], "seed": [0]}
    table = cut("vista3d-word", bases=["suprem_segresnet"], axes=axes)
    write_checkpoint(tmp_path, table, "suprem_segresnet", "suprem_segresnet", "seg_resnet")
    table["targets"]["word"] |= {"pool": {"last": 2}, "test": {"first": 1}}
    rows = numbers_of(table, tmp_path, capsys)

    assert {row["structures"] for row in rows} == {"adrenal_glands", "16 organs"}
    assert {row["case"] for row in read_csv(tmp_path / "tables/tables/cut/per_case.csv")} == {"WORDTest_word_0014"}


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "base", "method", "target"),
    [
        ("suprem-totalsegmentator", "suprem_segresnet", "full", "cardiac"),
        ("supervised-selfsupervised", "genesis_unet", "decoder", "abdomen"),
        ("known-novel", "suprem_segresnet", "zero_shot", "abdomen"),
    ],
)
def test_tables_on_totalsegmentator(
    name: str, base: str, method: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = cut(name, bases=[base], axes={"base": [base], "method": [method], "shots": [1], "seed": [0]})
    chosen = table["targets"][target]
    test, support = chosen["test"]["names"][0], next(iter(chosen["support"].values()))[0]
    write_collection(tmp_path, "totalsegmentator_v1", [test, support])
    write_checkpoint(tmp_path, table, base, *SMALL[base])
    table["targets"] = {target: {**chosen, "test": {"names": [test]}, "support": {0: [support]}}}
    structures = chosen["structures"]
    columns = {column: parts for column, parts in table.get("columns", {}).items() if set(parts) <= set(structures)}
    rows = numbers_of({**table, "columns": columns}, tmp_path, capsys)

    assert rows
    scored = read_csv(tmp_path / "tables/tables/cut/per_case.csv")
    assert {row["case"] for row in scored} == {f"TotalSegmentatorV1_{test}"}
    assert {row["structure"] for row in scored} == set(structures)
