"""Full fine-tuning."""

from collections.abc import Iterator

from torch import nn

from fsseg.methods.contract import Method


class Full(Method):
    """Train every parameter from the pretrained weights."""

    decoder_choices = ("tuned",)
    family = "whole_network"

    def pretrained_to_train(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> Iterator[nn.Parameter]:
        """Yield every parameter."""
        return network.parameters()
