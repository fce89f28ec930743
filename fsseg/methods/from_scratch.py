"""Training from random weights: what few shots give without pretraining."""

from collections.abc import Iterator

import torch
from torch import nn

from fsseg.methods.contract import Method


class FromScratch(Method):
    """Draw all weights anew and train every parameter; the biases of the head keep their start.

    The weights are drawn with the network's own initialisation (He, for nnU-Net's U-Nets) from torch's generator, so
    the seed of the run decides them.
    """

    decoder_choices = ("tuned",)
    identity_at_start = False
    family = "scratch"

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Reset every layer in place; nothing is inserted."""
        head_bias = {name: p.detach().clone() for name, p in network.named_parameters() if _is_head_bias(name)}
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        network.apply(network.initialize)  # type: ignore[arg-type]
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name in head_bias:
                    parameter.copy_(head_bias[name])
        return []

    def selected(self, network: nn.Module) -> Iterator[nn.Parameter]:
        """Yield every parameter."""
        return network.parameters()


def _is_head_bias(name: str) -> bool:
    return "seg_layers" in name and name.endswith("bias")
