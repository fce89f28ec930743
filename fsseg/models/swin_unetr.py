"""Swin UNETR: MONAI's, with a replaceable head and the merging order that older weights were trained with."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from monai.networks import nets
from monai.networks.nets.swin_unetr import PatchMerging, PatchMergingV2
from torch import Tensor, nn

_STAGES = 4
_TOTAL_STRIDE = 2 ** (_STAGES + 1)  # the patch embedding halves, too
# Offsets (z, y, x) of the eight sub-lattices in the order in which MONAI before 1.5 concatenated them: two occur
# twice, and two never. Keys and shapes are the same in every version, so the wrong order loads without complaint.
_LEGACY_ORDER = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))


class LegacyPatchMerging(PatchMergingV2):
    """Patch merging as it was before MONAI 1.5, with which the FSEFT, SuPreM and CLIP-Driven weights were trained."""

    def forward(self, x: Tensor) -> Tensor:
        """Merge (batch, z, y, x, channels), extents even, to (batch, z/2, y/2, x/2, 2 * channels)."""
        lattices = torch.cat([x[:, z::2, y::2, x_::2] for z, y, x_ in _LEGACY_ORDER], dim=-1)
        return self.reduction(self.norm(lattices))


_MERGING = {"merging": PatchMerging, "legacy": LegacyPatchMerging}


class SwinUNETR(nets.SwinUNETR):
    """Swin UNETR (Hatamizadeh et al., 2022) with the signature that nnU-Net calls networks with.

    MONAI's modules under MONAI's names: swinViT, encoder1 to 4 and 10 (convolutions on the skips), decoder5 to 1. Its
    last convolution `out` is replaced by `heads`, a list of one 1x1x1 convolution. Features between stages are
    layer-normalised without parameters (`normalize=True`), convolutions are followed by instance norms without
    parameters, dropouts are zero, as in FSEFT. Input (batch, channels, z, y, x), extents divisible by 32.

    Args:
        input_channels: image channels.
        num_classes: output channels.
        feature_size: channels of the first stage, a multiple of 12; doubled with each stage.
        depths: attention blocks of the four stages.
        num_heads: attention heads of the four stages.
        window_size: edge of an attention window in tokens.
        patch_merging: "merging" is MONAI's order of sub-lattices since 1.5, "legacy" the one before.
        deep_supervision: what nnU-Net says when it builds a network. There is one head, so the output is one tensor
            either way; a trainer asks `supports_deep_supervision`.
    """

    supports_deep_supervision = False

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        patch_merging: Literal["merging", "legacy"] = "merging",
        deep_supervision: bool = False,
    ) -> None:
        _require_fitting(feature_size, depths, num_heads, patch_merging)
        super().__init__(
            in_channels=input_channels,
            out_channels=num_classes,
            feature_size=feature_size,
            depths=depths,
            num_heads=num_heads,
            window_size=window_size,
            normalize=True,
            downsample=_MERGING[patch_merging],  # type: ignore[arg-type] # takes classes, for all its annotation
        )
        self.out = nn.Identity()  # type: ignore[assignment]
        self.heads = nn.ModuleList([nn.Conv3d(feature_size, num_classes, 1)])

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, num_classes, z, y, x) of an image (batch, input_channels, z, y, x)."""
        return self.heads[-1](super().forward(x))

    @staticmethod
    def total_stride(arguments: Mapping[str, Any]) -> int:
        """Return by what the extents of a patch must be divisible, given the arguments in the plans."""
        return _TOTAL_STRIDE


def _require_fitting(feature_size: int, depths: Sequence[int], num_heads: Sequence[int], patch_merging: str) -> None:
    """Raise `ValueError` for what MONAI would refuse late, or not at all."""
    if patch_merging not in _MERGING:
        raise ValueError(f"unknown patch_merging {patch_merging!r}, allowed: {', '.join(_MERGING)}")
    for name, values in (("depths", depths), ("num_heads", num_heads)):
        if len(values) != _STAGES:
            raise ValueError(f"{name} must have {_STAGES} entries, got {list(values)}")
    for stage, heads in enumerate(num_heads):
        channels = feature_size * 2**stage
        if heads < 1 or channels % heads:
            raise ValueError(f"num_heads {list(num_heads)}: {channels} channels cannot be split into {heads} heads")
