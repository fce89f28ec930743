"""Leave-one-out over the support cases: the DSC to expect, without touching a test case."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fsseg.config.errors import UsageError
from fsseg.data import splits
from fsseg.data.volumes import Volume
from fsseg.nnunet.prediction import Predictor
from fsseg.stages.adaptation import Job, build_adapted
from fsseg.stages.adaptation_training import train


def leave_one_out(job: Job, volumes: Sequence[Volume]) -> dict[str, Any]:
    """Adapt once per support case without it, and score it.

    The score is computed on the grid of the preprocessed case, over voxels whose annotation is known.

    Returns:
        Per structure: DSC of each held-out case, their mean, standard deviation and range. The estimate is cautious:
        each training has one case less than the final one.

    Raises:
        UsageError: there is only one support case, or all are the same image.
    """
    if len(volumes) < 2:
        raise UsageError("--estimate loo holds out one support case at a time, so it needs at least 2 shots, got 1.")
    scores: dict[str, dict[str, float]] = {name: {} for name in job.target.names}
    folds = splits.leave_one_out([volume.case for volume in volumes], job.target.structures.twins)
    for index, (held_out, fold) in enumerate(zip(volumes, folds, strict=True)):
        rest = [volume for volume in volumes if volume.case in fold["train"]]
        adapted = build_adapted(job, rest)
        train(job, adapted, rest, label=f"leave-one-out {index + 1}/{len(volumes)}")
        logits = Predictor(adapted.network, job.model(), job.device).logits(np.asarray(held_out.image))
        masks = _masks(logits.numpy(), job)
        for channel, name in enumerate(job.target.names):
            if name in held_out.locations:
                scores[name][held_out.case] = _dsc(masks[channel], held_out, job, channel)
    return {name: _spread(per_case) for name, per_case in scores.items()}


def _masks(logits: np.ndarray, job: Job) -> np.ndarray:
    """Return what is predicted as each structure, (structures, D, H, W) bool."""
    if job.recipe.activation == "sigmoid":
        return logits > 0
    return np.stack([logits.argmax(0) == channel for channel in range(1, len(logits))])


def _dsc(prediction: np.ndarray, volume: Volume, job: Job, channel: int) -> float:
    integers = job.target.structures.integers[job.target.names[channel]]
    valid = volume.zone_annotated[volume.zones, channel]
    predicted = np.moveaxis(prediction, volume.zone_axis, 0)[valid]
    reference = np.moveaxis(np.isin(volume.labels[0], integers), volume.zone_axis, 0)[valid]
    return float(2 * (predicted & reference).sum() / (predicted.sum() + reference.sum()))


def _spread(per_case: dict[str, float]) -> dict[str, Any]:
    values = np.array(list(per_case.values()))
    return {
        "cases": per_case,
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
        "lowest": float(values.min()),
        "highest": float(values.max()),
    }
