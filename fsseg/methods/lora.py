"""LoRA on linear, convolution and transposed convolution weights."""

from functools import partial

from pydantic import Field
from torch import nn

from fsseg.methods.low_rank import (
    LowRankMethod,
    LowRankOptions,
    LowRankUpdate,
    add_updates,
    targeted_layers,
    updates_of,
)


class LoRAOptions(LowRankOptions):
    """Options of LoRA."""

    alpha: float | None = Field(default=None, gt=0)
    """The update is scaled by alpha / rank; None means alpha = rank, a scale of one."""


class LoRA(LowRankMethod):
    """Low-rank adaptation, W' = W + (alpha / r) B A (Hu et al., ICLR 2022).

    The update is formed in the weight (`LowRankUpdate` says how a kernel is read as a matrix), which covers stride,
    dilation, padding and groups, and merges exactly. Preset `fseft` is FSEFT's: one update on the joint
    query-key-value projection of every Swin block, of rank 3 * 4, without alpha.
    """

    Options = LoRAOptions
    options: LoRAOptions

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Add a low-rank update to every targeted weight that is not trained whole."""
        targets = targeted_layers(network, self.options, trained_whole)
        scale = (self.options.alpha or self.options.rank) / self.options.rank
        return add_updates(targets, self.options, partial(LowRankUpdate, scale=scale))

    def ranks(self, network: nn.Module) -> dict[str, int]:
        """Return the rank of every layer."""
        return {name: update.rank for name, update in updates_of(network, LowRankUpdate).items()}
