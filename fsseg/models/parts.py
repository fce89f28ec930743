"""Where encoder, decoder and segmentation heads lie in each supported network."""

from collections.abc import Iterator
from dataclasses import dataclass

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from fsseg.config.errors import UsageError


@dataclass(frozen=True)
class Parts:
    """The parts of a segmentation network that adaptation methods speak of.

    Attributes:
        encoder: the module whose features a pretraining makes.
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
    if isinstance(network, PlainConvUNet | ResidualEncoderUNet):
        decoder = network.decoder
        return Parts(network.encoder, (decoder.transpconvs, decoder.stages), decoder.seg_layers)
    raise UsageError(
        f"Networks of class {type(network).__name__} cannot be adapted.\n  allowed: PlainConvUNet, ResidualEncoderUNet"
    )
