"""Learning-rate schedule and stop rule that need no validation set."""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch


class Schedule(Protocol):
    """Learning rates and end of a training."""

    max_steps: int
    losses: list[float]
    plateau: bool
    changing: ClassVar[tuple[str, ...]]  # names of the attributes that change in a training

    @property
    def earliest_end(self) -> int:
        """Steps of the shortest training that the stop rule allows."""

    @property
    def ended(self) -> bool:
        """Whether the last step has been recorded."""

    def factor(self) -> float:
        """Return the factor on the learning rates of the next step."""

    def record(self, loss: float) -> bool:
        """Record the loss of a step; return whether training has ended."""


@dataclass(frozen=True)
class PlateauRule:
    """Stop when the training loss no longer falls: no validation set is needed.

    The mean loss of the last `window` steps is compared with the mean of the `window` steps that end `patience` steps
    earlier. The plateau is reached when it is lower by less than `improvement`.

    Attributes:
        window: steps that are averaged; crops differ a lot, so single losses say little.
        patience: steps in which the loss must fall.
        improvement: fall that counts.
        relative: `improvement` is a share of the earlier mean, and not a loss.
        first, every: the rule is asked at step `first`, and then every so many steps.
    """

    window: int = 50
    patience: int = 100
    improvement: float = 0.05
    relative: bool = True
    first: int = 0
    every: int = 1

    @property
    def first_look(self) -> int:
        """The first step after which the rule is asked."""
        step = max(self.first, self.window + self.patience)
        return step + (self.first - step) % self.every

    def reached(self, losses: list[float]) -> bool:
        """Return whether the losses so far, one a step, have reached a plateau."""
        step = len(losses)
        if step < self.first_look or (step - self.first) % self.every:
            return False
        recent = float(np.mean(losses[-self.window :]))
        before = float(np.mean(losses[-self.window - self.patience : -self.patience]))
        return before - recent < self.improvement * (abs(before) if self.relative else 1.0)


class WarmupStableDecay:
    """Linear warm-up, constant rate until the plateau or the cap comes near, then linear decay to zero.

    A constant rate lets the plateau rule see whether training still helps; the decay after it averages the noise of
    the last steps out, which the end of a constant rate would keep.

    Args:
        max_steps: cap on all steps, decay included.
        rule: when the stable phase ends early.
        warmup_steps: steps of linear warm-up.
        decay_share: decay lasts this share of the steps taken before it.
    """

    changing: ClassVar[tuple[str, ...]] = ("losses", "plateau", "decay_start")

    def __init__(self, max_steps: int, rule: PlateauRule, *, warmup_steps: int = 10, decay_share: float = 0.25) -> None:
        self.max_steps = max_steps
        self.rule = rule
        self.warmup_steps = warmup_steps
        self.decay_share = decay_share
        self.losses: list[float] = []
        self.decay_start: int | None = None
        self.plateau = False

    @property
    def end(self) -> int:
        """Step after which training ends, as known so far."""
        return self.max_steps if self.decay_start is None else self._end_of_decay(self.decay_start)

    @property
    def earliest_end(self) -> int:
        """Steps of a training that reaches its plateau as soon as the rule is asked."""
        return self._end_of_decay(self.rule.first_look)

    @property
    def ended(self) -> bool:
        """Whether the last step has been recorded."""
        return len(self.losses) >= self.end

    def _end_of_decay(self, start: int) -> int:
        return min(self.max_steps, start + max(1, round(self.decay_share * start)))

    def factor(self) -> float:
        """Return the factor on the learning rates of the next step."""
        step = len(self.losses)
        if self.decay_start is None:
            return min(1.0, (step + 1) / max(1, self.warmup_steps))
        return (self.end - step) / max(1, self.end - self.decay_start)

    def record(self, loss: float) -> bool:
        """Record the loss of a step; return whether training has ended."""
        self.losses.append(loss)
        step = len(self.losses)
        if self.decay_start is None:
            self.plateau = self.rule.reached(self.losses)
            latest_decay_start = round(self.max_steps / (1 + self.decay_share))
            if self.plateau or step >= latest_decay_start:
                self.decay_start = step
        return self.ended


class WarmupCosine:
    """A rate for every epoch: linear from a tenth, then a cosine to zero. Called as nnU-Net calls its schedulers.

    Args:
        optimizer: whose groups all get the same rate.
        learning_rate: the highest rate.
        epochs: of the whole training.
        warmup_epochs: epochs of the linear rise.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, learning_rate: float, epochs: int, warmup_epochs: int) -> None:
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.warmup_epochs = warmup_epochs

    def step(self, epoch: int) -> None:
        """Set the rate of an epoch, the first being 0."""
        if epoch < self.warmup_epochs:
            factor = 0.1 + 0.9 * epoch / self.warmup_epochs
        else:
            done = (epoch - self.warmup_epochs) / max(1, self.epochs - self.warmup_epochs)
            factor = (1 + math.cos(math.pi * done)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor


class CosineEpochs:
    """FSEFT's and ARENA's schedule: one epoch at the full rate, then a cosine to zero that changes with each epoch.

    Training ends with the plateau, without a decay of its own, or with the last epoch.

    Args:
        max_steps: cap on the steps, a little less than the cosine's length: its last epoch has a rate of zero.
        rule: when training ends early.
        epoch_steps: steps of an epoch.
    """

    changing: ClassVar[tuple[str, ...]] = ("losses", "plateau")

    def __init__(self, max_steps: int, rule: PlateauRule, *, epoch_steps: int) -> None:
        self.max_steps = max_steps
        self.rule = rule
        self.epoch_steps = epoch_steps
        self.losses: list[float] = []
        self.plateau = False

    @property
    def earliest_end(self) -> int:
        """Steps of a training that reaches its plateau as soon as the rule is asked."""
        return min(self.max_steps, self.rule.first_look)

    @property
    def ended(self) -> bool:
        """Whether the last step has been recorded."""
        return self.plateau or len(self.losses) >= self.max_steps

    def factor(self) -> float:
        """Return the factor on the learning rates of the next step."""
        epochs = self.max_steps / self.epoch_steps
        return (1 + math.cos(math.pi * (len(self.losses) // self.epoch_steps) / epochs)) / 2

    def record(self, loss: float) -> bool:
        """Record the loss of a step; return whether training has ended."""
        self.losses.append(loss)
        self.plateau = self.rule.reached(self.losses)
        return self.ended
