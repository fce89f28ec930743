"""Use fsseg's trainers from nnU-Net's own commands, and make splits that a few cases allow."""

import argparse
import shlex

from fsseg.cli.method_settings import HEAD_HELP, method_settings
from fsseg.cli.options import add_output_options, emit
from fsseg.cli.parser import add_action

_ENV = """  fsseg nnunet env
"""
_PLANS = """  fsseg nnunet plans --checkpoint runs/universal --dataset 104 --method lora --decoder tuned --shots 5
"""
_SPLITS = """  fsseg nnunet splits --dataset 104
  fsseg nnunet splits --dataset 104 --shots 5 --folds 3 --json
"""
EXAMPLES = f"""examples:
{_ENV}{_PLANS}{_SPLITS}
`env` prints a line for the shell. With it, the commands of nnU-Net find the trainers of fsseg, as in
nnUNetv2_train 901 3d_fullres 0 -p nnUNetResEncUNetMPlans -tr nnUNetTrainerPartialLabel. `plans` writes plans for
nnUNetv2_preprocess -d 104 -plans_name NAME -c 3d_fullres and nnUNetv2_train 104 3d_fullres 0 -p NAME
-tr nnUNetTrainerFewShot; --set takes options of the method and of the recipe, as in fsseg adapt. `splits` writes
splits_final.json of a preprocessed dataset: leave-one-out, or folds that train on --shots cases each and are nested for
growing --shots. Stock nnU-Net makes none for fewer than five cases.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    env = add_action(actions, "env", "print the line that makes nnU-Net find fsseg's trainers", _ENV)
    add_output_options(env)
    plans = add_action(actions, "plans", "write plans with which nnU-Net adapts a base", _PLANS)
    plans.add_argument("--checkpoint", required=True, help="model folder of the pretrained network")
    plans.add_argument("--dataset", required=True, help="number or name of a dataset in nnUNet_raw")
    plans.add_argument("--structure", nargs="+", help="structures to adapt to (default: all of the dataset)")
    plans.add_argument("--shots", type=int, default=5, help="support cases of a fold (default: 5)")
    plans.add_argument("--method", required=True, help="adaptation method, see `fsseg methods`")
    plans.add_argument("--decoder", choices=("frozen", "tuned"), help="train the decoder too (default: the method's)")
    plans.add_argument("--head", choices=("base", "new"), default="base", help=HEAD_HELP)
    plans.add_argument("--recipe", default="default", help="default (ours), fseft or arena (as published)")
    plans.add_argument("--seed", type=int, default=0, help="decides draw, new weights and crops (default: 0)")
    plans.add_argument("--name", help="name of the plans (default: fsseg_METHOD_Kshots)")
    plans.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of method and recipe")
    add_output_options(plans)
    splits = add_action(actions, "splits", "write splits_final.json for few cases", _SPLITS)
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
    if arguments.action == "plans":
        return _plans(arguments)
    from fsseg.config.base import validated
    from fsseg.stages.nnunet_splits import SplitsConfig, run_splits

    values = {name: getattr(arguments, name) for name in ("dataset", "shots", "folds")}
    result = run_splits(validated(SplitsConfig, values, "the options"))
    emit(result, f"{result['out']}: {len(result['splits'])} folds", arguments.json)
    return 0


def _plans(arguments: argparse.Namespace) -> int:
    from fsseg.config.base import validated
    from fsseg.stages.nnunet_plans import NnunetPlansConfig, run_nnunet_plans

    names = ("checkpoint", "dataset", "shots", "method", "decoder", "head", "seed", "name")
    values = {name: getattr(arguments, name) for name in names}
    values |= {"structures": arguments.structure, **method_settings(arguments, arguments.shots)}
    result = run_nnunet_plans(validated(NnunetPlansConfig, values, "the options"))
    number, plans, configuration = (result[key] for key in ("dataset_id", "plans", "configuration"))
    text = (
        f"{result['out']}\n"
        f"  nnUNetv2_preprocess -d {number} -plans_name {plans} -c {configuration}\n"
        f"  nnUNetv2_train {number} {configuration} 0 -p {plans} -tr nnUNetTrainerFewShot"
    )
    emit(result, "\n".join([text, *result["notes"]]), arguments.json)
    return 0
