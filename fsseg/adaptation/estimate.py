"""Leave-one-out over the support cases: the DSC to expect, without touching a test case."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fsseg.adaptation.fitted import fit_network
from fsseg.adaptation.fold_scores import FoldScores, Scores
from fsseg.adaptation.job import Job
from fsseg.adaptation.kept_masks import KeptMasks
from fsseg.adaptation.start import make_start
from fsseg.config.base import StrictModel
from fsseg.data.splits import leave_one_out as folds_without_one
from fsseg.data.volumes import Volume
from fsseg.evaluation.metrics import dice
from fsseg.nnunet.prediction import Predictor
from fsseg.training.fit_checkpoint import FitCheckpoint


class Spread(StrictModel):
    """The DSC of a structure over held-out cases; all numbers are None where nothing can be estimated.

    Attributes:
        cases: DSC by held-out case.
        both_empty: cases without the structure in which none was predicted, which have no DSC.
        mean, sd, lowest, highest: of the DSC; the standard deviation of one case is None.
    """

    cases: dict[str, float]
    both_empty: tuple[str, ...]
    mean: float | None = None
    sd: float | None = None
    lowest: float | None = None
    highest: float | None = None


Estimate = dict[str, Spread]  # by structure


class _Fold(NamedTuple):
    """Scores of a held-out case, the seconds of the training before it was stopped, and what was predicted."""

    scores: Scores
    earlier_seconds: float
    masks: KeptMasks | None


def leave_one_out(job: Job, volumes: Sequence[Volume], done: FoldScores) -> Estimate:
    """Adapt once per support case without it, and score it.

    The score is computed on the grid of the preprocessed case, over voxels whose annotation is known. A structure that
    one case alone shows cannot be estimated on that case: without it nothing shows the structure. Empty masks count as
    in `fsseg evaluate`: of a case without the structure the DSC is 0 where some is predicted, and else there is none.

    Args:
        job: what to adapt.
        volumes: at least two support cases.
        done: the folds that an earlier call has scored, which are not run again.

    Returns:
        Per structure the DSC to expect. The estimate is cautious: each training has one case less than the final one.

    Raises:
        UsageError: all support cases are the same image.
    """
    splits = folds_without_one([volume.case for volume in volumes], job.target.structures.duplicates)
    for index, (held_out, split) in enumerate(zip(volumes, splits, strict=True)):
        if held_out.case not in done.folds:
            label = f"leave-one-out {index + 1}/{len(volumes)}"
            rest = [volume for volume in volumes if volume.case in split["train"]]
            started = time.perf_counter()
            fold = _score_without(held_out, rest, job, label, done.training_without(held_out.case))
            if fold.masks is not None:
                done.keep(held_out.case, fold.masks)
            seconds = fold.earlier_seconds + time.perf_counter() - started
            done.add(held_out.case, fold.scores, seconds, fold.earlier_seconds)
    folds = [(volume.case, done.folds[volume.case]) for volume in volumes]
    return {name: _spread({case: fold[name] for case, fold in folds if name in fold}) for name in job.target.names}


def _score_without(
    held_out: Volume, rest: Sequence[Volume], job: Job, label: str, checkpoint: FitCheckpoint | None
) -> _Fold:
    """Return the scores of the structures that the held-out case annotates and one of the rest shows."""
    shown = tuple(name for name in job.target.names if any(name in volume.locations for volume in rest))
    job, (held_out, *rest) = _reduced(job, [held_out, *rest], shown)
    scored = [channel for channel in range(len(shown)) if held_out.annotates(channel)]
    if not scored:
        return _Fold({}, 0.0, None)
    fitted = fit_network(make_start(job, rest), label, checkpoint)
    logits = Predictor(fitted.start.network.network, job.model(), job.device).logits(np.asarray(held_out.image))
    masks = predicted_masks(logits.numpy(), job)
    scores = {shown[channel]: _dsc(masks[channel], held_out, job, channel) for channel in scored}
    return _Fold(scores, fitted.training.earlier_seconds, KeptMasks.of(shown, masks))


def _reduced(job: Job, volumes: Sequence[Volume], names: tuple[str, ...]) -> tuple[Job, list[Volume]]:
    """Return a job of some of its structures, in their order, and its volumes."""
    channels = [job.target.names.index(name) for name in names]
    fewer = [replace(volume, zone_annotated=volume.zone_annotated[:, channels]) for volume in volumes]
    return replace(job, target=job.target.subset(names)), fewer


def predicted_masks(logits: np.ndarray, job: Job) -> np.ndarray:
    """Return what is predicted as each structure, (structures, D, H, W) bool, from logits (channels, D, H, W)."""
    if job.recipe.activation == "sigmoid":
        return logits > 0
    return np.stack([logits.argmax(0) == channel for channel in range(1, len(logits))])


def _dsc(prediction: np.ndarray, volume: Volume, job: Job, channel: int) -> float | None:
    integers = job.target.structures.integers[job.target.names[channel]]
    valid = volume.zone_annotated[volume.zones, channel]
    predicted = np.moveaxis(prediction, volume.zone_axis, 0)[valid]
    reference = np.moveaxis(np.isin(volume.labels[0], integers), volume.zone_axis, 0)[valid]
    score = dice(predicted, reference)
    return None if math.isnan(score) else score


def _spread(scores: Scores) -> Spread:
    per_case = {case: score for case, score in scores.items() if score is not None}
    both_empty = tuple(case for case, score in scores.items() if score is None)
    if not per_case:
        return Spread(cases={}, both_empty=both_empty)
    values = np.array(list(per_case.values()))
    return Spread(
        cases=per_case,
        both_empty=both_empty,
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        lowest=float(values.min()),
        highest=float(values.max()),
    )
