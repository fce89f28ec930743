"""Start the partial-label trainer outside nnU-Net's results tree, in a run folder of fsseg."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from fsseg.nnunet.environment import temporary_results_folder
from fsseg.nnunet.partial_label_trainer import METRICS_NAME, nnUNetTrainerPartialLabel
from fsseg.nnunet.planning import CONFIGURATION
from fsseg.nnunet.quiet import quiet


def make_trainer(
    *,
    plans: dict[str, Any],
    fold: int | str,
    dataset_json: dict[str, Any],
    device: torch.device,
    folder: Path,
    resume_from: Path | None,
) -> nnUNetTrainerPartialLabel:
    """Build an initialised trainer that writes into `folder`.

    Args:
        plans: the plans, with settings under the key "fsseg".
        fold: 0, or "all".
        dataset_json: the dataset.json of the assembled dataset.
        device: where to train.
        folder: becomes the nnU-Net model folder.
        resume_from: checkpoint of an unfinished run.
    """
    with quiet():
        with temporary_results_folder():  # nnU-Net's constructor wants to create its own results tree
            trainer = nnUNetTrainerPartialLabel(
                plans={**deepcopy(plans), "continue_training": resume_from is not None},
                configuration=CONFIGURATION,
                fold=fold,  # type: ignore[arg-type]
                dataset_json=dataset_json,
                device=device,
            )
        trainer.write_to(folder)
        trainer.initialize()
        if resume_from is not None:
            trainer.load_checkpoint(str(resume_from))
    if trainer.processes.writes:
        _keep_finished_epochs(folder / METRICS_NAME, trainer.steps_done)
    return trainer


def _keep_finished_epochs(metrics: Path, steps: int) -> None:
    """Drop metrics of epochs whose checkpoint was not written before the run was killed."""
    if metrics.is_file():
        lines = metrics.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if 0 < _step(line) <= steps]
        metrics.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except json.JSONDecodeError:
        return 0  # the run was killed while it wrote this line
