"""The 3D U-Net of Models Genesis, which SuPreM and the CLIP-Driven Universal Model use, too."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TOTAL_STRIDE = 8


class GenesisUNet(nn.Module):
    """U-Net of Models Genesis (Zhou et al., MICCAI 2019), 19.07 M parameters.

    Names are those of the published checkpoints, at `base_features` 64 the numbers in them are output channels. The
    batch norms use the statistics of the batch at hand, in evaluation too: the output for a patch depends on what
    else is in the batch. Checkpoints also hold running statistics (`bn1.running_mean`, `bn1.running_var`,
    `bn1.num_batches_tracked`), which were stored and never read; here they do not exist. Input (batch, channels, z, y,
    x), extents divisible by 8.

    Args:
        input_channels: image channels.
        num_classes: output channels.
        base_features: channels at full resolution; doubled with each of the three poolings.
        deep_supervision: what nnU-Net says when it builds a network. There is one head, so the output is one tensor
            either way; a trainer asks `supports_deep_supervision`.
    """

    supports_deep_supervision = False

    def __init__(
        self, input_channels: int, num_classes: int, *, base_features: int = 64, deep_supervision: bool = False
    ) -> None:
        if base_features < 2 or base_features % 2:
            raise ValueError(f"base_features must be even and positive, got {base_features}")
        super().__init__()
        c64, c128, c256, c512 = (base_features * factor for factor in (1, 2, 4, 8))
        self.down_tr64 = Down(input_channels, c64)
        self.down_tr128 = Down(c64, c128)
        self.down_tr256 = Down(c128, c256)
        self.down_tr512 = Down(c256, c512)
        self.up_tr256 = Up(c512, c256)
        self.up_tr128 = Up(c256, c128)
        self.up_tr64 = Up(c128, c64)
        self.heads = nn.ModuleList([nn.Conv3d(c64, num_classes, 1)])

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, num_classes, z, y, x) of an image (batch, input_channels, z, y, x)."""
        x64 = self.down_tr64(x)
        x128 = self.down_tr128(F.max_pool3d(x64, 2))
        x256 = self.down_tr256(F.max_pool3d(x128, 2))
        x512 = self.down_tr512(F.max_pool3d(x256, 2))
        up = self.up_tr256(x512, x256)
        up = self.up_tr128(up, x128)
        return self.heads[-1](self.up_tr64(up, x64))

    @staticmethod
    def total_stride(arguments: Mapping[str, Any]) -> int:
        """Return by what the extents of a patch must be divisible, given the arguments in the plans."""
        return _TOTAL_STRIDE


class Down(nn.Module):
    """Two convolutions of one resolution: to half the output channels, then to all."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.ops = nn.Sequential(ConvBlock(inputs, outputs // 2), ConvBlock(outputs // 2, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return features (batch, outputs, z, y, x)."""
        return self.ops(x)


class Up(nn.Module):
    """Transposed convolution to twice the extents, and two convolutions of its result and the skip together."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(inputs, inputs, kernel_size=2, stride=2)
        self.ops = nn.Sequential(ConvBlock(inputs + outputs, outputs), ConvBlock(outputs, outputs))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return features (batch, outputs, z, y, x) from (batch, inputs, z/2, y/2, x/2) and a skip of `outputs`."""
        return self.ops(torch.cat([self.up_conv(x), skip], dim=1))


class ConvBlock(nn.Module):
    """3x3x3 convolution, batch norm by the statistics of the batch, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm3d(outputs, track_running_stats=False)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (batch, outputs, z, y, x)."""
        return self.activation(self.bn1(self.conv1(x)))
