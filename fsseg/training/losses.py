"""Losses that leave out what a case does not annotate; the published variants side by side.

Each is a formula over a few sums per crop and structure. These sums are small, so the crops of several processes can
be gathered before the formula is applied, and a batch that is spread over processes has the loss of one that is not.

Shapes: B samples, C structures, (D, H, W) voxels in z, y, x.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fsseg.training.crop_statistics import DENOMINATOR_FLOOR, CropStatistics, LossActivation, crop_statistics


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
    share = false_positive / (false_positive + false_negative).clamp(min=DENOMINATOR_FLOOR)
    share = share.clamp(0.2, 0.8)
    size = s.overlap + share * false_positive + (1 - share) * false_negative
    terms = s.annotated * (s.cross_entropy + 1 - s.overlap / size.clamp(min=DENOMINATOR_FLOOR))
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
