"""Which layers of a network a method changes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from torch import nn

from fsseg.methods.contract import MethodOptions
from fsseg.models.parts import parts_of

Target = Literal["encoder", "decoder", "all"]


class TargetOptions(MethodOptions):
    """Options of a method that changes layers here and there."""

    targets: Target = "all"
    """The part of the network that is changed; "all" is everything but the head. What is trained whole is left out, so
    with a tuned decoder "all" means the rest.
    """


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
