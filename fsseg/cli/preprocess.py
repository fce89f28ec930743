"""Plan and preprocess a dataset of nnUNet_raw, with nnU-Net's planner or with shipped plans.

Every case is checked first: readable files, meaningful values, one geometry, label values that the dataset
names. The same plans again replace what is there; other plans of the dataset stay.
"""

import argparse
from typing import TYPE_CHECKING

from fsseg.cli.options import add_output_options, emit
from fsseg.cli.shipped import ListShipped
from fsseg.config.shipped_files import PLANS

if TYPE_CHECKING:
    from fsseg.stages.preprocess import PreprocessPlan

EXAMPLES = """examples:
  fsseg preprocess --dataset 901 --plans auto
  fsseg preprocess --dataset 901 --plans headneck_cpu
  fsseg preprocess --dataset 901 --plans auto --planner nnUNetPlannerResEncL --workers 8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--dataset", required=True, help="number or name of a dataset in nnUNet_raw")
    parser.add_argument("--plans", default="auto", help="auto, a shipped name, or a plans file (default: auto)")
    parser.add_argument(
        "--list-plans", action=ListShipped, shipped=PLANS, help="list the shipped plans by name, and stop"
    )
    parser.add_argument("--planner", default="nnUNetPlannerResEncM", help="nnU-Net planner class for --plans auto")
    parser.add_argument("--gpu-memory-gb", type=float, help="memory the planner may assume, for --plans auto")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1, in this process)")
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.base import validated
    from fsseg.stages.preprocess import PreprocessConfig, plan_preprocess, run_preprocess

    names = ("dataset", "plans", "planner", "gpu_memory_gb", "workers")
    config = validated(PreprocessConfig, {name: getattr(arguments, name) for name in names}, "the options")
    if arguments.dry_run:
        plan = plan_preprocess(config)
        emit(plan.as_json(), "\n".join([_text("would preprocess", plan), *plan.notes]), arguments.json)
    else:
        result = run_preprocess(config)
        emit(result.manifest, _text("preprocessed", result), arguments.json)  # it has said the notes before its work
    return 0


def _text(verb: str, plan: "PreprocessPlan") -> str:
    planned = [] if plan.planned is None else plan.planned.lines(plan.channels)
    return "\n".join([f"{verb} {plan.cases} cases of {plan.dataset} with plans {plan.plans}", *planned])
