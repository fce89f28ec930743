"""Plans of a dataset: made by nnU-Net's planner, or shipped with the architecture already decided."""

import shutil
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import nnunetv2
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprints,
    plan_experiments,
    preprocess,
)
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from tqdm import tqdm

from fsseg.config.errors import FssegError, UsageError, unknown_name
from fsseg.config.json_files import read_json, write_json
from fsseg.models.networks import total_strides
from fsseg.nnunet.quiet import quiet
from fsseg.nnunet.validation import REFERENCE_FOLDER

CONFIGURATION = "3d_fullres"
_PLANNERS = ("ExperimentPlanner", "nnUNetPlannerResEncM", "nnUNetPlannerResEncL", "nnUNetPlannerResEncXL")
_STATISTICS = "foreground_intensity_properties_per_channel"
_REQUIRED_KEYS = ("plans_name", "transpose_forward", "transpose_backward", "configurations", "image_reader_writer")


def require_planner(name: str) -> None:
    """Raise `UsageError` if nnU-Net has no planner of this name."""
    folder = str(Path(nnunetv2.__path__[0]) / "experiment_planning")
    if recursive_find_python_class(folder, name, "nnunetv2.experiment_planning") is None:
        raise unknown_name("planner", name, _PLANNERS, "Or another planner class of nnU-Net.")


def plan_automatically(dataset_id: int, planner: str, gpu_memory_gb: float | None) -> str:
    """Let nnU-Net extract the fingerprint and plan; return the name of the plans."""
    with quiet():
        _extract_fingerprint(dataset_id)
        return plan_experiments([dataset_id], planner, gpu_memory_target_in_gb=gpu_memory_gb)


def use_shipped_plans(file: Path, dataset_id: int, preprocessed: Path) -> str:
    """Write shipped plans for a dataset; return their name.

    Intensity statistics that the plans leave open are taken from the dataset's fingerprint.

    Args:
        file: the shipped plans.
        dataset_id: number of the dataset.
        preprocessed: the dataset's folder in nnUNet_preprocessed.

    Raises:
        UsageError: the file is missing or lacks keys.
    """
    plans = read_plans_file(file)
    plans["dataset_name"] = preprocessed.name
    if not plans.get(_STATISTICS):
        with quiet():
            _extract_fingerprint(dataset_id)
        fingerprint = read_json(preprocessed / "dataset_fingerprint.json", [_STATISTICS])
        plans[_STATISTICS] = fingerprint[_STATISTICS]
    preprocessed.mkdir(parents=True, exist_ok=True)
    write_json(preprocessed / f"{plans['plans_name']}.json", plans)
    return str(plans["plans_name"])


def read_plans_file(file: Path) -> dict[str, Any]:
    """Read and check a plans file; raise `UsageError` for a file that is missing or no plans."""
    if not file.is_file():
        shipped = sorted(path.name for path in Path("plans").glob("*.json"))
        raise unknown_name("plans file", str(file), [f"plans/{name}" for name in shipped], "Or `--plans auto`.")
    plans = read_json(file, _REQUIRED_KEYS, error=UsageError)
    require_patch_fits(plans, file)
    return plans


def require_patch_fits(plans: dict[str, Any], file: Path) -> None:
    """Raise `UsageError` if plans have no 3D configuration, or a patch that the network cannot halve often enough."""
    if CONFIGURATION not in plans["configurations"]:
        raise UsageError(
            f"{file} has no configuration {CONFIGURATION!r}, only {', '.join(plans['configurations']) or 'none'}."
        )
    block = PlansManager(deepcopy(plans)).get_configuration(CONFIGURATION)
    factors = total_strides(block.configuration["architecture"])
    if any(size % factor for size, factor in zip(block.patch_size, factors, strict=True)):
        raise UsageError(
            f"{file} does not fit its network: the patch {list(block.patch_size)} must be divisible by the product of"
            f" the strides, {factors}."
        )


def preprocess_dataset(raw: Path, preprocessed: Path, plans_name: str, workers: int) -> int:
    """Preprocess every case of a raw dataset; return the number of cases.

    Args:
        raw: the dataset's folder in nnUNet_raw.
        preprocessed: its folder in nnUNet_preprocessed, which holds the plans.
        plans_name: name of the plans.
        workers: 1 works in this process, which is fastest for small cases; more start nnU-Net's worker processes.
    """
    dataset_json = read_json(raw / "dataset.json")
    write_json(preprocessed / "dataset.json", dataset_json)
    if workers > 1:
        with quiet():
            preprocess([dataset_id_of(raw)], plans_name, (CONFIGURATION,), (workers,), show_progress_bar=False)
        return len(get_filenames_of_train_images_and_targets(str(raw), dataset_json))
    plans = PlansManager(read_json(preprocessed / f"{plans_name}.json"))
    configuration = plans.get_configuration(CONFIGURATION)
    out = preprocessed / configuration.data_identifier
    out.mkdir(parents=True, exist_ok=True)
    files = get_filenames_of_train_images_and_targets(str(raw), dataset_json)
    preprocessor = configuration.preprocessor_class(verbose=False)
    for case, paths in tqdm(files.items(), desc="preprocess", unit="case", disable=None):
        try:
            with quiet():
                preprocessor.run_case_save(
                    str(out / case), paths["images"], paths["label"], plans, configuration, dataset_json
                )
        except (RuntimeError, AssertionError, ValueError) as error:
            raise FssegError(f"Case {case!r} of {raw.name} cannot be preprocessed: {error}") from None
        _keep_reference(Path(paths["label"]), preprocessed / REFERENCE_FOLDER, case, dataset_json["file_ending"])
    return len(infer_dataset_class(str(out)).get_identifiers(str(out)))


def preprocessed_cases(preprocessed: Path) -> list[str]:
    """Return the cases of a dataset's folder in nnUNet_preprocessed; its reference label maps name them."""
    ending = read_json(preprocessed / "dataset.json")["file_ending"]
    return sorted(file.name.removesuffix(ending) for file in preprocessed.glob(f"{REFERENCE_FOLDER}/*{ending}"))


def _keep_reference(label: Path, folder: Path, case: str, ending: str) -> None:
    """Copy a label map to where nnU-Net's validation looks for it, as nnU-Net's own preprocessing does."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(label, folder / f"{case}{ending}")


def _extract_fingerprint(dataset_id: int) -> None:
    extract_fingerprints([dataset_id], num_processes=2, show_progress_bar=sys.stderr.isatty())


def dataset_id_of(folder: Path) -> int:
    """Return 901 for Dataset901_HeadNeck."""
    return int(folder.name.removeprefix("Dataset")[:3])
