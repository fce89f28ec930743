"""Plans of a dataset: made by nnU-Net's planner, or shipped with the architecture already decided."""

from collections.abc import Sequence
from pathlib import Path

import nnunetv2
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from fsseg.config.errors import UsageError, unknown_name
from fsseg.config.json_files import read_json, write_json
from fsseg.config.progress import LogLines, on_terminal
from fsseg.config.shipped_files import PLANS, find_file
from fsseg.data.contents import DatasetContent
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.normalization import STATISTICS
from fsseg.nnunet.plans_content import checked_plans
from fsseg.nnunet.preprocessed_dataset import CONFIGURATION
from fsseg.nnunet.quiet import nnunet_failures, quiet

_PLANNERS = ("ExperimentPlanner", "nnUNetPlannerResEncM", "nnUNetPlannerResEncL", "nnUNetPlannerResEncXL")


def require_planner(name: str) -> None:
    """Raise `UsageError` if nnU-Net has no planner of this name."""
    _planner_class(name)


def plan_automatically(dataset_id: int, planner: str, gpu_memory_gb: float | None, dataset_json: DatasetContent) -> str:
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
        file: the plans, or the name of shipped ones.
        dataset_id: number of the dataset.
        preprocessed: the dataset's folder in nnUNet_preprocessed.

    Raises:
        UsageError: the file is missing or lacks keys.
    """
    plans = read_plans_file(file)
    plans["dataset_name"] = preprocessed.name
    if not plans.get(STATISTICS):
        _extract_fingerprint(dataset_id)
        fingerprint = read_json(preprocessed / "dataset_fingerprint.json", [STATISTICS])
        plans[STATISTICS] = fingerprint[STATISTICS]
    preprocessed.mkdir(parents=True, exist_ok=True)
    write_json(preprocessed / f"{plans['plans_name']}.json", plans)
    return str(plans["plans_name"])


def read_plans_file(file: Path, otherwise: str = "") -> PlansContent:
    """Read and check plans; raise `UsageError` for a file that is missing or no plans.

    The configuration for 3D comes with what it inherits from others.

    Args:
        file: the plans, or the name of shipped ones.
        otherwise: what may be given in its place, for the message of a missing file.
    """
    file = find_file(file, PLANS, otherwise)
    if file.is_dir():
        raise UsageError(f"{file} is a folder.\n  Give the plans file in it: {file / 'plans.json'}")
    plans = read_json(file, error=UsageError)
    configuration = checked_plans(plans, CONFIGURATION, file, UsageError)
    plans["configurations"][CONFIGURATION] = {k: v for k, v in configuration.items() if k != "inherits_from"}
    return plans


def read_plans_for(file: Path, channels: Sequence[str], otherwise: str = "") -> PlansContent:
    """Read a plans file that fits the image channels of a dataset.

    Args:
        file, otherwise: as for `read_plans_file`.
        channels: names of the image channels.

    Raises:
        UsageError: the file is missing or no plans, or has normalisations for another number of channels.
    """
    plans = read_plans_file(file, otherwise)
    schemes = plans["configurations"][CONFIGURATION]["normalization_schemes"]
    if len(schemes) != len(channels):
        raise UsageError(
            f"{file} is for {len(schemes)} image channel(s) ({', '.join(schemes)}), but the dataset has"
            f" {len(channels)}: {', '.join(channels)}.\n  Give plans with a normalisation for each channel."
        )
    return plans


def _extract_fingerprint(dataset_id: int) -> None:
    with nnunet_failures("The dataset has no fingerprint"), quiet(), LogLines("fingerprint of the dataset"):
        extract_fingerprints([dataset_id], num_processes=2, show_progress_bar=on_terminal())
