"""Compare predicted label maps with reference label maps: DSC, NSD, HD95 and volumes per case and structure.

Structures are matched by name; what an integer means comes from the structures.json or dataset.json in each
folder, or else in its parent. Structures that a case does not annotate are not scored in it. Structures empty
in both masks are left out of the means; empty in one of them, they count as DSC = NSD = 0 and have no HD95.
Cases that the model was adapted to are named: leave them out with --cases.

--protocol fseft scores as FSEFT and ARENA do for one structure at a time: both label maps on a grid of 1.5 mm, of the
reference only its largest component, and DSC = 2 TP / (P + G + 1). fseft_multiclass is the same with the whole
reference, as they do on FLARE22. NSD, HD95 and volumes are ours, on that grid.
"""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from fsseg.cli.options import add_output_options, emit
from fsseg.config.base import validated

if TYPE_CHECKING:
    from fsseg.evaluation.aggregation import StructureSummary
    from fsseg.stages.evaluate import EvaluateResult

EXAMPLES = """examples:
  fsseg evaluate --prediction predictions --reference Dataset901_HeadNeck/labelsTs --out metrics.csv
  fsseg evaluate --prediction predictions --reference labelsTr --out kidney.csv \\
      --structure kidney_left kidney_right --cases case_0007 case_0012 --tolerance-mm 3
  fsseg evaluate --prediction predictions --reference labelsTr --out fseft.csv --protocol fseft
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `fsseg evaluate`."""
    parser.add_argument("--prediction", type=Path, required=True, metavar="DIR", help="folder of predicted label maps")
    parser.add_argument("--reference", type=Path, required=True, metavar="DIR", help="folder of reference label maps")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="CSV",
        help="file for one row per case and structure; must be new",
    )
    parser.add_argument(
        "--structure",
        nargs="+",
        metavar="NAME",
        help="structures to compare (default: all that both folders know)",
    )
    parser.add_argument(
        "--cases",
        nargs="+",
        metavar="CASE",
        help="cases to compare (default: all, which must match in both folders)",
    )
    parser.add_argument(
        "--tolerance-mm",
        type=float,
        default=2.0,
        metavar="MM",
        help="surfaces this close agree, for NSD (default: 2)",
    )
    parser.add_argument(
        "--protocol",
        choices=("native", "fseft", "fseft_multiclass"),
        default="native",
        help="on which grid, and against what of the reference (default: native, that of the label maps)",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="also write a page beside the CSV: every case, pictures of the worst, median and best, a viewer",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="with --report: folder of the images (default: imagesTr beside labelsTr)",
    )
    add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print one line per structure."""
    from fsseg.stages.evaluate import EvaluateConfig, run_evaluate

    values = {
        "prediction": args.prediction,
        "reference": args.reference,
        "out": args.out,
        "structures": args.structure,
        "cases": args.cases,
        "tolerance_mm": args.tolerance_mm,
        "report": args.report,
        "images": args.images,
        "protocol": args.protocol,
    }
    result = run_evaluate(validated(EvaluateConfig, values, "the options of fsseg evaluate"))
    emit(result.as_json(), _report(result), args.json)
    return 0


def _report(result: "EvaluateResult") -> str:
    from fsseg.reporting.tables import text_table

    header = ["structure", "DSC", "95 % CI", f"NSD at {result.tolerance_mm:g} mm", "HD95 [mm]", "n"]
    rows = [_table_row(name, summary) for name, summary in result.structures.items()]
    return "\n".join([text_table(header, rows), "", *_notes(result)])


def _table_row(name: str, summary: "StructureSummary") -> list[str]:
    from fsseg.reporting.tables import mean_sd

    dsc, nsd, hd95_mm = summary.dsc, summary.nsd, summary.hd95_mm
    interval = "–" if math.isnan(dsc.low) else f"[{dsc.low:.3f}, {dsc.high:.3f}]"
    distance = mean_sd(hd95_mm.mean, hd95_mm.sd, 1)
    if hd95_mm.n < dsc.n:
        distance += f" (n = {hd95_mm.n})"
    return [name, mean_sd(dsc.mean, dsc.sd, 3), interval, mean_sd(nsd.mean, nsd.sd, 3), distance, str(dsc.n)]


def _notes(result: "EvaluateResult") -> list[str]:
    both_empty = sum(summary.dsc.left_out for summary in result.structures.values())
    notes = [f"mean ± sd over cases; 95 % CI of the mean by bootstrap over cases; {result.cases} cases"]
    if result.protocol != "native":
        notes.append(f"by the protocol {result.protocol}: on a grid of 1.5 mm, DSC = 2 TP / (P + G + 1)")
    if both_empty:
        notes.append(f"rows left out of the means, empty in both masks: {both_empty}")
    if result.unannotated_pairs:
        notes.append(f"not scored, pairs of case and structure without annotation: {result.unannotated_pairs}")
    if result.never_annotated:
        notes.append(f"annotated in none of the cases: {', '.join(result.never_annotated)}")
    if result.support_cases:
        notes.append(f"scored although the model was adapted to them: {', '.join(result.support_cases)}")
    if result.transductive_cases:
        notes.append(f"whose images the model saw without label maps: {', '.join(result.transductive_cases)}")
    return [*notes, f"written: {result.out}, {result.manifest}"]
