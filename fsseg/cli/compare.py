"""Compare runs, or predictions of any tool, on the same test cases: tables, paired differences, pictures, a viewer.

A RUN is a run folder of `fsseg adapt` or `fsseg pretrain`, or a model folder of nnU-Net. All of them predict the test
cases with the same sliding window. NAME=FOLDER gives it a name, or names a folder of label maps that any tool has made.
Structures are matched by name, and those that all of them know are scored.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.cli.options import add_device_option, add_output_options, emit

if TYPE_CHECKING:
    from fsseg.stages.compare import ComparePlan, CompareResult

EXAMPLES = """examples:
  fsseg compare runs/lora runs/full --test test.txt --reference $nnUNet_raw/Dataset104_HeadNeckTarget/labelsTr \\
      --baseline full --out compared
  fsseg compare runs/lora totalseg=predictions_of_totalsegmentator --test test.txt --reference labelsTr \\
      --images imagesTr --structure larynx --out compared
  fsseg compare runs/universal_fold_0 --test runs/universal_fold_0/held_out.txt --reference labelsTr --out held_out
  fsseg compare runs/lora runs/full --test test.txt --reference labelsTr --anonymous --out to_send

The same command resumes a comparison that was stopped: cases that are segmented stay.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, or NAME=FOLDER with a run or label maps")
    parser.add_argument("--test", type=Path, required=True, help="file with the test cases, one a line")
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR", help="folder of reference label maps")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images (default: imagesTr beside labelsTr)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--baseline", metavar="NAME", help="what the others are compared to (default: the first)")
    parser.add_argument(
        "--structure", nargs="+", metavar="NAME", help="structures to compare (default: all that all of them know)"
    )
    parser.add_argument(
        "--tolerance-mm", type=float, default=2.0, metavar="MM", help="surfaces this close agree, for NSD (default: 2)"
    )
    parser.add_argument(
        "--tile-step-size", type=float, default=0.5, help="sliding-window step / patch, for all runs (default: 0.5)"
    )
    parser.add_argument(
        "--no-mirroring", dest="mirroring", action="store_false", help="no average over flips: up to 8 times as fast"
    )
    parser.add_argument(
        "--anonymous", action="store_true", help="cases are case_001, … in all that is written; no predictions are kept"
    )
    add_device_option(parser)
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.base import validated
    from fsseg.stages.compare import CompareConfig, plan_compare, run_compare

    renamed = {"structures": arguments.structure}
    values = renamed | {name: getattr(arguments, name) for name in CompareConfig.model_fields if name not in renamed}
    config = validated(CompareConfig, values, "the options")
    if arguments.dry_run:
        plan = plan_compare(config)
        emit(plan.as_json(), _plan_text(plan), arguments.json)
        return 0
    result = run_compare(config)
    emit(result.manifest, _text(result), arguments.json)
    return 0


def _plan_text(plan: "ComparePlan") -> str:
    cases = f"{len(plan.cases)} case{'' if len(plan.cases) == 1 else 's'}"
    lines = [f"would predict {cases} with {', '.join(plan.predicts)}"] if plan.predicts else []
    compared = ", ".join((*plan.predicts, *plan.scores))
    lines.append(f"would score {', '.join(plan.structures)} in {cases}: {compared}; baseline {plan.baseline}")
    return "\n".join([*lines, *plan.notes])


def _text(result: "CompareResult") -> str:
    from fsseg.comparing.page import with_interval
    from fsseg.reporting.tables import MISSING, mean_sd, text_table

    comparison = result.comparison
    column = list(comparison.columns)[-1]
    header, rows = ["run", f"DSC, {column}"], []
    for run in comparison.rows:
        own = comparison.scores(run, column)
        minus = MISSING if own.minus is None else with_interval(own.minus)
        rows.append([run, mean_sd(own.dsc.mean, own.dsc.sd, 3), minus])
    if len(rows) > 1:
        header.append(f"minus {comparison.baseline} [95 % interval]")
    shown = [row[: len(header)] for row in rows]
    return f"{text_table(header, shown)}\n\nwritten: {result.out / 'compare.html'}"
