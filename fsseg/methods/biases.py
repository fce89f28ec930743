"""Which biases of a network live: training one that a normalisation takes out again trains nothing."""

from collections.abc import Iterator

from torch import nn

from fsseg.methods.targets import Target, targeted_modules
from fsseg.models.tracing import LAYERS, NORMS, normalised_layers


def layer_biases(
    network: nn.Module, targets: Target, trained_whole: frozenset[nn.Parameter]
) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the biases of linear layers and convolutions, but for those in front of a normalisation.

    In front of a normalisation by its own statistics a bias is dead; in front of another one it shifts what the
    normalisation's own bias shifts.
    """
    redundant = normalised_layers(network)
    for name, module in targeted_modules(network, targets, trained_whole):
        bias = module.bias if isinstance(module, LAYERS) else None
        if isinstance(bias, nn.Parameter) and module not in redundant:
            yield f"{name}.bias", bias


def norm_parameters(
    network: nn.Module, targets: Target, trained_whole: frozenset[nn.Parameter], *, which: tuple[str, ...]
) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the affine parameters of normalisations; `which` of "weight" and "bias"."""
    for name, module in targeted_modules(network, targets, trained_whole):
        if isinstance(module, NORMS):
            for attribute in which:
                parameter = getattr(module, attribute, None)
                if parameter is not None:
                    yield f"{name}.{attribute}", parameter


def dead_biases(network: nn.Module, targets: Target, trained_whole: frozenset[nn.Parameter]) -> int:
    """Return the number of biases that `layer_biases` leaves out."""
    redundant = normalised_layers(network)
    modules = (module for _, module in targeted_modules(network, targets, trained_whole))
    return sum(module in redundant and module.bias is not None for module in modules if isinstance(module, LAYERS))
