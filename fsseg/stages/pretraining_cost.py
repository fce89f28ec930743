"""What a pretraining will cost, measured on some crops and two steps: seconds, memory, disk."""

import os
import time
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from fsseg.config.manifest import peak_memory_mib
from fsseg.stages.cost_advice import Demand
from fsseg.training.cost import measure_step, mib_of
from fsseg.training.memory import device_available_mib, host_available_mib
from fsseg.training.placement import cpu_threads, mixed_precision
from fsseg.training.processes import processes_of_host

_MEASURED_CROPS = 8  # augmentation is random: one crop takes much longer than another
_BATCHES_OF_A_WORKER = 3  # two wait, one is made


def pretraining_cost(trainer: Any, preprocessed: Path) -> dict[str, Any]:
    """Return seconds a step, steps a second, hours in all, and memory and disk in MiB.

    Workers prepare crops while the network is trained, so a step takes what takes longer; without workers it takes
    both. Validation and checkpoints are not part of it. Memory of the host is that of all processes of the training on
    this machine: the peak of this one until now, with the foreground voxels of all cases, and the batches of its
    workers. Disk is the preprocessed data, and the checkpoints while one replaces another.

    Args:
        trainer: an initialised partial-label trainer; its network is trained for two steps.
        preprocessed: folder of the dataset.
    """
    settings = trainer.settings
    loader = trainer.crops.training(trainer.do_split()[0], 0, trainer.device)
    batch, loading = _prepared(loader)
    trainer.dataloader_train = repeat(batch)  # of which a step takes several, where it accumulates
    trainer.network.train()

    def compute_loss() -> Tensor:
        with mixed_precision(trainer.device, settings.precision):
            return trainer.objective.training_loss(trainer.parallel_network, batch)

    step = measure_step(trainer.plain_network, compute_loss, lambda: trainer.train_step(batch), trainer.device)
    loading *= settings.accumulate
    at_once = min(loader.num_workers, os.cpu_count() or 1)
    seconds = max(step.seconds, loading / at_once) if at_once else step.seconds + loading
    waiting = loader.num_workers * _BATCHES_OF_A_WORKER * sum(tensor.nbytes for tensor in batch.values()) / 2**20
    data = sum(file.stat().st_size for file in preprocessed.rglob("*") if file.is_file()) / 2**20
    of_a_checkpoint = 3 + (settings.ema is not None)  # weights, two moments, averaged weights
    demand = Demand(
        step_mib=step.memory_mib,
        host_mib=processes_of_host() * (peak_memory_mib()["host"] + waiting),
        host_available_mib=host_available_mib(),
        device_mib=step.memory_mib if trainer.device.type == "cuda" else None,
        device_available_mib=device_available_mib(trainer.device),
    )
    return {
        "seconds_per_step": round(seconds, 4),
        "steps_per_second": round(1 / seconds, 4),
        "network_seconds": round(step.seconds, 4),
        "loading_seconds": round(loading, 4),
        "workers": loader.num_workers,
        "hours": round(seconds * settings.steps / 3600, 3),
        **demand.facts(),
        "advice": demand.shortages(),
        "preprocessed_mib": round(data, 1),
        "checkpoints_mib": round(2 * of_a_checkpoint * mib_of(trainer.plain_network.parameters()), 1),
    }


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
