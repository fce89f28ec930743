"""Train one universal encoder on a partially labelled, preprocessed dataset (masked BCE + Dice)."""

import argparse

from fsseg.cli.options import add_device_option, add_output_options, emit, parse_set

EXAMPLES = """examples:
  fsseg pretrain --dataset 901 --plans nnUNetResEncUNetMPlans --steps 250000 --out runs/universal
  fsseg pretrain --dataset 901 --plans headneck_cpu --steps 2000 --device cpu --out runs/headneck
  fsseg pretrain --dataset 901 --plans headneck_cpu --steps 2000 --out runs/headneck --resume
  fsseg pretrain --dataset 901 --plans headneck_cpu --steps 2000 --out runs/sgd --set optimizer=sgd learning_rate=0.01

--set takes: steps_per_epoch, validation_crops, optimizer (adamw or sgd), learning_rate, weight_decay,
foreground_probability, validation_share, workers (processes that prepare crops).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--dataset", required=True, help="number or name of a preprocessed dataset")
    parser.add_argument("--plans", required=True, help="name of the plans made by `fsseg preprocess`")
    parser.add_argument("--steps", type=int, required=True, help="optimisation steps")
    parser.add_argument("--out", required=True, help="run folder to make (an nnU-Net model folder)")
    parser.add_argument("--seed", type=int, default=0, help="decides initialisation and sampling (default: 0)")
    parser.add_argument(
        "--fold", default="0", help="0 holds out a tenth of every source, all trains on all (default: 0)"
    )
    parser.add_argument("--resume", action="store_true", help="continue an unfinished run")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further settings, see below")
    add_device_option(parser)
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.base import validated
    from fsseg.stages.pretrain import PretrainConfig, run_pretrain

    settings = {"steps": arguments.steps, "seed": arguments.seed, **parse_set(arguments.set)}
    names = ("dataset", "plans", "out", "fold", "device", "resume")
    values = {name: getattr(arguments, name) for name in names} | {"settings": settings}
    result = run_pretrain(validated(PretrainConfig, values, "the options"), dry_run=arguments.dry_run)
    emit(result, _text(result, arguments.out, arguments.dry_run), arguments.json)
    return 0


def _text(result: dict, out: str, dry_run: bool) -> str:
    if dry_run:
        return (
            f"would train {', '.join(result['structures'])} on {result['cases']} cases of {result['dataset']}"
            f" for {result['steps']} steps, patch {result['patch_size']}, batch {result['batch_size']}"
        )
    dice = "  ".join(f"{name} {value}" for name, value in result["validation_dice"].items())
    return f"validation Dice on held-out crops: {dice}\n{out} is complete ({result['seconds']:.0f} s)"
