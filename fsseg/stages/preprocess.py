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
from fsseg.data.image_header import Reader
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
        FssegError: cases are not sound (all of them in one message), or cannot be preprocessed.
    """
    raw = read_raw_dataset(dataset_folder(raw_folder(), config.dataset))
    preprocessed = preprocessed_folder() / raw.path.name
    _check_plans(config, channel_names(raw.dataset_json))

    from fsseg.nnunet.plan_summary import plan_summary
    from fsseg.nnunet.preprocessed_dataset import (
        CONFIGURATION,
        new_preprocessed,
        preprocess_dataset,
        require_same_integers,
    )
    from fsseg.nnunet.sound_cases import require_sound_dataset

    off_scale = require_sound_dataset(raw, config.workers, _reader(config, raw))
    for note in off_scale:  # before hours of work
        log.warning("%s", note)
    notes = [*off_scale, *raw.unlabelled_notes()]
    channels = channel_names(raw.dataset_json)
    facts = {"dataset": raw.path.name, "cases": len(raw.cases), "channels": channels, "notes": notes}
    if dry_run:
        return {**facts, "plans": config.plans, "planned": _planned(config), "out": str(preprocessed)}
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


def _planned(config: PreprocessConfig) -> dict[str, Any] | None:
    """Return what shipped plans say; None for those that the planner has yet to make."""
    from fsseg.nnunet.plan_summary import plan_summary
    from fsseg.nnunet.planning import CONFIGURATION, read_plans_file

    return None if config.plans == "auto" else plan_summary(read_plans_file(Path(config.plans)), CONFIGURATION)


def _plan(config: PreprocessConfig, raw: RawDataset, folder: Path) -> str:
    from fsseg.nnunet.planning import plan_automatically, use_shipped_plans

    if config.plans == "auto":
        return plan_automatically(dataset_id_of(raw.path), config.planner, config.gpu_memory_gb, raw.dataset_json)
    return use_shipped_plans(Path(config.plans), dataset_id_of(raw.path), folder)


def _reader(config: PreprocessConfig, raw: RawDataset) -> Reader:
    """Return who will read the images: the plans say it, or nnU-Net's planner tries it out."""
    from fsseg.nnunet.image_readers import reader_of, reader_of_dataset
    from fsseg.nnunet.planning import read_plans_file

    if config.plans != "auto":
        return reader_of(read_plans_file(Path(config.plans)))
    return reader_of_dataset(raw.dataset_json, next(iter(raw.images_of_cases().values()))[0])


def _inputs(config: PreprocessConfig, raw: Path) -> list[Path]:
    files = [raw / "dataset.json", raw / STRUCTURES_NAME]
    return [file for file in files if file.is_file()] + ([] if config.plans == "auto" else [Path(config.plans)])


def _case_hashes(raw: Path) -> dict[str, Any]:
    """Return the hashes of the source files by case where the assembly left them; they are not computed twice."""
    manifest = raw / MANIFEST_NAME
    return read_json(manifest).get("case_sha256", {}) if manifest.is_file() else {}


def _check_plans(config: PreprocessConfig, channels: Sequence[str]) -> None:
    from fsseg.nnunet.planning import CONFIGURATION, read_plans_file, require_planner

    if config.plans == "auto":
        require_planner(config.planner)
    elif config.gpu_memory_gb is not None:
        raise UsageError("--gpu-memory-gb is for --plans auto; a plans file has decided the architecture already.")
    else:
        plans = read_plans_file(Path(config.plans), "Or `--plans auto`.")
        schemes = plans["configurations"][CONFIGURATION]["normalization_schemes"]
        if len(schemes) != len(channels):
            raise UsageError(
                f"{config.plans} is for {len(schemes)} image channel(s) ({', '.join(schemes)}), but the dataset has"
                f" {len(channels)}: {', '.join(channels)}.\n  Give plans with a normalisation for each channel."
            )
