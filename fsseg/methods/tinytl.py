"""TinyTL's bias tuning of convolutional networks."""

from collections.abc import Iterator

from torch import nn

from fsseg.methods import contract
from fsseg.methods.biases import layer_biases, norm_parameters
from fsseg.methods.targets import TargetOptions, targeted_modules, why_nothing


class TinyTLOptions(TargetOptions):
    """Options of TinyTL: which part of the network."""


class TinyTL(contract.Method):
    """Train b of every convolution W * x + b, and of every norm (Cai et al., NeurIPS 2020; FSEFT's "Bias" on a U-Net).

    Its point is memory: without weight gradients, the inputs of convolutions need not be kept for the backward pass.
    Biases that a norm takes out again are left out, which makes it equal to BitFit on a convolutional network. Preset
    `fseft`: the encoder only (FSEFT counts the biases that its batch norms take out again, too).
    """

    Options = TinyTLOptions
    options: TinyTLOptions
    family = "selective"

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Refuse networks with linear layers, and those without a bias that lives."""
        modules = targeted_modules(network, self.options.targets, trained_whole)
        if any(isinstance(module, nn.Linear) for _, module in modules):
            return "it is a method of convolutional networks, and this part has linear layers.\n  Use bitfit."
        otherwise = "no bias there has an effect.\n  Use affine or lora."
        return why_nothing(lambda whole: self.pretrained_to_train(network, whole), trained_whole, otherwise)

    def notes(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Say that it is BitFit here."""
        return ["On a convolutional network this is bitfit."]

    def pretrained_to_train(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> Iterator[nn.Parameter]:
        """Yield the biases."""
        targets = self.options.targets
        yield from (bias for _, bias in layer_biases(network, targets, trained_whole, norms=True))
        yield from (bias for _, bias in norm_parameters(network, targets, trained_whole, which=("bias",)))
