"""The adaptation loop: a few volumes in memory, no worker processes, no disk in the step."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fsseg.config.errors import FssegError
from fsseg.config.progress import Progress
from fsseg.config.stopping import stops_after_step
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.models.parts import parts_of
from fsseg.training.activation_checkpointing import checkpointed
from fsseg.training.course import Course
from fsseg.training.feature_pool import FeaturePool
from fsseg.training.fit_checkpoint import fit_state, restore_fit
from fsseg.training.placement import place
from fsseg.training.plan import Inputs, TrainingPlan, Watch
from fsseg.training.seeding import seeded
from fsseg.training.step import Optimisation, gradient_scaler, optimisation_step
from fsseg.training.targets import TargetTable

logger = logging.getLogger(__name__)

_UNWATCHED = Watch()


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


def fit(adapted: AdaptedNetwork, inputs: Inputs, plan: TrainingPlan, watch: Watch = _UNWATCHED) -> FitResult:
    """Train what `adapted` trains until the schedule ends.

    Ctrl-C and SIGTERM wait for the end of a step, and its state is saved.

    Args:
        adapted: network and method; the network is moved to the plan's device.
        inputs: what to train on.
        plan: how.
        watch: who follows it.

    Raises:
        FssegError: the loss is not finite.
    """
    schedule = plan.schedule
    training = _Training(adapted, plan)
    course = training.go_on(watch)
    done = len(schedule.losses)
    keep = partial(fit_state, adapted, training.optimizer, training.scaler, schedule, course)
    with (
        stops_after_step() as stop,
        checkpointed(training.network, enabled=plan.checkpoint_activations),
        Progress(watch.label, schedule.max_steps, "step", done=done) as progress,
    ):
        for batch in () if schedule.ended else inputs.batches(done):
            value = training.step(inputs, batch)
            progress.advance(value)
            ended = schedule.record(value)
            watch.on_step(schedule.losses, training.rates())
            if watch.checkpoint is not None and (stop.number or not ended):
                watch.checkpoint.save(keep, now=bool(stop.number))
            stop.obey()
            if ended:
                break
    training.network.eval()
    return FitResult(schedule.losses, schedule.plateau, course.seconds, course.earlier_seconds, course.resumed_at)


class _Training:
    """A training under way: the network on its device, the optimiser, and a step."""

    def __init__(self, adapted: AdaptedNetwork, plan: TrainingPlan) -> None:
        self.network = place(adapted.network, plan.device)
        self.optimizer = torch.optim.AdamW(plan.groups, weight_decay=plan.weight_decay)
        self.scaler = gradient_scaler(plan.device, plan.precision)
        self._adapted, self._plan = adapted, plan
        self._full_rates = [group["lr"] for group in self.optimizer.param_groups]
        trained = list(adapted.trainable().values())
        self._optimisation = Optimisation(
            self.optimizer, trained, plan.device, plan.precision, self.scaler, plan.clip_norm
        )
        adapted.train_mode()
        adapted.method.on_training_start(self.network, plan.schedule.earliest_end)

    def go_on(self, watch: Watch) -> Course:
        """Load the state of a training that was stopped, where there is one; return its clock."""
        schedule = self._plan.schedule
        state = None if watch.checkpoint is None else watch.checkpoint.load()
        if state is None:
            return Course()
        restore_fit(self._adapted, self.optimizer, self.scaler, schedule, state)
        done = len(schedule.losses)
        if schedule.ended:
            logger.info("%s had taken its %d steps when it was stopped.", watch.label, done)
        else:
            logger.info("%s resumes at step %d of %d.", watch.label, done + 1, schedule.max_steps)
        return Course.going_on(state.get("course"), done)

    def step(self, inputs: Inputs, batch: dict[str, Tensor]) -> float:
        """Take the next step; return its loss."""
        plan, method = self._plan, self._adapted.method
        factor = plan.schedule.factor()
        for group, rate in zip(self.optimizer.param_groups, self._full_rates, strict=True):
            group["lr"] = rate * factor
        number = len(plan.schedule.losses)
        with seeded(plan.seed, number):  # a resumed training sees the same dropout
            value, stepped = optimisation_step(
                self._optimisation,
                _compute_loss(inputs, plan, batch),
                penalty=lambda: method.penalty(self.network),
                before_step=lambda: method.before_step(self.network),
            )
            if stepped:
                method.after_step(self.network, self.rates().get("method", 0.0))
            if plan.constraint is not None:
                plan.constraint.step(self.optimizer, number + 1)
        if not np.isfinite(value):
            raise FssegError(f"The loss became {value} at step {number + 1}; lower the learning rate.")
        return value

    def rates(self) -> dict[str, float]:
        """Return the learning rates of this step by the name of their group."""
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}


def _compute_loss(inputs: Inputs, plan: TrainingPlan, batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    image = batch["image"].to(plan.device, non_blocking=True)
    target, valid = inputs.table.expand(batch["labels"].to(plan.device), batch["zone_annotated"].to(plan.device))
    return lambda: plan.loss(inputs.forward(image), target, valid)


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
