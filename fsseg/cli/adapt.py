"""Fit a pretrained network to known or novel structures from a few labelled cases."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.cli.case_options import add_case_options, case_values, number_of_shots
from fsseg.cli.cost_text import adaptation_text
from fsseg.cli.method_settings import add_method_options, method_settings
from fsseg.cli.options import add_device_option, add_output_options, emit
from fsseg.config.results import JsonObject

if TYPE_CHECKING:
    from fsseg.adaptation.estimate import Estimate, Spread
    from fsseg.adaptation.plan import AdaptPlan
    from fsseg.adaptation.result import AdaptResult
    from fsseg.stages.adapt import AdaptConfig

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
    parser.add_argument(
        "--transductive",
        nargs="+",
        metavar="CASE",
        help="cases, or a file with one a line, whose images take part without label maps: structures shall be"
        " about as large in them as in the support cases",
    )
    parser.add_argument("--estimate", choices=("loo",), help="also estimate the DSC by leave-one-out")
    parser.add_argument("--out", required=True, help="run folder to make")
    add_device_option(parser)
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.adaptation import DEFAULT_SHOTS
    from fsseg.config.base import validated
    from fsseg.stages.adapt import AdaptConfig, plan_adapt, run_adapt

    names = ("checkpoint", "dataset", "out", "estimate", "device")
    values = {name: getattr(arguments, name) for name in names} | case_values(arguments)
    shots = number_of_shots(arguments, DEFAULT_SHOTS)
    values["transductive"] = _cases_or_file(arguments.transductive)
    values |= {"structures": arguments.structure, **method_settings(arguments, shots)}
    config = validated(AdaptConfig, values, "the options")
    if arguments.dry_run:
        plan = plan_adapt(config)
        emit(_planned(plan, config.out), _plan_text(plan, config), arguments.json)
        return 0

    def announce(plan: "AdaptPlan") -> None:  # before hours of work; standard output is for what came of it
        sys.stderr.write("\n".join([_header(plan, config), *plan.notes]) + "\n")

    result = run_adapt(config, announce)
    emit(result.manifest, _text(result, config), arguments.json)
    return 0


def _cases_or_file(words: list[str] | None) -> Path | list[str] | None:
    """Return a file that lists cases where a single word names one, else the words, which are cases."""
    if words is not None and len(words) == 1 and Path(words[0]).is_file():
        return Path(words[0])
    return words


def _header(plan: "AdaptPlan", config: "AdaptConfig") -> str:
    structures = ", ".join(f"{name} ({kind})" for name, kind in plan.structures.items())
    decoder = f" with the decoder {config.decoder}" if config.decoder else ""
    counts = plan.parameters
    cases = ", ".join(plan.transductive)
    transductive = f"sees the images of {cases} without label maps (transductive)\n" if cases else ""
    return (
        f"{plan.method}{decoder} on {structures} from {len(plan.support)} cases:"
        f" {', '.join(plan.support)}\n"
        f"{transductive}"
        f"trains {counts.trainable:,} parameters and a head of {counts.head:,}, of {counts.total:,}"
    )


def _planned(plan: "AdaptPlan", out: Path) -> JsonObject:
    """Return what a dry run says, as plain JSON values."""
    assert plan.cost is not None
    return {**plan.facts(), "max_steps": plan.max_steps, "out": str(out), **plan.cost.as_dict()}


def _plan_text(plan: "AdaptPlan", config: "AdaptConfig") -> str:
    assert plan.cost is not None
    most = f"train at most {plan.max_steps} steps" if plan.max_steps else "set the head without training"
    notes = [*plan.urgent, *plan.notes]
    return "\n".join([_header(plan, config), *notes, f"would {most} into {config.out}", adaptation_text(plan.cost)])


def _text(result: "AdaptResult", config: "AdaptConfig") -> str:
    text = f"{_training_text(result)}, {result.training.fit_seconds:.0f} s\n{config.out}"
    return text + _estimate_text(result.estimate) + ("" if result.merged else _adapter_text(config))


def _training_text(result: "AdaptResult") -> str:
    training = result.training
    if result.feature_cache is not None and not training.steps:
        return f"the head was set from {result.feature_cache['crops']} crops without training"
    ended = "loss plateau" if training.plateau else "step limit"
    return f"{training.steps} steps ({ended}), loss {training.loss}{_ranks_text(result.ranks)}"


def _ranks_text(ranks: dict[str, int]) -> str:
    gone = sum(rank == 0 for rank in ranks.values())
    left = f", {sum(ranks.values())} low-rank terms left, none in {gone} of {len(ranks)} layers"
    return left if gone else ""


def _adapter_text(config: "AdaptConfig") -> str:
    from fsseg.methods.adapter_file import ADAPTER_NAME

    base, adapter = (shlex.quote(str(path)) for path in (config.checkpoint, config.out / ADAPTER_NAME))
    return (
        f"\n{config.method} does not merge, so this run is an adapter and no stock model folder. Predict with:"
        f"\n  fsseg predict --base {base} --adapter {adapter} --input IMAGES --output PREDICTIONS"
    )


def _estimate_text(estimate: "Estimate | None") -> str:
    if estimate is None:
        return ""
    lines = ["\nexpected DSC by leave-one-out over the support cases (mean, range):"]
    lines += [f"  {name}: {_expected(spread)}" for name, spread in estimate.items()]
    return "\n".join(lines)


def _expected(spread: "Spread") -> str:
    cases = ", ".join(spread.both_empty)
    without = f"no score from {cases}, without the structure in the label map and in the prediction" if cases else ""
    if spread.mean is not None:
        text = f"{spread.mean:.3f} ({spread.lowest:.3f} to {spread.highest:.3f})"
        return f"{text}; {without}" if without else text
    reason = f"one alone shows it; {without}" if without else "because one alone annotates it"
    return f"not estimable from these cases, {reason}"
