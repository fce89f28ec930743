"""report.html of an adaptation: what was trained, what to expect of it, its support cases, and what to do next."""

import shlex
from pathlib import Path

from fsseg.adaptation.drawn_support import drawn_crops, drawn_structures, drawn_without
from fsseg.adaptation.estimate import Spread
from fsseg.adaptation.outcome import Outcome
from fsseg.methods.adapter_file import ADAPTER_NAME
from fsseg.reporting.curves import curves_figure
from fsseg.reporting.html import Picture, Section, Table, write_report
from fsseg.reporting.overlays import rows_figure
from fsseg.reporting.run_report import REPORT_NAME, facts_table, notes_section
from fsseg.reporting.safe_sections import section_or_reason, whatever_happens
from fsseg.reporting.tables import MISSING, count, mean_sd, seconds

_LEFT_OUT = "Each case is predicted by a training on the others (leave-one-out), at the spacing of the plans."
_FITTED = (
    "Leave-one-out was not asked for (--estimate loo). What is shown are predictions on cases that were learned from:"
    " they say whether these are fitted, and nothing about new cases. Of each case one crop is shown."
)


def write_adaptation_report(outcome: Outcome, staging: Path, out: Path) -> None:
    """Write report.html; a run does not fail because of it.

    Args:
        outcome: what was done.
        staging: the folder to write into.
        out: where it will be in the end; its name is in the commands.
    """
    title = f"Adaptation to {', '.join(outcome.prepared.plan.structures)}"
    whatever_happens(REPORT_NAME, lambda: write_report(staging / REPORT_NAME, title, report_sections(outcome, out)))


def report_sections(outcome: Outcome, out: Path) -> list[Section]:
    """Return the parts of the page."""
    fitted, plan = outcome.fitted, outcome.prepared.plan
    return [
        Section("What was trained", tables=[facts_table(_facts(outcome))]),
        *_estimate(outcome),
        section_or_reason("Support cases", lambda: _support(outcome)),
        *([section_or_reason("Training", lambda: _training(outcome))] if fitted.training.losses else []),
        *notes_section([*plan.urgent, *plan.notes, *fitted.silent]),
        Section("What to do next", commands=_commands(outcome, out)),
    ]


def _facts(outcome: Outcome) -> dict[str, str]:
    plan, facts = outcome.prepared.plan, outcome.fitted.facts
    counts, ended = plan.parameters, "loss plateau" if facts.plateau else "step limit"
    return {
        "structures": ", ".join(f"{name} ({kind})" for name, kind in plan.structures.items()),
        "method": f"{plan.method}, decoder {plan.decoder}",
        "trained parameters": f"{count(counts.trainable)} and a head of {count(counts.head)}, of {count(counts.total)}",
        "support cases": f"{len(plan.support)}: {', '.join(plan.support)}",
        **({"seen without label maps": ", ".join(plan.transductive)} if plan.transductive else {}),
        "steps": f"{count(facts.steps)} ({ended})" if facts.steps else "none: the head was set without training",
        "loss at the end": MISSING if facts.loss is None else f"{facts.loss:.4f}",
        "time of the training": seconds(facts.fit_seconds),
        "seed": str(outcome.prepared.task.request.seed),
        "base": f"{Path(plan.base['path']).name}, sha256 {plan.base['sha256'][:12]}, licence {plan.base['licence']}",
        "licence of the cases": plan.licence,
    }


def _estimate(outcome: Outcome) -> list[Section]:
    if outcome.estimate is None:
        return []
    text = (
        "DSC by leave-one-out over the support cases. It is cautious: each of these trainings has one case less. With"
        " so few cases the range says more than the mean."
    )
    cases = list(outcome.prepared.plan.support)
    header = ["structure", "DSC, mean ± sd", "lowest", "highest", *cases]
    lines = [[name, *_spread(spread, cases)] for name, spread in outcome.estimate.items()]
    return [Section("DSC to expect", [text], [Table(header, lines)])]


def _spread(spread: Spread, cases: list[str]) -> list[str]:
    nan = float("nan")
    numbers = (spread.lowest, spread.highest, *(spread.cases.get(case) for case in cases))
    overall = mean_sd(nan if spread.mean is None else spread.mean, nan if spread.sd is None else spread.sd, 3)
    return [overall, *(MISSING if number is None else f"{number:.3f}" for number in numbers)]


def _support(outcome: Outcome) -> Section:
    drawn = drawn_without(outcome)
    text = [_LEFT_OUT if drawn else _FITTED]
    drawn = drawn or drawn_crops(outcome)
    cases, names, every = (
        len(outcome.prepared.plan.support),
        drawn_structures(outcome),
        outcome.prepared.plan.structures,
    )
    text += [f"{len(drawn)} of {cases} cases are drawn."] if cases > len(drawn) else []
    text += [f"Drawn are the first {len(names)} of {len(every)} structures."] if len(every) > len(names) else []
    title = "left out" if text[0] == _LEFT_OUT else "learned from"
    picture = Picture(
        rows_figure(drawn, names, names, f"Support cases, {title}"),
        "Outlined: the reference. Filled: the prediction.",
        "slices of support cases with reference and prediction",
    )
    return Section("Support cases", text, pictures=[picture])


def _training(outcome: Outcome) -> Section:
    losses = outcome.fitted.training.losses
    loss = outcome.fitted.start.job.recipe.loss
    picture = Picture(
        curves_figure({"training loss": (range(1, len(losses) + 1), losses)}, "Training", f"loss ({loss})"),
        "Loss of each step (thin) and its moving average. It says how well the support cases are fitted, not how well"
        " new cases will be segmented.",
        "curve of the training loss over steps",
    )
    return Section("Training", pictures=[picture])


def _commands(outcome: Outcome, out: Path) -> list[str]:
    run, base = shlex.quote(out.name), shlex.quote(Path(outcome.prepared.plan.base["path"]).name)
    if outcome.fitted.merges:
        predict = [
            f"fsseg predict --run {run} --input IMAGES --output PREDICTIONS",
            f"nnUNetv2_predict_from_modelfolder -i IMAGES -o PREDICTIONS -m {run} -f 0",
        ]
    else:
        predict = [f"fsseg predict --base {base} --adapter {run}/{ADAPTER_NAME} --input IMAGES --output PREDICTIONS"]
    return [
        *predict,
        "fsseg evaluate --prediction PREDICTIONS --reference LABELS --out metrics.csv --report",
        f"fsseg compare {run} OTHER_RUN --test TEST_CASES.txt --reference LABELS --out compared",
        f"fsseg adapter show {run}/{ADAPTER_NAME}",
    ]
