"""The adaptation loop: a few volumes in memory, no worker processes, no disk in the step."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from fsseg.config.base import Precision
from fsseg.config.errors import FssegError
from fsseg.config.progress import Progress
from fsseg.config.stopping import stops_after_step
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.models.parts import parts_of
from fsseg.training.activation_checkpointing import checkpointed
from fsseg.training.course import Course
from fsseg.training.feature_pool import FeaturePool
from fsseg.training.fit_checkpoint import FitCheckpoint, fit_state, restore_fit
from fsseg.training.placement import place
from fsseg.training.schedule import Schedule
from fsseg.training.seeding import seeded
from fsseg.training.step import gradient_scaler, optimisation_step
from fsseg.training.targets import TargetTable

logger = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
OnStep = Callable[[Sequence[float], Mapping[str, float]], None]


def unreported(_losses: Sequence[float], _rates: Mapping[str, float]) -> None:
    """Take no note of a step."""


@dataclass(frozen=True)
class FitResult:
    """What a training did.

    Attributes:
        losses: loss of every step, without the method's penalty; none of a training-free method.
        plateau: whether the plateau rule ended it, rather than the cap.
        seconds: wall time, with that before the training was stopped.
        earlier_seconds: the part of it before the training was stopped last.
        resumed_at: for every time that it went on, the steps that were done then.
        feature_cache: size of the pool of features and seconds to make it; None with the network in the loop.
    """

    losses: list[float]
    plateau: bool
    seconds: float
    earlier_seconds: float = 0.0
    resumed_at: tuple[int, ...] = ()
    feature_cache: dict[str, float] | None = None


def fit(
    adapted: AdaptedNetwork,
    forward: nn.Module,
    batches: Callable[[int], Iterable[dict[str, Tensor]]],
    table: TargetTable,
    *,
    groups: list[dict],
    schedule: Schedule,
    loss: Loss,
    weight_decay: float,
    device: torch.device,
    precision: Precision,
    seed: int,
    checkpoint_activations: bool = False,
    checkpoint: FitCheckpoint | None = None,
    on_step: OnStep = unreported,
    label: str = "adapt",
) -> FitResult:
    """Train what `adapted` trains until the schedule ends.

    Ctrl-C and SIGTERM wait for the end of a step, and its state is saved.

    Args:
        adapted: network and method; the network is moved to `device`.
        forward: gives logits from the "image" of a batch: the network, or its head where batches hold features.
        batches: gives the batches from a step on, until `schedule.max_steps`, on any device.
        table: meaning of the label integers.
        groups: AdamW parameter groups with their learning rates.
        schedule: learning-rate factor and end of training.
        loss: scalar of logits, target and validity, all (B, C, D, H, W).
        weight_decay: of AdamW.
        device: where to train.
        precision: in which the network computes.
        seed: decides, with the number of a step, what is random in it, such as dropout.
        checkpoint_activations: compute activations again in the backward pass instead of keeping them.
        checkpoint: keeps the state; a training of which it has one goes on.
        on_step: called after every step with the losses of all steps so far and the learning rates by group.
        label: what the progress is called.

    Raises:
        FssegError: the loss is not finite.
    """
    network, method = place(adapted.network, device), adapted.method
    optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay)
    rates = [group["lr"] for group in optimizer.param_groups]
    scaler = gradient_scaler(device, precision)
    parameters = list(adapted.trainable().values())
    adapted.train_mode()
    method.on_training_start(network, schedule.earliest_end)
    state = None if checkpoint is None else checkpoint.load()
    if state is not None:
        restore_fit(adapted, optimizer, scaler, schedule, state)
    done = len(schedule.losses)
    course = Course() if state is None else Course.going_on(state.get("course"), done)
    if schedule.ended:
        logger.info("%s had taken its %d steps when it was stopped.", label, done)
    elif state is not None:
        logger.info("%s goes on at step %d of %d.", label, done + 1, schedule.max_steps)
    keep = partial(fit_state, adapted, optimizer, scaler, schedule, course)
    with (
        stops_after_step() as stop,
        checkpointed(network, enabled=checkpoint_activations),
        Progress(label, schedule.max_steps, "step", done=done) as progress,
    ):
        for batch in () if schedule.ended else batches(done):
            factor = schedule.factor()
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            with seeded(seed, len(schedule.losses)):  # a training that goes on sees the same dropout
                value, stepped = optimisation_step(
                    _compute_loss(forward, loss, batch, table, device),
                    optimizer=optimizer,
                    parameters=parameters,
                    device=device,
                    precision=precision,
                    scaler=scaler,
                    penalty=lambda: method.penalty(network),
                    before_step=lambda: method.before_step(network),
                )
                if stepped:
                    method.after_step(network, _method_rate(optimizer))
            if not np.isfinite(value):
                raise FssegError(
                    f"The loss became {value} at step {len(schedule.losses) + 1}; lower the learning rate."
                )
            progress.advance(value)
            ended = schedule.record(value)
            on_step(schedule.losses, {group["name"]: group["lr"] for group in optimizer.param_groups})
            if checkpoint is not None and (stop.number or not ended):
                checkpoint.save(keep, now=bool(stop.number))
            stop.obey()
            if ended:
                break
    network.eval()
    return FitResult(schedule.losses, schedule.plateau, course.seconds, course.earlier_seconds, course.resumed_at)


def fit_closed_form(
    adapted: AdaptedNetwork, pool: FeaturePool, table: TargetTable, structures: Sequence[str]
) -> FitResult:
    """Let a training-free method set the head from a pool of features; no step is taken.

    Args:
        adapted: network and method, on the pool's device.
        pool: features and labels.
        table: meaning of the label integers.
        structures: names of the head's channels.

    Raises:
        FssegError: the pool does not show what the method needs.
    """
    started = time.perf_counter()
    adapted.method.fit_closed_form(parts_of(adapted.network).head, partial(pool.labelled, table), structures)
    return FitResult([], plateau=False, seconds=time.perf_counter() - started)


def _method_rate(optimizer: torch.optim.Optimizer) -> float:
    return next((group["lr"] for group in optimizer.param_groups if group["name"] == "method"), 0.0)


def _compute_loss(
    forward: nn.Module, loss: Loss, batch: dict[str, Tensor], table: TargetTable, device: torch.device
) -> Callable[[], Tensor]:
    image = batch["image"].to(device, non_blocking=True)
    target, valid = table.expand(batch["labels"].to(device), batch["zone_annotated"].to(device))
    return lambda: loss(forward(image), target, valid)
