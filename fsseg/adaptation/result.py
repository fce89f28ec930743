"""What a run folder keeps of an adaptation, and what is told of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsseg.adaptation.estimate import Estimate
from fsseg.adaptation.fitted import TrainingFacts
from fsseg.adaptation.outcome import UNFINISHED, Outcome
from fsseg.adaptation.plan import AdaptPlan
from fsseg.adaptation.report import write_adaptation_report
from fsseg.adaptation.run_files import write_fitted
from fsseg.config.json_files import write_json
from fsseg.config.results import plain


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
        write_json(staging / "estimate.json", plain(estimate))
    write_fitted(staging, fitted, estimate)
    if fitted.merges:
        fitted.merged_model().write(staging)
    write_adaptation_report(outcome, staging, out)
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
