"""From integer label crops to per-structure targets and validity, by table lookup on the device."""

from dataclasses import dataclass

import torch
from torch import Tensor

LABEL_CHANNEL = 0
ZONE_CHANNEL = 1


@dataclass(frozen=True)
class TargetTable:
    """Lookup from label integers to structures.

    Attributes:
        members: (integers, C) bool; row `i` says which structures integer `i` belongs to.
    """

    members: Tensor

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
        target = self.members.to(labels.device)[integers].movedim(-1, 1)
        sample = torch.arange(labels.shape[0], device=labels.device).view(-1, 1, 1, 1)
        valid = zone_annotated.to(labels.device)[sample, zones].movedim(-1, 1)
        return target, valid
