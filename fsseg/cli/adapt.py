"""Fit a pretrained network to known or novel structures from a few labelled cases."""

import argparse
import sys

from fsseg.cli.case_options import add_case_options, case_values, number_of_shots
from fsseg.cli.cost_text import adaptation_text
from fsseg.cli.method_settings import add_method_options, method_settings
from fsseg.cli.options import add_device_option, add_output_options, emit

EXAMPLES = """examples:
  fsseg adapt --checkpoint runs/universal --dataset 104 --structure larynx --shots 5 \\
      --seed 0 --out runs/larynx
  fsseg adapt --checkpoint runs/universal --dataset 104 --structure larynx esophagus --shots 5 \\
      --method lora --set rank=8 --test test.txt --estimate loo --out runs/two
  fsseg adapt --checkpoint runs/universal --dataset 104 --structure mandible --cases a b c \\
      --method linear_probe --set recipe.max_steps=500 --out runs/mandible
  fsseg adapt --checkpoint runs/fseft --dataset 104 --structure larynx --shots 10 \\
      --method lora:fseft --decoder tuned --recipe fseft --out runs/larynx_fseft
  fsseg adapt --checkpoint runs/fseft --dataset 22 --structure liver spleen aorta --recipe fseft \\
      --method spatial_adapter --set recipe.activation=softmax --out runs/three_classes

--set takes options of the method (rank=8) and of the recipe (recipe.max_steps=500);
`fsseg methods` lists the methods.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--checkpoint", required=True, help="model folder of the pretrained network")
    parser.add_argument("--dataset", required=True, help="number or name of a dataset in nnUNet_raw")
    parser.add_argument("--structure", nargs="+", required=True, help="structures to adapt to, in one network")
    add_case_options(parser, "support cases by name, instead of --shots")
    add_method_options(parser)
    parser.add_argument("--estimate", choices=("loo",), help="also estimate the DSC by leave-one-out")
    parser.add_argument("--out", required=True, help="run folder to make")
    add_device_option(parser)
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.adaptation import DEFAULT_SHOTS
    from fsseg.config.base import validated
    from fsseg.stages.adapt import AdaptConfig, run_adapt

    names = ("checkpoint", "dataset", "out", "estimate", "device")
    values = {name: getattr(arguments, name) for name in names} | case_values(arguments)
    shots = number_of_shots(arguments, DEFAULT_SHOTS)
    values |= {"structures": arguments.structure, **method_settings(arguments, shots)}
    config = validated(AdaptConfig, values, "the options")

    def announce(facts: dict) -> None:  # before hours of work
        sys.stderr.write(_header(facts, arguments) + "\n")  # standard output is for what came of it

    result = run_adapt(config, dry_run=arguments.dry_run, announce=announce)
    emit(result, _text(result, arguments), arguments.json)
    return 0


def _header(result: dict, arguments: argparse.Namespace) -> str:
    structures = ", ".join(f"{name} ({kind})" for name, kind in result["structures"].items())
    counts = result["parameters"]
    decoder = f" with the decoder {arguments.decoder}" if arguments.decoder else ""
    text = (
        f"{arguments.method}{decoder} on {structures} from {len(result['support'])} cases:"
        f" {', '.join(result['support'])}\n"
        f"trains {counts['trainable']:,} parameters and a head of {counts['head']:,}, of {counts['total']:,}"
    )
    return "\n".join([text, *result["notes"]])


def _text(result: dict, arguments: argparse.Namespace) -> str:
    if arguments.dry_run:
        most = f"train at most {result['max_steps']} steps" if result["max_steps"] else "set the head without training"
        cost = adaptation_text(result)
        return f"{_header(result, arguments)}\nwould {most} into {result['out']}\n{cost}"
    text = f"{_training_text(result)}, {result['fit_seconds']:.0f} s\n{arguments.out}"
    return text + _estimate_text(result["estimate"]) + ("" if result["merged"] else _adapter_text(arguments))


def _training_text(result: dict) -> str:
    if not result["steps"]:
        return f"the head was set from {result['feature_cache']['crops']} crops without training"
    ended = "loss plateau" if result["plateau"] else "step limit"
    return f"{result['steps']} steps ({ended}), loss {result['loss']}{_ranks_text(result['ranks'])}"


def _ranks_text(ranks: dict[str, int]) -> str:
    gone = sum(rank == 0 for rank in ranks.values())
    left = f", {sum(ranks.values())} low-rank terms left, none in {gone} of {len(ranks)} layers"
    return left if gone else ""


def _adapter_text(arguments: argparse.Namespace) -> str:
    import shlex
    from pathlib import Path

    from fsseg.methods.adapter_file import ADAPTER_NAME

    base, adapter = (shlex.quote(str(path)) for path in (arguments.checkpoint, Path(arguments.out) / ADAPTER_NAME))
    return (
        f"\n{arguments.method} does not merge, so this run is an adapter and no stock model folder. Predict with:"
        f"\n  fsseg predict --base {base} --adapter {adapter} --input IMAGES --output PREDICTIONS"
    )


def _estimate_text(estimate: dict | None) -> str:
    if estimate is None:
        return ""
    lines = ["\nexpected DSC by leave-one-out over the support cases (mean, range):"]
    lines += [f"  {name}: {_expected(spread)}" for name, spread in estimate.items()]
    return "\n".join(lines)


def _expected(spread: dict) -> str:
    cases = ", ".join(spread["both_empty"])
    without = f"no score from {cases}, without the structure in the label map and in the prediction" if cases else ""
    if spread["mean"] is not None:
        text = f"{spread['mean']:.3f} ({spread['lowest']:.3f} to {spread['highest']:.3f})"
        return f"{text}; {without}" if without else text
    reason = f"one alone shows it; {without}" if without else "because one alone annotates it"
    return f"not estimable from these cases, {reason}"
