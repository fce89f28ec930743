"""Affine tuning: the scales and shifts of normalisations."""

from collections.abc import Iterator

from torch import nn

from fsseg.methods import contract
from fsseg.methods.biases import norm_parameters
from fsseg.methods.targets import TargetOptions, why_nothing


class AffineOptions(TargetOptions):
    """Options of affine tuning: which part of the network."""


class Affine(contract.Method):
    """Train gamma and beta of every normalisation, gamma (x - mean) / sd + beta (FSEFT's Affine-LN and Affine-BN).

    Layer, instance, group and batch normalisations, 2 C parameters on C channels.

    A batch normalisation that is trained also follows the statistics of the new data. Preset `fseft`: the encoder only.
    """

    Options = AffineOptions
    options: AffineOptions
    family = "selective"

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Refuse a part of a network whose norms have no affine parameters."""
        otherwise = "its norms have no affine parameters.\n  Use bitfit, lora or spatial_adapter."
        if self.options.targets != "all":
            otherwise = f"the norms of targets={self.options.targets} have no affine parameters.\n  Use targets=all."
        return why_nothing(lambda whole: self.pretrained_to_train(network, whole), trained_whole, otherwise)

    def pretrained_to_train(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> Iterator[nn.Parameter]:
        """Yield scales and shifts."""
        found = norm_parameters(network, self.options.targets, trained_whole, which=("weight", "bias"))
        return (parameter for _, parameter in found)
