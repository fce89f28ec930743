"""Plan and preprocess a dataset of nnUNet_raw, with nnU-Net's planner or with shipped plans.

Every case is checked first: readable files, meaningful values, one geometry, label values that the dataset
names. The same plans again replace what is there; other plans of the dataset stay.
"""

import argparse
from typing import Any

from fsseg.cli.options import add_output_options, emit

EXAMPLES = """examples:
  fsseg preprocess --dataset 901 --plans auto
  fsseg preprocess --dataset 901 --plans plans/headneck_cpu.json
  fsseg preprocess --dataset 901 --plans auto --planner nnUNetPlannerResEncL --workers 8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--dataset", required=True, help="number or name of a dataset in nnUNet_raw")
    parser.add_argument("--plans", default="auto", help="auto, or a plans file such as those in plans/ (default: auto)")
    parser.add_argument("--planner", default="nnUNetPlannerResEncM", help="nnU-Net planner class for --plans auto")
    parser.add_argument("--gpu-memory-gb", type=float, help="memory the planner may assume, for --plans auto")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1, in this process)")
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.base import validated
    from fsseg.stages.preprocess import PreprocessConfig, run_preprocess

    names = ("dataset", "plans", "planner", "gpu_memory_gb", "workers")
    config = validated(PreprocessConfig, {name: getattr(arguments, name) for name in names}, "the options")
    result = run_preprocess(config, dry_run=arguments.dry_run)
    emit(result, _text(result, dry_run=arguments.dry_run), arguments.json)
    return 0


def _text(result: dict[str, Any], *, dry_run: bool) -> str:
    from fsseg.nnunet.plan_summary import summary_lines

    verb = "would preprocess" if dry_run else "preprocessed"
    lines = [f"{verb} {result['cases']} cases of {result['dataset']} with plans {result['plans']}"]
    if result["planned"] is not None:
        lines += summary_lines(result["planned"], result["channels"])
    return "\n".join([*lines, *(result["notes"] if dry_run else ())])  # a run has said them before its work
