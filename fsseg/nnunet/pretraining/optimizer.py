"""Optimiser and learning-rate schedule of a pretraining."""

from collections.abc import Iterable
from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn

from fsseg.config.pretraining import PretrainSettings
from fsseg.training.schedule import WarmupCosine


def optimizer_and_schedule(
    settings: PretrainSettings, parameters: Iterable[nn.Parameter], epochs: int
) -> tuple[torch.optim.Optimizer, Any]:
    """Return SGD as nnU-Net's, or AdamW; and nnU-Net's polynomial decay, or a cosine with warm-up, both by epochs."""
    rate, decay = settings.learning_rate, settings.weight_decay
    optimizer: torch.optim.Optimizer
    if settings.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, rate, momentum=0.99, nesterov=True, weight_decay=decay)
    else:
        optimizer = torch.optim.AdamW(parameters, rate, weight_decay=decay)
    if settings.schedule == "cosine":
        warmup = max(1, round(settings.warmup * epochs)) if settings.warmup else 0
        return optimizer, WarmupCosine(optimizer, rate, epochs, warmup)
    return optimizer, PolyLRScheduler(optimizer, rate, epochs)
