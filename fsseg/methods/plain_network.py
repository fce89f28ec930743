"""The plain network that an adapted one computes: its weights, read or put in place of the parametrizations."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def plain_weights(network: nn.Module, plain_keys: Sequence[str]) -> dict[str, Tensor]:
    """Return copies of what parametrizations compute, under the names of a plain network's state dict, on the CPU.

    Args:
        network: read, not changed.
        plain_keys: the names. A tensor that has several, as in nnU-Net's networks, is formed once.
    """
    formed: dict[tuple[int, str], Tensor] = {}
    weights = {}
    for key in plain_keys:
        path, _, attribute = key.rpartition(".")
        module = network.get_submodule(path)
        slot = (id(module), attribute)
        if slot not in formed:
            tensor = getattr(module, attribute).detach().cpu()
            formed[slot] = tensor.clone(memory_format=torch.contiguous_format)
        weights[key] = formed[slot]
    return weights


@torch.no_grad()
def fold_parametrizations(network: nn.Module, plain_keys: Sequence[str]) -> None:
    """Put what parametrizations compute into the parameters that they update, and take them away.

    torch's own function takes the parametrized attribute from a class that copies of the network share, which ends
    them; this leaves copies as they are.

    Args:
        network: changed in place; the parameters are the same objects as before they were parametrized.
        plain_keys: of its state dict without parametrizations, whose order is restored.
    """
    places = {key: place for place, key in enumerate(plain_keys)}
    for path, module in network.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        lists = dict(module.parametrizations.items())
        values = {name: getattr(module, name).clone() for name in lists}
        del module._modules["parametrizations"]
        module.__class__ = type(module).__mro__[1]
        for name, updates in lists.items():
            updates.original.copy_(values[name])
            module.register_parameter(name, updates.original)
        prefix = f"{path}." if path else ""
        order = sorted(module._parameters, key=lambda name: places.get(prefix + name, -1))
        module._parameters = {name: module._parameters[name] for name in order}
