"""Whatever is wrong, the command says what, exits 2 (usage) or 1 (failure), prints no traceback, leaves nothing."""

import argparse
import errno
import importlib
import itertools
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from conftest import KNOWN, NOVEL, PLANS_NAME, REPOSITORY, TARGET, Lab, Outcome, fsseg, succeed, tiny_plans, tree
from damaged_images import as_series, as_vectors, one_slice, rewritten, truncated, with_ending, with_value

from fsseg.cli.main import COMMANDS
from fsseg.config.shipped_files import PLANS, SPECS
from fsseg.config.staging import staging_of
from fsseg.methods.adapter_file import AdapterInfo, save_adapter
from fsseg.nnunet.checkpoint_file import WEIGHTS_HASH_KEY, save_checkpoint
from fsseg.training.torch_file import read_torch_file

FINAL = Path("fold_0") / "checkpoint_final.pth"
LATEST = Path("fold_0") / "checkpoint_latest.pth"
Change = Callable[[dict[str, Any]], Any]


def assert_refused(outcome: Outcome, code: int, *messages: str) -> None:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    for message in messages:
        assert message in outcome.err


def change_json(path: Path, change: Change) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- names and options ------------------------------------------------------------------------------------------

WRONG_WORDS = {
    "command": ("adpat", ["Unknown command 'adpat'", "Did you mean 'adapt'?"]),
    "no_options": ("adapt", ["required", "--checkpoint"]),
    "option": ("adapt OUT --shotz 3", ["unrecognized arguments: --shotz", "did you mean '--shots'?"]),
    "option_with_value": ("adapt OUT --estmate=loo", ["--estmate=loo", "did you mean '--estimate'?"]),
    "required_option": ("evaluate --predictions a", ["--predictions", "did you mean '--prediction'?"]),
    "option_before_cases": ("assemble spec.yaml --chek", ["--chek", "did you mean '--check'?"]),
    "option_of_an_action": ("adapter merge a --sclae 1", ["--sclae", "did you mean '--scale'?"]),
    "action": ("adapter mrge a", ["invalid choice: 'mrge'", "did you mean 'merge'?"]),
    "abbreviated_option": ("adapt OUT --shot 3", ["unrecognized arguments: --shot"]),
    "option_value": ("adapt OUT --device tpu", ["invalid choice: 'tpu'", "cuda"]),
    "decoder": ("adapt OUT --decoder thawed", ["invalid choice: 'thawed'", "tuned"]),
    "device": ("adapt OUT --device mps", ["No MPS device", "--device auto or cpu"]),
    "device_number": ("adapt OUT --device cuda:x", ["invalid choice: 'cuda:x'", "cuda:N"]),
    "misspelt_decoder": ("adapt OUT --decoder tunned", ["invalid choice: 'tunned'", "did you mean 'tuned'?"]),
    "method_choice": ("adapt OUT --set layers=convolutions", ["'convolutions'; did you mean 'convolution'?"]),
    "recipe_choice": ("adapt OUT --set recipe.loss=dise", ["recipe.loss", "'dise'; did you mean 'dice'?"]),
    "not_a_number": ("adapt OUT --shots five", ["invalid int value: 'five'"]),
    "structure": ("adapt OUT --structure stomac", ["Unknown structure 'stomac'. Did you mean 'stomach'?", "pancreas"]),
    "method": ("adapt OUT --method lorra", ["Unknown method 'lorra'. Did you mean 'lora'?", "fsseg methods"]),
    "dataset": ("adapt OUT --dataset PhantomTargt", ["Unknown dataset", "Did you mean 'Dataset804_PhantomTarget'"]),
    "dataset_number": ("adapt OUT --dataset 7", ["Unknown dataset '7'", TARGET]),
    "method_option": ("adapt OUT --set rnk=3", ["unknown key 'rnk'; did you mean 'rank'?"]),
    "method_option_value": ("adapt OUT --set rank=many", ["rank", "got 'many'"]),
    "recipe_key": ("adapt OUT --set recipe.max_step=3", ["unknown key 'recipe.max_step'", "did you mean 'max_steps'?"]),
    "recipe_key_without_prefix": ("adapt OUT --set max_steps=3", ["- max_steps: write --set recipe.max_steps=3"]),
    "recipe_prefix": ("adapt OUT --set Recipe.max_steps=3", ["- Recipe.max_steps: write --set recipe.max_steps=3"]),
    "rate_by_dots": (
        "adapt OUT --set recipe.learning_rates.low_rank=0.1",
        ["write --set 'recipe.learning_rates={low_rank: 0.1}'"],
    ),
    "option_of_none": ("adapt OUT --method linear_probe --set rank=3", ["unknown key 'rank'", "nothing to set"]),
    "set_in_two_parts": ("adapt OUT --set rank=0 --set alpha=-1", ["rank", "got 0", "alpha", "got -1"]),
    "boolean_rank": ("adapt OUT --set rank=true", ["rank is a number, got True"]),
    "wide_bottleneck": ("adapt OUT --method adaptformer --set bottleneck=100000000", ["bottleneck", "4096"]),
    "large_batch": ("adapt OUT --set recipe.batch_size=100000000", ["recipe.batch_size", "1024"]),
    "large_gates": ("adapt OUT --method arena --set gate_range=1.0e+39", ["gate_range", "100"]),
    "recipe_value": ("adapt OUT --set recipe.max_steps=-1", ["recipe.max_steps", "got -1"]),
    "set_without_value": ("adapt OUT --set rank", ["--set takes KEY=VALUE, got 'rank'"]),
    "set_twice": ("adapt OUT --set rank=1 rank=2", ["names 'rank' twice"]),
    "set_no_yaml": ("adapt OUT --set rank=[1", ["rank", "[1"]),
    "no_rate_of_family": ('adapt OUT --set recipe.learning_rates={"selective":1}', ["no rate", "'low_rank'", "Add it"]),
    "no_rate_of_family_in_plans": (
        'nnunet plans --checkpoint BASE --dataset 804 --method lora --set recipe.learning_rates={"selective":1}',
        ["no rate", "'low_rank'", "Add it"],
    ),
    "family": (
        'adapt OUT --set recipe.learning_rates={"low_rank":1,"selectiv":1}',
        ["recipe.learning_rates.selectiv", "did you mean 'selective'?"],
    ),
    "family_in_plans": (
        'nnunet plans --checkpoint BASE --dataset 804 --method lora --set recipe.learning_rates={"x":1}',
        ["recipe.learning_rates.x", "'low_rank'", "got 'x'"],
    ),
    "negative_rate": (
        'adapt OUT --set recipe.learning_rates={"low_rank":-1}',
        ["recipe.learning_rates.low_rank", "greater than 0", "got -1"],
    ),
    "infinite_rate": ('adapt OUT --set recipe.learning_rates={"low_rank":.inf}', ["finite number", "got inf"]),
    "infinite_gates": ("adapt OUT --method arena --set gate_range=.inf", ["gate_range", "finite number", "got inf"]),
    "infinite_penalty": ("adapt OUT --method l2_sp --set alpha=.inf", ["alpha", "finite number"]),
    "scale_that_is_no_number": ("adapt OUT --method adaptformer --set scale=.nan", ["scale", "got nan"]),
    "no_shots": ("adapt OUT --shots 0", ["shots", "got 0"]),
    "too_many_shots": (
        "adapt OUT --shots 9",
        ["9 shots were asked for, but the pool has 3", "allowed: --shots 1 to 3"],
    ),
    "shots_and_cases": ("adapt OUT --shots 1 --cases a", ["Give one of the two"]),
    "pool_and_cases": ("adapt OUT --pool p.txt --cases a", ["--pool would draw them", "Give one of the two"]),
    "case": ("adapt OUT --cases PhantomTarget_target_009", ["Unknown support case", "PhantomTarget_target_000"]),
    "test_case_as_support": ("adapt OUT --cases PhantomTarget_target_003", ["test cases and training cases at once"]),
    "seed": ("adapt OUT --seed -1", ["seed", "got -1"]),
    "large_seed": ("adapt OUT --seed 20000000000000000000", ["seed", "9223372036854775808"]),
    "pool_file": ("adapt OUT --pool nowhere.txt", ["Case list not found: nowhere.txt"]),
    "estimate_of_one": ("adapt OUT --shots 1 --estimate loo", ["at least 2 shots, got 1"]),
    "decoder_of_method": (
        "adapt OUT --method linear_probe --decoder tuned",
        ["linear_probe does not go with --decoder tuned", "frozen"],
    ),
    "decoder_of_full": (
        "adapt OUT --method full --decoder frozen",
        ["full does not go with --decoder frozen", "tuned"],
    ),
    "rank_too_large": ("adapt OUT --set rank=99", ["rank 99 is larger than"]),
    "checkpoint": ("adapt OUT --checkpoint nowhere", ["Checkpoint folder not found: nowhere"]),
    "checkpoint_file": (
        "adapt OUT --checkpoint README.md",
        ["README.md is a file, not a model folder", "fsseg import"],
    ),
    "checkpoint_no_model": ("adapt OUT --checkpoint RAW", ["is not a model folder"]),
    "pretrain_plans": ("pretrain OUT --plans tiny_cpuu", ["Unknown plans 'tiny_cpuu'. Did you mean 'tiny_cpu'?"]),
    "pretrain_dataset": ("pretrain OUT --dataset 999", ["Unknown dataset '999'"]),
    "pretrain_fold": ("pretrain OUT --fold 5", ["Unknown fold '5'", "0 to 4", "all"]),
    "pretrain_key": ("pretrain OUT --set optimiser=sgd", ["unknown key 'settings.optimiser'", "'optimizer'"]),
    "pretrain_value": ("pretrain OUT --set optimizer=lion", ["optimizer", "'lion'"]),
    "pretrain_choice": ("pretrain OUT --set loss=supremm", ["loss", "did you mean 'suprem'?"]),
    "pretrain_steps": ("pretrain OUT --steps 0", ["steps", "got 0"]),
    "preprocess_plans": ("preprocess --dataset 804 --plans plans/headnek_cpu.json", ["Did you mean", "headneck_cpu"]),
    "preprocess_dry": ("preprocess --dataset 804 --plans nowhere.json --dry-run", ["Unknown plans file"]),
    "preprocess_workers": ("preprocess --dataset 804 --plans PLANS --workers 0", ["workers", "got 0"]),
    "preprocess_memory": ("preprocess --dataset 804 --plans PLANS --gpu-memory-gb 8", ["is for --plans auto"]),
    "preprocess_planner": ("preprocess --dataset 804 --planner nnUNetPlaner", ["nnUNetPlaner"]),
    "predict_run": ("predict OUT --run nowhere", ["not found: nowhere"]),
    "predict_input": ("predict OUT --input nowhere", ["Image folder not found: nowhere"]),
    "predict_no_images": ("predict OUT --input RAW", ["No image in", "CASE_0000.nii.gz"]),
    "predict_case": ("predict OUT --cases PhantomTarget_target_9", ["Unknown case", "PhantomTarget_target_000"]),
    "predict_step": ("predict OUT --tile-step-size 0", ["tile_step_size", "got 0"]),
    "predict_large_step": ("predict OUT --tile-step-size 2", ["tile_step_size", "got 2"]),
    "methods_plans": ("methods --plans nowhere.json", ["Unknown plans file 'nowhere.json'"]),
}


@pytest.fixture
def expand(lab: Lab, adapted: Path, tmp_path: Path) -> Callable[[str], list[object]]:
    """Return a function that turns a short command into one that is right but for its last words."""
    starts: dict[str, list[object]] = {
        "adapt": [*lab.adapt_words(tmp_path / "out")],
        "pretrain": lab.pretrain_words(tmp_path / "out"),
        "predict": ["predict", "--run", adapted, "--input", lab.target / "imagesTr", "--output", tmp_path / "out"],
    }

    def words(text: str) -> list[object]:
        first, *rest = text.split()
        if rest[:1] == ["OUT"]:
            more = rest[1:]
            start = lab.adapt_words(tmp_path / "out", *more) if first == "adapt" else [*starts[first], *more]
        else:
            start = [first, *rest]
        places: dict[object, object] = {"PLANS": lab.plans, "RAW": lab.root / "raw", "BASE": lab.base}
        return [places.get(word, word) for word in start]

    return words


@pytest.mark.parametrize("text", [text for text, _ in WRONG_WORDS.values()], ids=list(WRONG_WORDS))
def test_wrong_words_are_refused_with_what_is_allowed(
    lab: Lab, tmp_path: Path, expand: Callable, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    before = set(lab.root.rglob("*"))
    messages = next(messages for words, messages in WRONG_WORDS.values() if words == text)
    assert_refused(fsseg(*expand(text)), 2, *messages)
    assert list(tmp_path.iterdir()) == []
    assert set(lab.root.rglob("*")) == before


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 byte"), torch.OutOfMemoryError("CUDA")],
    ids=["host", "torch", "cuda"],
)
def test_too_little_memory_is_a_message(
    tmp_path: Path, expand: Callable, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("fsseg.adaptation.fitted.train", fails)
    assert_refused(fsseg(*expand("adapt OUT")), 1, "out of memory", "recipe.checkpoint_activations=true")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr("fsseg.stages.predict.run_predict", fails)
    assert_refused(
        fsseg(*expand("predict --run RUN --input X --output OUT")), 1, "out of memory", "spacing of the plans"
    )


def test_no_command_prints_the_help() -> None:
    outcome = fsseg()
    assert outcome.code == 2
    assert "commands:" in outcome.out


@pytest.mark.parametrize("command", ["adapt", "pretrain", "predict"])
def test_an_existing_folder_is_never_overwritten(
    tmp_path: Path, expand: Callable[[str], list[object]], command: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("kept")
    assert_refused(fsseg(*expand(f"{command} OUT")), 2, "exists already", "never overwritten")
    assert tree(tmp_path) == {"out/precious": b"kept"}


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("nnUNet_raw", "preprocess --dataset 804 --plans PLANS"),
        ("nnUNet_raw", "adapt OUT"),
        ("nnUNet_preprocessed", "preprocess --dataset 804 --plans PLANS"),
        ("nnUNet_preprocessed", "adapt OUT"),
        ("nnUNet_preprocessed", "pretrain OUT"),
    ],
)
def test_a_variable_of_nnunet_that_is_not_set_is_named_with_the_line_to_type(
    tmp_path: Path, expand: Callable, monkeypatch: pytest.MonkeyPatch, variable: str, words: str
) -> None:
    monkeypatch.delenv(variable)
    assert_refused(fsseg(*expand(words)), 2, f"{variable} is not set", f"export {variable}=")
    assert list(tmp_path.iterdir()) == []


# --- checkpoints ------------------------------------------------------------------------------------------------


class Trap:
    """A pickle of it creates a file when it is executed."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.marker), "w")


@pytest.fixture
def model(lab: Lab, tmp_path: Path) -> Path:
    """Copy the base, to damage it."""
    return Path(shutil.copytree(lab.base, tmp_path / "model"))


def model_words(lab: Lab, model: Path, command: str) -> list[object]:
    out = model.parent / "out"
    if command == "adapt":
        return lab.adapt_words(out, base=model)
    return ["predict", "--run", model, "--input", lab.target / "imagesTr", "--output", out, "--device", "cpu"]


def rewritten_checkpoint(change: Change) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        content = read_torch_file(path)
        change(content)
        torch.save(content, path)

    return rewrite


def first_weight_reshaped(content: dict[str, Any]) -> None:
    name = next(iter(content["network_weights"]))
    content["network_weights"][name] = torch.zeros(1, 2, 3)
    del content[WEIGHTS_HASH_KEY]  # as stock nnU-Net writes it


def last_weight_missing(content: dict[str, Any]) -> None:
    content["network_weights"].popitem()
    del content[WEIGHTS_HASH_KEY]


def first_weight_changed(content: dict[str, Any]) -> None:
    next(iter(content["network_weights"].values())).view(-1)[0] += 1e-3


def first_weight_nan(content: dict[str, Any]) -> None:
    next(iter(content["network_weights"].values())).view(-1)[0] = torch.nan
    del content[WEIGHTS_HASH_KEY]


def flipped_bit(path: Path) -> None:
    """Change one bit in the middle of the largest tensor; nothing but its checksum shows it."""
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size)
        values = archive.read(entry)
    content = bytearray(path.read_bytes())
    content[content.index(values) + len(values) // 2] ^= 0x40
    path.write_bytes(content)


BAD_CHECKPOINTS: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    "text": (lambda path: path.write_text("I am no checkpoint"), 1, "is text that starts with 'I am no checkpoint'"),
    "empty": (lambda path: path.write_bytes(b""), 1, "is no checkpoint: it is an empty file"),
    "truncated": (truncated, 1, "cannot be loaded as a checkpoint"),
    "flipped_bit": (flipped_bit, 1, "is damaged: its archive cannot be read (Bad CRC-32"),
    "other_weights": (rewritten_checkpoint(first_weight_changed), 1, "(their hash differs)"),
    "nan_without_hash": (rewritten_checkpoint(first_weight_nan), 1, "holds NaN or infinite values in"),
    "tensor": (lambda path: torch.save(torch.zeros(3), path), 1, "it holds a Tensor"),
    "other_mapping": (lambda path: torch.save({"state_dict": {}}, path), 2, "it lacks network_weights"),
    "no_configuration": (rewritten_checkpoint(lambda c: c.update(init_args={})), 2, "is not an nnU-Net checkpoint"),
    "weights_no_tensors": (rewritten_checkpoint(lambda c: c.update(network_weights=3)), 2, "not an nnU-Net checkpoint"),
    "weight_missing": (rewritten_checkpoint(last_weight_missing), 1, "do not fit the network"),
    "weight_misshapen": (rewritten_checkpoint(first_weight_reshaped), 1, "do not fit the network"),
    "other_configuration": (
        rewritten_checkpoint(lambda c: c.update(init_args={"configuration": "2d"})),
        2,
        "no configuration '2d'",
    ),
    "missing": (lambda path: path.unlink(), 2, "is not a model folder"),
}


@pytest.mark.parametrize("command", ["adapt", "predict"])
@pytest.mark.parametrize("name", BAD_CHECKPOINTS)
def test_a_bad_checkpoint_is_refused(lab: Lab, model: Path, command: str, name: str) -> None:
    damage, code, message = BAD_CHECKPOINTS[name]
    damage(model / FINAL)
    assert_refused(fsseg(*model_words(lab, model, command)), code, message, "model")
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_dry_run_and_plans_refuse_damaged_weights_too(lab: Lab, model: Path, tmp_path: Path) -> None:
    flipped_bit(model / FINAL)
    words = ("nnunet", "plans", "--checkpoint", model, "--dataset", "804", "--method", "bitfit")
    for command in ([*model_words(lab, model, "adapt"), "--dry-run"], words):
        assert_refused(fsseg(*command), 1, "is damaged", str(model / FINAL))


@pytest.mark.parametrize("command", ["adapt", "predict"])
@pytest.mark.parametrize("container", ["torch", "pickle", "inside_weights"])
def test_code_in_a_checkpoint_is_not_executed(
    lab: Lab, model: Path, tmp_path: Path, command: str, container: str
) -> None:
    marker = tmp_path / "executed"
    content = read_torch_file(model / FINAL)
    content["network_weights" if container == "inside_weights" else "extra"] = Trap(marker)
    if container == "pickle":
        (model / FINAL).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, model / FINAL)
        torch.load(model / FINAL, weights_only=False)["init_args"]  # an unsafe reader does execute it
        assert marker.exists()
        marker.unlink()
    assert_refused(fsseg(*model_words(lab, model, command)), 1, "objects that would execute code")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


def test_code_in_a_checkpoint_to_resume_from_is_not_executed(lab: Lab, tmp_path: Path) -> None:
    run, marker = tmp_path / "out", tmp_path / "executed"
    (staging_of(run) / LATEST).parent.mkdir(parents=True)
    torch.save({"network_weights": Trap(marker)}, staging_of(run) / LATEST)
    assert_refused(fsseg(*lab.pretrain_words(run), "--resume"), 1, "objects that would execute code")
    assert not marker.exists()
    assert not run.exists()


BAD_MODEL_FILES: dict[str, tuple[str, Change | bytes | None, int, str]] = {
    "plans_missing": ("plans.json", None, 2, "plans.json"),
    "plans_no_json": ("plans.json", b"{", 1, "plans.json is damaged"),
    "plans_a_list": ("plans.json", b"[]", 1, "plans.json"),
    "plans_without_configurations": ("plans.json", lambda c: c.pop("configurations"), 1, "configurations"),
    "plans_without_architecture": (
        "plans.json",
        lambda c: c["configurations"]["3d_fullres"].pop("architecture"),
        1,
        "architecture",
    ),
    "dataset_missing": ("dataset.json", None, 2, "dataset.json"),
    "dataset_no_json": ("dataset.json", b"\xff", 1, "dataset.json is damaged"),
    "dataset_without_labels": ("dataset.json", lambda c: c.pop("labels"), 1, "labels"),
    "dataset_without_channels": ("dataset.json", lambda c: c.pop("channel_names"), 1, "channel_names"),
    "dataset_without_order": ("dataset.json", lambda c: c.pop("regions_class_order"), 1, "regions_class_order"),
}


@pytest.mark.parametrize("command", ["adapt", "predict"])
@pytest.mark.parametrize("name", BAD_MODEL_FILES)
def test_a_damaged_model_folder_is_refused(lab: Lab, model: Path, command: str, name: str) -> None:
    file, change, code, message = BAD_MODEL_FILES[name]
    if change is None:
        (model / file).unlink()
    elif isinstance(change, bytes):
        (model / file).write_bytes(change)
    else:
        change_json(model / file, change)
    assert_refused(fsseg(*model_words(lab, model, command)), code, message)
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def architecture(plans: dict[str, Any]) -> dict[str, Any]:
    return plans["configurations"]["3d_fullres"]["architecture"]


BAD_ARCHITECTURES: dict[str, tuple[Change, int, str]] = {
    "class": (lambda p: architecture(p).update(network_class_name="os.system"), 2, "Unknown network class"),
    "argument": (lambda p: architecture(p)["arch_kwargs"].update(depth=3), 2, "do not fit PlainConvUNet"),
    "argument_missing": (lambda p: architecture(p)["arch_kwargs"].pop("strides"), 2, "do not fit PlainConvUNet"),
    "stages": (lambda p: architecture(p)["arch_kwargs"].update(n_stages=2), 2, "do not fit PlainConvUNet"),
    "patch": (lambda p: p["configurations"]["3d_fullres"].update(patch_size=[16, 16, 18]), 2, "must be divisible by"),
    "no_3d": (lambda p: p.update(configurations={"2d": {}}), 2, "no configuration '3d_fullres'"),
    "layer": (lambda p: architecture(p)["arch_kwargs"].update(conv_op="os.system"), 2, "layers of torch.nn"),
}
WRONG_WIDTH: Change = lambda p: architecture(p)["arch_kwargs"].update(features_per_stage=[4, 8, 12])  # noqa: E731


@pytest.mark.parametrize("command", ["adapt", "predict"])
@pytest.mark.parametrize("name", [name for name in BAD_ARCHITECTURES if name != "patch"] + ["width"])
def test_plans_that_do_not_fit_the_network_are_refused(lab: Lab, model: Path, command: str, name: str) -> None:
    change, code, message = {**BAD_ARCHITECTURES, "width": (WRONG_WIDTH, 1, "do not fit the network")}[name]
    change_json(model / "plans.json", change)
    assert_refused(fsseg(*model_words(lab, model, command)), code, message)
    assert [path.name for path in model.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", BAD_ARCHITECTURES)
def test_pretraining_refuses_plans_that_do_not_fit_the_network(lab: Lab, tmp_path: Path, name: str) -> None:
    change, code, message = BAD_ARCHITECTURES[name]
    plans = json.loads((lab.preprocessed / f"{PLANS_NAME}.json").read_text(encoding="utf-8"))
    change(plans)
    bad = lab.preprocessed / "bad_plans.json"
    bad.write_text(json.dumps(plans))
    try:
        words = ["bad_plans" if word == PLANS_NAME else word for word in lab.pretrain_words(tmp_path / "out")]
        assert_refused(fsseg(*words), code, message)
    finally:
        bad.unlink()
    assert list(tmp_path.iterdir()) == []


def test_preprocessing_refuses_files_that_are_no_plans(lab: Lab, tmp_path: Path) -> None:
    before = set((lab.root / "preprocessed").rglob("*"))
    without_key = {key: value for key, value in tiny_plans().items() if key != "configurations"}
    for text, message in (("{", "is not valid JSON"), ("[]", "lacks"), (json.dumps(without_key), "configurations")):
        (tmp_path / "plans.json").write_text(text)
        outcome = fsseg("preprocess", "--dataset", "804", "--plans", tmp_path / "plans.json")
        assert_refused(outcome, 2, message, "plans.json")
        assert_refused(fsseg("methods", "--plans", tmp_path / "plans.json"), 2, message)
    assert set((lab.root / "preprocessed").rglob("*")) == before


# --- images and label maps --------------------------------------------------------------------------------------


def shifted(path: Path) -> None:
    image = SimpleITK.ReadImage(str(path))
    image.SetOrigin([value + 30 for value in image.GetOrigin()])
    SimpleITK.WriteImage(image, str(path), True)


def cut(path: Path) -> None:
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path))[:-4], str(path), True)


def relabelled(old: int, new: int) -> Callable[[Path], None]:
    return rewritten(lambda array: np.where(array == old, new, array).astype("i2"))


BAD_IMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (truncated, "truncated or damaged"),
    "checksum": (lambda path: path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8), "truncated or damaged"),
    "text": (lambda path: path.write_text("no image"), "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "damaged"),
    "nan": (rewritten(with_value(np.nan, "f4")), "NaN or infinite"),
}


@pytest.fixture
def images(lab: Lab, tmp_path: Path) -> Path:
    """A folder with one image."""
    (tmp_path / "images").mkdir()
    shutil.copyfile(lab.image(0), tmp_path / "images" / "patient_0000.nii.gz")
    return tmp_path / "images"


def predict_words(run: Path, images: Path) -> list[object]:
    return ["predict", "--run", run, "--input", images, "--output", images.parent / "out", "--device", "cpu"]


def test_prediction_names_the_images_that_it_ignores(
    images: Path, adapted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("other.nii.gz", "third_0000.nii"):
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(images / "patient_0000.nii.gz")), str(images / name))
    (images / "notes.txt").write_text("no image")
    assert succeed(*predict_words(adapted, images), "--dry-run")["ignored"] == ["other.nii.gz", "third_0000.nii"]
    assert "not named CASE_0000.nii.gz: other.nii.gz, third_0000.nii" in caplog.text
    (images / "patient_0000.nii.gz").unlink()  # where no file is named so, all others are cases
    facts = succeed(*predict_words(adapted, images), "--dry-run")
    assert (facts["cases"], facts["ignored"]) == (2, [])


@pytest.mark.parametrize("names", [["patient_0007"], ["patient_0001"], ["patient_0000", "patient_0001"]])
def test_prediction_refuses_channels_that_the_model_does_not_take(
    images: Path, adapted: Path, names: list[str]
) -> None:
    content = (images / "patient_0000.nii.gz").read_bytes()
    (images / "patient_0000.nii.gz").unlink()
    for name in names:
        (images / f"{name}.nii.gz").write_bytes(content)
    messages = ("do not have the 1 channel(s) 0000: ", *names, "patient_0007 has the file patient_0007_0000.nii.gz")
    assert_refused(fsseg(*predict_words(adapted, images)), 1, *messages)
    assert not (images.parent / "out").exists()


NO_VOLUMES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "constant": (rewritten(np.zeros_like), "is constant (every voxel is 0"),
    "vectors": (as_vectors, "3D with one value per voxel, got"),
    "2d": (one_slice, "3D with one value per voxel, got"),
    "4d": (as_series, "3D with one value per voxel, got"),
}


@pytest.fixture
def copy(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Copy the target dataset, to damage it, and let nnUNet_raw point there."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    return lab.copy_target(tmp_path / "raw")


@pytest.mark.parametrize("name", [*BAD_IMAGES, *NO_VOLUMES])
def test_prediction_refuses_a_bad_image(copy: Lab, adapted: Path, tmp_path: Path, name: str) -> None:
    damage, message = {**BAD_IMAGES, **NO_VOLUMES}[name]
    damage(copy.image(1))
    words = ["predict", "--run", adapted, "--input", copy.target / "imagesTr", "--output", tmp_path / "out"]
    words += ["--cases", copy.case(1), "--device", "cpu"]
    assert_refused(fsseg(*words), 1, message, copy.image(1).name)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("name", BAD_IMAGES)
@pytest.mark.parametrize("kind", ["image", "label"])
def test_adaptation_refuses_a_bad_image_or_label_map(copy: Lab, tmp_path: Path, name: str, kind: str) -> None:
    damage, message = BAD_IMAGES[name]
    path = copy.image(1) if kind == "image" else copy.label(1)
    damage(path)
    outcome = fsseg(*copy.adapt_words(tmp_path / "out", "--cases", copy.case(0), copy.case(1)))
    assert_refused(outcome, 1, message, path.name)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("name", NO_VOLUMES)
def test_adaptation_refuses_an_image_that_is_no_volume(copy: Lab, tmp_path: Path, name: str) -> None:
    damage, message = NO_VOLUMES[name]
    damage(copy.image(1))
    outcome = fsseg(*copy.adapt_words(tmp_path / "out", "--cases", copy.case(0), copy.case(1)))
    assert_refused(outcome, 1, message, copy.image(1).name)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_files_that_are_not_compressed_are_checked_too(copy: Lab, adapted: Path, tmp_path: Path) -> None:
    with_ending(copy.target, ".nii")
    image, label = (
        copy.target / "imagesTr" / f"{copy.case(1)}_0000.nii",
        copy.target / "labelsTr" / f"{copy.case(1)}.nii",
    )
    adapt = copy.adapt_words(tmp_path / "out", "--cases", copy.case(0), copy.case(1))
    run = shutil.copytree(adapted, tmp_path / "run")
    change_json(run / "dataset.json", lambda content: content.update(file_ending=".nii"))
    predict = ["predict", "--run", run, "--input", copy.target / "imagesTr", "--output", tmp_path / "out"]
    assert fsseg(*adapt, "--dry-run").code == 0
    for damaged, commands in ((label, [adapt]), (image, [adapt, predict])):
        truncated(damaged)
        for words in commands:
            assert_refused(fsseg(*words), 1, "truncated or damaged", damaged.name)
    assert not (tmp_path / "out").exists()


BAD_LABELS: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    "missing": (lambda path: path.unlink(), 1, "is missing"),
    "shifted": (shifted, 1, "origin"),
    "other_shape": (cut, 1, "shape"),
    "unknown_integer": (relabelled(0, 77), 1, "holds the integer 77, but its dataset names the integers 0, 1"),
    "unnamed_voxel": (rewritten(with_value(77)), 1, "nnU-Net's ignore label is not supported"),
    "negative": (rewritten(with_value(-1)), 1, "holds the integer -1"),
    "fraction": (rewritten(with_value(0.5, "f4")), 1, "no integers"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_adaptation_refuses_a_label_map_that_it_cannot_learn_from(copy: Lab, tmp_path: Path, name: str) -> None:
    damage, code, message = BAD_LABELS[name]
    damage(copy.label(1))
    outcome = fsseg(*copy.adapt_words(tmp_path / "out", "--cases", copy.case(0), copy.case(1)))
    assert_refused(outcome, code, message, copy.case(1))
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_adaptation_refuses_an_integer_in_a_gap_whatever_the_cache_holds(copy: Lab, tmp_path: Path) -> None:
    words = copy.adapt_words(tmp_path / "out", "--cases", copy.case(0), copy.case(1))
    succeed(*words)
    shutil.rmtree(tmp_path / "out")

    def rename(content: dict[str, Any]) -> None:
        """Name the highest integer of what is not adapted to by one above it."""
        other = next(name for name in content["integers"] if name not in (NOVEL, KNOWN))
        content["integers"][other] = [max(max(integers) for integers in content["integers"].values()) + 1]

    change_json(copy.target / "structures.json", rename)
    assert_refused(fsseg(*words), 1, "holds the integer", "but its dataset names", copy.case(0))
    assert not (tmp_path / "out").exists()


def test_adaptation_refuses_a_case_that_annotates_nothing_of_it_and_names_every_such_case(
    copy: Lab, tmp_path: Path
) -> None:
    def forget(content: dict[str, Any]) -> None:
        for index in (0, 1):
            content["cases"][copy.case(index)]["annotated"] = ["pancreas"]

    change_json(copy.target / "structures.json", forget)
    outcome = fsseg(*copy.adapt_words(tmp_path / "out", "--cases", *(copy.case(index) for index in (0, 1, 2))))
    for index in (0, 1):
        assert f"{copy.case(index)} annotates none of {NOVEL}, {KNOWN}" in outcome.err
    assert copy.case(2) not in outcome.err
    assert_refused(outcome, 1, "cannot be learned from")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_adaptation_refuses_a_structure_that_no_support_case_annotates(copy: Lab, tmp_path: Path) -> None:
    def forget(content: dict[str, Any]) -> None:
        for annotation in content["cases"].values():
            annotation["annotated"] = [KNOWN]

    change_json(copy.target / "structures.json", forget)
    outcome = fsseg(*copy.adapt_words(tmp_path / "out"))
    assert_refused(outcome, 1, f"no support case annotates {NOVEL}")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_adaptation_refuses_a_case_that_structures_json_does_not_know(copy: Lab, tmp_path: Path) -> None:
    change_json(copy.target / "structures.json", lambda content: content["cases"].pop(copy.case(0)))
    outcome = fsseg(*copy.adapt_words(tmp_path / "out", "--cases", copy.case(0)))
    assert_refused(outcome, 1, copy.case(0), "is not listed in structures.json")
    assert not (tmp_path / "out").exists()


def test_adaptation_refuses_other_channels(copy: Lab, tmp_path: Path) -> None:
    change_json(copy.target / "dataset.json", lambda content: content.update(channel_names={"0": "MR"}))
    outcome = fsseg(*copy.adapt_words(tmp_path / "out"))
    assert_refused(outcome, 2, "takes the channels ['CT']", "['MR']")
    assert not (tmp_path / "out").exists()


def test_a_damaged_structures_json_is_refused(copy: Lab, tmp_path: Path) -> None:
    (copy.target / "structures.json").write_text('{"integers": ')
    assert_refused(fsseg(*copy.adapt_words(tmp_path / "out")), 1, "structures.json is damaged: it is not valid JSON")
    change = {"integers": {"liver": [1]}, "case": {}}
    (copy.target / "structures.json").write_text(json.dumps(change))
    assert_refused(fsseg(*copy.adapt_words(tmp_path / "out")), 2, "unknown key 'case'", "'cases'")
    newer = {"format_version": 2, "colours": {}}
    (copy.target / "structures.json").write_text(json.dumps(newer))
    assert_refused(fsseg(*copy.adapt_words(tmp_path / "out")), 2, "has format 2", "reads up to 1", "newer fsseg")
    assert not (tmp_path / "out").exists()


# --- disk and numbers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["fsseg.methods.adapter_file.save", "fsseg.training.torch_file.torch.save"])
def test_a_full_disk_at_the_end_of_an_adaptation_leaves_no_run(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(place, no_space)
    outcome = fsseg(*lab.adapt_words(tmp_path / "out", "--set", "recipe.max_steps=1"))
    assert_refused(outcome, 1, "Could not write", "No space left on device", "Free some space")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_predicting_leaves_no_predictions(
    adapted: Path, tmp_path: Path, expand: Callable[[str], list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsseg.nnunet.label_map_file.export_prediction_from_logits", no_space)
    outcome = fsseg(*expand("predict OUT --device cpu"))
    assert_refused(outcome, 1, "Could not write", "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_earlier_checkpoint_of_a_pretraining(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, saved, save = tmp_path / "out", [], torch.save

    def save_twice(*words: Any, **more: Any) -> None:
        if len(saved) == 2:
            no_space()
        saved.append(save(*words, **more))

    with monkeypatch.context() as patch:
        patch.setattr("fsseg.training.torch_file.torch.save", save_twice)
        outcome = fsseg(*lab.pretrain_words(run))
    assert_refused(outcome, 1, "Could not write", "No space left on device", "--resume")
    assert not run.exists()
    assert read_torch_file(staging_of(run) / LATEST)["current_epoch"] == 2
    assert not list(staging_of(run).rglob("*.tmp"))
    assert succeed(*lab.pretrain_words(run), "--resume")["command"] == "pretrain"
    assert not staging_of(run).exists()


def test_a_full_disk_before_the_first_checkpoint_leaves_nothing(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsseg.training.torch_file.torch.save", no_space)
    assert_refused(fsseg(*lab.pretrain_words(tmp_path / "out")), 1, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the file size are POSIX")
def test_what_cannot_be_written_whole_is_absent(tmp_path: Path) -> None:
    import resource

    info = AdapterInfo(
        method="lora",
        options={},
        decoder="tuned",
        structures={"liver": None},
        integers={"liver": (1,)},
        mirroring_axes=(),
        tile_step_size=0.5,
        base_sha256="",
        base_settings={},
        base_licence="",
        support=(),
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_adapter(tmp_path, {"weight": torch.zeros(50_000)}, info)
        with pytest.raises(OSError, match=r"full disk|File too large"):
            save_checkpoint(tmp_path / "checkpoint.pth", {"weight": torch.zeros(50_000)}, "3d_fullres", None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = fsseg(*lab.adapt_words(tmp_path / "file" / "out", "--set", "recipe.max_steps=1"))
    assert_refused(outcome, 1, "Could not write", "Not a directory")
    assert tree(tmp_path) == {"file": b"in the way"}


def test_an_adaptation_whose_loss_is_not_finite_stops(lab: Lab, tmp_path: Path) -> None:
    settings = ["recipe.learning_rates={low_rank: 1.0e+38}", "recipe.max_steps=20"]
    outcome = fsseg(*lab.adapt_words(tmp_path / "out", "--set", *settings))
    assert_refused(outcome, 1, "The loss became", "lower the learning rate")
    assert list(tmp_path.iterdir()) == []


def test_a_pretraining_whose_loss_is_not_finite_stops(lab: Lab, tmp_path: Path) -> None:
    outcome = fsseg(*lab.pretrain_words(tmp_path / "out", "learning_rate=1.0e+36"))
    assert_refused(outcome, 1, "The loss became", "lower the learning rate")
    assert not (tmp_path / "out").exists()


# --- help -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_its_options_and_examples(command: str) -> None:
    outcome = fsseg(command, "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    assert f"usage: fsseg {command}" in outcome.out
    assert "examples:" in outcome.out
    assert f"fsseg {command}" in outcome.out.partition("examples:")[2]
    assert "--json" in outcome.out or command == "completion"  # which prints a script


@pytest.mark.parametrize("action", ["adapter show", "adapter merge", "nnunet env", "nnunet plans", "nnunet splits"])
def test_help_of_every_action_shows_its_own_examples(action: str) -> None:
    outcome = fsseg(*action.split(), "--help")
    assert outcome.code == 0
    examples = outcome.out.partition("examples:")[2]
    assert examples.strip().startswith(f"fsseg {action}")
    assert not set(re.findall(r"fsseg \w+ \w+", examples)) - {f"fsseg {action}"}


def test_top_level_help_lists_every_command() -> None:
    outcome = fsseg("--help")
    assert outcome.code == 0
    for command, text in COMMANDS.items():
        assert re.search(rf"^  {command} +{re.escape(text)}$", outcome.out, re.MULTILINE)


def test_help_imports_neither_torch_nor_nnunet() -> None:
    script = (
        "import sys\n"
        "from fsseg.cli.main import main\n"
        "for words in [[]] + [[name] for name in sys.argv[1:]]:\n"
        "    try:\n"
        "        main([*words, '--help'])\n"
        "    except SystemExit as leaving:\n"
        "        assert leaving.code == 0\n"
        "heavy = {'torch', 'nnunetv2', 'monai', 'SimpleITK', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *COMMANDS], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: fsseg") == len(COMMANDS) + 1


def example_commands(command: str) -> list[list[str]]:
    text = importlib.import_module(f"fsseg.cli.{command}").EXAMPLES.replace("\\\n", " ")
    # The rest of the line, up to the end of $(…) or to a file that takes the output.
    found = re.findall(rf"\bfsseg {command}\b(?:(?!\)\"| > )[^`\n])*", text)
    return [shlex.split(line)[2:] for line in found]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_every_command_parse(command: str) -> None:
    module = importlib.import_module(f"fsseg.cli.{command}")
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    module.add_arguments(parser)
    examples = example_commands(command)
    assert examples
    for words in examples:
        _, unknown = parser.parse_known_args(words)
        assert unknown == []


def test_examples_name_methods_and_plans_that_exist() -> None:
    from fsseg.methods.registry import method_names

    words = [word for command in COMMANDS for example in example_commands(command) for word in example]
    named = [after for word, after in itertools.pairwise(words) if word == "--method"]
    assert named
    assert set(named) <= set(method_names())
    by_name = [words for command in ("preprocess", "methods", "import") for words in example_commands(command)]
    plans = [after for words in by_name for word, after in itertools.pairwise(words) if word == "--plans"]
    assert set(plans) - {"auto"}
    assert set(plans) <= {"auto", *PLANS.files()}
    specs = [word for words in example_commands("assemble") for word in itertools.takewhile(str.isidentifier, words)]
    assert specs
    assert set(specs) <= set(SPECS.files())


def test_debug_adds_the_traceback(tmp_path: Path) -> None:
    words = ["methods", "--plans", tmp_path / "nowhere.json"]
    assert "Traceback" not in fsseg(*words).err
    assert "Traceback" in fsseg(*words, "--debug").err


def test_arrays_of_a_bad_image_are_not_read_as_zeros(lab: Lab, tmp_path: Path) -> None:
    """Show why files are checked before SimpleITK reads them."""
    path = tmp_path / "image.nii.gz"
    shutil.copyfile(lab.image(0), path)
    truncated(path)
    try:
        array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    except RuntimeError:
        pytest.skip("this SimpleITK refuses a truncated file itself")
    assert (np.asarray(array)[-1] == 0).all()
