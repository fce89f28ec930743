"""One training of an adapted network on its support cases, by the recipe."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor, nn

from fsseg.adaptation.job import Job
from fsseg.adaptation.start import Start
from fsseg.config.recipes import Activation, Recipe
from fsseg.data.crops import CropSampler
from fsseg.data.volumes import Volume
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.models.parts import parts_of
from fsseg.nnunet.augmentation import crop_size_for, intensity_shift, training_augmentation
from fsseg.training.cost import BatchClock
from fsseg.training.crop_batches import Crops, batches
from fsseg.training.feature_cache import cache_features
from fsseg.training.fit import FitResult, OnStep, fit, fit_closed_form, unreported
from fsseg.training.fit_checkpoint import FitCheckpoint
from fsseg.training.losses import Formula, MaskedLoss, fseft, mean_bce_dice, softmax_ce_dice
from fsseg.training.schedule import CosineEpochs, PlateauRule, Schedule, WarmupStableDecay
from fsseg.training.targets import TargetTable

BatchesFrom = Callable[[int], Iterable[dict[str, Tensor]]]  # the batches from a step on

_FORMULAS: dict[tuple[str, Activation], Formula] = {
    ("bce_dice", "sigmoid"): mean_bce_dice,
    ("bce_dice", "softmax"): softmax_ce_dice,
    ("dice", "sigmoid"): fseft,
    ("dice", "softmax"): fseft,
}


def train(
    start: Start,
    label: str,
    checkpoint: FitCheckpoint | None = None,
    on_step: OnStep = unreported,
    clock: BatchClock | None = None,
) -> FitResult:
    """Train a network on its volumes by the job's recipe, or go on from a checkpoint.

    A method that reads the last features only is trained, or solved, on the features of a fixed pool of crops.

    Args:
        start: job, network and volumes; the network is changed in place.
        label: text of the progress bar.
        checkpoint: keeps the state.
        on_step: is told of every step.
        clock: times the steps.
    """
    adapted, volumes = start.network, start.volumes
    job = replace(start.job, recipe=start.job.recipe.for_cases(len(volumes)))
    recipe, batch_size = job.recipe, job.batch_size
    used = recipe.max_steps * batch_size
    if not job.method.reads_features_only:

        def crops_from(step: int) -> Iterable[dict[str, Tensor]]:
            left = _crops(job, volumes, used, first=step * batch_size)
            return batches(left, batch_size, 0, pin_memory=job.device.type == "cuda")

        return _fit(job, adapted, adapted.network, _timed(crops_from, clock), label, checkpoint, on_step)
    count = _pool_size(recipe, len(volumes))
    count = count if job.method.training_free else min(count, used)
    crops = _crops(job, volumes, count)
    pool = cache_features(
        adapted.network,
        crops,
        gib=recipe.feature_cache_gib,
        device=job.device,
        precision=recipe.precision,
        label=label,
    )
    if job.method.training_free:
        result = fit_closed_form(adapted, pool, _table(job), job.channel_names)
    else:

        def features_from(step: int) -> Iterable[dict[str, Tensor]]:
            return islice(pool.batches(batch_size, job.seed, recipe.crops_per_volume or 1), step, None)

        head = parts_of(adapted.network).head
        result = _fit(job, adapted, head, _timed(features_from, clock), label, checkpoint, on_step)
    return replace(result, seconds=result.seconds + pool.seconds, feature_cache=pool.report())


def _timed(batches_from: BatchesFrom, clock: BatchClock | None) -> BatchesFrom:
    return batches_from if clock is None else lambda step: clock.timed(batches_from(step))


def _pool_size(recipe: Recipe, cases: int) -> int:
    """Return how many crops to make features of: where cases have turns, as many of each."""
    if recipe.crops_per_volume is None:
        return recipe.feature_crops
    crops_per_turn = recipe.crops_per_volume * cases
    return math.ceil(recipe.feature_crops / crops_per_turn) * crops_per_turn


def _crops(job: Job, volumes: Sequence[Volume], last: int, first: int = 0) -> Crops:
    recipe, patch = job.recipe, job.patch_size
    rotated = recipe.augmentation == "nnunet"  # a rotated patch is cut from a larger crop
    sampler = CropSampler(
        volumes,
        patch,
        crop_size=crop_size_for(patch) if rotated else patch,
        foreground_probability=recipe.foreground_probability,
        jitter=recipe.crop_jitter,
    )
    augmentation = training_augmentation(patch, job.flips.axes) if rotated else intensity_shift(patch)
    turns = recipe.crops_per_volume
    return Crops(sampler, augmentation, first=first, count=last - first, seed=job.seed, crops_per_volume=turns)


def _table(job: Job) -> TargetTable:
    members = torch.from_numpy(job.target.structures.table())
    return TargetTable(members, background=job.recipe.activation == "softmax")


def _fit(
    job: Job,
    adapted: AdaptedNetwork,
    forward: nn.Module,
    batches_from: BatchesFrom,
    label: str,
    checkpoint: FitCheckpoint | None,
    on_step: OnStep,
) -> FitResult:
    recipe = job.recipe
    return fit(
        adapted,
        forward,
        batches_from,
        _table(job),
        groups=adapted.parameter_groups(recipe.rates(job.method.family)),
        schedule=_schedule(recipe),
        loss=MaskedLoss(_FORMULAS[recipe.loss, recipe.activation], recipe.activation),
        weight_decay=recipe.weight_decay,
        device=job.device,
        precision=recipe.precision,
        seed=job.seed,
        checkpoint_activations=recipe.checkpoint_activations,
        checkpoint=checkpoint,
        on_step=on_step,
        label=label,
    )


def _schedule(recipe: Recipe) -> Schedule:
    rule = PlateauRule(
        window=recipe.plateau_window,
        patience=recipe.plateau_patience,
        improvement=recipe.plateau_improvement,
        relative=recipe.plateau_relative,
        first=recipe.plateau_first,
        every=recipe.epoch_steps,
    )
    if recipe.schedule == "cosine":
        return CosineEpochs(recipe.max_steps, rule, epoch_steps=recipe.epoch_steps)
    return WarmupStableDecay(recipe.max_steps, rule)
