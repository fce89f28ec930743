"""What a universal pretraining minimises and counts on a batch: annotated structures only."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fsseg.config.errors import UsageError
from fsseg.config.pretraining import PretrainSettings
from fsseg.data.structures import Structures
from fsseg.training.crop_statistics import CropStatistics
from fsseg.training.losses import PUBLISHED_LOSSES, deep_supervision_loss
from fsseg.training.targets import TargetTable
from fsseg.training.validation import masked_counts


def require_loss_fits(settings: PretrainSettings, structures: Structures) -> None:
    """Raise `UsageError` if the loss gives every voxel one structure and structures overlap."""
    overlapping = structures.overlapping()
    if PUBLISHED_LOSSES[settings.loss].activation == "task_softmax" and overlapping:
        pairs = "\n  - ".join(f"{first} and {second}" for first, second in overlapping)
        raise UsageError(
            f"loss={settings.loss} gives every voxel one structure, but these overlap:\n  - {pairs}\n"
            "  Take a loss with a sigmoid per structure, such as loss=multitalent, or leave out one of each pair."
        )


class PretrainObjective:
    """Masked loss and masked counts of a network's logits on a batch of crops."""

    def __init__(
        self,
        settings: PretrainSettings,
        structures: Structures,
        device: torch.device,
        gather: Callable[[CropStatistics], CropStatistics],
        scales: list[list[float]] | None,
    ) -> None:
        """Prepare the lookup from integers to structures.

        Args:
            settings: name of the loss, and what becomes of what a case does not annotate.
            structures: the channels, and the integers of each.
            device: where the network is.
            gather: joins the sums of a loss over processes.
            scales: size of the logits of each supervised decoder stage relative to the crop, in z, y, x, highest first;
                None for a network that returns the full resolution only.
        """
        require_loss_fits(settings, structures)
        self.settings = settings
        self.device = device
        self.loss = replace(PUBLISHED_LOSSES[settings.loss], gather=gather)
        self.is_softmax = self.loss.activation == "task_softmax"
        self.table = TargetTable(torch.from_numpy(structures.table()))
        self.scales = scales

    def training_loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch, over all processes."""
        image, targets, valids = self._prepare(batch)
        if self.settings.unannotated == "background":
            valids = [torch.ones_like(valid) for valid in valids]
        return deep_supervision_loss(self.loss, self._logits(network, image), targets, valids)

    def loss_of_empty_crops(self, output: Any) -> Tensor:
        """Return the loss of what the network returned for crops without labels: it takes as much memory as any.

        Args:
            output: of this process's crops, on any device.
        """
        logits = [output] if self.scales is None else output
        empty = [torch.zeros(level.shape, dtype=torch.bool, device=level.device) for level in logits]
        return deep_supervision_loss(replace(self.loss, gather=None), logits, empty, empty)

    def validation(self, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the loss, and the (3, C) true positives, false positives and false negatives of this process."""
        image, targets, valids = self._prepare(batch)
        logits = self._logits(network, image)
        loss = deep_supervision_loss(self.loss, logits, targets, valids)
        predicted = logits[0] > 0
        if self.is_softmax:  # background has the logit 0
            predicted &= logits[0] == logits[0].amax(1, keepdim=True)
        return loss, torch.from_numpy(masked_counts(predicted, targets[0], valids[0])).to(self.device)

    def _prepare(self, batch: dict[str, Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        image, labels, zone_annotated = (
            batch[key].to(self.device, non_blocking=True) for key in ("image", "labels", "zone_annotated")
        )
        return image, *self.table.expand_levels(labels, zone_annotated, self.scales or [[1.0, 1.0, 1.0]])

    def _logits(self, network: nn.Module, image: Tensor) -> list[Tensor]:
        logits = network(image)
        return [logits] if self.scales is None else logits
