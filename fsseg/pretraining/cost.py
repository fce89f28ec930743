"""What a pretraining will cost: memory before any step is taken, and time measured on some crops and steps."""

import math
import os
import time
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from fsseg.config.manifest import peak_memory_mib
from fsseg.nnunet.preprocessed_volume import KEPT_LOCATIONS
from fsseg.nnunet.pretraining.loaders import workers_for
from fsseg.training.cost import BatchClock, mib_of
from fsseg.training.cost_advice import Demand, PlannedStep, Remedies, said
from fsseg.training.memory import MIB, device_available_mib, host_available_mib
from fsseg.training.placement import cpu_threads
from fsseg.training.processes import Processes, processes_of_host

_MEASURED_STEPS = 2  # the first one sets things up
_MEASURED_CROPS = 8  # augmentation is random: one crop takes much longer than another
_BATCHES_OF_A_WORKER = 3  # two wait, one is made
_BYTES_OF_A_LOCATION = 6  # three coordinates


def expected_demand(trainer: Any) -> Demand:
    """Return the memory that a pretraining will take, without taking a step: of the process that has it worst.

    Memory of the host is that of all processes of the training on this machine: the peak of this one until now, with
    the foreground voxels of all cases, the batches of its workers and, on a CPU, the step.

    Args:
        trainer: an initialised partial-label trainer, which is left as it is. All processes ask at once.
    """
    step = _planned(trainer).mib()
    on_device = trainer.device.type == "cuda"
    processes = processes_of_host()
    own = peak_memory_mib()["host"] + _locations_mib(trainer) + _waiting_mib(trainer)
    averaged = 0.0 if trainer.average is None else mib_of(trainer.average.parameters())
    demand = Demand(
        step_mib=step,
        host_mib=processes * (own + (0 if on_device else step)),
        host_available_mib=host_available_mib(processes),
        device_mib=step + averaged if on_device else None,
        device_available_mib=device_available_mib(trainer.device),
    )
    return _worst(demand, trainer.processes, trainer.device)


def memory_warnings(trainer: Any) -> list[str]:
    """Say that a pretraining will not fit into free memory, and what takes less. All processes ask at once."""
    short = expected_demand(trainer).shortages()
    return said(short, less_costly(trainer)) if short else []


def less_costly(trainer: Any) -> list[str]:
    """Return what would take less memory or time, with the memory of a step, in a line each."""
    processes = trainer.processes.count
    accumulate = trainer.settings.accumulate * _planned(trainer).batch
    return _planned(trainer).less(
        Remedies(
            checkpointing=None,  # no setting of a pretraining
            bfloat16="--set precision=bfloat16",
            single=f"batch_size {processes} in the plans with --set accumulate={accumulate}, as many crops a step",
            smaller="patch_size {patch} in the plans",
        )
    )


def pretraining_cost(trainer: Any, preprocessed: Path) -> dict[str, Any]:
    """Return what a pretraining will cost, measured on two real steps where they fit into free memory.

    Hours are those of all steps, and of the validation after each epoch; checkpoints are not part of them. Memory and
    disk are in MiB; disk is the preprocessed data, and the checkpoints while one replaces another.

    Args:
        trainer: an initialised partial-label trainer; its network is trained for two steps.
        preprocessed: folder of the dataset.
    """
    demand = expected_demand(trainer)
    less, short = less_costly(trainer), demand.shortages()
    facts: dict[str, Any] = {"workers": workers_for(trainer.settings, trainer.device), "epochs": trainer.num_epochs}
    if not short:
        facts |= _measured(trainer)
        validation = facts["epochs"] * facts["validation_seconds"]
        facts["hours"] = round((trainer.settings.steps * facts["seconds_per_step"] + validation) / 3600, 3)
        peaks = peak_memory_mib()
        peaks["host"] = processes_of_host() * (peaks["host"] + _waiting_mib(trainer))
        demand = demand.measured(peaks)
    data = sum(file.stat().st_size for file in preprocessed.rglob("*") if file.is_file()) / MIB
    of_a_checkpoint = 3 + (trainer.average is not None)  # weights, two moments, averaged weights
    return {
        **facts,
        **demand.facts(),
        "advice": said(short, less, facts.get("hours", 0.0)),
        "preprocessed_mib": round(data, 1),
        "checkpoints_mib": round(2 * of_a_checkpoint * mib_of(trainer.plain_network.parameters()), 1),
    }


def _planned(trainer: Any) -> PlannedStep:
    return PlannedStep(
        network=trainer.plain_network.train(),
        channels=trainer.num_input_channels,
        patch=trainer.configuration_manager.patch_size,
        batch=trainer.processes.share_of(trainer.batch_size),
        device=trainer.device,
        precision=trainer.settings.precision,
        compute_loss=trainer.objective.loss_of_empty_crops,
    )


def _locations_mib(trainer: Any) -> float:
    """Return the most that the foreground voxels of the training cases take."""
    annotated = sum(len(trainer.structures.annotation(case).annotated) for case in trainer.do_split()[0])
    return annotated * KEPT_LOCATIONS * _BYTES_OF_A_LOCATION / MIB


def _waiting_mib(trainer: Any) -> float:
    """Return what the batches of the processes that prepare crops take."""
    planned = _planned(trainer)
    voxels = planned.batch * math.prod(planned.patch)
    of_a_voxel = 4 * planned.channels + 2 * 2  # a float32 image; label map and zones as int16
    return workers_for(trainer.settings, trainer.device) * _BATCHES_OF_A_WORKER * voxels * of_a_voxel / MIB


def _worst(demand: Demand, processes: Processes, device: torch.device) -> Demand:
    """Return the highest need and the least free memory of all processes, so that they decide alike."""

    def highest(mib: float | None) -> float | None:
        return None if mib is None else float(processes.highest(math.ceil(mib), device))

    def least(mib: float | None) -> float | None:
        return None if mib is None else -float(processes.highest(-math.floor(mib), device))

    return Demand(
        step_mib=demand.step_mib,
        host_mib=float(processes.highest(math.ceil(demand.host_mib), device)),
        host_available_mib=least(demand.host_available_mib),
        device_mib=highest(demand.device_mib),
        device_available_mib=least(demand.device_available_mib),
    )


def _measured(trainer: Any) -> dict[str, Any]:
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
    return {
        "seconds_per_step": round(seconds, 4),
        "steps_per_second": round(1 / seconds, 4),
        "network_seconds": round(computing, 4),
        "loading_seconds": round(loading, 4),
        "validation_seconds": round(_validation_seconds(trainer), 4),
    }


def _validation_seconds(trainer: Any) -> float:
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
