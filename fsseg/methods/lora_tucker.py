"""LoRA in Tucker form: the kernel's spatial extent is learned between two channel projections."""

import math

import torch
from pydantic import Field
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
from fsseg.models.tracing import CONVOLUTIONS, TRANSPOSED


class LoRATuckerOptions(LowRankOptions):
    """Options of LoRA-Tucker: those of the low-rank methods, rank being that of both channel projections."""

    rank: int = Field(default=8, ge=1)


class LoRATucker(LowRankMethod):
    """LoRA whose update of a k^3 kernel is a Tucker decomposition (LyCORIS, Yeh et al., ICLR 2024).

    The update of a convolution is a 1x1x1 convolution to r channels, a k^3 one from r to r, and a 1x1x1 one from r, so
    a rank costs r Ci + r^2 K + r Co parameters, where LoRA pays r(K Ci + Co). Layers without spatial extent (linear,
    1x1x1) get LoRA's update.
    """

    Options = LoRATuckerOptions
    options: LoRATuckerOptions

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Add an update to every targeted weight that is not trained whole."""
        targets = targeted_layers(network, self.options, trained_whole)
        return add_updates(targets, self.options, _update)

    def ranks(self, network: nn.Module) -> dict[str, int]:
        """Return the rank of every layer; of a kernel, that of the projection on the first channel axis."""
        updates: dict[str, LowRankUpdate | TuckerUpdate] = {**updates_of(network, LowRankUpdate)}
        updates |= updates_of(network, TuckerUpdate)
        return {name: update.rank for name, update in updates.items()}


class TuckerUpdate(nn.Module):
    """Parametrization W[a, b, k] -> W + sum_{r,s} first[a, r] core[r, s, k] second[s, b], formed in float32.

    a and b are the channel axes of the weight: outputs and inputs of a convolution, inputs and outputs of a transposed
    one. The projection of the outputs starts at zero, the rest Kaiming-uniform (a = sqrt 5). A projection has at most
    as many components as it has channels.
    """

    def __init__(self, layer: CONVOLUTIONS, *, rank: int) -> None:
        super().__init__()
        weight = layer.weight
        a, b, kernel = weight.shape[0], weight.shape[1], weight.shape[2:]
        r, s = min(rank, a), min(rank, b)
        self.rank = r
        self.first = nn.Parameter(weight.new_zeros(a, r))
        self.core = nn.Parameter(weight.new_zeros(r, s, *kernel))
        self.second = nn.Parameter(weight.new_zeros(s, b))
        if isinstance(layer, TRANSPOSED):
            _kaiming_uniform(self.first, fan_in=a)
            _kaiming_uniform(self.core, fan_in=r * kernel.numel())
        else:
            _kaiming_uniform(self.second, fan_in=b)
            _kaiming_uniform(self.core, fan_in=s * kernel.numel())

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight, in the shape of `weight`."""
        with full_precision(weight):
            factors = (self.first.float(), self.core.float(), self.second.float())
            k = "xyz"[: weight.dim() - 2]
            return weight + torch.einsum(f"ar,rs{k},sb->ab{k}", *factors)


def _update(layer: nn.Module, *, rank: int, blocks: int) -> nn.Module:
    if isinstance(layer, CONVOLUTIONS) and layer.weight[0, 0].numel() > 1:
        return TuckerUpdate(layer, rank=rank)
    return LowRankUpdate(layer, rank=rank, blocks=blocks)


def _kaiming_uniform(tensor: Tensor, fan_in: int) -> None:
    nn.init.uniform_(tensor, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
