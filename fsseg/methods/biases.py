"""Which biases of a network live: training one that a normalisation takes out again trains nothing."""

from collections.abc import Iterable, Iterator

from torch import nn

from fsseg.methods.targets import Target, targeted_modules
from fsseg.models.tracing import LAYERS, NORMS, by_own_statistics, normalised_layers


def layer_biases(
    network: nn.Module, targets: Target, trained_whole: frozenset[nn.Parameter], *, norms: bool
) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the biases of linear layers and convolutions, but for those that a normalisation takes out again.

    In front of a normalisation by its own statistics a bias is dead, also of a batch normalisation that is trained and
    so follows the batches. In front of another one that is trained it shifts what the normalisation's own bias shifts.
    In front of one that is frozen and keeps its statistics it lives.

    Args:
        network, targets, trained_whole: the part of a network.
        norms: the method trains the biases of the norms there.
    """
    without_effect = _layers_without_effect(network, targets, trained_whole, norms=norms)
    for name, module in targeted_modules(network, targets, trained_whole):
        bias = module.bias if isinstance(module, LAYERS) else None
        if isinstance(bias, nn.Parameter) and module not in without_effect:
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


def biases_without_effect(
    network: nn.Module, targets: Target, trained_whole: frozenset[nn.Parameter], *, norms: bool
) -> int:
    """Return the number of biases that `layer_biases` leaves out."""
    without_effect = _layers_without_effect(network, targets, trained_whole, norms=norms)
    modules = (module for _, module in targeted_modules(network, targets, trained_whole))
    return sum(module in without_effect and module.bias is not None for module in modules if isinstance(module, LAYERS))


def key_bias_notes(network: nn.Module, names: Iterable[str]) -> list[str]:
    """Say how many of the trained biases `names` are those of keys, in joint query-key-value projections."""
    keys = sum(network.get_parameter(name).numel() // 3 for name in names if name.endswith(".qkv.bias"))
    if not keys:
        return []
    return [
        f"{keys:,} of the trained biases have no effect: they shift all keys of an attention alike, which its softmax"
        " takes out again."
    ]


def _layers_without_effect(
    network: nn.Module, targets: Target, trained_whole: frozenset[nn.Parameter], *, norms: bool
) -> set[nn.Module]:
    trained = set(trained_whole)
    if norms:
        trained.update(p for _, p in norm_parameters(network, targets, trained_whole, which=("bias",)))
    return {
        layer
        for layer, norm in normalised_layers(network).items()
        if by_own_statistics(norm) or not trained.isdisjoint(norm.parameters(recurse=False))
    }
