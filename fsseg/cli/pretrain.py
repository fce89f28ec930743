"""Train one universal encoder on a partially labelled, preprocessed dataset (masked BCE + Dice)."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.cli.cost_text import pretraining_text
from fsseg.cli.options import add_device_option, add_output_options, emit, parse_set
from fsseg.config.results import JsonObject

if TYPE_CHECKING:
    from fsseg.pretraining.plan import PretrainPlan
    from fsseg.pretraining.result import PretrainResult

EXAMPLES = """examples:
  fsseg pretrain --dataset 901 --plans nnUNetResEncUNetMPlans --steps 250000 --out runs/universal
  fsseg pretrain --dataset 901 --plans headneck_cpu --steps 2000 --device cpu --out runs/headneck
  fsseg pretrain --dataset 901 --plans headneck_cpu --steps 2000 --out runs/headneck --resume
  fsseg pretrain --dataset 901 --plans headneck_cpu --steps 2000 --fold 3 --out runs/headneck_fold_3
  fsseg pretrain --dataset 901 --plans headneck_cpu --steps 2000 --out runs/sgd --set optimizer=sgd learning_rate=0.01
  fsseg pretrain --dataset 901 --plans genesis_unet --recipe suprem --steps 200000 --out runs/suprem --set ema=0.999
  fsseg pretrain --dataset 901 --plans models_genesis --steps 200000 --checkpoint runs/genesis --out runs/ct
  torchrun --nproc-per-node 4 -m fsseg pretrain --dataset 901 --plans multitalent_unet --recipe multitalent \\
      --steps 500000 --out runs/multitalent

--recipe decides loss, sampling, augmentation, optimiser and schedule; patch, spacing and window are in the plans.
--set takes: steps_per_epoch, validation_crops, loss (multitalent, suprem, clip_driven, fseft, hermes or uniseg),
optimizer (adamw or sgd), learning_rate, schedule (poly or cosine), warmup, weight_decay, accumulate (batches a step),
ema (decay of the averaged weights), foreground_probability, sampling (sqrt, cases or sources), augmentation (nnunet or
turn_and_shift), mirroring (auto; false: no flips), precision (auto, float32 or bfloat16, also on CPUs that have it),
validation_share, checkpoint_minutes, workers (processes that prepare crops; by default nnU-Net's number on a CUDA
device, else none), unannotated (masked; or background, the mistake, for comparisons). With torchrun the batch size of
the plans is that of all processes together.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--dataset", required=True, help="number or name of a preprocessed dataset")
    parser.add_argument("--plans", required=True, help="name of the plans that the dataset is preprocessed with")
    parser.add_argument("--steps", type=int, required=True, help="optimisation steps")
    parser.add_argument("--out", required=True, help="run folder to make (an nnU-Net model folder)")
    parser.add_argument("--recipe", default="default", help="default (ours), multitalent, suprem or fseft")
    parser.add_argument("--seed", type=int, default=0, help="decides initialisation and sampling (default: 0)")
    parser.add_argument(
        "--fold",
        help="0 to 4 hold out a fifth of every source each, and so every case once; all trains on all (default: fold 0"
        " with a tenth of every source); validation_share is another share",
    )
    parser.add_argument("--checkpoint", help="start from the weights of this run (model folder), as of `fsseg import`")
    parser.add_argument("--resume", action="store_true", help="continue an unfinished run")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further settings, see below")
    add_device_option(parser)
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.base import validated
    from fsseg.config.pretraining import fold_settings, recipe_settings
    from fsseg.stages.pretrain import PretrainConfig, plan_pretrain, run_pretrain

    settings = {"steps": arguments.steps, "seed": arguments.seed, **fold_settings(arguments.fold)}
    settings |= recipe_settings(arguments.recipe) | parse_set(arguments.set)
    names = ("dataset", "plans", "out", "recipe", "device", "checkpoint", "resume")
    values = {name: getattr(arguments, name) for name in names} | {"settings": settings}
    values["fold"] = "0" if arguments.fold is None else arguments.fold
    config = validated(PretrainConfig, values, "the options")
    if arguments.dry_run:
        plan = plan_pretrain(config)
        if plan is not None:  # the first of several processes speaks for all
            emit(_planned(plan, config.out), _plan_text(plan), arguments.json)
        return 0
    result = run_pretrain(config)
    if result is not None:
        emit(result.manifest, _text(result), arguments.json)
    return 0


def _planned(plan: "PretrainPlan", out: Path) -> JsonObject:
    """Return what a dry run says, as plain JSON values."""
    assert plan.cost is not None
    return {**plan.facts(), **plan.cost.as_dict(), "steps": plan.steps, "out": str(out)}


def _plan_text(plan: "PretrainPlan") -> str:
    assert plan.cost is not None
    trained = (
        f"would train {', '.join(plan.structures)} on {plan.cases} cases of {plan.dataset}"
        f" for {plan.steps} steps, patch {list(plan.patch_size)}, batch {plan.batch_size}"
    )
    return "\n".join([trained, pretraining_text(plan.cost), *plan.notes])


def _text(result: "PretrainResult") -> str:
    shown = "  ".join(f"{name} {value}" for name, value in result.validation_dice.items() if value is not None)
    lines = [f"validation Dice on held-out crops: {shown or 'none'}"]
    reasons = result.unvalidated
    for reason in dict.fromkeys(reasons.values()):
        lines.append(f"{reason}: {', '.join(name for name in reasons if reasons[name] == reason)}")
    if not result.plan.held_out:
        lines.append("no case is held out: --fold all, validation_share=0, or fewer than 5 cases in every source")
    return "\n".join([*lines, f"{result.out} is complete ({result.seconds:.0f} s)"])
