"""Losses that leave out what a case does not annotate; the published variants side by side.

Each is a formula over a few sums per crop and structure. These sums are small, so the crops of several processes can
be gathered before the formula is applied, and a batch that is spread over processes has the loss of one that is not.

Shapes: B samples, C structures, (D, H, W) voxels in z, y, x.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fsseg.config.recipes import Activation
from fsseg.training.sigmoid_sums import SigmoidSums

LossActivation = Activation | Literal["task_softmax"]
_DENOMINATOR_FLOOR = 1e-7
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
        return 2 * self.overlap.sum(0) / size.clamp(min=_DENOMINATOR_FLOOR)

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


def multitalent(s: CropStatistics) -> Tensor:
    """Cross-entropy plus Dice, both as sums (MultiTalent, Ulrich et al., MICCAI 2023).

        L = sum_{b,c} mean_voxels v BCE  -  sum_c 2 sum_b(overlap) / sum_b(predicted + reference)

    The sums of the Dice run over the batch, so a structure that no crop shows adds nothing to its numerator.
    """
    return s.cross_entropy.sum() - s.batch_dice().sum()


def mean_bce_dice(s: CropStatistics) -> Tensor:
    """MultiTalent's terms as means: a perfect prediction gives 0, however many structures are annotated.

    The cross-entropy is divided by the annotated (crop, structure) pairs; 1 - Dice is averaged over the structures that
    the batch shows.
    """
    shown = (s.reference.sum(0) > 0).float()
    missed = (shown * (1 - s.batch_dice())).sum() / shown.sum().clamp(min=1)
    return s.cross_entropy.sum() / s.annotated.sum().clamp(min=1) + missed


def softmax_ce_dice(s: CropStatistics) -> Tensor:
    """Cross-entropy over classes plus Dice of the structures, as nnU-Net adds them (Isensee et al., 2021).

    The Dice term leaves out the background, which is class 0, and structures that no crop of the batch shows. On a
    "task_softmax", whose classes are what a case annotates, it is the loss of UniSeg (Ye et al., MICCAI 2023) and of
    MultiTalent's second version.
    """
    foreground = s.structures(1)
    shown = (foreground.reference.sum(0) > 0).float()
    missed = (shown * (1 - foreground.batch_dice())).sum() / shown.sum().clamp(min=1)
    return s.cross_entropy.sum(1).mean() + missed


def fseft(s: CropStatistics) -> Tensor:
    """Soft Dice per crop and structure, no cross-entropy (FSEFT, Silva-Rodriguez et al. 2025; ARENA 2025).

        D[b,c] = (2 overlap + 1) / (predicted + reference + 1)
        L      = mean_b of the mean over the structures annotated in b of 1 - D[b,c]

    A structure that is annotated but absent from the crop stays in; of a softmax, background does too.
    """
    missed = s.annotated * (1 - (2 * s.overlap + 1) / (s.predicted + s.reference + 1))
    return (missed.sum(1) / s.annotated.sum(1).clamp(min=1)).mean()


def clip_driven(s: CropStatistics) -> Tensor:
    """Mean over the structures annotated in a crop of BCE + 1 - Dice, mean over crops (CLIP-Driven, ICCV 2023).

    Dice is 2 overlap / (predicted + reference + 1) of the whole crop; the published code takes it slice by slice.
    """
    terms = s.annotated * (s.cross_entropy + 1 - _crop_dice(s))
    return (terms.sum(1) / s.annotated.sum(1).clamp(min=1)).mean()


def suprem(s: CropStatistics) -> Tensor:
    """Mean BCE over annotated (crop, structure) pairs plus mean 1 - Dice over those shown (SuPreM, ICLR 2024).

    SuPreM's data annotate everything, so its own code has no mask. Dice as in `clip_driven`.
    """
    shown = (s.reference > 0).float()
    missed = (shown * (1 - _crop_dice(s))).sum() / shown.sum().clamp(min=1)
    return s.cross_entropy.sum() / s.annotated.sum().clamp(min=1) + missed


def _crop_dice(s: CropStatistics) -> Tensor:
    return 2 * s.overlap / (s.predicted + s.reference + 1)


def hermes(s: CropStatistics) -> Tensor:
    """Mean over annotated (crop, structure) pairs of BCE + 1 - Tversky (Hermes, Gao et al., CVPR 2024).

        Tversky = overlap / (overlap + a FP + (1 - a) FN),  a = FP / (FP + FN) between 0.2 and 0.8

    What is missed more, false positives or false negatives, weighs more.
    """
    false_positive, false_negative = s.predicted - s.overlap, s.reference - s.overlap
    share = false_positive / (false_positive + false_negative).clamp(min=_DENOMINATOR_FLOOR)
    share = share.clamp(0.2, 0.8)
    size = s.overlap + share * false_positive + (1 - share) * false_negative
    terms = s.annotated * (s.cross_entropy + 1 - s.overlap / size.clamp(min=_DENOMINATOR_FLOOR))
    return terms.sum() / s.annotated.sum().clamp(min=1)


Formula = Callable[[CropStatistics], Tensor]


@dataclass(frozen=True)
class MaskedLoss:
    """A formula on logits, target and validity, shaped as `crop_statistics` says; gives a float32 scalar.

    Attributes:
        formula: what is computed.
        activation: of the logits.
        gather: adds the crops of other processes to those at hand.
    """

    formula: Formula
    activation: LossActivation = "sigmoid"
    gather: Callable[[CropStatistics], CropStatistics] | None = None

    def __call__(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        statistics = crop_statistics(logits, target, valid, self.activation)
        return self.formula(statistics if self.gather is None else self.gather(statistics))


# DoDNet masks as these do: what a case does not annotate is no voxel of any sum.
PUBLISHED_LOSSES: dict[str, MaskedLoss] = {
    "multitalent": MaskedLoss(multitalent),
    "suprem": MaskedLoss(suprem),
    "clip_driven": MaskedLoss(clip_driven),
    "fseft": MaskedLoss(fseft),
    "hermes": MaskedLoss(hermes),
    "uniseg": MaskedLoss(softmax_ce_dice, "task_softmax"),
}


def deep_supervision_weights(levels: int) -> tuple[float, ...]:
    """Return the weights 1, 1/2, 1/4, ... of the decoder stages, the lowest left out, normalised to sum one."""
    weights = [0.5**level for level in range(levels)]
    if levels > 1:
        weights[-1] = 0.0
    return tuple(weight / sum(weights) for weight in weights)


def deep_supervision_loss(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    logits: Sequence[Tensor],
    targets: Sequence[Tensor],
    valids: Sequence[Tensor],
) -> Tensor:
    """Return the weighted sum of a loss over decoder stages, highest resolution first."""
    weights = deep_supervision_weights(len(logits))
    terms = [
        weight * loss(level_logits, target, valid)
        for weight, level_logits, target, valid in zip(weights, logits, targets, valids, strict=True)
        if weight > 0
    ]
    return torch.stack(terms).sum()
