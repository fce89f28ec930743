"""L2-SP: full fine-tuning that is drawn back to the pretrained weights."""

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from fsseg.methods import contract
from fsseg.models.parts import parts_of


class L2SPOptions(contract.MethodOptions):
    """Options of L2-SP."""

    alpha: float = Field(default=0.001, ge=0)
    """Weight of the distance from the pretrained weights."""
    beta: float = Field(default=0.0001, ge=0)
    """Weight of the head's distance from its start, which for a novel structure is near zero. From 0.01 on the head's
    row of a small novel structure, whose gradient is small at first, stays at its start.
    """


class L2SP(contract.Method):
    """Full fine-tuning with the penalty alpha/2 |w - w0|^2 + beta/2 |head - head0|^2 (Li et al., ICML 2018).

    The defaults were chosen on pool cases of real CT: the loss is a mean over voxels and structures and the penalty a
    sum over weights, and with the 0.01 that is common in classification no novel structure was learned.
    """

    Options = L2SPOptions
    options: L2SPOptions
    decoder_choices = ("tuned",)
    family = "whole_network"

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Remember the start."""
        self._start = {name: p.detach().clone() for name, p in network.named_parameters()}
        heads = {p for head in parts_of(network).heads for p in head.parameters()}
        self._head_names = {name for name, p in network.named_parameters() if p in heads}
        return []

    def pretrained_to_train(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> Iterator[nn.Parameter]:
        """Yield every parameter."""
        return network.parameters()

    def penalty(self, network: nn.Module) -> Tensor:
        """Return the weighted distance from the start."""
        terms = []
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                start = self._start[name] = self._start[name].to(parameter.device)
                weight = self.options.beta if name in self._head_names else self.options.alpha
                terms.append(weight / 2 * (parameter - start).square().sum())
        return torch.stack(terms).sum()
