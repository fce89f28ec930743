"""One training of an adapted network on its support cases, by the recipe."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from fsseg.adaptation.crops import crops_of, volumes_to_crop
from fsseg.adaptation.job import Job
from fsseg.adaptation.start import Start
from fsseg.adaptation.transductive import size_constraint
from fsseg.config.recipes import Activation, Recipe
from fsseg.models.parts import parts_of
from fsseg.training.cost import BatchClock
from fsseg.training.crop_batches import batches
from fsseg.training.feature_cache import cache_features
from fsseg.training.feature_store import FeatureStore
from fsseg.training.fit import FitResult, fit, fit_closed_form
from fsseg.training.fit_checkpoint import FitCheckpoint
from fsseg.training.losses import Formula, MaskedLoss, fseft, mean_bce_dice, softmax_ce_dice
from fsseg.training.plan import Inputs, OnStep, TrainingPlan, Watch, unreported
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
    features: Path | None = None,
) -> FitResult:
    """Train a network on its volumes by the job's recipe, or resume from a checkpoint.

    A method that reads the last features only is trained, or fitted, on the features of a fixed pool of crops, unless
    the recipe wants fresh ones.

    Args:
        start: job, network and volumes; the network is changed in place.
        label: text of the progress bar.
        checkpoint: keeps the state.
        on_step: is told of every step.
        clock: times the steps.
        features: folder of features on disk, which are shared with other trainings; None keeps none.
    """
    job = replace(start.job, recipe=start.job.recipe.for_cases(len(start.volumes)))
    start = replace(start, job=job, volumes=volumes_to_crop(job, start.volumes))
    watch = Watch(label, checkpoint, on_step)
    if job.pools_features:
        return _on_features(start, watch, clock, features)
    return _on_crops(start, watch, clock)


def _on_crops(start: Start, watch: Watch, clock: BatchClock | None) -> FitResult:
    """Train with the network in the loop, on crops that never recur."""
    job, size = start.job, start.job.batch_size

    def crops_from(step: int) -> Iterable[dict[str, Tensor]]:
        left = crops_of(job, start.volumes, job.recipe.max_steps * size, first=step * size)
        return batches(left, size, 0, pin_memory=job.device.type == "cuda")

    return _fit(start, start.network.network, _timed(crops_from, clock), watch)


def _on_features(start: Start, watch: Watch, clock: BatchClock | None, features: Path | None) -> FitResult:
    """Train the head, or set it without a step, on the features of a pool of crops."""
    job, network = start.job, start.network.network
    recipe, size = job.recipe, job.batch_size
    count = _pool_size(recipe, len(start.volumes))
    count = count if job.method.training_free else min(count, recipe.max_steps * size)
    pool = cache_features(
        network,
        crops_of(job, start.volumes, count),
        gib=recipe.feature_cache_gib,
        device=job.device,
        precision=recipe.precision,
        label=watch.label,
        store=_store(start, features),
    )

    def features_from(step: int) -> Iterable[dict[str, Tensor]]:
        return islice(pool.batches(size, job.seed, recipe.crops_per_volume or 1), step, None)

    if job.method.training_free:
        result = fit_closed_form(start.network, pool, _table(job), job.channel_names)
    else:
        result = _fit(start, parts_of(network).head, _timed(features_from, clock), watch)
    return replace(result, seconds=result.seconds + pool.seconds, feature_cache=pool.report())


def _store(start: Start, folder: Path | None) -> FeatureStore | None:
    """Return the features on disk; none on a GPU, which computes them in a fraction of the time."""
    job = start.job
    if folder is None or job.device.type != "cpu":
        return None
    return FeatureStore(folder, start.network.network, job.base.settings, job.recipe.precision)


def _timed(batches_from: BatchesFrom, clock: BatchClock | None) -> BatchesFrom:
    return batches_from if clock is None else lambda step: clock.timed(batches_from(step))


def _pool_size(recipe: Recipe, cases: int) -> int:
    """Return how many crops to make features of: where cases have turns, as many of each."""
    if recipe.crops_per_volume is None:
        return recipe.feature_crops
    crops_per_turn = recipe.crops_per_volume * cases
    return math.ceil(recipe.feature_crops / crops_per_turn) * crops_per_turn


def _table(job: Job) -> TargetTable:
    members = torch.from_numpy(job.target.structures.table())
    return TargetTable(members, background=job.recipe.activation == "softmax")


def _fit(start: Start, forward: nn.Module, batches_from: BatchesFrom, watch: Watch) -> FitResult:
    job, recipe = start.job, start.job.recipe
    plan = TrainingPlan(
        groups=start.network.parameter_groups(recipe.rates(job.method.family)),
        schedule=_schedule(recipe),
        loss=MaskedLoss(_FORMULAS[recipe.loss, recipe.activation], recipe.activation),
        weight_decay=recipe.weight_decay,
        device=job.device,
        precision=recipe.precision,
        seed=job.seed,
        clip_norm=recipe.gradient_clip_norm,
        constraint=size_constraint(start),
        checkpoint_activations=recipe.checkpoint_activations,
    )
    return fit(start.network, Inputs(forward, batches_from, _table(job)), plan, watch)


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
