"""fsseg preprocess: complete or absent, at any time again, and on usable cases only."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
import SimpleITK
from conftest import PLANS_NAME, SOURCES, TARGET, Lab, fsseg, succeed, tiny_plans, tree
from damaged_images import (
    as_series,
    as_vectors,
    one_slice,
    respaced,
    rewritten,
    truncated,
    turned,
    with_ending,
    with_value,
)
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.utils import get_identifiers_from_splitted_dataset_folder
from warm_process import program

from fsseg.config.errors import FssegError
from fsseg.data.structures import load_structures
from fsseg.nnunet.environment import SPLITS_NAME
from fsseg.nnunet.preprocessed_dataset import new_preprocessed, require_all_cases
from fsseg.nnunet.preprocessed_structures import preprocessed_structures
from fsseg.nnunet.raw_dataset import read_raw_dataset

DATA = f"{PLANS_NAME}_3d_fullres"


@pytest.fixture
def folder(site: Lab) -> Path:
    return site.root / "preprocessed" / TARGET


@pytest.fixture
def own_sources(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the preprocessed sources into a folder of their own; return that of their cases."""
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    shutil.copytree(lab.preprocessed, tmp_path / SOURCES)
    return tmp_path / SOURCES / DATA


def words(site: Lab, *more: object) -> list[object]:
    return ["preprocess", "--dataset", "804", "--plans", site.plans, *more]


def content_of(folder: Path) -> dict[str, bytes]:
    """Return the files but the manifest; of blosc2 files the voxels, as their bytes differ from run to run."""
    files = {name: content for name, content in tree(folder).items() if not name.endswith("manifest.json")}
    arrays = {name: blosc2.open(str(folder / name), mode="r")[:].tobytes() for name in files if name.endswith(".b2nd")}
    return files | arrays


def interrupted(
    calls: int, work: Callable[..., Any], counts: Callable[..., bool] = lambda *_: True
) -> Callable[..., Any]:
    """Return `work` that Ctrl-C stops at the last of so many calls that count."""
    left = [calls]

    def step(*arguments: Any, **more: Any) -> Any:
        left[0] -= counts(*arguments)
        if not left[0]:
            raise KeyboardInterrupt
        return work(*arguments, **more)

    return step


# --- complete or absent -----------------------------------------------------------------------------------------


def test_the_same_command_again_gives_the_same_folder_and_leaves_other_plans(site: Lab, folder: Path) -> None:
    assert succeed(*words(site))["cases"] == 4
    before = content_of(folder)
    (folder / "others.json").write_text("{}")
    (folder / DATA / "PhantomTarget_of_a_case_that_was_removed.b2nd").write_bytes(b"old")
    assert succeed(*words(site))["cases"] == 4
    after = content_of(folder)
    assert after.pop("others.json") == b"{}"
    assert after == before
    assert [path.name for path in folder.parent.iterdir()] == [TARGET]


@pytest.mark.full
def test_two_at_a_time_do_not_destroy_each_other(site: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, second = DefaultPreprocessor.run_case_save, []

    def run_case_save(*arguments: Any, **options: Any) -> Any:
        if not second:
            script = "import sys; from fsseg.cli.main import main; sys.exit(main(sys.argv[1:]))"
            command = program(script, *words(site))
            own = {**os.environ, "nnUNet_preprocessed": str(folder.parent)}  # ours says where nnU-Net writes
            second.append(subprocess.run(command, capture_output=True, text=True, check=False, env=own))
        return original(*arguments, **options)

    monkeypatch.setattr(DefaultPreprocessor, "run_case_save", run_case_save)
    assert succeed(*words(site))["cases"] == 4
    assert second[0].returncode == 2
    assert "Another process is making" in second[0].stderr


def test_plans_of_another_number_of_channels_are_refused(site: Lab, folder: Path, tmp_path: Path) -> None:
    plans = json.loads(site.plans.read_text(encoding="utf-8"))
    block = plans["configurations"]["3d_fullres"]
    block |= {"normalization_schemes": ["CTNormalization", "ZScoreNormalization"], "use_mask_for_norm": [False, False]}
    file = tmp_path / "two_channels.json"
    file.write_text(json.dumps(plans), encoding="utf-8")
    outcome = fsseg("preprocess", "--dataset", "804", "--plans", file)
    assert outcome.code == 2
    assert "is for 2 image channel(s) (CTNormalization, ZScoreNormalization), but the dataset has 1: CT" in outcome.err
    assert not folder.exists()


def test_ctrl_c_leaves_what_was_there(site: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for expected in ({}, None):
        before = tree(folder.parent) if expected is None else expected
        with monkeypatch.context() as patch:
            patch.setattr(DefaultPreprocessor, "run_case_save", interrupted(3, DefaultPreprocessor.run_case_save))
            outcome = fsseg(*words(site))
        assert outcome.code == 1
        assert "stopped by Ctrl-C" in outcome.err
        assert tree(folder.parent) == before
        succeed(*words(site))


@pytest.mark.full
def test_a_kill_while_files_are_put_in_place_leaves_no_plans_without_their_cases(
    site: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(*words(site))
    complete, plans = content_of(folder), tiny_plans()
    structures = load_structures(site.target)
    moves = 0
    while True:
        moves += 1
        with monkeypatch.context() as patch:
            patch.setattr("os.replace", interrupted(moves, os.replace, lambda _, new: Path(new).parent == folder))
            if fsseg(*words(site)).code == 0:
                break
        assert not (folder / "manifest.json").is_file()  # by which scripts know that they must go on
        if (folder / f"{PLANS_NAME}.json").is_file():
            require_all_cases(folder, plans, structures)
    assert moves > 5
    assert content_of(folder) == complete


def test_what_a_kill_left_behind_is_no_obstacle(site: Lab, folder: Path) -> None:
    left = folder.parent / f"preprocess_{TARGET}.partial" / TARGET / DATA
    left.mkdir(parents=True)
    (left / f"{site.case(0)}.b2nd").write_bytes(b"half")
    (folder / DATA).mkdir(parents=True)  # nnU-Net's own preprocessing works in place
    (folder / DATA / f"{site.case(0)}.b2nd").write_bytes(b"half")
    succeed(*words(site))
    assert [path.name for path in folder.parent.iterdir()] == [TARGET]
    require_all_cases(folder, tiny_plans(), load_structures(site.target))


def test_splits_are_kept_and_those_of_the_raw_dataset_must_not_differ(site: Lab, folder: Path) -> None:
    succeed(*words(site))
    (folder / SPLITS_NAME).write_text("[]")
    (site.target / SPLITS_NAME).write_text("[]")
    succeed(*words(site))
    (site.target / SPLITS_NAME).write_text("[{}]")
    outcome = fsseg(*words(site))
    assert outcome.code == 2
    assert f"{folder / SPLITS_NAME} and {site.target / SPLITS_NAME}" in outcome.err
    assert (folder / SPLITS_NAME).read_text(encoding="utf-8") == "[]"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_of_nnunet_names_the_reason_and_leaves_nothing(
    site: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("worker died\nout of memory")

    monkeypatch.setattr(DefaultPreprocessor, "run_case_save" if workers == 1 else "run", fail)
    outcome = fsseg(*words(site, "--workers", workers))
    assert outcome.code == 1
    assert outcome.err.endswith("cannot be preprocessed: out of memory\n")
    assert f"Case '{site.case(0)}' of" in outcome.err or workers == 2
    assert list(folder.parent.iterdir()) == []


@pytest.mark.full
def test_two_workers_give_the_files_of_one(site: Lab, folder: Path) -> None:
    succeed(*words(site))
    one = content_of(folder)
    succeed(*words(site, "--workers", 2))
    assert content_of(folder) == one


def test_the_manifest_names_what_the_cases_were_made_of(site: Lab) -> None:
    inputs = succeed(*words(site))["inputs"]
    names = ("dataset.json", "structures.json")
    assert set(inputs) == {*(str(site.target / name) for name in names), str(site.plans)}
    hashes = json.loads((site.target / "manifest.json").read_text(encoding="utf-8"))["case_sha256"]
    assert succeed(*words(site))["case_sha256"] == hashes
    assert set(hashes) == {site.case(index) for index in range(4)}


def test_files_that_a_mac_leaves_are_no_cases_of_nnunets_functions(site: Lab, folder: Path) -> None:
    for place in ("imagesTr", "labelsTr"):
        for path in list((site.target / place).iterdir()):
            (path.parent / f"._{path.name}").write_bytes(b"left by a Mac")
    with suppress(KeyboardInterrupt), new_preprocessed(folder, read_raw_dataset(site.target)):
        seen = Path(os.environ["nnUNet_raw"]) / TARGET / "imagesTr"
        cases = get_identifiers_from_splitted_dataset_folder(str(seen), ".nii.gz")
        raise KeyboardInterrupt
    assert cases.tolist() == [site.case(index) for index in range(4)]


# --- cases that are missing in a preprocessed dataset -------------------------------------------------------------


@pytest.mark.parametrize("part", [".b2nd", "_seg.b2nd", ".pkl"])
def test_pretraining_refuses_cases_that_are_not_preprocessed(
    lab: Lab, tmp_path: Path, own_sources: Path, part: str
) -> None:
    case = next(own_sources.glob("*South*.pkl")).stem
    (own_sources / f"{case}{part}").unlink()
    for more in ([], ["--dry-run"]):
        outcome = fsseg(*lab.pretrain_words(tmp_path / "out"), *more)
        assert outcome.code == 1
        assert (
            f"structures.json lists 6 cases, of which 1 is missing or incomplete in {own_sources}: {case}\n"
            in outcome.err
        )
        assert "fsseg preprocess" in outcome.err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", [".b2nd", "_seg.b2nd", ".pkl"])
def test_pretraining_names_a_preprocessed_case_that_is_damaged(
    lab: Lab, tmp_path: Path, own_sources: Path, part: str
) -> None:
    case = next(own_sources.glob("*South*.pkl")).stem
    truncated(own_sources / f"{case}{part}")
    outcome = fsseg(*lab.pretrain_words(tmp_path / "out"))
    assert outcome.code == 1
    assert f"The preprocessed case '{case}' in {own_sources} is damaged" in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()


def test_structures_that_are_not_of_the_preprocessed_cases_are_refused(own_sources: Path) -> None:
    file = own_sources.parent / "structures.json"
    assert preprocessed_structures(own_sources.parent)
    content = json.loads(file.read_text(encoding="utf-8"))
    first, second, *_ = content["integers"]
    content["integers"] |= {first: content["integers"][second], second: content["integers"][first]}
    file.write_text(json.dumps(content))
    with pytest.raises(FssegError, match=f"give {first}, {second} different integers"):
        preprocessed_structures(own_sources.parent)


def test_cases_of_other_plans_do_not_get_integers_with_another_meaning(site: Lab, folder: Path, tmp_path: Path) -> None:
    succeed(*words(site))
    plans = tiny_plans() | {"plans_name": "other"}
    plans["configurations"]["3d_fullres"]["data_identifier"] = "other"
    (tmp_path / "other.json").write_text(json.dumps(plans))
    others = ["preprocess", "--dataset", "804", "--plans", tmp_path / "other.json"]
    file = site.target / "structures.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    first, second, *_ = content["integers"]
    content["integers"] |= {first: content["integers"][second], second: content["integers"][first]}
    file.write_text(json.dumps(content))
    before = tree(folder.parent)
    outcome = fsseg(*others)
    assert outcome.code == 2
    assert f"holds preprocessed cases ({DATA}) from label maps with other integers" in outcome.err
    assert tree(folder.parent) == before
    plans_words = ("nnunet", "plans", "--checkpoint", site.base, "--dataset", "804", "--method", "bitfit")
    outcome = fsseg(*plans_words)  # it writes structures.json, too
    assert outcome.code == 2
    assert "from label maps with other integers" in outcome.err
    assert tree(folder.parent) == before
    succeed(*words(site))  # replaces its own
    succeed(*others)
    assert load_structures(folder).integers[first] == tuple(content["integers"][first])


def test_cases_as_nnunet_stored_them_before_are_complete(tmp_path: Path, lab: Lab) -> None:
    structures, plans = load_structures(lab.preprocessed), tiny_plans()
    (tmp_path / DATA).mkdir()
    for case in structures.cases:
        for ending in ("npz", "pkl"):
            (tmp_path / DATA / f"{case}.{ending}").touch()
    require_all_cases(tmp_path, plans, structures)
    (tmp_path / DATA / f"{case}.npz").unlink()
    with pytest.raises(FssegError, match=case):
        require_all_cases(tmp_path, plans, structures)


# --- cases that cannot be used ----------------------------------------------------------------------------------


BAD_IMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, "no image in"),
    "truncated": (truncated, "truncated or damaged"),
    "nan": (rewritten(with_value(np.nan, "f4")), "NaN or infinite"),
    "constant": (rewritten(np.zeros_like), "is constant"),
    "vectors": (as_vectors, "3D with one value per voxel"),
    "2d": (one_slice, "3D with one value per voxel"),
    "4d": (as_series, "3D with one value per voxel"),
}
BAD_LABELS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, "labels missing"),
    "truncated": (truncated, "truncated or damaged"),
    "spacing": (respaced, "have spacing"),
    "direction": (turned, "have direction"),
    "fraction": (rewritten(with_value(0.5, "f4")), "no integers"),
    "unnamed": (rewritten(with_value(99)), "holds the integer 99, but its dataset names"),
    "negative": (rewritten(with_value(-1)), "holds the integer -1, but its dataset names"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "a folder, not a file"),
}


def test_all_that_is_wrong_with_any_case_is_said_at_once(site: Lab, folder: Path) -> None:
    expected = []
    source = site.case(0)
    for kind, damages in (("imagesTr", BAD_IMAGES), ("labelsTr", BAD_LABELS)):
        for name, (damage, message) in damages.items():
            case = f"{kind}_{name}"
            image, label = (copy_case(site, source, case, place) for place in ("imagesTr", "labelsTr"))
            annotate(site, source, case)
            damage(image if kind == "imagesTr" else label)
            expected.append((case, message))
    shutil.copyfile(site.image(0), site.target / "imagesTr" / "unnumbered.nii.gz")
    for more in ([], ["--workers", 2], ["--dry-run"]):
        outcome = fsseg(*words(site, *more))
        assert outcome.code == 1
        for case, message in expected:
            assert any(line.startswith(f"  - {case}: ") and message in line for line in outcome.err.splitlines()), case
        assert "unnumbered.nii.gz: not named CASE_0000.nii.gz" in outcome.err
        assert f"{len(expected) + 1} problems in {len(expected) + 4} cases" in outcome.err
        assert site.case(1) not in outcome.err
        assert not folder.parent.exists()


def copy_case(site: Lab, source: str, case: str, place: str) -> Path:
    ending = "_0000.nii.gz" if place == "imagesTr" else ".nii.gz"
    return Path(shutil.copyfile(*(site.target / place / f"{name}{ending}" for name in (source, case))))


def annotate(site: Lab, source: str, case: str) -> None:
    file = site.target / "structures.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["cases"][case] = content["cases"][source]
    file.write_text(json.dumps(content))


def test_a_case_that_structures_json_does_not_list_is_refused(site: Lab) -> None:
    for place in ("imagesTr", "labelsTr"):
        copy_case(site, site.case(0), "stranger", place)
    assert "stranger: not listed in structures.json" in fsseg(*words(site)).err


def test_channels_in_other_geometries_are_refused(site: Lab) -> None:
    file = site.target / "dataset.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | {"channel_names": {"0": "CT", "1": "PET"}}))
    for index in range(4):
        second = Path(str(site.image(index)).replace("_0000", "_0001"))
        shutil.copyfile(site.image(index), second)
    turned(second)
    plans = json.loads(site.plans.read_text(encoding="utf-8"))
    block = plans["configurations"]["3d_fullres"]
    for key in ("normalization_schemes", "use_mask_for_norm"):
        block[key] = 2 * block[key]
    statistics = plans["foreground_intensity_properties_per_channel"]
    statistics["1"] = statistics["0"]
    file = site.root / "two_channels.json"
    file.write_text(json.dumps(plans), encoding="utf-8")
    command = ("preprocess", "--dataset", "804", "--plans", file)
    outcome = fsseg(*command)
    assert outcome.code == 1
    assert f"voxels of {second.name} have direction" in outcome.err
    second.unlink()
    assert "do not have the 2 channel(s) 0000, 0001" in fsseg(*command).err


def test_an_ignore_label_is_named(site: Lab) -> None:
    plain_dataset(site, {"background": 0, "liver": [1, 2, 3, 4, 5, 6], "stomach": [1, 1], "ignore": 7})
    rewritten(with_value(7))(site.label(1))
    outcome = fsseg(*words(site))
    assert outcome.code == 1
    assert "holds the integer 7" in outcome.err
    assert "7 is nnU-Net's ignore label, which is not supported" in outcome.err
    assert f"{site.case(0)}:" not in outcome.err


def plain_dataset(site: Lab, labels: Any) -> None:
    (site.target / "structures.json").unlink()
    file = site.target / "dataset.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | {"labels": labels}))


@pytest.mark.parametrize("ending", [".nii", ".mha", ".nrrd"])
def test_every_format_is_checked(site: Lab, caplog: pytest.LogCaptureFixture, ending: str) -> None:
    with_ending(site.target, ending)
    assert succeed(*words(site))["cases"] == 4
    assert "unchecked" not in caplog.text
    images, labels = (
        [site.target / folder / f"{site.case(index)}{more}{ending}" for index in range(4)]
        for folder, more in (("imagesTr", "_0000"), ("labelsTr", ""))
    )
    truncated(images[1])
    rewritten(with_value(np.nan, "f4"))(images[3])
    rewritten(with_value(99))(labels[2])
    rewritten(lambda array: array * np.float32(0.9999))(labels[0])
    err = fsseg(*words(site)).err
    assert f"{site.case(1)}: image truncated or damaged" in err
    assert f"{site.case(3)}: image holds 1 values that are NaN or infinite" in err
    assert "holds the integer 99" in err
    assert f"{site.case(0)}: labels {labels[0].name} hold values that are no integers" in err


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_half_a_voxel_is_the_tolerance_of_every_format(site: Lab, ending: str) -> None:
    with_ending(site.target, ending)
    for index, moved_voxels in ((0, 0.001), (1, 0.6)):
        file = site.target / "labelsTr" / f"{site.case(index)}{ending}"
        labels = SimpleITK.ReadImage(str(file))
        labels.SetOrigin([x + moved_voxels * mm for x, mm in zip(labels.GetOrigin(), labels.GetSpacing(), strict=True)])
        SimpleITK.WriteImage(labels, str(file))
    err = fsseg(*words(site)).err
    assert "1 problem in 4 cases" in err
    assert f"{site.case(1)}: labels {file.name} have origin" in err


def test_a_file_of_text_is_told_from_an_image(site: Lab) -> None:
    with_ending(site.target, ".nii")
    file = site.target / "imagesTr" / f"{site.case(2)}_0000.nii"
    file.write_text("no image " * 100)
    err = fsseg(*words(site)).err
    assert "1 problem in 4 cases" in err
    assert f"{site.case(2)}: image truncated or damaged: {file} (it does not start as a NIfTI file does)" in err


# --- plans and dataset.json ---------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any], dict[str, Any]], Any]
BAD_PLANS: dict[str, tuple[Change, str]] = {
    "architecture": (lambda plans, block: block.pop("architecture"), "no architecture that can be read"),
    "arch_kwargs": (
        lambda plans, block: block["architecture"].pop("arch_kwargs"),
        "lacks configurations.3d_fullres.architecture.arch_kwargs",
    ),
    "patch": (lambda plans, block: block.pop("patch_size"), "lacks configurations.3d_fullres.patch_size"),
    "patch_2d": (lambda plans, block: block.update(patch_size=[16, 16]), "patch_size must be three integers above 0"),
    "spacing": (lambda plans, block: block.pop("spacing"), "lacks configurations.3d_fullres.spacing"),
    "spacing_word": (lambda plans, block: block.update(spacing="fine"), "spacing must be three numbers above 0"),
    "preprocessor": (lambda plans, block: block.update(preprocessor_name="Fast"), "'Fast'"),
    "reader": (lambda plans, block: plans.update(image_reader_writer="Fast"), "'Fast'"),
    "name": (lambda plans, block: plans.update(plans_name="../../evil"), "plans_name must be a plain name"),
    "data": (lambda plans, block: block.update(data_identifier="../evil"), "data_identifier must be a plain name"),
}


@pytest.mark.parametrize("name", BAD_PLANS)
def test_plans_that_nnunet_cannot_use_are_refused(site: Lab, tmp_path: Path, name: str) -> None:
    change, message = BAD_PLANS[name]
    plans = tiny_plans()
    change(plans, plans["configurations"]["3d_fullres"])
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(plans))
    before = {path.name for path in tmp_path.iterdir()}
    outcome = fsseg("preprocess", "--dataset", "804", "--plans", file)
    assert outcome.code == 2
    assert message in outcome.err
    assert "bad.json" in outcome.err
    assert {path.name for path in tmp_path.iterdir()} == before


V1 = "nnUNetv2_convert_MSD_dataset"
BAD_DATASETS: dict[str, tuple[Any, str]] = {
    "list": ([], "lacks all keys"),
    "no_labels": ({"file_ending": ".nii.gz"}, "lacks labels"),
    "labels_list": ({"labels": ["liver"]}, "must map names to integers"),
    "v1": ({"labels": {"0": "background", "1": "liver"}}, V1),
    "nested": ({"labels": {"background": 0, "liver": [[1]]}}, "labels.liver must be an integer from 0"),
    "negative": ({"labels": {"background": 0, "liver": -1}}, "labels.liver must be an integer from 0"),
    "word": ({"labels": {"background": 0, "liver": "one"}}, "labels.liver must be an integer from 0"),
    "no_ending": ({"labels": {"liver": 1}, "channel_names": {"0": "CT"}}, "lacks file_ending"),
    "channels": ({"labels": {}, "file_ending": ".nii.gz", "channel_names": ["CT"]}, "channel_names must be like"),
    "files": (
        {"labels": {}, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}, "dataset": {}},
        "lists its files under `dataset`",
    ),
}


@pytest.mark.parametrize("name", BAD_DATASETS)
def test_a_dataset_json_that_cannot_be_read_is_refused(site: Lab, tmp_path: Path, name: str) -> None:
    content, message = BAD_DATASETS[name]
    (site.target / "structures.json").unlink()
    (site.target / "dataset.json").write_text(json.dumps(content))
    for command in (words(site), site.adapt_words(tmp_path / "out")):
        outcome = fsseg(*command)
        assert outcome.code == 1
        assert message in outcome.err
        assert "dataset.json" in outcome.err
    assert not (tmp_path / "out").exists()
