"""What a pretraining came to."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.config.manifest import Manifest
from fsseg.config.results import WrittenResult
from fsseg.nnunet.pretraining.log import METRICS_NAME, last_validation_dice
from fsseg.pretraining.held_out import write_held_out
from fsseg.pretraining.notes import unvalidated
from fsseg.pretraining.plan import PretrainPlan
from fsseg.pretraining.report import time_facts, write_pretraining_report

if TYPE_CHECKING:
    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel


@dataclass(frozen=True)
class PretrainResult(WrittenResult):
    """A run folder that was written.

    Attributes:
        out: the folder, a model folder of nnU-Net.
        plan: what was trained on what.
        validation_dice: structure -> Dice on crops of held-out cases; None where there is none.
        unvalidated: why a structure has none.
        resumed_at: for every time that a stopped training went on, the steps that were done then.
        seconds: that it took, with those before it was stopped.
    """

    out: Path
    plan: PretrainPlan
    validation_dice: dict[str, float | None]
    unvalidated: dict[str, str]
    resumed_at: tuple[int, ...]
    seconds: float


def write_result(
    plan: PretrainPlan, trainer: "nnUNetTrainerPartialLabel", manifest: Manifest, staging: Path, out: Path
) -> PretrainResult:
    """Write the manifest and the report of a training that has ended.

    Args:
        plan: what was trained.
        trainer: who trained it.
        manifest: has its inputs, and gets the facts.
        staging: the folder to write into.
        out: where it will be in the end.
    """
    dice = last_validation_dice(staging / METRICS_NAME)
    reasons = unvalidated(dice, [trainer.structures.annotation(case) for case in plan.held_out])
    resumed_at = trainer.course.resumed_at
    manifest.add_seconds(trainer.course.earlier_seconds)
    manifest.add(**plan.facts(), resumed_at=list(resumed_at), validation_dice=dice, unvalidated=reasons)
    write_held_out(plan.held_out, staging)
    content = manifest.write(staging)
    write_pretraining_report(plan, trainer, time_facts(content["seconds"], resumed_at), staging, out)
    return PretrainResult(out, plan, dice, reasons, resumed_at, content["seconds"], manifest=content)
