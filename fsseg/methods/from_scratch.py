"""Training from random weights: what few shots give without pretraining."""

from collections.abc import Iterator

from torch import nn

from fsseg.methods.contract import Method


class FromScratch(Method):
    """Train every parameter of a newly initialised network; known structures get a new head row as novel ones do."""

    decoder_choices = ("tuned",)
    uses_pretrained = False
    family = "scratch"

    def pretrained_to_train(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> Iterator[nn.Parameter]:
        """Yield every parameter."""
        return network.parameters()
