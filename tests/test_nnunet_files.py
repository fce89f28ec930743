"""nnU-Net's files go through one strict model each when they are read: all problems in one message, no traceback."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_plans

from fsseg.checkpoints.container import open_checkpoint
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.few_shot import few_shot_settings
from fsseg.config.pretraining import settings_of_plans
from fsseg.data.dataset_json import LabelsJson, checked_dataset_json
from fsseg.data.splits_file import require_splits
from fsseg.data.structures import Structures, load_structures
from fsseg.nnunet.checkpoint_content import checked_checkpoint
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.planning import read_plans_file
from fsseg.nnunet.plans_content import checked_plans
from fsseg.nnunet.process_counts import require_process_counts

C = "3d_fullres"


def old_format(plans: dict[str, Any]) -> None:
    """Write the network as nnU-Net did before 2.4.3."""
    block = plans["configurations"][C]
    del block["architecture"]
    block |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    }


def update(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda plans: plans["configurations"][C].update(values)


GOOD_PLANS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "as they are": lambda plans: None,
    "old": old_format,
    "inherited": lambda plans: plans["configurations"].update(
        {"base": plans["configurations"][C], C: {"inherits_from": "base"}}
    ),
    "other keys": lambda plans: plans.update(comment={"anything": [1]}),
    "whole statistics": lambda plans: plans["foreground_intensity_properties_per_channel"]["0"].update(mean=60),
    "other resampling": update(resampling_fn_data="resample_torch_fornnunet", resampling_fn_seg="no_resampling_hack"),
    "spacing in whole mm": update(spacing=[3, 1, 1]),
}
BAD_PLANS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "patch_zero": (update(patch_size=[0, 16, 16]), "patch_size must be three integers above 0"),
    "patch_text": (update(patch_size="16"), "patch_size must be three integers above 0"),
    "patch_fraction": (update(patch_size=[16.5, 16, 16]), "patch_size must be three integers above 0"),
    "patch_odd": (update(patch_size=[15, 16, 16]), "must be divisible by the product of the strides"),
    "spacing_zero": (update(spacing=[0, 1, 1]), "spacing must be three numbers above 0"),
    "spacing_true": (update(spacing=[True, 1, 1]), "spacing must be three numbers above 0"),
    "batch_text": (update(batch_size="two"), "batch_size: Input should be a valid integer, got 'two'"),
    "batch_zero": (update(batch_size=0), "batch_size: Input should be greater than or equal to 1"),
    "scheme": (update(normalization_schemes=["np"]), "names no ImageNormalization of nnU-Net, got 'np'"),
    "masks": (update(use_mask_for_norm=[]), "an entry for each image channel"),
    "resampling": (update(resampling_fn_seg="partial"), "names no resampling function of nnU-Net, got 'partial'"),
    "arguments": (update(resampling_fn_data_kwargs=[1]), "resampling_fn_data_kwargs"),
    "configuration_list": (lambda plans: plans["configurations"].update({C: [1]}), "no architecture that can be read"),
    "configurations": (lambda plans: plans.update(configurations=[1]), "lacks configurations"),
    "loop": (update(inherits_from=C), "no architecture that can be read"),
    "strides_zero": (
        lambda plans: plans["configurations"][C]["architecture"]["arch_kwargs"].update(strides=[[0, 0, 0]]),
        "must be divisible by the product of the strides",
    ),
    "reader": (lambda plans: plans.update(image_reader_writer="os"), "names no BaseReaderWriter of nnU-Net, got 'os'"),
    "reader_number": (lambda plans: plans.update(image_reader_writer=7), "image_reader_writer"),
    "axes": (lambda plans: plans.update(transpose_forward=[0, 1, 1]), "must be the axes 0, 1 and 2 in some order"),
    "axes_not_undone": (
        lambda plans: plans.update(transpose_forward=[1, 2, 0], transpose_backward=[1, 2, 0]),
        "transpose_backward must undo transpose_forward",
    ),
    "name": (lambda plans: plans.update(plans_name="../evil"), "plans_name must be a plain name"),
    "statistics": (
        lambda plans: plans.update(foreground_intensity_properties_per_channel={"0": {"mean": 1.0}}),
        "CTNormalization of channel 0 needs std, percentile_00_5, percentile_99_5",
    ),
    "statistics_number_as_text": (
        lambda plans: plans["foreground_intensity_properties_per_channel"]["0"].update(mean="60"),
        "foreground_intensity_properties_per_channel.0.mean",
    ),
    "statistics_text": (
        lambda plans: plans.update(foreground_intensity_properties_per_channel={"0": {"mean": "x"}}),
        "foreground_intensity_properties_per_channel.0.mean",
    ),
}


@pytest.mark.parametrize("name", GOOD_PLANS)
def test_plans_that_nnunet_reads_are_read(name: str) -> None:
    plans = tiny_plans()
    GOOD_PLANS[name](plans)
    before = deepcopy(plans)
    assert checked_plans(plans, C, "plans.json")["architecture"]["arch_kwargs"]
    assert plans == before


@pytest.mark.parametrize("name", BAD_PLANS)
def test_plans_of_a_model_and_shipped_plans_are_checked_alike(tmp_path: Path, name: str) -> None:
    change, message = BAD_PLANS[name]
    plans = tiny_plans()
    change(plans)
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    for error, read in (
        (UsageError, lambda: read_plans_file(tmp_path / "plans.json")),
        (FssegError, lambda: checked_plans(plans, C, tmp_path / "plans.json")),
    ):
        with pytest.raises(error) as raised:
            read()
        assert message in str(raised.value)
        assert "plans.json" in str(raised.value)


@pytest.mark.parametrize(
    ("statistics", "reader", "ending", "message"),
    [
        ({}, "SimpleITKIO", ".nii.gz", "holds no statistics of intensities"),
        (None, "SimpleITKIO", ".nii.gz", "holds no statistics of intensities"),
        ("kept", "SimpleITKIO", ".exe", "file_ending '.exe' is of no format that SimpleITKIO"),
        ("kept", "NibabelIO", ".nrrd", "file_ending '.nrrd' is of no format that NibabelIO"),
        ("kept", "SimpleITKIO", ".nii", ""),
        ("kept", "Tiff3DIO", ".tif", ""),
    ],
)
def test_a_model_can_normalise_images_and_write_label_maps(
    statistics: Any, reader: str, ending: str, message: str
) -> None:
    plans = tiny_plans() | {"image_reader_writer": reader}
    if statistics != "kept":
        plans["foreground_intensity_properties_per_channel"] = statistics
    dataset_json = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ending}
    model = ModelFolder(Path("model"), plans, dataset_json, C, weights={}, mirroring_axes=None)
    with pytest.raises(FssegError, match=re.escape(message)) if message else contextlib.nullcontext():
        model.checked()


def test_all_problems_of_plans_are_said_at_once() -> None:
    plans = tiny_plans()
    plans |= {"transpose_forward": [0], "plans_name": "a/b"}
    plans["configurations"][C] |= {"batch_size": "x", "spacing": None, "patch_size": 3}
    with pytest.raises(FssegError, match=r"5 errors in plans\.json"):
        checked_plans(plans, C, "plans.json")


DATASET = {"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 1}}, "may call nothing but the integer 0 'background'"),
        ({"labels": {"background": 0, "liver": [0, 1]}}, "may not give 0, which is background, to 'liver'"),
        ({"labels": {"liver": 10**9}}, "labels.liver must be an integer from 0"),
        ({"labels": {"liver": True}}, "labels.liver must be an integer from 0"),
        ({"labels": {"liver": []}}, "labels.liver must be an integer from 0"),
        ({"labels": 7}, "labels must map names to integers, got 7"),
        ({"channel_names": {"0": 7}}, "channel_names must be like"),
        ({"file_ending": "/../x"}, "file_ending"),
        ({"file_ending": 7}, "file_ending"),
        ({"regions_class_order": ["a"]}, "regions_class_order.0"),
        ({"support_cases": "all"}, "support_cases"),
        ({"random_tensors": [1]}, "random_tensors.0"),
        ({"modality": {"0": "CT"}, "channel_names": ...}, "nnUNetv2_convert_old_nnUNet_dataset"),
    ],
)
def test_dataset_json_is_checked(changes: dict[str, Any], message: str) -> None:
    content = {key: value for key, value in {**DATASET, **changes}.items() if value is not ...}
    with pytest.raises(FssegError) as raised:
        checked_dataset_json(content, "dataset.json")
    assert message in str(raised.value)


def test_dataset_json_with_further_keys_is_read() -> None:
    content = {**DATASET, "numTraining": 3, "licence": None, "training": [{"image": "x"}]}
    assert checked_dataset_json(content, "here") == content
    assert checked_dataset_json({"labels": DATASET["labels"]}, "here", LabelsJson)


def test_no_structure_is_called_background(tmp_path: Path) -> None:
    content = Structures(integers={"liver": (1,)}).model_dump(mode="json")
    for change, message in (
        ({"integers": {"background": [1]}}, "no structure can be called background"),
        ({"integers": {"liver": []}}, "integers.liver"),
        ({"integers": {"liver": [10**12]}}, "integers.liver.0"),
        ({"cases": {"a": {"source": "A", "annotated": ["spleen"]}}}, "'a' annotates 'spleen'"),
    ):
        (tmp_path / "structures.json").write_text(json.dumps(content | change))
        with pytest.raises(UsageError, match=message):
            load_structures(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "must be a list of folds"),
        ([], "folds"),
        ([["a"]], "folds.0"),
        ([{"train": ["a"]}], "it lacks folds.0.val"),
        ([{"train": [], "val": ["a"]}], "folds.0.train"),
        ([{"train": "ab", "val": ["a"]}], "folds.0.train"),
        ([{"train": [1], "val": ["a"]}], "folds.0.train.0"),
        ([{"train": ["a"], "val": ["z"]}], "1 case(s) that are not preprocessed: z"),
    ],
)
def test_splits_are_checked(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps(content))
    with pytest.raises(FssegError) as raised:
        require_splits(file, ["a", "b"])
    assert message in str(raised.value)
    file.write_text(json.dumps([{"train": ["a"], "val": ["b"], "comment": "mine"}]))
    require_splits(file, ["a", "b"])


def checkpoint(**changes: Any) -> dict[str, Any]:
    content = {"network_weights": {"w": torch.zeros(2, 2)}, "init_args": {"configuration": C}, "trainer_name": "T"}
    return content | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network_weights": {1: torch.zeros(2)}}, "network_weights must have names as keys, got 1"),
        ({"network_weights": {"w": torch.eye(2).to_sparse()}}, "must hold dense tensors"),
        ({"network_weights": {"w": torch.zeros(2, device="meta")}}, "must hold dense tensors"),
        ({"network_weights": {"w": 3}}, "must hold tensors, got w: int"),
        ({"network_weights": [1]}, "must map names to tensors, got a list"),
        ({"init_args": {}}, "it lacks init_args.configuration"),
        ({"init_args": {"configuration": ["x"]}}, "init_args.configuration"),
        ({"trainer_name": 7}, "trainer_name"),
        ({"inference_allowed_mirroring_axes": (7,)}, "must be some of the axes 0, 1 and 2, or None, got (7,)"),
        ({"inference_allowed_mirroring_axes": (0, 0)}, "must be some of the axes 0, 1 and 2"),
        ({"inference_allowed_mirroring_axes": "all"}, "inference_allowed_mirroring_axes"),
        ({"inference_allowed_mirroring_axes": (True,)}, "inference_allowed_mirroring_axes"),
        ({"inference_tile_step_size": 1e-4}, "inference_tile_step_size"),
        ({"inference_tile_step_size": "x"}, "inference_tile_step_size"),
    ],
)
def test_checkpoints_are_checked(changes: dict[str, Any], message: str) -> None:
    """Another file is a mistake of the user, exit code 2; one of nnU-Net that is damaged is not."""
    with pytest.raises(FssegError) as raised:
        checked_checkpoint(checkpoint(**changes), Path("checkpoint_final.pth"))
    assert message in str(raised.value)
    assert "checkpoint_final.pth, which is not an nnU-Net checkpoint" in str(raised.value)
    assert raised.value.exit_code == (2 if changes in ({"network_weights": [1]}, {"init_args": {}}) else 1)


@pytest.mark.parametrize("axes", [None, (), (0, 1, 2), [2, 0]])
def test_checkpoints_of_nnunet_are_read(axes: Any) -> None:
    known = checked_checkpoint(checkpoint(inference_allowed_mirroring_axes=axes, logging={"a": [1]}), Path("here"))
    assert known.inference_allowed_mirroring_axes == (None if axes is None else tuple(axes))
    assert known.inference_tile_step_size == 0.5


def test_sparse_tensors_are_not_imported(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.eye(2).to_sparse()}}, tmp_path / "file.pth")
    with pytest.raises(FssegError, match="must hold dense tensors"):
        open_checkpoint(tmp_path / "file.pth")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("nnUNet_n_proc_DA", "abc"), ("nnUNet_n_proc_DA", "-1"), ("nnUNet_def_n_proc", "0"), ("nnUNet_def_n_proc", "")],
)
def test_what_is_no_number_of_processes_is_refused(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=f"{variable} is '{value}'(.|\n)*export {variable}=4"):
        require_process_counts()
    monkeypatch.setenv(variable, "1")
    require_process_counts()


def test_it_is_refused_before_nnunet_is_imported() -> None:
    environment = {**os.environ, "nnUNet_def_n_proc": "abc", "nnUNet_raw": "/nowhere"}
    words = [sys.executable, "-m", "fsseg", "preprocess", "--dataset", "1"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nnUNet_def_n_proc is 'abc'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("own", [7, ["adapt"], {"adapt": 7, "pretrain": [1]}])
def test_what_plans_hold_for_fsseg_is_a_mapping(own: Any) -> None:
    for read in (few_shot_settings, settings_of_plans):
        with pytest.raises(UsageError, match="must hold mappings of settings"):
            read({"fsseg": own})
