"""What an adaptation will cost: memory before any step is taken, and time measured on two real steps."""

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fsseg.adaptation.job import Job
from fsseg.adaptation.start import Start
from fsseg.adaptation.step_times import StepTimes, measured_times, prediction_seconds, training_seconds
from fsseg.config.manifest import peak_memory_mib
from fsseg.training.cost_advice import Demand, PlannedStep, Remedies, said
from fsseg.training.memory import MIB, device_available_mib, host_available_mib

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdaptationCost:
    """What an adaptation will cost.

    Attributes:
        preprocessing_seconds: what is left to preprocess will take.
        trainings: with leave-one-out one more for every case.
        demand: memory.
        advice: where memory is too small or the training long, what takes less.
        step: times of a step; None where none was measured, because it would not fit into free memory.
        prediction_seconds: of the prediction of a case that is held out.
        hours: in all, of the most steps that the recipe takes, which a plateau of the loss may cut short.
    """

    preprocessing_seconds: float
    trainings: int
    demand: Demand
    advice: list[str]
    step: StepTimes | None = None
    prediction_seconds: float | None = None
    hours: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the cost as plain values, without what was not measured."""
        step = {} if self.step is None else asdict(self.step)
        facts = {"preprocessing_seconds": self.preprocessing_seconds, "trainings": self.trainings, **step}
        facts |= {"prediction_seconds": self.prediction_seconds, "hours": self.hours}
        measured = {name: value for name, value in facts.items() if value is not None}
        return {**measured, **self.demand.facts(), "advice": self.advice}


def expected_demand(start: Start, cases: int) -> Demand:
    """Return the memory that an adaptation will take, without taking a step.

    Args:
        start: job, network, which is left as it is, and some of the support cases.
        cases: how many there are in all.
    """
    job, volumes = start.job, start.volumes
    start.network.train_mode()
    step = _planned(start).mib()
    start.network.network.eval()
    each = max((np.asarray(v.image).nbytes + np.asarray(v.labels).nbytes) / MIB for v in volumes)
    host = peak_memory_mib()["host"] + (cases - len(volumes)) * each
    if job.pools_features:
        host += 1024 * job.recipe.feature_cache_gib if job.device.type == "cuda" else 0
    on_device = job.device.type == "cuda"
    return Demand(
        step_mib=step,
        host_mib=host + (0 if on_device else step),
        host_available_mib=host_available_mib(),
        device_mib=step if on_device else None,
        device_available_mib=device_available_mib(job.device),
    )


def memory_warnings(start: Start) -> list[str]:
    """Say that an adaptation will not fit into free memory, and what takes less."""
    short = expected_demand(start, len(start.volumes)).shortages()
    return said(short, less_costly(start)) if short else []


def adaptation_cost(start: Start, cases: int, *, estimated: bool, preprocessing_seconds: float = 0.0) -> AdaptationCost:
    """Return what an adaptation will cost, measured on two real steps where they fit into free memory.

    Args:
        start: job, network, which is trained for two steps, and some of the support cases.
        cases: how many there are in all.
        estimated: with leave-one-out: a training without each case, and a prediction of it.
        preprocessing_seconds: what is left to preprocess will take.
    """
    demand, less = expected_demand(start, cases), less_costly(start)
    cost = AdaptationCost(round(preprocessing_seconds, 1), 1, demand, [])
    if short := demand.shortages():
        return replace(cost, advice=said(short, less))
    step = measured_times(start)
    predicting = prediction_seconds(start, start.volumes[0].shape) if estimated else 0.0
    folds = cases if estimated else 0
    seconds = preprocessing_seconds + _training_seconds(start.job, step, cases)
    seconds += folds * (_training_seconds(start.job, step, cases - 1) + predicting)
    hours = round(seconds / 3600, 3)
    return replace(
        cost,
        trainings=1 + folds,
        demand=demand.measured(peak_memory_mib()),
        advice=said([], less, hours),
        step=step,
        prediction_seconds=round(predicting, 2),
        hours=hours,
    )


def less_costly(start: Start) -> list[str]:
    """Return what would take less memory or time, with the memory of a step, in a line each."""
    start.network.train_mode()
    kept = not start.job.method.reads_features_only
    lines = _planned(start).less(
        Remedies(
            checkpointing="--set recipe.checkpoint_activations=true" if kept else None,
            bfloat16="--set recipe.precision=bfloat16",
            single="--set recipe.batch_size=1",
            smaller="a base with a smaller patch: fsseg import ... --patch-size {patch}",
        )
    )
    start.network.network.eval()
    return lines


def _planned(start: Start) -> PlannedStep:
    job = start.job
    return PlannedStep(
        network=start.network.network,
        channels=len(job.base.channel_names),
        patch=job.patch_size,
        # Where features alone are read, the network runs once over a crop, without a backward pass.
        batch=1 if job.pools_features else job.batch_size,
        device=job.device,
        precision=job.recipe.precision,
        checkpointed=job.recipe.checkpoint_activations,
    )


def _training_seconds(job: Job, step: StepTimes, cases: int) -> float:
    recipe, free = job.recipe.for_cases(cases), job.method.training_free
    return training_seconds(recipe, step, batch_size=job.batch_size, training_free=free)
