"""Join partially labelled datasets into one nnU-Net raw dataset.

Each SPEC is a YAML file that says where the files of a dataset lie, what its labels mean and what it
annotates, or the name of one that fsseg ships (--list). The joined dataset is written to
$nnUNet_raw/DatasetNNN_NAME with structures.json, which keeps per case what is annotated: what a dataset does
not annotate stays unknown and never counts as background. Every case is checked first (readable files, one
geometry, known label values, left on the left); one bad case refuses the whole.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.cli.options import add_output_options, emit
from fsseg.cli.shipped import ListShipped
from fsseg.config.base import validated
from fsseg.config.shipped_files import SPECS

if TYPE_CHECKING:
    from fsseg.data.assemble_report import AssembleReport
    from fsseg.stages.assemble import AssembleResult

_MOST_WARNINGS = 20

EXAMPLES = """examples:
  check specs alone:   fsseg assemble my_specs/*.yaml --check
  check every case:    fsseg assemble btcv flare22 --root ~/data --check
  write the dataset:   fsseg assemble btcv flare22 --root ~/data --id 901 --name Abdomen
  as MultiTalent does: fsseg assemble btcv msd09_spleen --root ~/data --id 902 --name CT --channels per_dataset
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "specs", nargs="+", type=Path, metavar="SPEC", help="spec file (YAML) of a source dataset, or its name"
    )
    parser.add_argument("--list", action=ListShipped, shipped=SPECS, help="list the shipped specs by name, and stop")
    parser.add_argument("--root", type=Path, help="folder in which the folders named by the specs lie")
    parser.add_argument("--id", type=int, dest="dataset_id", help="number of the new dataset, 1 to 999")
    parser.add_argument("--name", help="name of the new dataset, such as HeadNeck")
    parser.add_argument(
        "--channels",
        choices=("merged", "per_dataset"),
        default="merged",
        help="one channel per structure over all datasets (merged, the default), or one per dataset and structure",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="images that ITK does not read, sheared ones and NIfTI-2, are copied with axes at right angles, and it is"
        " said by how many mm their voxels move; your files stay as they are",
    )
    parser.add_argument(
        "--cases", nargs="+", help="take these cases alone, by their names in the new dataset, such as BTCV_0001"
    )
    parser.add_argument(
        "--check", action="store_true", help="check and report, write nothing; needs no --id and --name"
    )
    add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """Assemble and print the report."""
    from fsseg.stages.assemble import AssembleConfig, run_assemble

    keys = ("specs", "root", "dataset_id", "name", "channels", "repair", "cases", "check")
    values = {key: getattr(args, key) for key in keys}
    result = run_assemble(validated(AssembleConfig, values, "the options"))
    emit(result.manifest, _text(result), args.json)
    return 0


def _text(result: "AssembleResult") -> str:
    report = result.report
    done = f"Wrote {result.out}" if result.out else "Checked; nothing was written"
    lines = [f"{done}: {report.cases} cases, {len(report.structures)} structures", ""]
    for name, source in report.sources.items():
        lines.append(f"  {name}: {source.cases or 'spec only, no'} cases, licence {source.licence}")
        lines += [f"    {old} became {new}" for old, new in source.renamed.items()]
        lines += [f"    known issue: {issue}" for issue in source.known_issues]
        lines += [f"    excluded {case}: {reason}" for case, reason in source.excluded.items()]
    lines += ["", f"  {'structure':<36}{'annotated in':>13}{'present in':>12}   integers"]
    for name, row in report.structures.items():
        integers = ", ".join(str(value) for value in row.integers)
        lines.append(f"  {name:<36}{row.cases_annotating:>13}{row.cases_containing:>12}   {integers}")
    return "\n".join([*lines, "", *_remarks(report)])


def _remarks(report: "AssembleReport") -> list[str]:
    lines = []
    for reason in dict.fromkeys(report.left_out.values()):
        names = [name for name, why in report.left_out.items() if why == reason]
        lines.append(f"  no channel for {len(names)} structures ({reason}): {', '.join(names)}")
    lines += [f"  left-right pairs {state}: {count}" for state, count in report.pairs.items()]
    hidden = len(report.warnings) - _MOST_WARNINGS
    lines += [f"  warning: {warning}" for warning in report.warnings[:_MOST_WARNINGS]]
    return lines + ([f"  ... and {hidden} more warnings (--json lists all)"] if hidden > 0 else [])
