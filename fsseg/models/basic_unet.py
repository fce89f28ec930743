"""BasicUNet: MONAI's, with a replaceable head."""

from collections.abc import Mapping, Sequence
from typing import Any

from monai.networks import nets
from torch import Tensor, nn

_FEATURES = (32, 32, 64, 128, 256, 32)


class Block(nn.Module):
    """The two convolutions of a level, under MONAI's names; MONAI's own is a sequence, which runs whatever is added."""

    def __init__(self, convolutions: nn.Sequential) -> None:
        super().__init__()
        self.conv_0, self.conv_1 = convolutions

    def forward(self, x: Tensor) -> Tensor:
        """Return features (batch, outputs, z, y, x) of (batch, inputs, z, y, x)."""
        return self.conv_1(self.conv_0(x))


class BasicUNet(nets.BasicUNet):
    """BasicUNet (Falk et al., 2019) with the signature that nnU-Net calls networks with.

    MONAI's modules under MONAI's names: conv_0, down_1 to 4 (max pooling), upcat_4 to 1 (transposed convolutions). Two
    convolutions a level, each with an instance norm with parameters and a leaky ReLU of slope 0.1. Its last
    convolution `final_conv` is replaced by `heads`, a list of one 1x1x1 convolution. Input (batch, channels, z, y, x),
    extents divisible by 16.

    Args:
        input_channels: image channels.
        num_classes: output channels.
        features: channels of the five levels, from full resolution down, and those in front of the head.
        deep_supervision: what nnU-Net says when it builds a network. There is one head, so the output is one tensor
            either way; a trainer asks `supports_deep_supervision`.
    """

    supports_deep_supervision = False

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        features: Sequence[int] = _FEATURES,
        deep_supervision: bool = False,
    ) -> None:
        if len(features) != len(_FEATURES):
            raise ValueError(f"features must have {len(_FEATURES)} entries, got {list(features)}")
        super().__init__(in_channels=input_channels, out_channels=num_classes, features=tuple(features))
        self.conv_0 = Block(self.conv_0)  # type: ignore[assignment]
        for name in ("down_1", "down_2", "down_3", "down_4", "upcat_4", "upcat_3", "upcat_2", "upcat_1"):
            level = getattr(self, name)
            level.convs = Block(level.convs)
        self.final_conv = nn.Identity()
        self.heads = nn.ModuleList([nn.Conv3d(features[-1], num_classes, 1)])

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, num_classes, z, y, x) of an image (batch, input_channels, z, y, x)."""
        return self.heads[-1](super().forward(x))

    @staticmethod
    def total_stride(arguments: Mapping[str, Any]) -> int:
        """Return by what the extents of a patch must be divisible, given the arguments in the plans."""
        return 16
