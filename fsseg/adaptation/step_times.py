"""How long a step of an adaptation, and a prediction, take: measured on real steps and on one patch."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from fsseg.adaptation.start import Start
from fsseg.adaptation.training import train
from fsseg.config.recipes import Recipe
from fsseg.training.cost import BatchClock
from fsseg.training.placement import mixed_precision

_MEASURED_STEPS = 2  # the first one sets things up
_SHORT_SECONDS, _SHORT_STEPS = 1.0, 8  # a short step varies more, and more of them cost nothing
_POOL_CROPS = 4


@dataclass(frozen=True)
class StepTimes:
    """What a step takes, measured.

    Attributes:
        seconds_per_step: in all.
        network_seconds: of the network.
        loading_seconds: of the batch.
        feature_seconds_per_crop: to compute the features of a crop once; None with the network in the loop.
    """

    seconds_per_step: float
    network_seconds: float
    loading_seconds: float
    feature_seconds_per_crop: float | None = None

    def of_batch(self, crops: int) -> "StepTimes":
        """Return the times of a step of so many crops; these are of one."""
        return StepTimes(
            seconds_per_step=round(crops * self.seconds_per_step, 4),
            network_seconds=round(crops * self.network_seconds, 4),
            loading_seconds=round(crops * self.loading_seconds, 4),
            feature_seconds_per_crop=self.feature_seconds_per_crop,
        )


def measured_times(start: Start, long_seconds: float = math.inf) -> StepTimes:
    """Train for some steps; return what a step takes, and a crop whose features are computed.

    Args:
        start: job, network, which is trained, and some of the support cases.
        long_seconds: where a step of a single crop takes longer, that step is all, and a batch takes as many times as
            long as it has crops.
    """
    batch = start.job.batch_size
    if start.job.method.training_free or not math.isfinite(long_seconds):
        return _measured(start, steps=_MEASURED_STEPS, crops=_POOL_CROPS, batch_size=batch)
    single = _measured(start, steps=1, crops=1, batch_size=1)
    if single.seconds_per_step > long_seconds:
        return single.of_batch(batch)
    steps = _SHORT_STEPS if batch * single.seconds_per_step < _SHORT_SECONDS else _MEASURED_STEPS
    return _measured(start, steps=steps, crops=_POOL_CROPS, batch_size=batch)


def _measured(start: Start, *, steps: int, crops: int, batch_size: int) -> StepTimes:
    few = {"max_steps": steps, "made_for_cases": None, "feature_crops": crops, "batch_size": batch_size}
    clock = BatchClock()
    job = replace(start.job, recipe=start.job.recipe.model_copy(update=few))
    cache = train(replace(start, job=job), "measured steps", clock=clock).feature_cache
    loading, computing = (fmean(times[1:] or times or [0.0]) for times in (clock.loading, clock.computing))
    return StepTimes(
        seconds_per_step=round(computing + loading, 4),
        network_seconds=round(computing, 4),
        loading_seconds=round(loading, 4),
        feature_seconds_per_crop=None if cache is None else round(cache["seconds"] / cache["crops"], 4),
    )


def training_seconds(recipe: Recipe, step: StepTimes, *, batch_size: int, training_free: bool) -> float:
    """Return what a training takes, if it takes all steps of its recipe.

    Args:
        recipe: for the number of cases that it is trained on.
        step: its times.
        batch_size: crops of a step.
        training_free: whether the method takes none.
    """
    steps = 0 if training_free else recipe.max_steps
    return steps * step.seconds_per_step + feature_seconds(recipe, step, batch_size, training_free=training_free)


def feature_seconds(recipe: Recipe, step: StepTimes, batch_size: int, *, training_free: bool) -> float:
    """Return the part of `training_seconds` in which features are computed once; 0 with the network in the loop."""
    crops = recipe.feature_crops if training_free else min(recipe.feature_crops, recipe.max_steps * batch_size)
    return crops * (step.feature_seconds_per_crop or 0.0)


def prediction_seconds(start: Start, shape: Sequence[int]) -> float:
    """Return about what the sliding window over a case takes, from one patch.

    Args:
        start: job and network.
        shape: voxels of the preprocessed case in z, y, x.
    """
    tiles = tiles_of(shape, start.job.patch_size, start.job.recipe.tile_step_size)
    return tile_seconds(start) * tiles * 2 ** len(start.job.flips.axes)


def tile_seconds(start: Start) -> float:
    """Return what the prediction of one patch takes, without flips."""
    job, network = start.job, start.network.network.eval()
    patch = torch.zeros((1, len(job.base.channel_names), *job.patch_size), device=job.device)
    seconds = 0.0
    with torch.no_grad(), mixed_precision(job.device, "auto"):
        for _ in range(_MEASURED_STEPS):
            if seconds < _SHORT_SECONDS:  # a second time: the first one sets things up
                started = time.perf_counter()
                float(network(patch).sum())
                seconds = time.perf_counter() - started
    return seconds


def tiles_of(shape: Sequence[int], patch: Sequence[int], step: float) -> int:
    """Return the patches of a sliding window.

    Args:
        shape: voxels of the case in z, y, x.
        patch: voxels of a patch.
        step: of the window, as a share of the patch.
    """
    extents = zip(shape, patch, strict=True)
    return math.prod(math.ceil(max(0, extent - size) / (size * step)) + 1 for extent, size in extents)
