"""Adapters beside a layer: a submodule of the layer, called by a hook of the layer."""

from functools import partial

from torch import Tensor, nn


def add_parallel(layer: nn.Module, name: str, adapter: nn.Module) -> None:
    """Let `layer` return its output plus `adapter(input)`."""
    _attach(layer, name, adapter)
    layer.register_forward_hook(partial(_parallel, name))


def add_behind(layer: nn.Module, name: str, adapter: nn.Module) -> None:
    """Let `layer` return `adapter(output)`."""
    _attach(layer, name, adapter)
    layer.register_forward_hook(partial(_behind, name))


def attached_to(layer: nn.Module) -> list[nn.Module]:
    """Return the adapters that a layer calls beside itself or behind it."""
    hooks = (hook for hook in layer._forward_hooks.values() if isinstance(hook, partial))
    return [layer.get_submodule(hook.args[0]) for hook in hooks if hook.func in (_parallel, _behind)]


def _attach(layer: nn.Module, name: str, adapter: nn.Module) -> None:
    device = next(layer.parameters()).device
    layer.register_module(name, adapter.to(device))


# The hooks take the adapter from the module that they are called with, not from a closure, so that a copy of the
# network calls its own adapters.


def _parallel(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output + layer.get_submodule(name)(inputs[0])


def _behind(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return layer.get_submodule(name)(output)
