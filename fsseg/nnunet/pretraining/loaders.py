"""Training and validation crops of a pretraining."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from torch import Tensor
from torch.utils.data import DataLoader

from fsseg.config.pretraining import PretrainSettings
from fsseg.data.crops import CropSampler
from fsseg.data.structures import Structures
from fsseg.nnunet.augmentation import (
    centre_patch,
    crop_size_for,
    training_augmentation,
    turn_and_shift,
)
from fsseg.nnunet.case_zones import zone_axis
from fsseg.nnunet.preprocessed_volume import preprocessed_volume
from fsseg.nnunet.pretraining.sampling import require_every_structure, source_weights
from fsseg.nnunet.process_counts import require_process_counts
from fsseg.training.crop_batches import Crops, batches
from fsseg.training.processes import Processes, processes_of_host

_VALIDATION_SEED_OFFSET = 1_000_003  # validation crops must not repeat training crops


def workers_for(settings: PretrainSettings, device: torch.device) -> int:
    """Return how many processes prepare the crops of one training process.

    nnU-Net's number (nnUNet_n_proc_DA, else at most 12) is one for each GPU; where a host has fewer cores than its
    training processes would take together, they share them.
    """
    if settings.workers is not None:
        return settings.workers
    if device.type != "cuda":
        return 0  # the network needs the cores itself
    require_process_counts()
    return min(get_allowed_n_proc_DA(), max(1, (os.cpu_count() or 1) // processes_of_host()))


@dataclass(frozen=True)
class PretrainLoaders:
    """Makes the crops of a preprocessed, partially labelled dataset.

    Attributes:
        folder: the preprocessed cases.
        structures: what they annotate.
        plans: plans manager.
        patch_size: in z, y, x.
        batch_size: crops of a batch, of all processes together.
        settings: sampling, augmentation, seed.
        mirror_axes: axes that nnU-Net's augmentation flips.
        processes: who trains together; each takes its part of every batch.
    """

    folder: Path
    structures: Structures
    plans: Any
    patch_size: tuple[int, ...]
    batch_size: int
    settings: PretrainSettings
    mirror_axes: tuple[int, ...]
    processes: Processes

    def training(self, cases: Sequence[str], steps_done: int, device: torch.device) -> DataLoader[dict[str, Tensor]]:
        """Return augmented crops for the steps that are left, for a network on `device`."""
        self.processes.share_of(self.batch_size)
        rotated = self.settings.augmentation == "nnunet"  # a rotated patch is cut from a larger crop
        sampler = self._sampler(cases, crop_size_for(self.patch_size) if rotated else self.patch_size)
        require_every_structure(sampler.volumes, self.structures.names, self.folder)
        if rotated:
            augmentation = training_augmentation(self.patch_size, self.mirror_axes)
        else:
            augmentation = turn_and_shift(self.patch_size, zone_axis(self.plans))
        of_a_step = self.batch_size * self.settings.accumulate
        first, last = steps_done * of_a_step, self.settings.steps * of_a_step
        crops = Crops(sampler, augmentation, first=first, count=last - first, seed=self.settings.seed)
        workers = workers_for(self.settings, device)
        return self._loader(crops, workers=workers, pin_memory=device.type == "cuda")

    def validation(self, cases: Sequence[str], count: int) -> list[dict[str, Tensor]]:
        """Return `count` batches of crops as they are, or none without cases."""
        if not cases:
            return []
        crops = Crops(
            self._sampler(cases, self.patch_size),
            centre_patch(self.patch_size),
            first=0,
            count=count * self.batch_size,
            seed=self.settings.seed + _VALIDATION_SEED_OFFSET,
        )
        return list(self._loader(crops, workers=0, pin_memory=False))

    def _loader(self, crops: Crops, *, workers: int, pin_memory: bool) -> DataLoader[dict[str, Tensor]]:
        part, parts = self.processes.rank, self.processes.count
        return batches(crops, self.batch_size, workers, pin_memory=pin_memory, part=part, parts=parts)

    def _sampler(self, cases: Sequence[str], crop_size: Sequence[int]) -> CropSampler:
        return CropSampler(
            [preprocessed_volume(case, self.folder, self.structures, self.plans) for case in cases],
            self.patch_size,
            crop_size=crop_size,
            foreground_probability=self.settings.foreground_probability,
            weights=source_weights(cases, self.structures, self.settings.sampling),
        )
