"""report.html of a pretraining: sources, curves, validation, notes, and what to do next."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.config.results import JsonObject
from fsseg.data.structures import Structures
from fsseg.nnunet.pretraining.holdout import cases_of_sources
from fsseg.nnunet.pretraining.log import METRICS_NAME
from fsseg.pretraining.held_out import HELD_OUT_NAME
from fsseg.pretraining.plan import PretrainPlan
from fsseg.reporting.curves import Curves, panels_figure
from fsseg.reporting.html import Picture, Section, Table, write_report
from fsseg.reporting.run_report import REPORT_NAME, facts_table, notes_section
from fsseg.reporting.safe_sections import section_or_reason, whatever_happens
from fsseg.reporting.tables import MISSING, count, seconds

if TYPE_CHECKING:
    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel

_MOST_CURVES = 12  # structures of which the validation is drawn


def write_pretraining_report(
    plan: PretrainPlan, trainer: "nnUNetTrainerPartialLabel", facts: Mapping[str, str], staging: Path, out: Path
) -> None:
    """Write report.html; a run does not fail because of it.

    Args:
        plan: what was trained.
        trainer: who trained it.
        facts: further facts of the run, in words.
        staging: the folder to write into, which holds the metrics.
        out: where it will be in the end; its name is in the commands.
    """
    title = f"Pretraining on {plan.dataset}"
    whatever_happens(
        REPORT_NAME,
        lambda: write_report(staging / REPORT_NAME, title, _sections(plan, trainer, facts, staging, out)),
    )


def _sections(
    plan: PretrainPlan, trainer: "nnUNetTrainerPartialLabel", facts: Mapping[str, str], staging: Path, out: Path
) -> list[Section]:
    epochs = [json.loads(line) for line in (staging / METRICS_NAME).read_text(encoding="utf-8").splitlines()]
    settings = trainer.settings
    described = {
        "structures": str(len(plan.structures)),
        "parameters": count(plan.parameters),
        "steps": count(settings.steps),
        "batch": f"{plan.batch_size} crops of {' × '.join(map(str, plan.patch_size))} voxels (z, y, x)",
        "loss": f"{settings.loss}, {settings.unannotated}",
        "optimiser": f"{settings.optimizer}, rate {settings.learning_rate:g}, {settings.schedule}",
        "seed": str(settings.seed),
        "base": "random weights" if plan.base is None else Path(plan.base["path"]).name,
    }
    return [
        Section("What was trained", tables=[facts_table({**described, **facts})]),
        _sources(plan, trainer.structures),
        _validation(plan, trainer.structures, epochs[-1]["validation_dice"]),
        section_or_reason("Training", lambda: _training(epochs, settings.loss)),
        *notes_section(plan.notes),
        Section("What to do next", commands=_commands(plan, out)),
    ]


def _sources(plan: PretrainPlan, structures: Structures) -> Section:
    held_out = set(plan.held_out)
    lines = []
    for source, cases in cases_of_sources(list(structures.cases), structures).items():
        annotated = {name for case in cases for name in structures.annotation(case).annotated}
        left = len(held_out.intersection(cases))
        lines.append([source, str(len(cases)), str(left), str(len(annotated))])
    text = "What a source does not annotate takes no part in the loss. Held-out cases are not trained on."
    return Section("Sources", [text], [Table(["source", "cases", "held out", "structures"], lines)])


def _validation(plan: PretrainPlan, structures: Structures, dice: Mapping[str, float | None]) -> Section:
    annotations = {case: structures.annotation(case).annotated for case in structures.cases}
    lines = []
    for name, value in dice.items():
        held_out = sum(name in annotations[case] for case in plan.held_out)
        cases = sum(name in annotated for annotated in annotations.values())
        lines.append([name, MISSING if value is None else f"{value:.3f}", str(cases), str(held_out)])
    text = (
        f"Dice on fixed crops of {len(plan.held_out)} held-out cases after the last step. Whole cases are scored by"
        " fsseg compare, below."
        if plan.held_out
        else "No case is held out, so nothing is known of cases that were not trained on."
    )
    header = ["structure", "Dice on crops", "cases that annotate it", "of them held out"]
    return Section("Validation", [text], [Table(header, lines)])


def _training(epochs: list[JsonObject], loss: str) -> Section:
    losses = [value for epoch in epochs for value in epoch["losses"]]
    panels: dict[str, Curves] = {f"loss ({loss})": {"training loss": (range(1, len(losses) + 1), losses)}}
    names = [name for name, value in epochs[-1]["validation_dice"].items() if value is not None][:_MOST_CURVES]
    if names:
        panels["validation Dice"] = {name: _course(epochs, name) for name in names}
    picture = Picture(
        panels_figure(panels, "Pretraining"),
        "Loss of each step (thin) and its moving average; Dice on crops of held-out cases after each epoch.",
        "curves of loss and validation Dice over steps",
    )
    return Section("Training", pictures=[picture])


def _course(epochs: list[JsonObject], name: str) -> tuple[list[int], list[float]]:
    """Return the steps and the Dice of a structure after each epoch that has one."""
    known = [(epoch["step"], value) for epoch in epochs if (value := epoch["validation_dice"].get(name)) is not None]
    return [step for step, _ in known], [value for _, value in known]


def _commands(plan: PretrainPlan, out: Path) -> list[str]:
    run = shlex.quote(out.name)
    score = (
        f"fsseg compare {run} --test {run}/{HELD_OUT_NAME} --reference $nnUNet_raw/{plan.dataset}/labelsTr --out scored"
    )
    return [
        f"fsseg adapt --checkpoint {run} --dataset DATASET --structure NAME --shots 5 --estimate loo --out adapted",
        *([score] if plan.held_out else []),
        f"fsseg predict --run {run} --input IMAGES --output PREDICTIONS",
    ]


def time_facts(took_seconds: float, resumed_at: tuple[int, ...]) -> dict[str, str]:
    """Return how long a run took, and where it went on after a stop."""
    resumed = {"resumed at step": ", ".join(map(str, resumed_at))} if resumed_at else {}
    return {"time": seconds(took_seconds), **resumed}
