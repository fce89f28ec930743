"""SSF: scale and shift of what linear layers, convolutions and norms return."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fsseg.methods import contract
from fsseg.methods.biases import key_bias_notes
from fsseg.methods.targets import TargetOptions, targeted_modules, why_nothing
from fsseg.models.tracing import LAYERS, NORMS, TRANSPOSED, normalised_layers


class SSFOptions(TargetOptions):
    """Options of SSF: which part of the network."""


class SSF(contract.Method):
    """Scaling and shifting of features, g * op(x) + b per channel (Lian et al., NeurIPS 2022).

    Formed in weight and bias of each operation, so it merges exactly. A layer whose output goes straight into a
    normalisation is left to that normalisation, in front of which g and b are dead or do the same. A layer without a
    bias gets no shift. The paper draws g from N(1, 0.02) and b from N(0, 0.02); here they start at 1 and 0, so that
    adaptation starts from the pretrained network.
    """

    Options = SSFOptions
    options: SSFOptions
    family = "selective"

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Refuse a network without an operation whose scale lives."""
        otherwise = "every operation feeds a normalisation that takes scales and shifts out again.\n  Use lora."
        return why_nothing(lambda whole: self._targets(network, whole), trained_whole, otherwise)

    def notes(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Say if it is affine tuning here, and which shifts have no effect."""
        targets = list(self._targets(network, trained_whole))
        if all(isinstance(layer, NORMS) for _, layer in targets):
            return ["Only norms are left to scale and shift: this is affine."]
        return key_bias_notes(network, [f"{name}.bias" for name, layer in targets if layer.bias is not None])

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Scale and shift every targeted operation."""
        names = []
        for name, layer in list(self._targets(network, trained_whole)):
            scale = Scale(layer)
            parametrize.register_parametrization(layer, "weight", scale)
            if layer.bias is not None:
                parametrize.register_parametrization(layer, "bias", ScaleAndShift(layer.bias, scale.scale))  # type: ignore[arg-type]
            names.append(name)
        return names

    def _targets(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> Iterator[tuple[str, nn.Module]]:
        left_to_norm = normalised_layers(network)
        for name, module in targeted_modules(network, self.options.targets, trained_whole):
            affine = isinstance(module, NORMS) and getattr(module, "weight", None) is not None
            if affine or (isinstance(module, LAYERS) and module not in left_to_norm):
                yield name, module


class Scale(nn.Module):
    """Parametrization W -> g W, one g per output channel."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        weight: Tensor = layer.weight  # type: ignore[assignment]
        # A transposed convolution's weight is (Ci, Co / groups, k^3), and each group of Ci makes its own outputs.
        self.input_groups = layer.groups if isinstance(layer, TRANSPOSED) else None
        outputs = len(weight) if self.input_groups is None else self.input_groups * weight.shape[1]
        self.scale = nn.Parameter(weight.new_ones(outputs))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the scaled weight."""
        if self.input_groups is None:
            return weight * self.scale.view(-1, *[1] * (weight.dim() - 1))
        by_group = weight.unflatten(0, (self.input_groups, -1))
        return (by_group * self.scale.view(self.input_groups, 1, -1, *[1] * (weight.dim() - 2))).flatten(0, 1)


class ScaleAndShift(nn.Module):
    """Parametrization bias -> g bias + b, with the g of the layer's weight."""

    def __init__(self, bias: Tensor, scale: nn.Parameter) -> None:
        super().__init__()
        self.scale = scale
        self.shift = nn.Parameter(torch.zeros_like(bias))

    def forward(self, bias: Tensor) -> Tensor:
        """Return the scaled and shifted bias."""
        return self.scale * bias + self.shift
