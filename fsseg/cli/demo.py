"""Run the whole pipeline on phantom CTs that the program makes itself: nothing is downloaded.

Three partially labelled source sets and one target site with another image quality; assemble, preprocess, pretrain,
adapt with 5 shots to two known and two novel organs by five methods, predict, evaluate. Writes results.json
and a self-contained report.html. Exit status 1 if few-shot adaptation of the pretrained network does not beat
training from scratch on the novel organs.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.cli.options import add_device_option, add_output_options, emit

if TYPE_CHECKING:
    from fsseg.stages.demo import DemoResult

EXAMPLES = """examples:
  fsseg demo
  fsseg demo --out demo_1 --seed 1 --json
  fsseg demo --dry-run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--out", type=Path, default=Path("fsseg_demo"), help="folder to make (default: fsseg_demo)")
    parser.add_argument("--seed", type=int, default=0, help="decides phantoms, weights and crops (default: 0)")
    add_device_option(parser)
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo."""
    from fsseg.config.base import validated
    from fsseg.stages.demo import DemoConfig, plan_demo, run_demo

    names = ("out", "seed", "device")
    config = validated(DemoConfig, {name: getattr(arguments, name) for name in names}, "the options")
    if arguments.dry_run:
        plan = plan_demo(config)
        emit(plan.as_json(), "\n".join([f"would make {plan.out}:", *plan.steps]), arguments.json)
        return 0
    result = run_demo(config)
    emit(result.manifest, _text(result), arguments.json)
    return 0 if result.verdict.beats else 1


def _text(result: "DemoResult") -> str:
    from fsseg.demo.tables import results_table
    from fsseg.reporting.tables import seconds, text_table

    return "\n".join(
        [
            "DSC on the test cases of the target site, mean ± sd over cases",
            "",
            text_table(*results_table(result.results)),
            "",
            result.verdict.text,
            f"{result.out / 'report.html'} shows curves and overlays ({seconds(result.manifest['seconds'])} in all)",
        ]
    )
