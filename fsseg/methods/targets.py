"""Which layers of a network a method changes."""

from collections.abc import Iterator
from typing import Literal

from torch import nn

from fsseg.methods.contract import MethodOptions
from fsseg.models.blocks import Block, blocks_of
from fsseg.models.parts import parts_of

Target = Literal["encoder", "decoder", "all"]


class TargetOptions(MethodOptions):
    """Options of a method that changes layers here and there.

    Attributes:
        targets: the part of the network that is changed; "all" is everything but the head. What is trained whole is
            left out, so with a tuned decoder "all" means the rest.
    """

    targets: Target = "all"


def targeted_modules(
    network: nn.Module, targets: Target, trained_whole: frozenset[nn.Parameter]
) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of the targeted part, without heads and without modules that are trained whole."""
    parts = parts_of(network)
    roots = {"encoder": (parts.encoder,), "decoder": parts.decoder, "all": (network,)}[targets]
    inside = {module for root in roots for module in root.modules()}
    inside -= {module for head in parts.heads for module in head.modules()}
    for name, module in network.named_modules():
        own = list(module.parameters(recurse=False))
        if module in inside and not (own and all(p in trained_whole for p in own)):
            yield name, module


def targeted_blocks(network: nn.Module, targets: Target, trained_whole: frozenset[nn.Parameter]) -> list[Block]:
    """Return the blocks of the targeted part that are not trained whole."""
    inside = {module for _, module in targeted_modules(network, targets, trained_whole)}
    return [block for block in blocks_of(network) if inside.issuperset(block.module.modules())]


def why_no_block(network: nn.Module, targets: Target, trained_whole: frozenset[nn.Parameter]) -> str:
    """Return why a method that sits next to blocks is not defined; "" if there are blocks."""
    if targeted_blocks(network, targets, trained_whole):
        return ""
    return f"no block of targets={targets} is left to adapt.\n  Use targets=encoder."
