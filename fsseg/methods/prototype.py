"""Prototype classifier: a head without training."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fsseg.config.errors import FssegError
from fsseg.methods.contract import LabelledFeatures, Method, MethodOptions
from fsseg.models.parts import parts_of

Crops = Callable[[], Iterator[LabelledFeatures]]

_COSINE_SCALE = 20.0  # PANet's; decides how hard the probabilities are, and moves no mask
_THRESHOLDS = 600


class PrototypeOptions(MethodOptions):
    """Options of the prototype classifier."""

    similarity: Literal["euclidean", "cosine"] = "euclidean"
    """How features are compared: "euclidean" compares squared distances to the two prototypes, which is linear in the
    features and so becomes a plain head; "cosine" compares directions, whatever the length of a feature.
    """


class Prototype(Method):
    """Compare every voxel's feature f with two mean features: of a structure, and of the other annotated voxels.

    p1 and p0 are the means over all crops of the pool (masked average pooling: PANet, Wang et al., ICCV 2019); voxels
    on which the structure is not annotated count in neither. The logit is

        euclidean:  |f - p0|^2 - |f - p1|^2 - t  =  2 f (p1 - p0) + |p0|^2 - |p1|^2 - t
        cosine:     20 (cos(f, p1) - cos(f, p0)) - t

    The rest of a body is no cluster around p0, and much of it is nearer to p1. So t is not zero, which would cut half
    way between the prototypes, but what gives the highest Dice on the pool.
    """

    Options = PrototypeOptions
    options: PrototypeOptions
    decoder_choices = ("frozen",)
    reads_features_only = True
    training_free = True
    family = "head"

    def __init__(self, options: PrototypeOptions) -> None:
        super().__init__(options)
        self.cosine = options.similarity == "cosine"
        if self.cosine:
            self.identity_at_start = False
            self.not_merged_because = (
                "similarity=cosine divides the features by their length in front of the head, which no weights do"
                " (similarity=euclidean merges)"
            )

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Let the head see features of length one, for the cosine."""
        if self.cosine:
            parts_of(network).head.register_forward_pre_hook(_normalise)
        return []

    @torch.no_grad()
    def fit_closed_form(self, head: nn.Conv3d, crops: Crops, structures: Sequence[str]) -> None:
        """Write prototypes and threshold into the head."""
        outside, inside = (mean.to(head.weight.device) for mean in _prototypes(crops, structures))
        scale = 1.0
        if self.cosine:  # between vectors of length one, |f - p0|^2 - |f - p1|^2 = 2 (cos(f, p1) - cos(f, p0))
            outside, inside, scale = F.normalize(outside, dim=1), F.normalize(inside, dim=1), _COSINE_SCALE / 2
        assert head.bias is not None  # heads are made with one
        head.weight.copy_((2 * scale * (inside - outside)).view_as(head.weight))
        head.bias.copy_(scale * (outside.square() - inside.square()).sum(1))
        at_prototype = scale * (inside - outside).square().sum(1)  # the logit of p1; that of p0 is its negative
        head.bias.sub_(_best_thresholds(head, crops, at_prototype))


def _normalise(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (F.normalize(inputs[0].float(), dim=1),)  # squares of half-precision features may overflow


def _prototypes(crops: Crops, structures: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return mean features (C, features): of the other annotated voxels, and of the structure's."""
    parts: list[Tensor] = []
    for features, target, valid in crops():
        voxels = features[0].flatten(1).T
        masks = torch.stack([valid & ~target, valid & target])[:, 0].flatten(2).to(voxels)
        sums = torch.cat([masks @ voxels, masks.sum(2, keepdim=True)], dim=2)  # (2, C, features + 1)
        parts.append(sums.cpu().double())  # a crop fits into float32, all of them do not
    total = torch.stack(parts).sum(0)
    missing = [name for name, counts in zip(structures, total[:, :, -1].T, strict=True) if not counts.all()]
    if missing:
        raise FssegError(
            f"The {len(parts)} cached crops show no voxel of, or no annotated voxel besides: {', '.join(missing)}\n"
            "  A prototype needs both: raise recipe.feature_crops."
        )
    outside, inside = (total[:, :, :-1] / total[:, :, -1:]).float()
    return outside, inside


def _best_thresholds(head: nn.Conv3d, crops: Crops, at_prototype: Tensor) -> Tensor:
    """Return per structure the threshold (C,) of the head's logits that gives the highest Dice on the crops.

    Candidates lie between -a, the logit of p0, and 2 a, twice the logit of p1, with a = `at_prototype` (C,).
    """
    channels = len(at_prototype)
    first_bin = torch.arange(channels, device=at_prototype.device)[:, None] * (_THRESHOLDS + 1)
    counts = torch.zeros(2, channels, _THRESHOLDS + 1, dtype=torch.long, device=at_prototype.device)
    for features, target, valid in crops():
        logits = head(features)[0].flatten(1)
        # Bin 0 is below all candidates; bin k above the k-th.
        bins = ((logits / at_prototype[:, None] + 1) / 3 * _THRESHOLDS).floor().clamp(-1, _THRESHOLDS - 1).long() + 1
        for side, mask in enumerate((valid & ~target, valid & target)):
            found = (bins + first_bin)[mask[0].flatten(1)]
            counts[side] += torch.bincount(found, minlength=counts[side].numel()).view_as(counts[side])
    above = counts.flip(2).cumsum(2).flip(2)[:, :, 1:]
    dice = 2 * above[1] / (above.sum(0) + counts[1].sum(1, keepdim=True))
    return at_prototype * (3 * dice.argmax(1) / _THRESHOLDS - 1)
