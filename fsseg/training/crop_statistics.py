"""The sums of a crop that the losses are formulas of; what a case does not annotate takes no part in them.

Shapes: B samples, C structures, (D, H, W) voxels in z, y, x.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fsseg.config.recipes import Activation
from fsseg.training.sigmoid_sums import SigmoidSums

LossActivation = Activation | Literal["task_softmax"]
DENOMINATOR_FLOOR = 1e-7
_NEVER = -1e4  # beside a logit of 0 its probability is exactly 0


@dataclass(frozen=True)
class CropStatistics:
    """What the formulas are made of: one number per crop and structure, (B, C) float32.

    With v = valid, t = target and p = the activation of the logits:

    Attributes:
        cross_entropy: mean over all voxels of v * cross-entropy: binary, or of classes -t log p.
        overlap: sum of v p t.
        predicted: sum of v p.
        reference: sum of v t.
        annotated: 1 where any voxel is valid, else 0.
    """

    cross_entropy: Tensor
    overlap: Tensor
    predicted: Tensor
    reference: Tensor
    annotated: Tensor

    def batch_dice(self) -> Tensor:
        """Return the Dice (C) whose sums run over the batch; 0 where nothing is predicted or to be found."""
        size = (self.predicted + self.reference).sum(0)
        return 2 * self.overlap.sum(0) / size.clamp(min=DENOMINATOR_FLOOR)

    def structures(self, first: int) -> "CropStatistics":
        """Return the statistics of the structures from `first` on."""
        return CropStatistics(*(tensor[:, first:] for tensor in self.tensors()))

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the attributes in order."""
        return self.cross_entropy, self.overlap, self.predicted, self.reference, self.annotated


def crop_statistics(
    logits: Tensor, target: Tensor, valid: Tensor, activation: LossActivation = "sigmoid"
) -> CropStatistics:
    """Reduce a batch to its statistics, in float32.

    Args:
        logits: (B, C, D, H, W); of a softmax background comes first.
        target: (B, C, D, H, W) bool or 0/1; of a softmax one class a voxel.
        valid: (B, C, D, H, W), or broadcastable such as (B, C, 1, 1, 1); True where the structure is annotated. With a
            softmax a voxel counts where all classes are annotated.
        activation: what turns logits into probabilities; of "task_softmax" the statistics have background first.
    """
    if activation == "softmax":
        everywhere = valid.bool().all(1, keepdim=True).expand_as(logits)
        return _class_statistics(logits.float(), target.bool(), everywhere)
    valid = valid.bool().expand_as(logits)
    if activation == "task_softmax":
        return _class_statistics(*_with_background(logits.float(), target.bool(), valid))
    valid = valid.flatten(2)
    sums = SigmoidSums.apply(logits.float().flatten(2), target.bool().flatten(2), valid)
    cross_entropy, overlap, predicted, reference = sums
    annotated = valid.view(torch.uint8).amax(2).float()  # `any` of bool is several times slower on a CPU
    return CropStatistics(cross_entropy / valid.shape[2], overlap, predicted, reference, annotated)


def _with_background(logits: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Put a background of logit 0 before the structures, and take out at every voxel those that are not annotated.

    Of a softmax one logit is free, so a background that is always 0 loses nothing against one that is learned.
    """
    target = target & valid
    background = torch.zeros_like(logits[:, :1])
    return (
        torch.cat([background, torch.where(valid, logits, _NEVER)], dim=1),
        torch.cat([~target.any(1, keepdim=True), target], dim=1),
        torch.cat([valid.any(1, keepdim=True), valid], dim=1),
    )


def _class_statistics(logits: Tensor, target: Tensor, valid: Tensor) -> CropStatistics:
    """Reduce a softmax over the channels; `valid` (B, C, D, H, W) says which voxels count for which class."""
    counts = valid.float()
    log_probability = F.log_softmax(logits, dim=1)
    probability, shown = log_probability.exp() * counts, target * counts
    return CropStatistics(
        cross_entropy=(-shown * log_probability).flatten(2).mean(2),
        overlap=(probability * shown).flatten(2).sum(2),
        predicted=probability.flatten(2).sum(2),
        reference=shown.flatten(2).sum(2),
        annotated=counts.flatten(2).amax(2),
    )
