"""What a pretraining will cost: memory before any step is taken, time and disk."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fsseg.config.manifest import peak_memory_mib
from fsseg.config.results import JsonObject
from fsseg.nnunet.preprocessed_volume import KEPT_LOCATIONS
from fsseg.nnunet.pretraining.loaders import workers_for
from fsseg.pretraining.step_times import StepTimes, measured_times
from fsseg.training.cost import mib_of
from fsseg.training.cost_advice import Demand, PlannedStep, Remedies, said
from fsseg.training.memory import MIB, device_available_mib, host_available_mib
from fsseg.training.processes import Processes, processes_of_host

if TYPE_CHECKING:
    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel

_BATCHES_OF_A_WORKER = 3  # two wait, one is made
_BYTES_OF_A_LOCATION = 6  # three coordinates


@dataclass(frozen=True)
class PretrainingCost:
    """What a pretraining will cost.

    Attributes:
        workers: processes that prepare crops, of each training process.
        epochs: stretches between two validations.
        demand: memory.
        advice: where memory is too small or the training long, what takes less.
        preprocessed_mib: disk that the preprocessed data takes.
        checkpoints_mib: disk that the checkpoints take, while one replaces another.
        step: times of a step; None where none was measured, because it would not fit into free memory.
        hours: of all steps, and of the validation after each epoch; checkpoints are not part of them.
    """

    workers: int
    epochs: int
    demand: Demand
    advice: list[str]
    preprocessed_mib: float
    checkpoints_mib: float
    step: StepTimes | None = None
    hours: float | None = None

    def as_dict(self) -> JsonObject:
        """Return the cost as plain values, without what was not measured."""
        measured = {} if self.step is None else {**self.step.as_dict(), "hours": self.hours}
        disk = {"preprocessed_mib": self.preprocessed_mib, "checkpoints_mib": self.checkpoints_mib}
        counts = {"workers": self.workers, "epochs": self.epochs}
        return {**counts, **measured, **self.demand.facts(), "advice": self.advice, **disk}


def expected_demand(trainer: "nnUNetTrainerPartialLabel") -> Demand:
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


def memory_warnings(trainer: "nnUNetTrainerPartialLabel") -> list[str]:
    """Say that a pretraining will not fit into free memory, and what takes less. All processes ask at once."""
    short = expected_demand(trainer).shortages()
    return said(short, less_costly(trainer)) if short else []


def less_costly(trainer: "nnUNetTrainerPartialLabel") -> list[str]:
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


def pretraining_cost(trainer: "nnUNetTrainerPartialLabel", preprocessed: Path) -> PretrainingCost:
    """Return what a pretraining will cost, measured on two real steps where they fit into free memory.

    Args:
        trainer: an initialised trainer; its network is trained for two steps.
        preprocessed: folder of the dataset.
    """
    demand = expected_demand(trainer)
    less, short = less_costly(trainer), demand.shortages()
    data = sum(file.stat().st_size for file in preprocessed.rglob("*") if file.is_file()) / MIB
    of_a_checkpoint = 3 + (trainer.average is not None)  # weights, two moments, averaged weights
    cost = PretrainingCost(
        workers=workers_for(trainer.settings, trainer.device),
        epochs=trainer.num_epochs,
        demand=demand,
        advice=said(short, less),
        preprocessed_mib=round(data, 1),
        checkpoints_mib=round(2 * of_a_checkpoint * mib_of(trainer.plain_network.parameters()), 1),
    )
    if short:
        return cost
    step = measured_times(trainer)
    seconds = trainer.settings.steps * step.seconds_per_step + cost.epochs * step.validation_seconds
    hours = round(seconds / 3600, 3)
    peaks = peak_memory_mib()
    peaks["host"] = processes_of_host() * (peaks["host"] + _waiting_mib(trainer))
    return replace(cost, demand=demand.measured(peaks), advice=said([], less, hours), step=step, hours=hours)


def _planned(trainer: "nnUNetTrainerPartialLabel") -> PlannedStep:
    return PlannedStep(
        network=trainer.plain_network.train(),
        channels=trainer.num_input_channels,
        patch=trainer.configuration_manager.patch_size,
        batch=trainer.processes.share_of(trainer.batch_size),
        device=trainer.device,
        precision=trainer.settings.precision,
        compute_loss=trainer.objective.loss_of_empty_crops,
    )


def _locations_mib(trainer: "nnUNetTrainerPartialLabel") -> float:
    """Return the most that the foreground voxels of the training cases take."""
    annotated = sum(len(trainer.structures.annotation(case).annotated) for case in trainer.do_split()[0])
    return annotated * KEPT_LOCATIONS * _BYTES_OF_A_LOCATION / MIB


def _waiting_mib(trainer: "nnUNetTrainerPartialLabel") -> float:
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
