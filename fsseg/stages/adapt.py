"""Stage: fit a pretrained network to known or novel structures from a few labelled cases."""

from collections.abc import Callable
from pathlib import Path

from fsseg.adaptation.outcome import UNFINISHED, carry_out
from fsseg.adaptation.plan import AdaptPlan
from fsseg.adaptation.prepare import planned, prepare, unannounced
from fsseg.adaptation.result import AdaptResult, write_outcome
from fsseg.adaptation.task import make_task
from fsseg.config.adaptation import RunRequest
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.nnunet.model_folder import ModelFolder


class AdaptConfig(RunRequest):
    """What to adapt to what, and where the result goes.

    Attributes:
        out: run folder to make.
    """

    out: Path


def plan_adapt(config: AdaptConfig) -> AdaptPlan:
    """Check everything, and return what an adaptation would do and cost; nothing is written.

    Raises:
        UsageError, FssegError: as `run_adapt`.
    """
    require_new(config.out)
    return planned(make_task(config, config.checkpoint))


def run_adapt(
    config: AdaptConfig, announce: Callable[[AdaptPlan], None] = unannounced, base: ModelFolder | None = None
) -> AdaptResult:
    """Adapt; the run folder is complete or absent. The same command resumes one that was stopped.

    The folder holds adapter.safetensors, split.json, metrics.jsonl, manifest.json and, for methods that merge, the
    files of a stock nnU-Net model folder.

    Args:
        config: what to adapt.
        announce: is told what will be trained on what, before it is; urgent notes are logged as warnings.
        base: the model of `config.checkpoint`, where it is loaded already.

    Raises:
        UsageError: unknown structure, case, method or option; more shots than pool cases; the output folder exists.
        FssegError: a support case that cannot be learned from, damaged files, no space left.

    Example:
        >>> request = {"checkpoint": "runs/universal", "dataset": "104", "structures": ["larynx"], "method": "lora"}
        >>> result = run_adapt(AdaptConfig(**request, out="runs/larynx"))
        >>> result.training.steps, result.merged
        (620, True)
    """
    require_new(config.out)
    prepared = prepare(make_task(config, base or config.checkpoint), announce)
    with new_run_folder(config.out, checkpoints=UNFINISHED, resume=True) as staging:
        return write_outcome(carry_out(prepared, staging), staging, config.out)
