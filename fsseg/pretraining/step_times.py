"""How long a step of a pretraining takes, measured on some crops and steps."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from fsseg.training.cost import BatchClock
from fsseg.training.placement import cpu_threads

if TYPE_CHECKING:
    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel

_MEASURED_STEPS = 2  # the first one sets things up
_MEASURED_CROPS = 8  # augmentation is random: one crop takes much longer than another


@dataclass(frozen=True)
class StepTimes:
    """What a step takes, measured.

    Attributes:
        seconds_per_step: in all.
        network_seconds: of the network.
        loading_seconds: of one process that prepares the crops.
        validation_seconds: of the validation after an epoch.
    """

    seconds_per_step: float
    network_seconds: float
    loading_seconds: float
    validation_seconds: float

    def as_dict(self) -> dict[str, float]:
        """Return the times, rounded as a report has them."""
        per_second = {"steps_per_second": 1 / self.seconds_per_step}
        return {name: round(value, 4) for name, value in {**asdict(self), **per_second}.items()}


def measured_times(trainer: "nnUNetTrainerPartialLabel") -> StepTimes:
    """Take two steps, and two of the validation; return what they took.

    Workers prepare crops while the network is trained, so a step takes what takes longer; without workers it takes
    both.
    """
    loader = trainer.crops.training(trainer.do_split()[0], 0, trainer.device)
    batch, loading = _prepared(loader)
    trainer.dataloader_train = repeat(batch)  # of which a step takes several, where it accumulates
    trainer.network.train()
    computing = _seconds(batch, trainer.train_step)
    loading *= trainer.settings.accumulate
    at_once = min(loader.num_workers, os.cpu_count() or 1)
    seconds = max(computing, loading / at_once) if at_once else computing + loading
    return StepTimes(
        seconds_per_step=seconds,
        network_seconds=computing,
        loading_seconds=loading,
        validation_seconds=validation_seconds(trainer),
    )


def validation_seconds(trainer: "nnUNetTrainerPartialLabel") -> float:
    """Return what the validation after an epoch takes: crops that were prepared once, forward only."""
    trainer.validation_batches = trainer.crops.validation(trainer.do_split()[1], 1)
    if not trainer.validation_batches:
        return 0.0
    trainer.on_validation_epoch_start()
    with torch.no_grad():
        seconds = _seconds(trainer.validation_batches[0], trainer.validation_step)
    return seconds * trainer.num_val_iterations_per_epoch


def _seconds(batch: dict[str, Tensor], step: Callable[[dict[str, Tensor]], object]) -> float:
    """Return what a step takes, which waits for the device."""
    clock = BatchClock()
    for each in clock.timed([batch] * _MEASURED_STEPS):
        step(each)
    return clock.computing[-1]


def _prepared(loader: DataLoader[dict[str, Tensor]]) -> tuple[dict[str, Tensor], float]:
    """Return the first batch of a loader, and the seconds that one process takes to prepare a batch."""
    crops, size = loader.dataset, len(next(iter(loader.batch_sampler)))  # type: ignore[arg-type]
    count = min(len(crops), max(size, _MEASURED_CROPS))  # type: ignore[arg-type]
    with cpu_threads(1 if loader.num_workers else torch.get_num_threads()):  # a worker has one
        crops[0]  # the first one sets things up
        started = time.perf_counter()
        prepared = [crops[number] for number in range(count)]
        seconds = time.perf_counter() - started
    return default_collate(prepared[:size]), seconds / count * size
