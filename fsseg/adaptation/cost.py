"""What an adaptation will cost: memory before any step is taken, and time measured on two real steps."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fsseg.adaptation.job import Job
from fsseg.adaptation.training import train
from fsseg.config.manifest import peak_memory_mib
from fsseg.data.channels import channel_names
from fsseg.data.volumes import Volume
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.training.cost import BatchClock
from fsseg.training.cost_advice import Demand, PlannedStep, Remedies, said
from fsseg.training.memory import MIB, device_available_mib, host_available_mib
from fsseg.training.placement import mixed_precision

logger = logging.getLogger(__name__)

_MEASURED_STEPS = 2  # the first one sets things up
_POOL_CROPS = 4


def expected_demand(job: Job, adapted: AdaptedNetwork, volumes: Sequence[Volume], cases: int) -> Demand:
    """Return the memory that an adaptation will take, without taking a step.

    Args:
        job: what to adapt.
        adapted: the network, which is left as it is.
        volumes: some of the support cases.
        cases: how many there are in all.
    """
    adapted.train_mode()
    step = _planned(job, adapted).mib()
    adapted.network.eval()
    each = max((np.asarray(v.image).nbytes + np.asarray(v.labels).nbytes) / MIB for v in volumes)
    host = peak_memory_mib()["host"] + (cases - len(volumes)) * each
    if job.method.reads_features_only:
        host += 1024 * job.recipe.feature_cache_gib if job.device.type == "cuda" else 0
    on_device = job.device.type == "cuda"
    return Demand(
        step_mib=step,
        host_mib=host + (0 if on_device else step),
        host_available_mib=host_available_mib(),
        device_mib=step if on_device else None,
        device_available_mib=device_available_mib(job.device),
    )


def memory_warnings(job: Job, adapted: AdaptedNetwork, volumes: Sequence[Volume]) -> list[str]:
    """Say that an adaptation will not fit into free memory, and what takes less."""
    demand = expected_demand(job, adapted, volumes, len(volumes))
    short = demand.shortages()
    return said(short, less_costly(job, adapted)) if short else []


def adaptation_cost(
    job: Job,
    adapted: AdaptedNetwork,
    volumes: Sequence[Volume],
    cases: int,
    *,
    estimated: bool,
    preprocessing_seconds: float = 0.0,
) -> dict[str, Any]:
    """Return what an adaptation will cost, measured on two real steps where they fit into free memory.

    Hours are those of the most steps that the recipe takes, which a plateau of the loss may cut short.

    Args:
        job: what to adapt.
        adapted: the network, which is trained for two steps.
        volumes: some of the support cases.
        cases: how many there are in all.
        estimated: with leave-one-out: a training without each case, and a prediction of it.
        preprocessing_seconds: what is left to preprocess will take.
    """
    demand = expected_demand(job, adapted, volumes, cases)
    less = less_costly(job, adapted)
    facts: dict[str, Any] = {"preprocessing_seconds": round(preprocessing_seconds, 1), "trainings": 1}
    short = demand.shortages()
    if not short:
        facts |= _measured(job, adapted, volumes)
        predicting = _prediction_seconds(job, adapted, volumes[0]) if estimated else 0.0
        folds = cases if estimated else 0
        seconds = preprocessing_seconds + _training_seconds(job, facts, cases)
        seconds += folds * (_training_seconds(job, facts, cases - 1) + predicting)
        facts |= {"trainings": 1 + folds, "prediction_seconds": round(predicting, 2), "hours": round(seconds / 3600, 3)}
        demand = demand.measured(peak_memory_mib())
    return {**facts, **demand.facts(), "advice": said(short, less, facts.get("hours", 0.0))}


def less_costly(job: Job, adapted: AdaptedNetwork) -> list[str]:
    """Return what would take less memory or time, with the memory of a step, in a line each."""
    adapted.train_mode()
    kept = not job.method.reads_features_only
    lines = _planned(job, adapted).less(
        Remedies(
            checkpointing="--set recipe.checkpoint_activations=true" if kept else None,
            bfloat16="--set recipe.precision=bfloat16",
            single="--set recipe.batch_size=1",
            smaller="a base with a smaller patch: fsseg import ... --patch-size {patch}",
        )
    )
    adapted.network.eval()
    return lines


def _planned(job: Job, adapted: AdaptedNetwork) -> PlannedStep:
    return PlannedStep(
        network=adapted.network,
        channels=len(channel_names(job.base.dataset_json)),
        patch=job.patch_size,
        # Where features alone are read, the network runs once over a crop, without a backward pass.
        batch=1 if job.method.reads_features_only else _batch_size(job),
        device=job.device,
        precision=job.recipe.precision,
        checkpointed=job.recipe.checkpoint_activations,
    )


def _batch_size(job: Job) -> int:
    return job.recipe.batch_size or job.base.configuration_manager().batch_size


def _measured(job: Job, adapted: AdaptedNetwork, volumes: Sequence[Volume]) -> dict[str, Any]:
    """Train for two steps; return what a step takes, and a crop whose features are computed."""
    few = {"max_steps": _MEASURED_STEPS, "made_for_cases": None, "feature_crops": _POOL_CROPS}
    clock = BatchClock()
    recipe = job.recipe.model_copy(update=few)
    result = train(replace(job, recipe=recipe), adapted, volumes, "measured steps", clock=clock)
    loading = sum(clock.loading[1:]) / max(1, len(clock.loading) - 1)
    computing = clock.computing[-1] if clock.computing else 0.0
    facts = {
        "seconds_per_step": round(computing + loading, 4),
        "network_seconds": round(computing, 4),
        "loading_seconds": round(loading, 4),
    }
    if result.feature_cache is not None:
        facts["feature_seconds_per_crop"] = round(result.feature_cache["seconds"] / result.feature_cache["crops"], 4)
    return facts


def _training_seconds(job: Job, facts: dict[str, Any], cases: int) -> float:
    recipe = job.recipe.for_cases(cases)
    steps = 0 if job.method.training_free else recipe.max_steps
    crops = recipe.feature_crops if job.method.training_free else min(recipe.feature_crops, steps * _batch_size(job))
    return steps * facts["seconds_per_step"] + crops * facts.get("feature_seconds_per_crop", 0.0)


def _prediction_seconds(job: Job, adapted: AdaptedNetwork, volume: Volume) -> float:
    """Return about what the sliding window over a case takes, from one patch."""
    adapted.network.eval()
    channels = len(volume.image)
    patch = torch.zeros((1, channels, *job.patch_size), device=job.device)
    with torch.no_grad(), mixed_precision(job.device, "auto"):
        started = time.perf_counter()
        float(adapted.network(patch).sum())
        seconds = time.perf_counter() - started
    moved = [size * job.recipe.tile_step_size for size in job.patch_size]
    extents = zip(volume.shape, job.patch_size, moved, strict=True)
    tiles = math.prod(math.ceil(max(0, extent - size) / step) + 1 for extent, size, step in extents)
    return seconds * tiles * 2 ** len(job.flips.axes)
