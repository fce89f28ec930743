"""Stage: plan and preprocess a dataset with nnU-Net."""

import shutil
from pathlib import Path
from typing import Any

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError
from fsseg.config.manifest import Manifest
from fsseg.data.structures import STRUCTURES_NAME, load_structures
from fsseg.nnunet.environment import dataset_folder, preprocessed_folder, raw_folder


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
    """Plan and preprocess; write the manifest into the dataset's folder in nnUNet_preprocessed.

    Raises:
        UsageError: unknown dataset, missing plans, or environment variables not set.
        FssegError: a case cannot be preprocessed.
    """
    raw = dataset_folder(raw_folder(), config.dataset)
    preprocessed = preprocessed_folder() / raw.name
    structures = load_structures(raw)
    _check_plans(config)
    if dry_run:
        return {"dataset": raw.name, "cases": len(structures.cases), "plans": config.plans, "out": str(preprocessed)}

    from fsseg.nnunet.planning import dataset_id_of, plan_automatically, preprocess_dataset, use_shipped_plans

    manifest = Manifest("preprocess", config.model_dump())
    manifest.add_inputs([raw / "dataset.json"])
    dataset_id = dataset_id_of(raw)
    if config.plans == "auto":
        plans_name = plan_automatically(dataset_id, config.planner, config.gpu_memory_gb)
    else:
        plans_name = use_shipped_plans(Path(config.plans), dataset_id, preprocessed)
    cases = preprocess_dataset(raw, preprocessed, plans_name, config.workers)
    if (raw / STRUCTURES_NAME).is_file():
        shutil.copyfile(raw / STRUCTURES_NAME, preprocessed / STRUCTURES_NAME)
    else:
        structures.save(preprocessed)
    manifest.add(dataset=raw.name, plans=plans_name, cases=cases)
    return manifest.write(preprocessed)


def _check_plans(config: PreprocessConfig) -> None:
    from fsseg.nnunet.planning import read_plans_file, require_planner

    if config.plans == "auto":
        require_planner(config.planner)
    elif config.gpu_memory_gb is not None:
        raise UsageError("--gpu-memory-gb is for --plans auto; a plans file has decided the architecture already.")
    else:
        read_plans_file(Path(config.plans))
