"""ARENA: LoRA whose rank is found in training, by sparse gates on its rank-one terms."""

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import nn

from fsseg.methods.gated_rank import GatedMethod, GatedUpdate
from fsseg.methods.low_rank import LowRankOptions, add_updates, targeted_layers, updates_of


class ARENAOptions(LowRankOptions):
    """Options of ARENA."""

    rank: int = Field(default=8, ge=1)
    """Rank r at the start."""
    sparsity: float = Field(default=0.5, gt=0, lt=1)
    """Weight lambda of the L1 term; a step shrinks every gate by lambda times the learning rate. AdamW moves a gate by
    at most about the learning rate a step, so from 1 on no gate survives.
    """
    gate_range: float = Field(default=1.0, gt=0, le=100)
    """Gates start uniform in [-gate_range, gate_range]."""


class ARENA(GatedMethod):
    """Adaptive-rank adaptation, W' = W + B diag(v) A with an L1 penalty on v (Baklouti et al., MICCAI 2025).

    The penalty acts through its proximal operator after every step, v <- sign(v) max(|v| - lambda * rate, 0), and not
    after a step that the gradient scaler skipped. B starts at zero, A Kaiming-uniform. lambda 0.5 and v ~ U(-1, 1) are
    the published ones. How far ranks fall is decided by lambda times the rates of all steps: at the published rate of
    0.001 few gates reach zero in the few hundred steps of five shots, at the three times higher one of the default
    recipe a tenth to a half of them did in 300 to 400 steps on real CT. With a narrow range of gates terms die before
    B, which starts at zero, gives their gates a gradient. Preset `paper` has 3 * 8 joint terms in every Swin block's
    query-key-value projection.
    """

    Options = ARENAOptions
    options: ARENAOptions

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Add a gated update to every targeted weight that is not trained whole."""
        targets = targeted_layers(network, self.options, trained_whole)
        names = add_updates(targets, self.options, GatedUpdate)
        for update in updates_of(network, GatedUpdate).values():
            nn.init.uniform_(update.gate, -self.options.gate_range, self.options.gate_range)
        return names

    def no_weight_decay(self, network: nn.Module) -> Iterator[nn.Parameter]:
        """Yield the gates: what shrinks them is the L1 term alone."""
        return (update.gate for update in updates_of(network, GatedUpdate).values())

    @torch.no_grad()
    def after_step(self, network: nn.Module, learning_rate: float) -> None:
        """Shrink the gates: the proximal step of the L1 term."""
        for update in updates_of(network, GatedUpdate).values():
            update.gate.copy_(nn.functional.softshrink(update.gate, self.options.sparsity * learning_rate))
