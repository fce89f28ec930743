"""Use fsseg's trainers from nnU-Net's own commands, and make splits that a few cases allow."""

import argparse
import os
import shlex

from fsseg.cli.case_options import add_case_lists, add_case_options, case_values, number_of_shots
from fsseg.cli.method_settings import add_method_options, method_settings
from fsseg.cli.options import add_output_options, emit
from fsseg.cli.parser import add_action

_ENV = """  fsseg nnunet env
"""
_PLANS = """  fsseg nnunet plans --checkpoint runs/universal --dataset 104 --shots 5 --test test_cases.txt
"""
_SPLITS = """  fsseg nnunet splits --dataset 104
  fsseg nnunet splits --dataset 104 --shots 5 --folds 3 --json
"""
EXAMPLES = f"""examples:
{_ENV}{_PLANS}{_SPLITS}
`env` prints a line for the shell, which keeps what nnUNet_extTrainer names already. With it, the commands of
nnU-Net find the trainers of fsseg, as in
nnUNetv2_train 901 3d_fullres 0 -p nnUNetResEncUNetMPlans -tr nnUNetTrainerPartialLabel. `plans` writes plans for
nnUNetv2_preprocess -d 104 -plans_name NAME -c 3d_fullres and nnUNetv2_train 104 3d_fullres 0 -p NAME
-tr nnUNetTrainerFewShot; --set takes options of the method and of the recipe, as in fsseg adapt. Folds are those of
splits_final.json, else nnU-Net's five, or leave-one-out below five cases; test cases are in none of them, fold all
included. `splits` writes splits_final.json of a preprocessed dataset: leave-one-out, or folds that train on --shots
cases each and are nested for growing --shots. Stock nnU-Net makes none for fewer than five cases.
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
    add_case_options(plans, "support cases by name: folds are made of them, and fold all trains on all of them")
    add_method_options(plans)
    plans.add_argument("--name", help="name of the plans (default: fsseg_METHOD_Kshots)")
    add_output_options(plans)
    splits = add_action(actions, "splits", "write splits_final.json for few cases", _SPLITS)
    splits.add_argument("--dataset", required=True, help="number or name of a preprocessed dataset")
    splits.add_argument("--shots", type=int, help="training cases of a fold (default: all but one, leave-one-out)")
    add_case_lists(splits)
    splits.add_argument("--folds", type=int, help="folds with --shots, each of another seed (default: 3)")
    add_output_options(splits)


def run(arguments: argparse.Namespace) -> int:
    """Run the action."""
    if arguments.action == "env":
        from fsseg.nnunet.environment import with_trainers_folder

        folders = with_trainers_folder(os.environ.get("nnUNet_extTrainer", ""))
        emit({"nnUNet_extTrainer": folders}, f"export nnUNet_extTrainer={shlex.quote(folders)}", arguments.json)
        return 0
    if arguments.action == "plans":
        return _plans(arguments)
    from fsseg.config.base import validated
    from fsseg.stages.nnunet_splits import NnunetSplitsConfig, run_nnunet_splits

    values = {name: getattr(arguments, name) for name in ("dataset", "shots", "folds", "pool", "test")}
    result = run_nnunet_splits(validated(NnunetSplitsConfig, values, "the options"))
    emit(result.as_json(), f"{result.out}: {len(result.splits)} folds", arguments.json)
    return 0


def _plans(arguments: argparse.Namespace) -> int:
    from fsseg.config.adaptation import DEFAULT_SHOTS
    from fsseg.config.base import validated
    from fsseg.stages.nnunet_plans import NnunetPlansConfig, run_nnunet_plans

    values = {name: getattr(arguments, name) for name in ("checkpoint", "dataset", "name")} | case_values(arguments)
    shots = number_of_shots(arguments, DEFAULT_SHOTS)
    values |= {"structures": arguments.structure or (), **method_settings(arguments, shots)}
    result = run_nnunet_plans(validated(NnunetPlansConfig, values, "the options"))
    # nnU-Net's own preprocessing fails where an image has no label map.
    stock = f"nnUNetv2_preprocess -d {result.dataset_id} -plans_name {result.plans} -c {result.configuration}"
    ours = f"fsseg preprocess --dataset {result.dataset_id} --plans {shlex.quote(str(result.out))}"
    text = (
        f"{result.out}\n"
        f"  {stock if result.labelled else ours}\n"
        f"  nnUNetv2_train {result.dataset_id} {result.configuration} 0 -p {result.plans} -tr nnUNetTrainerFewShot"
    )
    emit(result.as_json(), "\n".join([text, *result.notes]), arguments.json)
    return 0
