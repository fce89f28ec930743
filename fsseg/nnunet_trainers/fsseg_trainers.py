"""What nnU-Net finds when nnUNet_extTrainer names this folder: it imports every module of it on its own."""

from fsseg.nnunet.partial_label_trainer import nnUNetTrainerPartialLabel
from fsseg.stages.few_shot_trainer import nnUNetTrainerFewShot

__all__ = ["nnUNetTrainerFewShot", "nnUNetTrainerPartialLabel"]
