"""AdaLoRA: a budget of rank-one terms, spent on the layers where they matter."""

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from fsseg.methods.gated_rank import GatedMethod, GatedUpdate
from fsseg.methods.low_rank import LowRankOptions, add_updates, full_precision, targeted_layers, updates_of

_START_STD = 0.02


class AdaLoRAOptions(LowRankOptions):
    """Options of AdaLoRA."""

    rank: int = Field(default=6, ge=1)
    """Terms of every layer at the start."""
    target_rank: int = Field(default=4, ge=1)
    """Terms that are left at the end, on average over the layers; at most `rank`."""
    budget_start: int = Field(default=50, ge=0)
    """Step from which on the budget falls from `rank` to `target_rank`."""
    budget_end: int = Field(default=200, ge=1)
    """Step at which the budget has fallen. Where the stop rule or the cap on the steps may end the training too early,
    this and `budget_start` shrink in proportion, so that a fifth of the shortest training is left behind the end.
    """
    interval: int = Field(default=10, ge=1)
    """Steps between two cuts."""
    orthogonality: float = Field(default=0.5, ge=0)
    """Weight gamma of the penalty."""
    beta: float = Field(default=0.85, gt=0, lt=1)
    """Share of the past in both moving averages of the importance."""

    @model_validator(mode="after")
    def _budget_falls(self) -> "AdaLoRAOptions":
        if self.target_rank > self.rank:
            raise ValueError(
                f"target_rank={self.target_rank} is above rank={self.rank}, from which the budget falls: set both"
            )
        if self.budget_end <= self.budget_start:
            raise ValueError(f"budget_end={self.budget_end} is not after budget_start={self.budget_start}")
        return self


@dataclass
class _Importance:
    """Moving averages of |weight * gradient| and of its deviation, for one tensor."""

    mean: Tensor
    deviation: Tensor

    def update(self, sensitivity: Tensor, beta: float) -> None:
        """Take in the sensitivity of a step."""
        self.mean.lerp_(sensitivity, 1 - beta)
        self.deviation.lerp_((sensitivity - self.mean).abs(), 1 - beta)


class AdaLoRA(GatedMethod):
    """Adaptive budget allocation, W' = W + P diag(l) Q (Zhang et al., ICLR 2023).

    P, Q ~ N(0, 0.02) and l = 0 at the start. The penalty gamma * (|P'P - 1|^2 + |QQ' - 1|^2), averaged over the layers,
    keeps P and Q near orthogonality, so that a term's importance can be read off: the sum of the importance of l_k and
    the mean importances of column k of P and row k of Q, each being the product of two moving averages, of
    |weight * gradient| and of its deviation. At every `interval` the least important terms of all layers are cut down
    to the budget, which falls along a cubic. The paper starts at rank 12 and ends at 8; smaller here, because the first
    convolutions of a U-Net have few channels. Preset `arena` is how ARENA compares it, on the joint query-key-value
    projection of every Swin block: rank 12 to 8, the budget falling from epoch 15 to 70 of five shots, gamma 0.1 (its
    code takes the rank of the layers from --rank and that of the budget as 12; here both are 12). Unlike there, the
    fall is shortened to what the shortest possible training holds, so that no early stop leaves a larger rank: under
    recipe arena, which may stop after epoch 31, to epochs 5 to 25.
    """

    Options = AdaLoRAOptions
    options: AdaLoRAOptions

    def inject(self, network: nn.Module, trained_whole: frozenset[nn.Parameter]) -> list[str]:
        """Add a gated update to every targeted weight that is not trained whole."""
        targets = targeted_layers(network, self.options, trained_whole)
        names = add_updates(targets, self.options, GatedUpdate)
        for update in updates_of(network, GatedUpdate).values():
            nn.init.normal_(update.left, std=_START_STD)
            nn.init.normal_(update.right, std=_START_STD)
        self._importance: dict[nn.Parameter, _Importance] = {}
        return names

    def on_training_start(self, network: nn.Module, least_steps: int) -> None:
        """Fit the budget's schedule into the shortest training."""
        shrink = min(1.0, least_steps / (1.25 * self.options.budget_end))
        self._budget_start = round(shrink * self.options.budget_start)
        self._budget_end = max(self._budget_start + 1, round(shrink * self.options.budget_end))
        self._step = 0

    def training_state(self, network: nn.Module) -> dict[str, Any]:
        """Return the step and the moving averages of the importance."""
        averages = [self._importance[p] for p in _terms(network) if p in self._importance]
        return {"step": self._step, "averages": [(average.mean, average.deviation) for average in averages]}

    def load_training_state(self, network: nn.Module, state: dict[str, Any]) -> None:
        """Resume from a `training_state`."""
        self._step = state["step"]
        for parameter, averages in zip(_terms(network), state["averages"], strict=False):
            self._importance[parameter] = _Importance(*(average.to(parameter.device) for average in averages))

    def penalty(self, network: nn.Module) -> Tensor:
        """Return the orthogonality penalty."""
        updates = list(updates_of(network, GatedUpdate).values())
        with full_precision(updates[0].left):
            penalties = [
                _distance_from_identity(rows.T @ rows) + _distance_from_identity(columns @ columns.T)
                for update in updates
                for rows, columns in zip(
                    update.left.float().chunk(update.blocks), update.right.float().chunk(update.blocks), strict=True
                )
            ]
            return self.options.orthogonality * torch.stack(penalties).mean()

    @torch.no_grad()
    def before_step(self, network: nn.Module) -> None:
        """Update the importance of every weight from its gradient."""
        for parameter in _terms(network):
            if parameter not in self._importance:
                self._importance[parameter] = _Importance(*(torch.zeros_like(parameter) for _ in range(2)))
            assert parameter.grad is not None
            self._importance[parameter].update((parameter * parameter.grad).abs(), self.options.beta)

    @torch.no_grad()
    def after_step(self, network: nn.Module, learning_rate: float) -> None:
        """Cut the least important terms of all layers when a cut is due; at every step once the budget is final."""
        self._step += 1
        due = self._step % self.options.interval == 0 or self._step >= self._budget_end
        if self._step <= self._budget_start or not due:
            return
        updates = list(updates_of(network, GatedUpdate).values())
        scores = [self._scores(update) for update in updates]
        keep = self._budget(sum(update.gate.numel() for update in updates))
        kept = torch.zeros(sum(len(s) for s in scores), dtype=torch.bool, device=scores[0].device)
        kept[torch.cat(scores).topk(keep).indices] = True
        for update, mask in zip(updates, kept.split([len(s) for s in scores]), strict=True):
            update.gate.mul_(mask)

    def _budget(self, terms: int) -> int:
        """Return how many terms are left at this step, of `terms` at the start."""
        final = round(terms * self.options.target_rank / self.options.rank)
        left = 1 - (self._step - self._budget_start) / (self._budget_end - self._budget_start)
        return final + round((terms - final) * max(0.0, left) ** 3)

    def _scores(self, update: GatedUpdate) -> Tensor:
        gate, left, right = (
            importance.mean * importance.deviation
            for importance in (self._importance[p] for p in (update.gate, update.left, update.right))
        )
        return gate + torch.cat([block.mean(0) for block in left.chunk(update.blocks)]) + right.mean(1)


def _terms(network: nn.Module) -> list[nn.Parameter]:
    updates = updates_of(network, GatedUpdate).values()
    return [parameter for update in updates for parameter in (update.gate, update.left, update.right)]


def _distance_from_identity(matrix: Tensor) -> Tensor:
    return (matrix - torch.eye(len(matrix), device=matrix.device)).square().sum()
