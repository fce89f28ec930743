"""The blocks of a network: the places next to which adapters sit."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from fsseg.models.registration import class_name, registered_networks
from fsseg.models.tracing import trace

# By name and not by class, because importing MONAI takes seconds that a plain U-Net should not cost.
_ATTENTION_BLOCKS = {"monai.networks.nets.swin_unetr.SwinTransformerBlock"}
_CONVOLUTION_BLOCKS = {
    "dynamic_network_architectures.building_blocks.residual.BasicBlockD",
    "dynamic_network_architectures.building_blocks.residual.BottleneckD",
    "dynamic_network_architectures.building_blocks.simple_conv_blocks.ConvDropoutNormReLU",
    "fsseg.models.basic_unet.Block",
    "fsseg.models.genesis_unet.ConvBlock",
    "monai.networks.blocks.convolutions.ResidualUnit",
    "monai.networks.blocks.dynunet_block.UnetBasicBlock",
    "monai.networks.blocks.dynunet_block.UnetResBlock",
    "monai.networks.blocks.segresnet_block.ResBlock",
}


@dataclass(frozen=True)
class Block:
    """A block of convolutions, or an attention block, which takes and gives tokens (..., channels).

    Attributes:
        name: name of the module in the network.
        module: the block.
        in_channels, out_channels: of its features.
        stride: per axis, in z, y, x; (1, 1, 1) for an attention block.
        attention: whether it is an attention block, with the parts norm1, attn, norm2 and mlp.
    """

    name: str
    module: nn.Module
    in_channels: int
    out_channels: int
    stride: tuple[int, ...]
    attention: bool


def blocks_of(network: nn.Module) -> list[Block]:
    """Return the outermost blocks of a network in the order of its modules."""
    calls = {call.module: call for call in trace(network)}
    found = []
    for name, module in _outermost(network):
        if class_name(type(module)) in _ATTENTION_BLOCKS:
            channels: int = module.norm2.normalized_shape[0]  # type: ignore[union-attr, index, assignment]
            found.append(Block(name, module, channels, channels, (1, 1, 1), attention=True))
        elif module in calls:
            before, after = calls[module].input.shape, calls[module].output.shape
            stride = tuple(a // b for a, b in zip(before[2:], after[2:], strict=True))
            found.append(Block(name, module, before[1], after[1], stride, attention=False))
    return found


def _outermost(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    inside: set[nn.Module] = set()
    registered = {class_name(block) for entry in registered_networks().values() for block in entry.blocks}
    blocks = _ATTENTION_BLOCKS | _CONVOLUTION_BLOCKS | registered
    for name, module in network.named_modules():
        if module not in inside and class_name(type(module)) in blocks:
            inside.update(module.modules())
            yield name, module
