"""Which normalisations of a network follow the data in a training: those with trained parameters, and no others."""

from collections.abc import Iterator

from torch import nn


def trained_norms(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of the normalisations whose statistics follow the data."""
    return ((name, module) for name, module in network.named_modules() if _is_norm(module) and _is_trained(module))


def frozen_norms(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the normalisations that keep their statistics."""
    return (module for module in network.modules() if _is_norm(module) and not _is_trained(module))


def keep_statistics(network: nn.Module) -> None:
    """Let frozen normalisations keep their statistics, whatever mode the network is set to."""
    for norm in frozen_norms(network):
        norm.register_forward_pre_hook(_in_evaluation_mode)


def follow_statistics(network: nn.Module) -> None:
    """Undo `keep_statistics`."""
    for module in network.modules():
        hooks = module._forward_pre_hooks
        for key in [key for key, hook in hooks.items() if hook is _in_evaluation_mode]:
            del hooks[key]


def _in_evaluation_mode(module: nn.Module, inputs: object) -> None:
    module.training = False


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase)


def _is_trained(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())
