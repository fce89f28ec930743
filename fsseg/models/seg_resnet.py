"""SegResNet: MONAI's, with a replaceable head."""

from collections.abc import Mapping, Sequence
from typing import Any

from monai.networks import nets
from torch import Tensor, nn

_BLOCKS_DOWN = (1, 2, 2, 4)
_BLOCKS_UP = (1, 1, 1)


class SegResNet(nets.SegResNet):
    """SegResNet (Myronenko, 2018; without the autoencoder) with the signature that nnU-Net calls networks with.

    MONAI's modules under MONAI's names: convInit, down_layers, up_samples (1x1x1 convolution and trilinear
    interpolation), up_layers, conv_final (group norm, ReLU). The convolution at the end of conv_final is replaced by
    `heads`, a list of one 1x1x1 convolution. Group norms have 8 groups. Input (batch, channels, z, y, x), extents
    divisible by 2 to the number of downsamplings.

    Args:
        input_channels: image channels.
        num_classes: output channels.
        init_filters: channels at full resolution, a multiple of 8; doubled with each downsampling.
        blocks_down: residual blocks of each stage, from full resolution down.
        blocks_up: residual blocks after each upsampling, one number less.
        deep_supervision: what nnU-Net says when it builds a network. There is one head, so the output is one tensor
            either way; a trainer asks `supports_deep_supervision`.
    """

    supports_deep_supervision = False

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        init_filters: int = 16,
        blocks_down: Sequence[int] = _BLOCKS_DOWN,
        blocks_up: Sequence[int] = _BLOCKS_UP,
        deep_supervision: bool = False,
    ) -> None:
        if len(blocks_up) != len(blocks_down) - 1:
            raise ValueError(f"blocks_up must have one entry less than blocks_down, got {blocks_up} and {blocks_down}")
        super().__init__(
            in_channels=input_channels,
            out_channels=num_classes,
            init_filters=init_filters,
            blocks_down=tuple(blocks_down),
            blocks_up=tuple(blocks_up),
        )
        self.conv_final[-1] = nn.Identity()
        self.heads = nn.ModuleList([nn.Conv3d(init_filters, num_classes, 1)])

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, num_classes, z, y, x) of an image (batch, input_channels, z, y, x)."""
        return self.heads[-1](super().forward(x))

    @staticmethod
    def total_stride(arguments: Mapping[str, Any]) -> int:
        """Return by what the extents of a patch must be divisible, given the arguments in the plans."""
        return 2 ** (len(arguments.get("blocks_down", _BLOCKS_DOWN)) - 1)
