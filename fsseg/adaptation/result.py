"""The result of a task: trained, estimated, and written into a run folder."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsseg.adaptation.estimate import Estimate, FoldScores, leave_one_out
from fsseg.adaptation.fitted import FittedNetwork, TrainingFacts, fit_network
from fsseg.adaptation.plan import AdaptPlan, Prepared
from fsseg.adaptation.run_files import write_fitted
from fsseg.adaptation.task import Task
from fsseg.config.json_files import write_json
from fsseg.config.staging import clear_staging
from fsseg.data.volumes import Volume
from fsseg.training.fit_checkpoint import FitCheckpoint, fingerprint_of

log = logging.getLogger(__name__)

UNFINISHED = "training*"  # both of these files
TRAINING_NAME = "training.pt"  # the state of a training that has not ended
FOLDS_NAME = "training_estimate.json"  # the folds of a leave-one-out that has not ended
_DECIDES_NOTHING = {"out", "pool", "test", "estimate", "checkpoint"}  # of a request: or said by the job


@dataclass(frozen=True)
class Outcome:
    """A task that is done, in memory.

    Attributes:
        prepared: what it started from.
        fitted: the trained network.
        estimate: the DSC to expect by structure; None if it was not asked for.
    """

    prepared: Prepared
    fitted: FittedNetwork
    estimate: Estimate | None


@dataclass(frozen=True)
class AdaptResult:
    """A run folder that was written.

    Attributes:
        out: the folder.
        plan: what was trained on what.
        training: how the training went.
        ranks: effective rank of every layer with a low-rank update.
        merged: whether the folder is a stock nnU-Net model, too.
        feature_cache: crops, size and seconds of the pool of features; None with the network in the loop.
        estimate: the DSC to expect by structure; None if it was not asked for.
        silent: structures that the network predicts nowhere, and what to do.
        manifest: content of manifest.json.
        outcome: the trained network, in memory.
    """

    out: Path
    plan: AdaptPlan
    training: TrainingFacts
    ranks: dict[str, int]
    merged: bool
    feature_cache: dict[str, float] | None
    estimate: Estimate | None
    silent: list[str]
    manifest: dict[str, Any]
    outcome: Outcome


def fingerprint(task: Task, volumes: list[Volume]) -> str:
    """Return a hash of what decides the training of a task; a state with another one is not gone on with."""
    decides = task.request.model_dump(mode="json", exclude=_DECIDES_NOTHING)
    return fingerprint_of({**decides, **task.job.decides()}, volumes)


def carry_out(prepared: Prepared, staging: Path | None = None) -> Outcome:
    """Estimate if that was asked for, and train; what was begun in the staging folder goes on.

    Args:
        prepared: what to train.
        staging: where the state is kept; None keeps none.
    """
    task, start, manifest = prepared.task, prepared.start, prepared.manifest
    checkpoint, folds = None, FoldScores(None, "")
    if staging is not None:
        clear_staging(staging, keep=UNFINISHED)
        checkpoint = FitCheckpoint(staging / TRAINING_NAME, fingerprint(task, prepared.support.volumes))
        folds = FoldScores(staging / FOLDS_NAME, checkpoint.fingerprint)
    estimate = leave_one_out(task.job, start.volumes, folds) if task.request.estimate == "loo" else None
    fitted = fit_network(start, f"adapt {task.job.method_name}", checkpoint)
    manifest.add(**fitted.facts.as_dict(), ranks=fitted.ranks, merged=fitted.merges)
    manifest.add(feature_cache=fitted.training.feature_cache, estimate=_plain(estimate), silent=fitted.silent)
    manifest.add_seconds(fitted.training.earlier_seconds + folds.earlier_seconds)
    for note in fitted.silent:
        log.warning("%s", note)
    return Outcome(prepared, fitted, estimate)


def write_outcome(outcome: Outcome, staging: Path, out: Path) -> AdaptResult:
    """Write what a run folder keeps.

    Args:
        outcome: what was done.
        staging: the folder to write into.
        out: where it will be in the end.
    """
    prepared, fitted, estimate = outcome.prepared, outcome.fitted, outcome.estimate
    prepared.task.split.save(staging)
    if estimate is not None:
        write_json(staging / "estimate.json", _plain(estimate))
    write_fitted(staging, fitted, estimate)
    if fitted.merges:
        fitted.merged_model().write(staging)
    for name in staging.glob(UNFINISHED):
        name.unlink()
    return AdaptResult(
        out=out,
        plan=prepared.plan,
        training=fitted.facts,
        ranks=fitted.ranks,
        merged=fitted.merges,
        feature_cache=fitted.training.feature_cache,
        estimate=estimate,
        silent=fitted.silent,
        manifest=prepared.manifest.write(staging),
        outcome=outcome,
    )


def _plain(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else {name: spread.model_dump(mode="json") for name, spread in estimate.items()}
