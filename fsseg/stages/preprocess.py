"""Stage: plan and preprocess a dataset with nnU-Net."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError
from fsseg.config.json_files import read_json
from fsseg.config.manifest import MANIFEST_NAME, Manifest
from fsseg.data.channels import channel_names
from fsseg.data.structures import STRUCTURES_NAME
from fsseg.nnunet.environment import dataset_folder, dataset_id_of, preprocessed_folder, raw_folder
from fsseg.nnunet.raw_dataset import RawDataset, read_raw_dataset

log = logging.getLogger(__name__)


class PreprocessConfig(StrictModel):
    """What to preprocess.

    Attributes:
        dataset: number or name of a dataset in nnUNet_raw.
        plans: "auto" for nnU-Net's own planner, or a shipped plans file.
        planner: nnU-Net planner class for "auto".
        gpu_memory_gb: memory that the planner may assume for "auto"; None takes the planner's own target.
        workers: processes; 1 works in this process.
    """

    dataset: str
    plans: str = "auto"
    planner: str = "nnUNetPlannerResEncM"
    gpu_memory_gb: float | None = Field(default=None, gt=0)
    workers: int = Field(default=1, ge=1)


def run_preprocess(config: PreprocessConfig, *, dry_run: bool = False) -> dict[str, Any]:
    """Plan and preprocess; the cases, the plans and the manifest appear together in the folder of the dataset.

    What the folder holds of the same plans is replaced, as nnU-Net does; other plans stay.

    Raises:
        UsageError: unknown dataset, missing plans, environment variables not set, or cases of other plans that were
            made when the dataset had other integers.
        FssegError: cases cannot be used (all of them in one message), or cannot be preprocessed.
    """
    raw = read_raw_dataset(dataset_folder(raw_folder(), config.dataset))
    preprocessed = preprocessed_folder() / raw.path.name
    channels = channel_names(raw.dataset_json)
    plans = _checked_plans(config, channels)

    from fsseg.nnunet.image_readers import reader_of, reader_of_dataset
    from fsseg.nnunet.plan_summary import plan_summary
    from fsseg.nnunet.preprocessed_dataset import (
        CONFIGURATION,
        new_preprocessed,
        preprocess_dataset,
        require_same_integers,
    )
    from fsseg.nnunet.usable_cases import require_usable_dataset

    first_image = next(iter(raw.images_of_cases().values()))[0]
    reader = reader_of_dataset(raw.dataset_json, first_image) if plans is None else reader_of(plans)
    notes = [*require_usable_dataset(raw, config.workers, reader), *raw.unlabelled_notes()]
    facts = {"dataset": raw.path.name, "cases": len(raw.cases), "channels": channels, "notes": notes}
    if dry_run:
        planned = None if plans is None else plan_summary(plans, CONFIGURATION)  # the planner has yet to make its own
        return {**facts, "plans": config.plans, "planned": planned, "out": str(preprocessed)}
    for note in notes:  # before hours of work
        log.warning("%s", note)
    manifest = Manifest("preprocess", config.model_dump())
    manifest.add_inputs(_inputs(config, raw.path))
    with new_preprocessed(preprocessed, raw) as folder:
        plans_name = _plan(config, raw, folder)
        require_same_integers(preprocessed, raw.structures, folder / f"{plans_name}.json")
        preprocess_dataset(raw, folder, plans_name, config.workers)
        raw.structures.save(folder)
        planned = plan_summary(read_json(folder / f"{plans_name}.json"), CONFIGURATION)
        manifest.add(**facts, plans=plans_name, planned=planned, case_sha256=_case_hashes(raw.path))
        return manifest.write(folder)


def _plan(config: PreprocessConfig, raw: RawDataset, folder: Path) -> str:
    from fsseg.nnunet.planning import plan_automatically, use_shipped_plans

    if config.plans == "auto":
        return plan_automatically(dataset_id_of(raw.path), config.planner, config.gpu_memory_gb, raw.dataset_json)
    return use_shipped_plans(Path(config.plans), dataset_id_of(raw.path), folder)


def _inputs(config: PreprocessConfig, raw: Path) -> list[Path]:
    files = [raw / "dataset.json", raw / STRUCTURES_NAME]
    return [file for file in files if file.is_file()] + ([] if config.plans == "auto" else [Path(config.plans)])


def _case_hashes(raw: Path) -> dict[str, Any]:
    """Return the hashes of the source files by case where the assembly left them; they are not computed twice."""
    manifest = raw / MANIFEST_NAME
    return read_json(manifest).get("case_sha256", {}) if manifest.is_file() else {}


def _checked_plans(config: PreprocessConfig, channels: Sequence[str]) -> dict[str, Any] | None:
    """Return shipped plans, which fit the image channels; None for those that the planner has yet to make."""
    from fsseg.nnunet.planning import CONFIGURATION, read_plans_file, require_planner

    if config.plans == "auto":
        require_planner(config.planner)
        return None
    if config.gpu_memory_gb is not None:
        raise UsageError("--gpu-memory-gb is for --plans auto; a plans file has decided the architecture already.")
    plans = read_plans_file(Path(config.plans), "Or `--plans auto`.")
    schemes = plans["configurations"][CONFIGURATION]["normalization_schemes"]
    if len(schemes) != len(channels):
        raise UsageError(
            f"{config.plans} is for {len(schemes)} image channel(s) ({', '.join(schemes)}), but the dataset has"
            f" {len(channels)}: {', '.join(channels)}.\n  Give plans with a normalisation for each channel."
        )
    return plans
