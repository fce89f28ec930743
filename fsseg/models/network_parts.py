"""Where encoder, decoder and segmentation heads of a network lie: as modules, and by the names of its submodules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from fsseg.config.errors import UsageError, nearest_name


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


@dataclass(frozen=True)
class NetworkParts:
    """Names of the submodules of a network that is not fsseg's, as `network.named_modules()` has them.

    Attributes:
        encoder: whose features a pretraining makes.
        decoder: between encoder and head.
        head: the layer that makes the logits, or an `nn.ModuleList` of such, that of the full resolution last.
        input_shape: of an input that the network can read, as (1, channels, z, y, x). Some methods follow one through
            the network, without data. None takes (1, channels, 128, 128, 128), with the channels of its first
            convolution.

    Example:
        >>> fsseg.NetworkParts(encoder=("down1", "down2"), decoder=("up2", "up1"), head="out")
    """

    encoder: Sequence[str] = ()
    decoder: Sequence[str] = ()
    head: str = ""
    input_shape: Sequence[int] | None = None

    def of(self, network: nn.Module) -> Parts:
        """Return the modules; raise `UsageError` where the network has no such submodule."""
        encoder = [self._submodule(network, name) for name in self.encoder]
        heads = self._submodule(network, self.head) if self.head else nn.ModuleList()
        return Parts(
            encoder[0] if len(encoder) == 1 else nn.ModuleList(encoder),
            tuple(self._submodule(network, name) for name in self.decoder),
            heads if isinstance(heads, nn.ModuleList) else nn.ModuleList([heads]),
        )

    @staticmethod
    def _submodule(network: nn.Module, name: str) -> nn.Module:
        try:
            return network.get_submodule(name)
        except AttributeError:
            names = [known for known, _ in network.named_modules() if known]
            nearest = nearest_name(name, names)
            said = f" Did you mean {nearest!r}?" if nearest else ""
            top = ", ".join(name for name, _ in network.named_children())
            raise UsageError(
                f"{type(network).__name__} has no submodule {name!r}.{said}\n  At its top level it has: {top or 'none'}"
            ) from None
