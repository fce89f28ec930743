"""Plans of a dataset: made by nnU-Net's planner, or shipped with the architecture already decided."""

import re
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import nnunetv2
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from fsseg.config.errors import FssegError, UsageError, unknown_name
from fsseg.config.json_files import missing_keys, read_json, write_json
from fsseg.models.networks import total_strides
from fsseg.nnunet.configurations import resolved
from fsseg.nnunet.preprocessed_dataset import CONFIGURATION
from fsseg.nnunet.quiet import nnunet_failures, quiet

_PLANNERS = ("ExperimentPlanner", "nnUNetPlannerResEncM", "nnUNetPlannerResEncL", "nnUNetPlannerResEncXL")
_STATISTICS = "foreground_intensity_properties_per_channel"
_AXES = 3
_REQUIRED_KEYS = ("plans_name", "transpose_forward", "transpose_backward", "configurations", "image_reader_writer")
_ARCHITECTURE_KEYS = ("network_class_name", "arch_kwargs", "_kw_requires_import")
_CONFIGURATION_KEYS = (
    "architecture",
    "data_identifier",
    "preprocessor_name",
    "patch_size",
    "spacing",
    "batch_size",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)


def require_planner(name: str) -> None:
    """Raise `UsageError` if nnU-Net has no planner of this name."""
    _planner_class(name)


def plan_automatically(dataset_id: int, planner: str, gpu_memory_gb: float | None, dataset_json: dict[str, Any]) -> str:
    """Let nnU-Net extract the fingerprint and plan; return the name of the plans.

    Args:
        dataset_id: number of the dataset.
        planner: name of a planner class.
        gpu_memory_gb: memory that it may assume; None takes its own target.
        dataset_json: of the dataset, with the channels in the order of their numbers: the planner gives normalisations
            to the channels in the order in which it finds them, and a file may list them in another one.
    """
    _extract_fingerprint(dataset_id)
    memory = {} if gpu_memory_gb is None else {"gpu_memory_target_in_gb": gpu_memory_gb}
    with nnunet_failures("The dataset cannot be planned"), quiet():
        made = _planner_class(planner)(dataset_id, **memory)
        made.dataset_json = dataset_json
        made.plan_experiment()
    return made.plans_identifier


def _planner_class(name: str) -> type[ExperimentPlanner]:
    folder = str(Path(nnunetv2.__path__[0]) / "experiment_planning")
    found = recursive_find_python_class(folder, name, "nnunetv2.experiment_planning")
    if found is None:
        raise unknown_name("planner", name, _PLANNERS, "Or another planner class of nnU-Net.")
    return found


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
        _extract_fingerprint(dataset_id)
        fingerprint = read_json(preprocessed / "dataset_fingerprint.json", [_STATISTICS])
        plans[_STATISTICS] = fingerprint[_STATISTICS]
    preprocessed.mkdir(parents=True, exist_ok=True)
    write_json(preprocessed / f"{plans['plans_name']}.json", plans)
    return str(plans["plans_name"])


def read_plans_file(file: Path, otherwise: str = "") -> dict[str, Any]:
    """Read and check a plans file; raise `UsageError` for a file that is missing or no plans.

    The configuration for 3D comes with what it inherits from others.

    Args:
        file: the plans.
        otherwise: what may be given in its place, for the message of a missing file.
    """
    if file.is_dir():
        raise UsageError(f"{file} is a folder.\n  Give the plans file in it: {file / 'plans.json'}")
    if not file.is_file():
        shipped = sorted(path.name for path in Path("plans").glob("*.json"))
        raise unknown_name("plans file", str(file), [f"plans/{name}" for name in shipped], otherwise)
    plans = read_json(file, _REQUIRED_KEYS, error=UsageError)
    configuration = _checked_configuration(plans, file)
    plans["configurations"][CONFIGURATION] = {k: v for k, v in configuration.items() if k != "inherits_from"}
    return plans


def _checked_configuration(plans: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return the 3D configuration; raise `UsageError` if it is incomplete, or names what nnU-Net does not have."""
    if CONFIGURATION not in plans["configurations"]:
        raise UsageError(
            f"{file} has no configuration {CONFIGURATION!r}, only {', '.join(plans['configurations']) or 'none'}."
        )
    try:
        configuration = resolved(plans, CONFIGURATION, str(file))
    except FssegError as error:
        raise UsageError(str(error)) from None
    missing = missing_keys(configuration, _CONFIGURATION_KEYS)
    missing += [f"architecture.{key}" for key in missing_keys(configuration["architecture"], _ARCHITECTURE_KEYS)]
    if missing:
        raise UsageError(f"{file}: configuration {CONFIGURATION!r} lacks {', '.join(missing)}.")
    for key in ("patch_size", "spacing"):
        _require_three_numbers(configuration[key], f"{file}: {key}")
    _require_file_name(plans["plans_name"], f"{file}: plans_name")
    _require_file_name(configuration["data_identifier"], f"{file}: data_identifier")
    _require_classes(plans, file)
    require_patch_fits(configuration, file)
    return configuration


def require_patch_fits(configuration: dict[str, Any], file: Path) -> None:
    """Raise `UsageError` if the network of a configuration cannot halve its patch often enough."""
    factors = total_strides(configuration["architecture"])
    patch = configuration["patch_size"]
    if len(factors) != len(patch) or any(size % factor for size, factor in zip(patch, factors, strict=True)):
        raise UsageError(
            f"{file} does not fit its network: the patch {patch} must be divisible by the product of"
            f" the strides, {factors}."
        )


def _require_three_numbers(values: Any, what: str) -> None:
    is_list = isinstance(values, list) and len(values) == _AXES
    if not is_list or not all(isinstance(value, int | float) and value > 0 for value in values):
        raise UsageError(f"{what} must be three numbers above 0, in z, y, x, got {values!r}.")


def _require_file_name(name: Any, what: str) -> None:
    # It becomes a name in the dataset's folder, and plans are input from strangers.
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name):
        raise UsageError(f"{what} must be a plain name of letters, digits, '_', '-', '+' and '.', got {name!r}.")


def _require_classes(plans: dict[str, Any], file: Path) -> None:
    manager = PlansManager(deepcopy(plans))
    configuration = manager.get_configuration(CONFIGURATION)
    if configuration.preprocessor_class is None:
        name = configuration.preprocessor_name
        raise unknown_name(f"preprocessor_name in {file}", name, ["DefaultPreprocessor"], "Or another of nnU-Net's.")
    try:
        for part, name in (
            (manager, "image_reader_writer_class"),
            (configuration, "resampling_fn_data"),
            (configuration, "resampling_fn_seg"),
        ):
            getattr(part, name)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"{file} names what nnU-Net does not have: {error}") from None


def _extract_fingerprint(dataset_id: int) -> None:
    with nnunet_failures("The dataset has no fingerprint"), quiet():
        extract_fingerprints([dataset_id], num_processes=2, show_progress_bar=sys.stderr.isatty())
