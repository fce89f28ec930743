"""The demo's report: the table, what it shows, curves, and how each number was made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsseg.config.json_files import read_json
from fsseg.config.recipes import Recipe
from fsseg.config.results import JsonObject
from fsseg.demo.files import DemoFiles
from fsseg.demo.methods import METHODS, NOVEL
from fsseg.demo.overlays import overlay_pictures
from fsseg.demo.results import STEP_CAP, StructureResult, Verdict
from fsseg.demo.tables import distances_table, results_table
from fsseg.reporting.curves import curves_figure
from fsseg.reporting.html import Picture, Section, Table
from fsseg.reporting.tables import seconds as duration


@dataclass(frozen=True)
class DemoFacts:
    """What the report tells.

    Attributes:
        seed: of the demo.
        recipe: of all adaptations.
        results, verdict: the numbers.
        stage_seconds: stage -> how long it took.
        versions: package -> its version.
    """

    seed: int
    recipe: Recipe
    results: Sequence[StructureResult]
    verdict: Verdict
    stage_seconds: Mapping[str, float]
    versions: Mapping[str, str]


def report_sections(files: DemoFiles, facts: DemoFacts) -> list[Section]:
    """Return the sections of report.html.

    Args:
        files: where the files of the demo lie.
        facts: what the report tells.
    """
    return [
        _result_section(facts.results, facts.verdict),
        meaning_section(facts.results),
        Section("Prediction and reference", pictures=overlay_pictures(files)),
        _training_section(files),
        _origin_section(files, facts),
    ]


def meaning_section(results: Sequence[StructureResult]) -> Section:
    """Say in plain words what the demo shows and what it does not."""
    capped = list(dict.fromkeys(result.method for result in results if result.ended_by == STEP_CAP))
    return Section(
        "What this shows, and what it does not",
        [
            "One network is pretrained on three source sets. Each labels only some of the organs, and what a set does"
            " not label stays unknown: it takes no part in the loss. The target site looks different (more noise and"
            " blur, less contrast medium, larger rotations) and labels two organs that the pretraining knows and two"
            f" that no source set labels: {' and '.join(NOVEL)}. A few labelled cases of the target then adapt the"
            " network to all four at once. Every method sees the same cases, the same crops, the same stop rule and"
            " the same cap on the steps; from_scratch trains the same network from random weights.",
            "The cap keeps the demo short, and it favours pretrained weights, which start closer to a solution."
            f" Ended at the cap, before the loss stopped falling: {', '.join(capped) or 'none'}. With more steps these"
            " methods may come out higher, and the differences smaller.",
            "The CTs are schematic phantoms. The demo shows that every part of the program works and that features"
            " learned from partial labels carry over to organs they were not trained on. It says nothing about how"
            " well any method does on patients, nor which method is best there; and with one seed and a handful of"
            " test cases, differences between the pretrained methods are mostly chance.",
        ],
    )


def _result_section(results: Sequence[StructureResult], verdict: Verdict) -> Section:
    cases = len(results[0].cases)
    caption = (
        f"DSC on {cases} test cases of the target site, mean ± sd over cases. Parameters count the head; seconds are"
        " those of the training alone."
    )
    return Section(
        "Result",
        [verdict.text, f"The rule: {verdict.rule}"],
        [
            Table(*results_table(results), caption),
            Table(*distances_table(results), "On the same cases: NSD at 2 mm / HD95 in mm, means over cases."),
        ],
    )


def _training_section(files: DemoFiles) -> Section:
    epochs = _json_lines(files.pretrained / "metrics.jsonl")
    losses = [loss for epoch in epochs for loss in epoch["losses"]]
    adaptations = {
        method.label: _columns(_json_lines(files.run(method) / "metrics.jsonl"), "step", "loss") for method in METHODS
    }
    pretraining = {"training loss": (range(1, len(losses) + 1), losses)}
    return Section(
        "Training",
        pictures=[
            Picture(
                curves_figure(pretraining, "Pretraining on the three source sets", "masked BCE − Dice, summed"),
                "Loss of each step (thin) and its moving average. Summed over structures as in MultiTalent, so a"
                " perfect prediction has minus one per structure of the batch.",
                "curve of the pretraining loss over steps",
            ),
            Picture(
                curves_figure(adaptations, "Adaptation to the target site", "BCE + 1 − Dice, mean"),
                "Training loss of each method on the support cases; 0 is perfect. A training loss says how well the"
                " support cases are fitted, not how well test cases are segmented.",
                "curves of the adaptation losses over steps, one for each method",
            ),
        ],
    )


def _origin_section(files: DemoFiles, facts: DemoFacts) -> Section:
    support = facts.results[0].support
    stages = [[name, duration(time_s)] for name, time_s in facts.stage_seconds.items()]
    return Section(
        "How the numbers were made",
        [
            f"Seed {facts.seed} decides the phantoms, the initial weights and the crops.",
            _pretraining_text(files),
            f"Support cases ({len(support)}): {', '.join(support)}\n"
            f"Test cases ({len(files.test_cases)}), never learned from: {', '.join(files.test_cases)}",
            _recipe_text(facts.recipe),
            "This folder holds all of it: the phantoms and labels in nnUNet_raw, a model folder for each run in runs"
            " (stock nnU-Net predicts with it), the masks in predictions, one row a case and structure in metrics, and"
            " in every manifest.json the configuration, the seed, versions and hashes of the inputs.",
        ],
        [
            Table(["method", "steps", "ended by", "training"], _endings(facts.results)),
            Table(["stage", "took"], stages, "The stage of a method is its adaptation, prediction and evaluation."),
            Table(["software", "version"], [list(pair) for pair in facts.versions.items()]),
        ],
    )


def _pretraining_text(files: DemoFiles) -> str:
    manifest = read_json(files.pretrained / "manifest.json")
    dice = ", ".join(
        f"{name} {'–' if value is None else f'{value:.2f}'}" for name, value in manifest["validation_dice"].items()
    )
    return (
        f"Pretraining: {manifest['config']['settings']['steps']} steps on {manifest['cases']} cases, part of them held"
        f" out; Dice on crops of the held-out cases at the end: {dice}."
    )


def _recipe_text(recipe: Recipe) -> str:
    rates = ", ".join(f"{family} {rate:g}" for family, rate in recipe.learning_rates.items())
    return (
        f"Adaptation: at most {recipe.max_steps} steps; sooner when the loss, averaged over"
        f" {recipe.plateau_window} steps, no longer falls within {recipe.plateau_patience} steps. No validation"
        f" case is used. AdamW learning rates: {rates}; of a decoder and a head besides"
        f" {recipe.decoder_learning_rate:g} and {recipe.head_learning_rate:g}."
    )


def _endings(results: Sequence[StructureResult]) -> list[list[str]]:
    by_method = {result.method: result for result in results}
    return [
        [method, str(result.steps), result.ended_by, duration(result.seconds)] for method, result in by_method.items()
    ]


def _json_lines(path: Path) -> list[JsonObject]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _columns(rows: Sequence[Mapping[str, Any]], *names: str) -> Any:
    return tuple([row[name] for row in rows] for name in names)
