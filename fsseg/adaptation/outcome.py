"""A task carried out: estimated if that was asked for, and trained; what was begun in a run folder is resumed."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fsseg.adaptation.estimate import Estimate, leave_one_out
from fsseg.adaptation.fitted import FittedNetwork, fit_network
from fsseg.adaptation.fold_scores import FoldScores
from fsseg.adaptation.kept_masks import KeptMasks
from fsseg.adaptation.prepare import Prepared
from fsseg.adaptation.task import Task
from fsseg.config.results import plain
from fsseg.config.staging import clear_staging
from fsseg.data.volumes import Volume
from fsseg.nnunet.environment import preprocessed_folder
from fsseg.training.feature_store import FEATURES_NAME
from fsseg.training.fit_checkpoint import FitCheckpoint, fingerprint_of

log = logging.getLogger(__name__)

UNFINISHED = "training*"  # both of these files
TRAINING_NAME = "training.pt"  # the state of a training that has not ended
FOLDS_NAME = "training_estimate.json"  # the folds of a leave-one-out that has not ended
_DECIDES_NOTHING = {"out", "pool", "test", "transductive", "estimate", "checkpoint"}  # of a request: or said by the job


@dataclass(frozen=True)
class Outcome:
    """A task that is done, in memory.

    Attributes:
        prepared: what it started from.
        fitted: the trained network.
        estimate: the DSC to expect by structure; None if it was not asked for.
        held_out: support case -> what leave-one-out predicted in it.
    """

    prepared: Prepared
    fitted: FittedNetwork
    estimate: Estimate | None
    held_out: Mapping[str, KeptMasks] = field(default_factory=dict)


def fingerprint(task: Task, volumes: list[Volume], queries: Mapping[str, np.ndarray] | None = None) -> str:
    """Return a hash of what decides the training of a task; a state with another one is not resumed.

    Args:
        task: what was asked for.
        volumes: the support cases.
        queries: unlabelled images that take part.
    """
    decides = task.request.model_dump(mode="json", exclude=_DECIDES_NOTHING)
    if queries:
        decides["queries"] = {case: hashlib.sha256(image.tobytes()).hexdigest() for case, image in queries.items()}
    return fingerprint_of({**decides, **task.job.decides()}, volumes)


def carry_out(prepared: Prepared, staging: Path | None = None) -> Outcome:
    """Estimate if that was asked for, and train; what was begun in the staging folder is resumed.

    Args:
        prepared: what to train.
        staging: where the state is kept; None keeps none.
    """
    task, start, manifest = prepared.task, prepared.start, prepared.manifest
    checkpoint, folds = None, FoldScores(None, "")
    if staging is not None:
        clear_staging(staging, keep=UNFINISHED)
        checkpoint = FitCheckpoint(staging / TRAINING_NAME, fingerprint(task, prepared.support.volumes, start.queries))
        folds = FoldScores(staging / FOLDS_NAME, checkpoint.fingerprint)
    estimate = leave_one_out(task.job, start.volumes, folds) if task.request.estimate == "loo" else None
    features = preprocessed_folder() / FEATURES_NAME  # not of a leave-one-out, whose crops nobody else draws
    fitted = fit_network(start, f"adapt {task.job.method_name}", checkpoint, features=features)
    manifest.add(**fitted.facts.as_dict(), ranks=fitted.ranks, merged=fitted.merges)
    manifest.add(feature_cache=fitted.training.feature_cache, estimate=plain(estimate), silent=fitted.silent)
    manifest.add_seconds(fitted.training.earlier_seconds + folds.earlier_seconds)
    for note in fitted.silent:
        log.warning("%s", note)
    cases = () if estimate is None else start.cases
    held_out = {case: masks for case in cases if (masks := folds.masks(case)) is not None}
    return Outcome(prepared, fitted, estimate, held_out)
