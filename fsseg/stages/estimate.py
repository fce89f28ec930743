"""Leave-one-out over the support cases: the DSC to expect, without touching a test case."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fsseg.config.errors import FssegError
from fsseg.config.json_files import read_json, write_json
from fsseg.data.splits import leave_one_out as folds_without_one
from fsseg.data.volumes import Volume
from fsseg.nnunet.prediction import Predictor
from fsseg.stages.adaptation import Job, build_adapted
from fsseg.stages.adaptation_training import train

logger = logging.getLogger(__name__)


class FoldScores:
    """The scores of the folds that are done, in a file, so that an estimate that was stopped goes on.

    Args:
        file: where; complete or absent.
        fingerprint: what decides the trainings; scores of others are not used.

    Raises:
        FssegError: the file is damaged.
    """

    def __init__(self, file: Path, fingerprint: str) -> None:
        self.file = file
        self.fingerprint = fingerprint
        self.folds: dict[str, dict[str, float]] = {}  # held-out case -> structure -> DSC
        try:
            content = read_json(file, ("fingerprint", "folds")) if file.is_file() else None
        except FssegError as error:
            raise FssegError(f"{error}\n  Delete it to start again.") from None
        if content is not None and content["fingerprint"] == fingerprint:
            self.folds = content["folds"]
        elif content is not None:
            logger.warning("A leave-one-out with other settings or data was stopped here; this one starts anew.")

    def add(self, case: str, scores: dict[str, float]) -> None:
        """Keep the scores of a held-out case."""
        self.folds[case] = scores
        write_json(self.file, {"fingerprint": self.fingerprint, "folds": self.folds})

    def remove(self) -> None:
        """Delete the file of an adaptation that has ended."""
        self.file.unlink(missing_ok=True)


def leave_one_out(job: Job, volumes: Sequence[Volume], done: FoldScores) -> dict[str, Any]:
    """Adapt once per support case without it, and score it.

    The score is computed on the grid of the preprocessed case, over voxels whose annotation is known. A structure that
    one case alone annotates cannot be estimated: without that case nothing shows it.

    Args:
        job: what to adapt.
        volumes: at least two support cases.
        done: the folds that an earlier call has scored, which are not run again.

    Returns:
        Per structure: DSC of each held-out case, their mean, standard deviation and range, None where nothing can be
        estimated. The estimate is cautious: each training has one case less than the final one.

    Raises:
        UsageError: all support cases are the same image.
    """
    splits = folds_without_one([volume.case for volume in volumes], job.target.structures.twins)
    for index, (held_out, split) in enumerate(zip(volumes, splits, strict=True)):
        if held_out.case not in done.folds:
            label = f"leave-one-out {index + 1}/{len(volumes)}"
            rest = [volume for volume in volumes if volume.case in split["train"]]
            done.add(held_out.case, _score_without(held_out, rest, job, label))
    folds = [(volume.case, done.folds[volume.case]) for volume in volumes]
    return {name: _spread({case: fold[name] for case, fold in folds if name in fold}) for name in job.target.names}


def _score_without(held_out: Volume, rest: Sequence[Volume], job: Job, label: str) -> dict[str, float]:
    """Return the DSC of each structure that both the held-out case and one of the rest show."""
    shown = tuple(name for name in job.target.names if any(name in volume.locations for volume in rest))
    if not set(shown) & held_out.locations.keys():
        return {}
    job, (held_out, *rest) = _reduced(job, [held_out, *rest], shown)
    adapted = build_adapted(job, rest)
    train(job, adapted, rest, label=label)
    logits = Predictor(adapted.network, job.model(), job.device).logits(np.asarray(held_out.image))
    masks = _masks(logits.numpy(), job)
    return {
        name: _dsc(masks[channel], held_out, job, channel)
        for channel, name in enumerate(shown)
        if name in held_out.locations
    }


def _reduced(job: Job, volumes: Sequence[Volume], names: tuple[str, ...]) -> tuple[Job, list[Volume]]:
    """Return a job of some of its structures, in their order, and its volumes."""
    channels = [job.target.names.index(name) for name in names]
    rows = {name: job.target.base_rows[name] for name in names}
    target = job.target.model_copy(update={"structures": job.target.structures.subset(names), "base_rows": rows})
    fewer = [replace(volume, zone_annotated=volume.zone_annotated[:, channels]) for volume in volumes]
    return replace(job, target=target), fewer


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
    if not per_case:
        return {"cases": {}, "mean": None, "sd": None, "lowest": None, "highest": None}
    return {
        "cases": per_case,
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
        "lowest": float(values.min()),
        "highest": float(values.max()),
    }
