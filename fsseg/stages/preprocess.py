"""Stage: plan and preprocess a dataset with nnU-Net."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError
from fsseg.config.json_files import read_json
from fsseg.config.manifest import Manifest
from fsseg.config.results import Result, WrittenResult
from fsseg.config.shipped_files import PLANS, find_file
from fsseg.data.channels import channel_names
from fsseg.data.structures import STRUCTURES_NAME
from fsseg.nnunet.environment import dataset_folder, dataset_id_of, preprocessed_folder, raw_folder
from fsseg.nnunet.image_readers import reader_of, reader_of_dataset
from fsseg.nnunet.plan_summary import PlanSummary, plan_summary
from fsseg.nnunet.planning import plan_automatically, read_plans_for, require_planner, use_shipped_plans
from fsseg.nnunet.preprocessed_dataset import (
    CONFIGURATION,
    new_preprocessed,
    preprocess_dataset,
    require_same_integers,
)
from fsseg.nnunet.raw_dataset import RawDataset, read_raw_dataset
from fsseg.nnunet.usable_cases import require_usable_dataset

log = logging.getLogger(__name__)


class PreprocessConfig(StrictModel):
    """What to preprocess.

    Attributes:
        dataset: number or name of a dataset in nnUNet_raw.
        plans: "auto" for nnU-Net's own planner, a plans file, or the name of a shipped one.
        planner: nnU-Net planner class for "auto".
        gpu_memory_gb: memory that the planner may assume for "auto"; None takes the planner's own target.
        workers: processes; 1 works in this process.
    """

    dataset: str
    plans: str = "auto"
    planner: str = "nnUNetPlannerResEncM"
    gpu_memory_gb: float | None = Field(default=None, gt=0)
    workers: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class PreprocessPlan(Result):
    """What is preprocessed, and how.

    Attributes:
        dataset: its folder's name.
        cases: how many it has.
        channels: names of its image channels.
        notes: what a user should know.
        plans: their name; before a run, as it was asked for.
        planned: what they say; None where the planner has yet to make them.
        out: the dataset's folder in nnUNet_preprocessed.
    """

    dataset: str
    cases: int
    channels: tuple[str, ...]
    notes: list[str]
    plans: str
    planned: PlanSummary | None
    out: Path


@dataclass(frozen=True)
class PreprocessResult(PreprocessPlan, WrittenResult):
    """What was preprocessed."""


def plan_preprocess(config: PreprocessConfig) -> PreprocessPlan:
    """Check everything, and return what would be preprocessed; nothing is written.

    Raises:
        UsageError, FssegError: as `run_preprocess`.
    """
    return _checked(config)[1]


def run_preprocess(config: PreprocessConfig) -> PreprocessResult:
    """Plan and preprocess; the cases, the plans and the manifest appear together in the folder of the dataset.

    What the folder holds of the same plans is replaced, as nnU-Net does; other plans stay.

    Raises:
        UsageError: unknown dataset, missing plans, environment variables not set, or cases of other plans that were
            made when the dataset had other integers.
        FssegError: cases cannot be used (all of them in one message), or cannot be preprocessed.

    Example:
        >>> result = run_preprocess(PreprocessConfig(dataset="901"))
        >>> result.plans, result.planned.patch_size
        ('nnUNetResEncUNetMPlans', [128, 160, 112])
    """
    raw, plan = _checked(config)
    for note in plan.notes:  # before hours of work
        log.warning("%s", note)
    manifest = Manifest("preprocess", config.model_dump())
    inputs = [raw.path / "dataset.json", raw.path / STRUCTURES_NAME]
    manifest.add_inputs(file for file in inputs if file.is_file())
    manifest.add_inputs([] if config.plans == "auto" else [find_file(config.plans, PLANS)])
    with new_preprocessed(plan.out, raw) as folder:
        name = _make_plans(config, raw, folder)
        require_same_integers(plan.out, raw.structures, folder / f"{name}.json")
        preprocess_dataset(raw, folder, name, config.workers)
        raw.structures.save(folder)
        done = replace(plan, plans=name, planned=plan_summary(read_json(folder / f"{name}.json"), CONFIGURATION))
        manifest.add(**done.as_json(), case_sha256=raw.assembled_hashes())
        return PreprocessResult(**vars(done), manifest=manifest.write(folder))


def _checked(config: PreprocessConfig) -> tuple[RawDataset, PreprocessPlan]:
    raw = read_raw_dataset(dataset_folder(raw_folder(), config.dataset))
    out = preprocessed_folder() / raw.path.name
    channels = channel_names(raw.dataset_json)
    plans = None
    if config.plans == "auto":
        require_planner(config.planner)
    elif config.gpu_memory_gb is not None:
        raise UsageError("--gpu-memory-gb is for --plans auto; a plans file has decided the architecture already.")
    else:
        plans = read_plans_for(Path(config.plans), channels, "Or `--plans auto`.")
    first_image = next(iter(raw.images_of_cases().values()))[0]
    reader = reader_of_dataset(raw.dataset_json, first_image) if plans is None else reader_of(plans)
    notes = [*require_usable_dataset(raw, config.workers, reader), *raw.unlabelled_notes()]
    planned = None if plans is None else plan_summary(plans, CONFIGURATION)
    return raw, PreprocessPlan(raw.path.name, len(raw.cases), channels, notes, config.plans, planned, out)


def _make_plans(config: PreprocessConfig, raw: RawDataset, folder: Path) -> str:
    """Write the plans into the new folder of the dataset; return their name."""
    if config.plans == "auto":
        return plan_automatically(dataset_id_of(raw.path), config.planner, config.gpu_memory_gb, raw.dataset_json)
    return use_shipped_plans(Path(config.plans), dataset_id_of(raw.path), folder)
