"""Which layers of a network a method changes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from torch import nn

from fsseg.methods.contract import MethodOptions
from fsseg.models.blocks import Block, blocks_of
from fsseg.models.parts import parts_of
from fsseg.models.tracing import by_own_statistics, normalised_outputs

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


def why_nothing(
    find: Callable[[frozenset[nn.Parameter]], Iterable[object]], trained_whole: frozenset[nn.Parameter], otherwise: str
) -> str:
    """Return why a method finds nothing to change; "" if it does.

    Args:
        find: gives what the method would change beside parameters that are trained whole.
        trained_whole: parameters that are trained whole.
        otherwise: the reason, with advice, if it would find nothing on a frozen network either.
    """
    if any(True for _ in find(trained_whole)):
        return ""
    if any(True for _ in find(frozenset())):
        return (
            "what it would change is in the decoder, which is trained whole.\n"
            "  Use targets=encoder, or --decoder frozen."
        )
    return otherwise


def why_no_block(network: nn.Module, targets: Target, trained_whole: frozenset[nn.Parameter]) -> str:
    """Return why a method that sits next to blocks is not defined; "" if there are blocks."""
    otherwise = f"there is no block in targets={targets}.\n  Use targets=encoder."
    return why_nothing(lambda whole: targeted_blocks(network, targets, whole), trained_whole, otherwise)


def idle_bias_notes(network: nn.Module, targets: Target, trained_whole: frozenset[nn.Parameter]) -> list[str]:
    """Say beside which blocks an adapter's last bias has no effect, because a normalisation takes it out again."""
    norms = normalised_outputs(network)
    names = [
        block.name
        for block in targeted_blocks(network, targets, trained_whole)
        if block.module in norms and by_own_statistics(norms[block.module])
    ]
    if not names:
        return []
    return [f"The last bias of the adapter at {', '.join(names)} has no effect: a normalisation takes it out again."]
