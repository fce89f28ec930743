"""Undo the parametrizations of a network in place: every weight becomes what it computes, under its plain name."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize


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
