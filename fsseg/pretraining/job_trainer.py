"""The trainer of a pretraining, with the weights that it starts from or resumes with."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fsseg.nnunet.model_folder import ModelFolder
from fsseg.pretraining.job import PretrainJob
from fsseg.pretraining.start import start_from

if TYPE_CHECKING:
    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel


def make_job_trainer(
    job: PretrainJob, folder: Path, device: torch.device, *, resume: bool = False
) -> "nnUNetTrainerPartialLabel":
    """Return an initialised trainer that writes into `folder`.

    Args:
        job: what is trained.
        folder: becomes the model folder.
        device: where to train.
        resume: resume from a checkpoint in the folder, if there is one.
    """
    from fsseg.nnunet.pretraining.make_trainer import make_trainer

    request = job.request
    of_fold = folder / f"fold_{request.fold}"
    # A final checkpoint alone: the run was trained to its end, and then its folder could not be completed.
    found = [file for name in ("latest", "final") if (file := of_fold / f"checkpoint_{name}.pth").is_file()]
    resume_from = found[0] if resume and found else None
    trainer = make_trainer(
        plans=job.plans,
        fold=request.fold if request.fold == "all" else int(request.fold),
        dataset_json=job.dataset_json,
        device=device,
        folder=folder,
        resume_from=resume_from,
    )
    if request.checkpoint is not None and resume_from is None:
        base = ModelFolder.read(request.checkpoint)
        start_from(trainer.plain_network, base, trainer.structures.names, request.settings.seed)
    return trainer
