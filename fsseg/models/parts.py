"""Which networks are supported, and where encoder, decoder and segmentation heads lie in each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from fsseg.config.errors import UsageError


@dataclass(frozen=True)
class Parts:
    """The parts of a segmentation network that adaptation methods speak of.

    A network may have modules in none of them, such as the convolutions on Swin UNETR's skip connections: decoder
    tuning leaves them frozen, and methods that target the encoder do not change them.

    Attributes:
        encoder: the module whose features a pretraining makes; a list of modules where the network has no single one.
        decoder: the modules between encoder and heads; without the alias of the encoder that nnU-Net's decoder keeps.
        heads: 1x1x1 convolutions to the structures, lowest resolution first; the last makes the full-resolution
            logits, the others serve deep supervision only.
    """

    encoder: nn.Module
    decoder: tuple[nn.Module, ...]
    heads: nn.ModuleList

    @property
    def head(self) -> nn.Conv3d:
        """The full-resolution segmentation head."""
        return self.heads[-1]  # type: ignore[return-value]

    def decoder_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the decoder without the heads."""
        for module in self.decoder:
            yield from module.parameters()


def parts_of(network: nn.Module) -> Parts:
    """Return the parts of a network; raise `UsageError` for a network class that is not known."""
    for network_class in type(network).__mro__:
        find = SUPPORTED.get(f"{network_class.__module__}.{network_class.__qualname__}")
        if find is not None:
            return find(network)
    allowed = ", ".join(sorted(name.rpartition(".")[2] for name in SUPPORTED))
    raise UsageError(f"Networks of class {type(network).__name__} cannot be adapted.\n  allowed: {allowed}")


def _nnunet(network: Any) -> Parts:
    decoder = network.decoder
    return Parts(network.encoder, (decoder.transpconvs, decoder.stages), decoder.seg_layers)


def _swin_unetr(network: Any) -> Parts:
    # encoder1 to 4 and encoder10 are convolutions on the skip connections and below the last stage: in neither part,
    # as in FSEFT, whose "decoder" is decoder5 to decoder1.
    decoder = (network.decoder5, network.decoder4, network.decoder3, network.decoder2, network.decoder1)
    return Parts(network.swinViT, decoder, network.heads)


def _seg_resnet(network: Any) -> Parts:
    encoder = nn.ModuleList([network.convInit, network.down_layers])
    return Parts(encoder, (network.up_samples, network.up_layers, network.conv_final), network.heads)


def _basic_unet(network: Any) -> Parts:
    encoder = nn.ModuleList([network.conv_0, network.down_1, network.down_2, network.down_3, network.down_4])
    return Parts(encoder, (network.upcat_4, network.upcat_3, network.upcat_2, network.upcat_1), network.heads)


def _genesis_unet(network: Any) -> Parts:
    encoder = nn.ModuleList([network.down_tr64, network.down_tr128, network.down_tr256, network.down_tr512])
    return Parts(encoder, (network.up_tr256, network.up_tr128, network.up_tr64), network.heads)


# By name and not by class, because importing MONAI takes seconds that a plain U-Net should not cost.
SUPPORTED: dict[str, Callable[[Any], Parts]] = {
    "dynamic_network_architectures.architectures.unet.PlainConvUNet": _nnunet,
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet": _nnunet,
    "fsseg.models.basic_unet.BasicUNet": _basic_unet,
    "fsseg.models.genesis_unet.GenesisUNet": _genesis_unet,
    "fsseg.models.seg_resnet.SegResNet": _seg_resnet,
    "fsseg.models.swin_unetr.SwinUNETR": _swin_unetr,
}
