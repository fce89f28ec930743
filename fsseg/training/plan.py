"""What an adaptation's training needs to know: its inputs, how it is taken, and who watches it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fsseg.config.base import Precision
from fsseg.training.fit_checkpoint import FitCheckpoint
from fsseg.training.schedule import Schedule
from fsseg.training.size_constraint import SizeConstraint
from fsseg.training.step import CLIP_NORM
from fsseg.training.targets import TargetTable

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
OnStep = Callable[[Sequence[float], Mapping[str, float]], None]


def unreported(_losses: Sequence[float], _rates: Mapping[str, float]) -> None:
    """Take no note of a step."""


@dataclass(frozen=True)
class Inputs:
    """What is trained on.

    Attributes:
        forward: gives logits from the "image" of a batch: the network, or its head where batches hold features.
        batches: gives the batches from a step on, until `schedule.max_steps`, on any device.
        table: meaning of the label integers.
    """

    forward: nn.Module
    batches: Callable[[int], Iterable[dict[str, Tensor]]]
    table: TargetTable


@dataclass(frozen=True)
class TrainingPlan:
    """How a training is taken.

    Attributes:
        groups: AdamW parameter groups with their learning rates.
        schedule: learning-rate factor and end of training.
        loss: scalar of logits, target and validity, all (B, C, D, H, W).
        weight_decay: of AdamW.
        device: where to train.
        precision: in which the network computes.
        seed: decides, with the number of a step, what is random in it, such as dropout.
        clip_norm: to which the norm of the gradients is clipped; None clips nothing.
        constraint: taken in steps of its own; None without.
        checkpoint_activations: compute activations again in the backward pass instead of keeping them.
    """

    groups: list[dict[str, Any]]
    schedule: Schedule
    loss: Loss
    weight_decay: float
    device: torch.device
    precision: Precision
    seed: int
    clip_norm: float | None = CLIP_NORM
    constraint: SizeConstraint | None = None
    checkpoint_activations: bool = False


@dataclass(frozen=True)
class Watch:
    """Who follows a training.

    Attributes:
        label: what the progress is called.
        checkpoint: keeps the state; a training of which it has one is resumed.
        on_step: called after every step with the losses of all steps so far and the learning rates by group.
    """

    label: str = "adapt"
    checkpoint: FitCheckpoint | None = None
    on_step: OnStep = unreported
