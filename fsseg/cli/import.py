"""Turn a public checkpoint into a run that `fsseg adapt` starts from.

The family of the file is found out from the names and shapes of its tensors. Nothing in it is executed.
"""

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fsseg.checkpoints.registry import AUTO, FAMILIES
from fsseg.cli.options import add_device_option, add_output_options, emit

if TYPE_CHECKING:
    from fsseg.checkpoints.import_report import ChannelIntensities, ImportPlan
    from fsseg.checkpoints.input_channels import ChannelMap
    from fsseg.evaluation.aggregation import StructureSummary

_LISTING = "\n".join(f"  {name:<18}{what}" for name, what in FAMILIES.items())
EXAMPLES = f"""examples:
  fsseg import supervised_suprem_segresnet_2100.pth --out runs/suprem --dry-run
  fsseg import supervised_suprem_segresnet_2100.pth --out runs/suprem --zero-shot 104
  fsseg import model_final_checkpoint.model --family multitalent_v1 --out runs/multitalent
  fsseg import checkpoint_final.pth --stem 035 --out runs/multitalent_v2
  fsseg import checkpoint_final.pth --plans resenc_l_zscore --out runs/nnfoundation
  fsseg import my_segresnet.pt --family monai_segresnet --labels liver spleen pancreas --activation sigmoid \\
      --spacing 1.5 1.5 2 --hu -160 240 --orientation RAS --out runs/mine
  fsseg import RESULTS/fold_0/checkpoint_final.pth --channels T1 T2=T1 FLAIR --patch-size 96 128 128 --out runs/mri

--channels: a channel of the checkpoint keeps its weights. NEW=OLD starts from those of OLD (its name, or its number
where names repeat, as in T1=any T2=any); k channels of one OLD get its weights / k, so that equal images give what OLD
gave. Any other name starts at zero: it is ignored until a method trains the first convolution. A channel of the
checkpoint that no name takes is left out. Normalisation follows the channels, or --plans.

families:
{_LISTING}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", help="the checkpoint file")
    parser.add_argument("--out", required=True, help="run folder to make")
    parser.add_argument("--family", default=AUTO, metavar="NAME", help="family of the file (default: found out)")
    parser.add_argument("--stem", metavar="ID", help="which stem to take, for files with one for each dataset")
    own = parser.add_argument_group("networks of your own (the families monai_...)")
    own.add_argument("--labels", nargs="+", metavar="NAME", help="structures of the head, in the order of its rows")
    own.add_argument("--activation", choices=["sigmoid", "softmax"], help="of the head; softmax: row 0 is background")
    own.add_argument("--spacing", nargs=3, type=float, metavar="MM", help="voxel size, in the order of the orientation")
    own.add_argument("--hu", nargs=2, type=float, metavar=("LOW", "HIGH"), help="window that was scaled to 0 to 1")
    own.add_argument("--orientation", metavar="RAS", help="to what the axes of the images point: R, A, S in any order")
    own.add_argument("--patch-merging", choices=["legacy", "merging"], help="of a Swin UNETR: legacy before MONAI 1.5")
    parser.add_argument(
        "--plans", metavar="FILE", help="plans, a file or a shipped name, instead of those of the family or the file"
    )
    parser.add_argument("--channels", nargs="+", metavar="NAME[=OLD]", help="image channels of the base, in order")
    parser.add_argument(
        "--patch-size", nargs=3, type=int, metavar="N", help="patch in voxels, in the axis order of the plans"
    )
    parser.add_argument("--allow-partial", action="store_true", help="accept a partly random network")
    parser.add_argument("--zero-shot", metavar="DATASET", help="run the imported head on a dataset in nnUNet_raw")
    parser.add_argument("--cases", nargs="+", help="with --zero-shot: only these cases")
    parser.add_argument("--seed", type=int, default=0, help="decides what is not in the file (default: 0)")
    add_device_option(parser)
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.base import validated
    from fsseg.config.errors import UsageError
    from fsseg.stages.import_checkpoint import ImportConfig, plan_import, run_import

    if arguments.cases and not arguments.zero_shot:
        raise UsageError("--cases chooses the cases of --zero-shot DATASET.\n  Give both or none.")
    values = {name: getattr(arguments, name) for name in ImportConfig.model_fields}
    config = validated(ImportConfig, values, "the options")
    if arguments.dry_run:
        plan = plan_import(config)
        text = "\n\n".join([*_blocks(plan), f"would write {config.out}"])
        emit({**plan.as_json(), "out": str(config.out)}, text, arguments.json)
        return 0
    result = run_import(config)
    blocks = [*_blocks(result.plan), *([_zero_shot(result.zero_shot)] if result.zero_shot else [])]
    emit(result.manifest, "\n\n".join([*blocks, f"written: {config.out}"]), arguments.json)
    return 0


def _blocks(plan: "ImportPlan") -> list[str]:
    from fsseg.reporting.tables import text_table

    report, expects = plan.transfer, plan.expects
    facts = [
        ["family", f"{plan.family}: {plan.title}"],
        ["reference", plan.reference],
        ["licence", plan.licence],
        ["supervised on", _supervision(plan.supervised_on)],
        ["image channels", _channels(expects.channels, report.channels)],
        ["spacing", f"{' x '.join(f'{size:g}' for size in expects.spacing_mm)} mm ({', '.join(expects.axes)})"],
        ["patch", " x ".join(map(str, expects.patch))],
        ["orientation", expects.orientation],
        ["intensities", "; ".join(_intensity(channel) for channel in expects.intensities)],
    ]
    parts = [
        [part, f"{filled:,}", f"{total:,}", f"{filled / total:.1%}"]
        for part, (filled, total) in report.parameters.items()
        if total
    ]
    blocks = [
        text_table(["checkpoint", ""], facts),
        f"structures ({len(plan.structures)}): {', '.join(plan.structures) or 'none, everything is novel'}",
        text_table(["part", "from the file", "parameters", "share"], parts),
        "\n".join(f"{what}: {len(getattr(report, key))}" for key, what in _COUNTED.items()),
        "\n".join(plan.notes),
    ]
    return [block for block in blocks if block]


_COUNTED = {
    "matched": "tensors matched by name and shape",
    "dropped": "tensors of the file left out",
    "missing": "tensors of the network that the file lacks, random now",
    "reshaped": "tensors of another shape, random now",
}


def _channels(names: Sequence[str], channels: "ChannelMap | None") -> str:
    if channels is None:
        return ", ".join(names)
    left_out = f"; left out: {', '.join(channels.names_left_out())}" if channels.left_out else ""
    return ", ".join(f"{name} ({start})" for name, start in channels.starts().items()) + left_out


def _supervision(collections: Sequence[str] | None) -> str:
    if collections is None:
        return "not known"
    return ", ".join(collections) or "nothing: self-supervised"


def _intensity(channel: "ChannelIntensities") -> str:
    if not channel.window_hu:
        return channel.scheme
    low, high = channel.window_hu
    return f"{channel.scheme}, HU {low:g} to {high:g}"


def _zero_shot(structures: dict[str, "StructureSummary"]) -> str:
    from fsseg.reporting.tables import MISSING, text_table

    rows = [
        [name, MISSING if math.isnan(summary.dsc.mean) else f"{summary.dsc.mean:.3f}", str(summary.dsc.n)]
        for name, summary in structures.items()
    ]
    return text_table(["zero-shot", "DSC", "n"], rows)
