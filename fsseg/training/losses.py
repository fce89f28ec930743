"""Losses that leave out what a case does not annotate.

Shapes: B samples, C structures, (D, H, W) voxels in z, y, x.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fsseg.config.recipes import Activation

Reduction = Literal["sum", "mean"]
_DENOMINATOR_FLOOR = 1e-7


def masked_bce_dice(logits: Tensor, target: Tensor, valid: Tensor, reduction: Reduction = "sum") -> Tensor:
    """Binary cross-entropy plus Dice over annotated structures only (MultiTalent, Ulrich et al., MICCAI 2023).

    With v = valid and p = sigmoid(logits):

        L = sum_{b,c} mean_voxels v BCE(logits, target)  -  sum_c 2 sum(v p t) / (sum(v p) + sum(v t))

    where the sums of the Dice term run over the whole batch. Where v is zero, nothing contributes and the gradient
    is exactly zero. A structure that no voxel of the batch shows adds nothing to the Dice term.

    Args:
        logits: (B, C, D, H, W).
        target: (B, C, D, H, W) bool or 0/1.
        valid: (B, C, D, H, W), or broadcastable such as (B, C, 1, 1, 1); True where the structure is annotated.
        reduction: "sum" is MultiTalent's formula. "mean" divides the first term by the annotated (sample, structure)
            pairs and the second by the structures shown, and adds one, so that a perfect prediction gives 0.

    Returns:
        A scalar in float32.
    """
    logits = logits.float()
    valid = valid.to(logits.dtype)
    target = target.to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * valid
    cross_entropy = cross_entropy.flatten(2).mean(2)
    probability = torch.sigmoid(logits)
    if reduction == "sum":
        overlap, size = _overlap(probability, target, valid)
        return cross_entropy.sum() - (2 * overlap / size.clamp(min=_DENOMINATOR_FLOOR)).sum()
    pairs = valid.expand_as(logits).flatten(2).amax(2).sum().clamp(min=1)
    return cross_entropy.sum() / pairs + _missed_dice(probability, target, valid)


def softmax_ce_dice(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy over classes plus Dice of the structures, as nnU-Net adds them (Isensee et al., 2021).

    The cross-entropy is a mean over annotated voxels. The Dice term leaves the background out, and structures that no
    voxel of the batch shows; its sums run over the batch.

    Args:
        logits: (B, 1 + C, D, H, W), background first.
        target: (B, 1 + C, D, H, W) bool or 0/1, one class a voxel.
        valid: (B, 1 + C, D, H, W); a voxel counts where all classes are annotated.

    Returns:
        A scalar in float32.
    """
    logits, target = logits.float(), target.float()
    known = valid.all(1, keepdim=True).float()
    log_probability = F.log_softmax(logits, dim=1)
    cross_entropy = -(known * target * log_probability).sum() / known.sum().clamp(min=1)
    return cross_entropy + _missed_dice(log_probability.exp()[:, 1:], target[:, 1:], known)


def masked_patch_dice(logits: Tensor, target: Tensor, valid: Tensor, activation: Activation = "sigmoid") -> Tensor:
    """Soft Dice per patch and structure, without cross-entropy (FSEFT, Silva-Rodriguez et al. 2025; ARENA).

    With v = valid, p = the activation of the logits and sums over the voxels of a patch:

        D[b, c] = (2 sum(v p t) + 1) / (sum(v p) + sum(v t) + 1)
        L = mean_b of the mean over the structures annotated in b of 1 - D[b, c]

    A structure that is annotated but absent from the patch stays in, as in FSEFT; of a softmax, background does too.

    Args and shapes as `masked_bce_dice`, with "softmax" as `softmax_ce_dice`. Returns a scalar in float32.
    """
    valid = valid.to(torch.float32).expand_as(logits)
    logits = logits.float()
    probability = valid * (torch.sigmoid(logits) if activation == "sigmoid" else torch.softmax(logits, dim=1))
    target = target.to(torch.float32) * valid
    overlap = (probability * target).flatten(2).sum(2)
    size = probability.flatten(2).sum(2) + target.flatten(2).sum(2)
    annotated = valid.flatten(2).amax(2)
    missed = annotated * (1 - (2 * overlap + 1) / (size + 1))
    return (missed.sum(1) / annotated.sum(1).clamp(min=1)).mean()


def deep_supervision_weights(levels: int) -> tuple[float, ...]:
    """Return the weights 1, 1/2, 1/4, ... of the decoder stages, the lowest left out, normalised to sum one."""
    weights = [0.5**level for level in range(levels)]
    if levels > 1:
        weights[-1] = 0.0
    return tuple(weight / sum(weights) for weight in weights)


def deep_supervision_loss(
    logits: Sequence[Tensor], targets: Sequence[Tensor], valids: Sequence[Tensor], reduction: Reduction = "sum"
) -> Tensor:
    """Return the weighted sum of `masked_bce_dice` over decoder stages, highest resolution first."""
    weights = deep_supervision_weights(len(logits))
    terms = [
        weight * masked_bce_dice(level_logits, target, valid, reduction)
        for weight, level_logits, target, valid in zip(weights, logits, targets, valids, strict=True)
        if weight > 0
    ]
    return torch.stack(terms).sum()


def _missed_dice(probability: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of 1 - Dice over the structures that the batch shows; all arguments are float."""
    overlap, size = _overlap(probability, target, valid)
    dice = 2 * overlap / size.clamp(min=_DENOMINATOR_FLOOR)
    shown = ((target * valid).flatten(2).sum((0, 2)) > 0).to(dice.dtype)
    return (shown * (1 - dice)).sum() / shown.sum().clamp(min=1)


def _overlap(probability: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    probability = probability * valid
    target = target * valid
    overlap = (probability * target).flatten(2).sum((0, 2))
    size = probability.flatten(2).sum((0, 2)) + target.flatten(2).sum((0, 2))
    return overlap, size
