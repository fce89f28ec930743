"""Cases and crops of a pretraining: open files, memory, sources, images that several sources share, workers."""

import errno
import os
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PLANS_NAME, SOURCES, Lab, fsseg, succeed
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from fsseg.config.errors import FssegError
from fsseg.config.json_files import read_json, write_json
from fsseg.config.pretraining import PretrainSettings
from fsseg.config.run_folder import new_run_folder
from fsseg.data.crops import CropSampler
from fsseg.data.structures import CaseAnnotation, Structures, load_structures
from fsseg.data.volumes import Volume
from fsseg.nnunet.preprocessed_volume import KEPT_LOCATIONS, preprocessed_volume
from fsseg.nnunet.pretraining.holdout import stratified_holdout
from fsseg.nnunet.pretraining.loaders import workers_for
from fsseg.nnunet.pretraining.make_trainer import make_trainer
from fsseg.nnunet.pretraining.sampling import source_weights
from fsseg.nnunet.stored_array import StoredArray
from fsseg.training.crop_batches import worker_errors_named

PATCH = (16, 16, 16)


@contextmanager
def open_files_at_most(more: int) -> Iterator[None]:
    """Let this process open a few more files than it has open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def copies(lab: Lab, folder: Path, count: int) -> Structures:
    """Put a preprocessed case into a folder under several names; return what they annotate."""
    case, annotation = next(iter(load_structures(lab.preprocessed).cases.items()))
    folder.mkdir()
    for number in range(count):
        for ending in (".b2nd", "_seg.b2nd", ".pkl"):
            stored = lab.preprocessed / f"{PLANS_NAME}_3d_fullres" / f"{case}{ending}"
            (folder / f"case_{number:02d}{ending}").symlink_to(stored)
    cases = {f"case_{number:02d}": annotation for number in range(count)}
    return load_structures(lab.preprocessed).model_copy(update={"cases": cases})


def volumes(lab: Lab, folder: Path, structures: Structures) -> list[Volume]:
    plans = PlansManager(str(lab.preprocessed / f"{PLANS_NAME}.json"))
    return [preprocessed_volume(case, folder, structures, plans) for case in structures.cases]


# Files and memory


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_cases_hold_no_file_open_and_give_the_same_crops(lab: Lab, tmp_path: Path) -> None:
    structures = copies(lab, tmp_path / "cases", 40)
    with open_files_at_most(12):
        cases = volumes(lab, tmp_path / "cases", structures)
        sampler = CropSampler(cases, PATCH, crop_size=(20, 20, 20), foreground_probability=0.5)
        plans = [sampler.draw(np.random.default_rng(index), index) for index in range(len(cases))]
        crops = [sampler.cut(plan) for plan in plans]
    in_memory = [replace(case, image=np.asarray(case.image), labels=np.asarray(case.labels)) for case in cases]
    assert isinstance(in_memory[0].image, np.ndarray)
    sampler = CropSampler(in_memory, PATCH, crop_size=(20, 20, 20), foreground_probability=0.5)
    for plan, crop in zip(plans, crops, strict=True):
        for ours, theirs in zip(crop, sampler.cut(plan), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_damaged_or_missing_case_is_named(lab: Lab, tmp_path: Path) -> None:
    structures = copies(lab, tmp_path / "cases", 1)
    (case,) = volumes(lab, tmp_path / "cases", structures)
    file = tmp_path / "cases" / "case_00.b2nd"
    file.unlink()
    with pytest.raises(FileNotFoundError):
        case.image[:, :2]
    file.write_bytes(b"no array")
    with pytest.raises(FssegError, match=r"case_00\.b2nd is damaged"):
        case.image[:, :2]


def test_of_many_foreground_voxels_a_few_are_kept_always_the_same(lab: Lab, tmp_path: Path) -> None:
    structures = copies(lab, tmp_path / "cases", 2)
    name = structures.cases["case_00"].annotated[0]
    found = np.stack([np.zeros(20_000, np.int64), *np.random.default_rng(0).integers(0, 12, (3, 20_000))], axis=1)
    for case in structures.cases:
        file = tmp_path / "cases" / f"{case}.pkl"
        properties = pickle.loads(file.read_bytes())
        properties["class_locations"][structures.integers[name]] = found
        file.unlink()
        file.write_bytes(pickle.dumps(properties))
    first, other = (volume.locations[name] for volume in volumes(lab, tmp_path / "cases", structures))
    again = volumes(lab, tmp_path / "cases", structures)[0].locations[name]
    assert first.shape == (KEPT_LOCATIONS, 3)
    assert first.itemsize <= 2
    assert first.base is None  # no view that keeps nnU-Net's array
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert set(map(tuple, first.tolist())) <= set(map(tuple, found[:, 1:].tolist()))


def test_too_many_open_files_are_not_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FssegError, match="ulimit -n") as caught, new_run_folder(tmp_path / "run"):
        raise OSError(errno.EMFILE, "Too many open files", "case.b2nd")
    assert "Could not write" not in str(caught.value)
    assert "space" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# Sources and duplicates


def structures_of(sources: dict[str, int], **more: object) -> Structures:
    cases = {
        f"{name}{i:02d}": CaseAnnotation(source=name, annotated=()) for name, n in sources.items() for i in range(n)
    }
    return Structures(integers={"liver": (1,)}, cases=cases).model_copy(update=more)


def test_sources_of_one_collection_are_balanced_as_one() -> None:
    whole = structures_of({"a": 9, "b": 4})
    parts = structures_of({"a": 9, "b": 1, "c": 3})
    joined = {"a": None, "b": "b", "c": "b"}
    cases = {
        case: annotation.model_copy(update={"collection": joined[annotation.source]})
        for case, annotation in parts.cases.items()
    }
    for sampling in ("cases", "sqrt", "sources"):
        expected = source_weights(list(whole.cases), whole, sampling)
        assert source_weights(list(cases), parts.model_copy(update={"cases": cases}), sampling) == expected


def test_nothing_is_trained_on_that_is_the_same_image_as_a_held_out_case() -> None:
    duplicates = tuple((f"a{i:02d}", f"b{i:02d}") for i in range(10))
    alone, shared = structures_of({"a": 20, "b": 10}), structures_of({"a": 20, "b": 10}, duplicates=duplicates)
    training, held_out = stratified_holdout(list(shared.cases), shared, 0.2, seed=0)
    assert held_out == stratified_holdout(list(alone.cases), alone, 0.2, seed=0)[1]
    images = {case: group for group in duplicates for case in group}
    assert not {images.get(case, case) for case in training} & {images.get(case, case) for case in held_out}
    gone = set(shared.cases) - set(training) - set(held_out)
    assert gone == {other for case in held_out for other in images.get(case, ())} - set(held_out)
    assert gone


def test_folds_of_nnunet_lose_the_images_that_they_validate_on(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / SOURCES
    folder.mkdir()
    for path in lab.preprocessed.iterdir():
        if path.name != "structures.json":
            (folder / path.name).symlink_to(path)
    structures = load_structures(lab.preprocessed)
    first, second, *rest = sorted(structures.cases)
    structures.model_copy(update={"duplicates": ((first, rest[0]),)}).save(folder)
    write_json(folder / "splits_final.json", [{"train": [second, *rest], "val": [first]}])
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    trainer = make_trainer(
        plans=read_json(folder / f"{PLANS_NAME}.json"),
        fold=0,
        dataset_json=read_json(folder / "dataset.json"),
        device=torch.device("cpu"),
        folder=tmp_path / "run",
        resume_from=None,
    )
    assert trainer.do_split() == ([second, *rest[1:]], [first])
    of_folds, *_, note = succeed(*lab.pretrain_words(tmp_path / "other"), "--dry-run")["notes"]
    assert "splits_final.json decides which cases are held out" in of_folds
    assert note.endswith(f"the same image as a held-out case: {rest[0]}.")


def test_an_adaptation_does_not_draw_the_image_of_a_test_case(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    copy = lab.copy_target(tmp_path / "raw")
    load_structures(copy.target).model_copy(update={"duplicates": ((lab.case(0), lab.case(3)),)}).save(copy.target)
    facts = succeed(*copy.adapt_words(tmp_path / "run", "--dry-run"))
    assert sorted(facts["support"]) == [lab.case(1), lab.case(2)]  # case 3 is the test case
    outcome = fsseg(*copy.adapt_words(tmp_path / "run", "--cases", lab.case(0), lab.case(1)))
    assert outcome.code == 2
    assert f"the same image as a test case: {lab.case(0)}" in outcome.err


# Workers


def test_workers_are_those_of_nnunet_on_a_gpu_and_none_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "12")
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    automatic = PretrainSettings(steps=1)
    assert (workers_for(automatic, cpu), workers_for(automatic, cuda)) == (0, 12)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert workers_for(automatic, cuda) == 8
    for workers in (0, 3):
        chosen = PretrainSettings(steps=1, workers=workers)
        assert (workers_for(chosen, cpu), workers_for(chosen, cuda)) == (workers, workers)


def test_what_fails_in_a_worker_is_one_message(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(stored: StoredArray, index: object) -> np.ndarray:
        raise FssegError("Preprocessed file x.b2nd is damaged.")

    monkeypatch.setattr(StoredArray, "__getitem__", fail)
    outcome = fsseg(*lab.pretrain_words(tmp_path / "run", "workers=1", steps=4))
    assert (outcome.code, outcome.err.strip()) == (1, "fsseg pretrain: Preprocessed file x.b2nd is damaged.")


def test_a_worker_that_dies_while_a_checkpoint_is_written_is_no_full_disk() -> None:
    def write() -> None:
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
        except RuntimeError as error:
            raise OSError(errno.EIO, "not all bytes could be written") from error

    with pytest.raises(FssegError, match="prepares crops was lost: DataLoader worker"), worker_errors_named():
        write()
    for other in (RuntimeError("mat1 and mat2"), OSError(errno.ENOSPC, "No space left")):
        with pytest.raises(type(other)), worker_errors_named():
            raise other


# Stock preprocessing


@pytest.mark.parametrize("assembled", [True, False], ids=["assembled", "plain"])
def test_a_dataset_that_stock_nnunet_preprocessed_can_be_pretrained_on(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assembled: bool
) -> None:
    for variable, made in (("raw", lab.root / "raw" / SOURCES), ("preprocessed", lab.preprocessed)):
        (tmp_path / variable / SOURCES).mkdir(parents=True)
        for path in made.iterdir():
            if path.name != "structures.json" or (assembled and variable == "raw"):
                (tmp_path / variable / SOURCES / path.name).symlink_to(path)
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    brought = tmp_path / "preprocessed" / SOURCES / "structures.json"
    words = lab.pretrain_words(tmp_path / "run", steps=2)
    facts = succeed(*words, "--dry-run")
    assert facts["cases"] == 6
    assert [note.startswith("Every structure counts as annotated in every case") for note in facts["notes"][1:]] == (
        [] if assembled else [True]
    )
    assert not brought.exists()  # a dry run only reports
    assert succeed(*words)["notes"] == facts["notes"]
    assert brought.is_file()
