"""From integer label crops to per-structure targets and validity, by table lookup on the device."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LABEL_CHANNEL = 0
ZONE_CHANNEL = 1


@dataclass(frozen=True)
class TargetTable:
    """Lookup from label integers to structures.

    Attributes:
        members: (integers, C) bool; row `i` says which structures integer `i` belongs to.
        background: a channel "none of them" comes first, C then counts it: the classes of a softmax.
    """

    members: Tensor
    background: bool = False

    def expand(self, labels: Tensor, zone_annotated: Tensor) -> tuple[Tensor, Tensor]:
        """Return targets and validity of a batch.

        Args:
            labels: (B, 2, D, H, W) integers: the label map, and the zone of each voxel.
            zone_annotated: (B, Z, C) bool: whether a structure is annotated in a zone of a case.

        Returns:
            (B, C, D, H, W) bool target, and (B, C, D, H, W) bool validity.
        """
        integers = labels[:, LABEL_CHANNEL].long().clamp(min=0)
        zones = labels[:, ZONE_CHANNEL].long().clamp(min=0)
        members = self.members.to(labels.device)
        if self.background:
            members = torch.cat([~members.any(1, keepdim=True), members], dim=1)
            zone_annotated = torch.cat([zone_annotated.all(-1, keepdim=True), zone_annotated], dim=-1)
        target = members[integers].movedim(-1, 1)
        sample = torch.arange(labels.shape[0], device=labels.device).view(-1, 1, 1, 1)
        valid = zone_annotated.to(labels.device)[sample, zones].movedim(-1, 1)
        return target, valid

    def expand_levels(
        self, labels: Tensor, zone_annotated: Tensor, scales: list[list[float]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return targets and validity at the resolution of every decoder stage, as `expand` does for one.

        Args:
            labels: (B, 2, D, H, W), as in `expand`.
            zone_annotated: (B, Z, C) bool.
            scales: per stage the factors on D, H, W, highest resolution first.
        """
        levels = [self.expand(_resized(labels, scale), zone_annotated) for scale in scales]
        return [target for target, _ in levels], [valid for _, valid in levels]


def _resized(labels: Tensor, scale: list[float]) -> Tensor:
    """Resize by nearest neighbour, as nnU-Net does for deep supervision."""
    size = [round(length * factor) for length, factor in zip(labels.shape[2:], scale, strict=True)]
    if list(labels.shape[2:]) == size:
        return labels
    return F.interpolate(labels.float(), size, mode="nearest-exact").to(labels.dtype)
