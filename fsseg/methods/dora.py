"""DoRA: LoRA for the direction of a weight, and its magnitude per output channel learned apart."""

import torch
from torch import Tensor, nn

from fsseg.methods.low_rank import (
    LowRankMethod,
    LowRankOptions,
    LowRankUpdate,
    add_updates,
    full_precision,
    targeted_layers,
    updates_of,
)
from fsseg.models.tracing import TRANSPOSED, scale_free_layers


class DoRAOptions(LowRankOptions):
    """Options of DoRA: those of the low-rank methods."""


class DoRA(LowRankMethod):
    """Weight-decomposed low-rank adaptation, W' = m (W + B A) / |W + B A| (Liu et al., ICML 2024).

    The norm is taken per output channel and is a constant in the backward pass, as in the paper; m starts at |W|. In
    front of a normalisation by its own statistics a magnitude is dead, so layers there get LoRA's update alone.
    """

    Options = DoRAOptions
    options: DoRAOptions

    def unsupported_reason(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> str:
        """Refuse a network on which no magnitude would live, too."""
        reason = super().unsupported_reason(network, trained_whole)
        if reason:
            return reason
        targets = targeted_layers(network, self.options, trained_whole)
        if {layer for _, layer in targets} <= scale_free_layers(network):
            return (
                "every targeted layer feeds a normalisation that takes its magnitude out again, which makes it LoRA.\n"
                "  Use lora, or affine to train the scales of the norms."
            )
        return ""

    def notes(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Say how many layers have no magnitude, too."""
        targets = targeted_layers(network, self.options, trained_whole)
        scale_free = scale_free_layers(network)
        dead = [name for name, layer in targets if layer in scale_free]
        undone = super().notes(network, trained_whole)
        if not dead:
            return undone
        return [
            *undone,
            f"{len(dead)} of {len(targets)} layers feed a normalisation that takes their magnitude out again: DoRA"
            " is LoRA there.",
        ]

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Add an update to every targeted weight that is not trained whole."""
        targets = targeted_layers(network, self.options, trained_whole)
        scale_free = scale_free_layers(network)
        with_magnitude = [(name, layer) for name, layer in targets if layer not in scale_free]
        without = [(name, layer) for name, layer in targets if layer in scale_free]
        return [
            *add_updates(with_magnitude, self.options, MagnitudeUpdate),
            *add_updates(without, self.options, LowRankUpdate),
        ]

    def ranks(self, network: nn.Module) -> dict[str, int]:
        """Return the rank of every layer."""
        return {name: update.rank for name, update in updates_of(network, LowRankUpdate).items()}


class MagnitudeUpdate(LowRankUpdate):
    """Parametrization W -> magnitude * (W + left @ right) / |W + left @ right| per output channel."""

    def __init__(self, layer: nn.Module, *, rank: int, blocks: int = 1) -> None:
        super().__init__(layer, rank=rank, blocks=blocks)
        # A transposed convolution's weight is (Ci, Co / groups, k^3), and each group of Ci makes its own outputs.
        self.input_groups = layer.groups if isinstance(layer, TRANSPOSED) else None
        self.magnitude = nn.Parameter(self._norm(layer.weight.detach()))  # type: ignore[operator]

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight, in the shape of `weight`."""
        moved = super().forward(weight)
        with full_precision(weight):
            factor = self.magnitude.float() / self._norm(moved.detach()).clamp_min(torch.finfo(torch.float32).tiny)
            return (self._by_output(moved) * factor).reshape(weight.shape)

    def _by_output(self, weight: Tensor) -> Tensor:
        """Return a view (groups, inputs, outputs, k^3) of a transposed weight, else (outputs, inputs * k^3)."""
        if self.input_groups is None:
            return weight.flatten(1)
        return weight.unflatten(0, (self.input_groups, -1)).flatten(3)

    def _norm(self, weight: Tensor) -> Tensor:
        dimensions = 1 if self.input_groups is None else (1, 3)
        return torch.linalg.vector_norm(self._by_output(weight.float()), dim=dimensions, keepdim=True)
