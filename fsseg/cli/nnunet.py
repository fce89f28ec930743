"""Use fsseg's trainers from nnU-Net's own commands, and make splits that a few cases allow."""

import argparse
import shlex

from fsseg.cli.options import add_output_options, emit

EXAMPLES = """examples:
  fsseg nnunet env
  fsseg nnunet splits --dataset 104
  fsseg nnunet splits --dataset 104 --shots 5 --folds 3 --json

`env` prints a line for the shell. With it, the commands of nnU-Net find the trainers of fsseg, as in
nnUNetv2_train 901 3d_fullres 0 -p nnUNetResEncUNetMPlans -tr nnUNetTrainerPartialLabel. `splits` writes the file
splits_final.json of a preprocessed dataset: leave-one-out, or folds that train on --shots cases each and are nested for
growing --shots. Stock nnU-Net makes none for fewer than five cases.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    env = actions.add_parser("env", help="print the line that makes nnU-Net find fsseg's trainers", allow_abbrev=False)
    add_output_options(env)
    splits = actions.add_parser("splits", help="write splits_final.json for few cases", allow_abbrev=False)
    splits.add_argument("--dataset", required=True, help="number or name of a preprocessed dataset")
    splits.add_argument("--shots", type=int, help="training cases of a fold (default: all but one, leave-one-out)")
    splits.add_argument("--folds", type=int, help="folds with --shots, each of another seed (default: 3)")
    add_output_options(splits)


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    if arguments.action == "env":
        from fsseg.nnunet.environment import trainers_folder

        folder = str(trainers_folder())
        emit({"nnUNet_extTrainer": folder}, f"export nnUNet_extTrainer={shlex.quote(folder)}", arguments.json)
        return 0
    from fsseg.config.base import validated
    from fsseg.stages.nnunet_splits import SplitsConfig, run_splits

    values = {name: getattr(arguments, name) for name in ("dataset", "shots", "folds")}
    result = run_splits(validated(SplitsConfig, values, "the options"))
    emit(result, f"{result['out']}: {len(result['splits'])} folds", arguments.json)
    return 0
