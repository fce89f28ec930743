"""Start the partial-label trainer outside nnU-Net's results tree, in a run folder of fsseg."""

from copy import deepcopy
from pathlib import Path

import torch

from fsseg.data.contents import DatasetContent
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.environment import temporary_results_folder
from fsseg.nnunet.planning import CONFIGURATION
from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel
from fsseg.nnunet.quiet import quiet


def make_trainer(
    *,
    plans: PlansContent,
    fold: int | str,
    dataset_json: DatasetContent,
    device: torch.device,
    folder: Path,
    resume_from: Path | None,
) -> nnUNetTrainerPartialLabel:
    """Build an initialised trainer that writes into `folder`.

    Args:
        plans: the plans, with settings under the key "fsseg".
        fold: 0 to 4, or of nnU-Net's file of folds; or "all".
        dataset_json: the dataset.json of the assembled dataset.
        device: where to train.
        folder: becomes the nnU-Net model folder.
        resume_from: checkpoint of an unfinished run.
    """
    torch.backends.cudnn.benchmark = device.type == "cuda"  # nnU-Net's command, too, lets it choose for the fixed patch
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
    return trainer
