"""The adaptation loop: a few volumes in memory, no worker processes, no disk in the step."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fsseg.config.errors import FssegError
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.training.crop_batches import Crops, batches
from fsseg.training.losses import masked_bce_dice
from fsseg.training.schedule import WarmupStableDecay
from fsseg.training.step import gradient_scaler, optimisation_step
from fsseg.training.targets import TargetTable


@dataclass(frozen=True)
class FitResult:
    """What a training did.

    Attributes:
        losses: loss of every step.
        plateau: whether the plateau rule ended it, rather than the cap.
        seconds: wall time.
    """

    losses: list[float]
    plateau: bool
    seconds: float


def fit(
    adapted: AdaptedNetwork,
    crops: Crops,
    table: TargetTable,
    *,
    groups: list[dict],
    schedule: WarmupStableDecay,
    batch_size: int,
    weight_decay: float,
    device: torch.device,
    label: str = "adapt",
) -> FitResult:
    """Train what `adapted` trains until the schedule ends.

    Args:
        adapted: network and method; the network is moved to `device`.
        crops: as many as `schedule.max_steps` batches need.
        table: meaning of the label integers.
        groups: AdamW parameter groups with their learning rates.
        schedule: learning-rate factor and end of training.
        batch_size: crops a step.
        weight_decay: of AdamW.
        device: where to train; mixed precision on CUDA.
        label: text of the progress bar.

    Raises:
        FssegError: the loss is not finite.
    """
    started = time.perf_counter()
    network, method = adapted.network.to(device), adapted.method
    if device.type == "cpu":  # faster 3D convolutions on a CPU; CUDA chooses its layout itself
        network.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay)
    rates = [group["lr"] for group in optimizer.param_groups]
    scaler = gradient_scaler(device)
    parameters = list(adapted.trainable().values())
    adapted.train_mode()
    method.start(network, schedule.max_steps)
    loader = batches(crops, batch_size, 0, pin_memory=device.type == "cuda")
    with tqdm(total=schedule.max_steps, desc=label, unit="step", disable=None) as progress:
        for batch in loader:
            factor = schedule.factor()
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            loss, stepped = optimisation_step(
                _loss(adapted, batch, table, device),
                optimizer=optimizer,
                parameters=parameters,
                device=device,
                scaler=scaler,
                before_step=lambda: method.before_step(network),
            )
            if stepped:
                method.after_step(network, _method_rate(optimizer))
            if not np.isfinite(loss):
                raise FssegError(f"The loss became {loss} at step {len(schedule.losses) + 1}; lower the learning rate.")
            progress.update()
            progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if schedule.record(loss):
                break
    network.eval()
    return FitResult(schedule.losses, schedule.plateau, time.perf_counter() - started)


def _method_rate(optimizer: torch.optim.Optimizer) -> float:
    return next((group["lr"] for group in optimizer.param_groups if group["name"] == "method"), 0.0)


def _loss(
    adapted: AdaptedNetwork, batch: dict[str, Tensor], table: TargetTable, device: torch.device
) -> Callable[[], Tensor]:
    image = batch["image"].to(device, non_blocking=True)
    target, valid = table.expand(batch["labels"].to(device), batch["zone_annotated"].to(device))

    def compute() -> Tensor:
        loss = masked_bce_dice(adapted.network(image), target, valid, reduction="mean")
        penalty = adapted.method.penalty(adapted.network)
        return loss if penalty is None else loss + penalty

    return compute
