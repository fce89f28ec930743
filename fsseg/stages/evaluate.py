"""Compare predicted label maps with the reference: one CSV row per case and structure, and a summary."""

import csv
import logging
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError
from fsseg.config.manifest import MANIFEST_NAME, Manifest
from fsseg.evaluation.aggregation import BOOTSTRAP_SEED, CaseRow, StructureSummary, summarise_structures
from fsseg.evaluation.comparison import compare
from fsseg.evaluation.label_folders import (
    LabelFolder,
    cases_to_compare,
    open_label_folder,
    structures_to_compare,
)

logger = logging.getLogger(__name__)


class EvaluateConfig(StrictModel):
    """What to compare.

    Attributes:
        prediction: folder of predicted label maps.
        reference: folder of reference label maps, such as DatasetXXX/labelsTs.
        out: the CSV to write; its manifest is written beside it as <stem>.manifest.json.
        structures: structures to compare; all that both folders know if None.
        cases: cases to compare; all of both folders if None, which must then be the same.
        tolerance_mm: surfaces this close agree (NSD).
    """

    prediction: Path
    reference: Path
    out: Path
    structures: tuple[str, ...] | None = Field(default=None, min_length=1)
    cases: tuple[str, ...] | None = Field(default=None, min_length=1)
    tolerance_mm: float = Field(default=2.0, ge=0)


def run_evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Compare, write the CSV and its manifest, and return the summary as JSON values, None for undefined.

    A (case, structure) pair that the reference does not annotate is skipped and counted, never scored. A warning says
    which of the cases the model that made the predictions was adapted to.

    Raises:
        UsageError: the output exists, a folder is missing, or structures or cases do not match.
        FssegError: label maps cannot be read or compared; all such cases are listed, and nothing is written.
    """
    _require_new_csv(config.out)
    manifest = Manifest("evaluate", config.model_dump(mode="json"), seed=BOOTSTRAP_SEED)
    prediction, reference = open_label_folder(config.prediction), open_label_folder(config.reference)
    structures = structures_to_compare(prediction, reference, config.structures)
    cases = cases_to_compare(prediction, reference, config.cases)
    rows = compare(prediction, reference, cases, structures, config.tolerance_mm)
    seen = _support_cases(prediction, cases)
    result = {**_result(config, cases, structures, rows), "support_cases": seen}
    manifest.add_inputs([prediction.definition, reference.definition])
    manifest.add_inputs(folder.files[case] for case in cases for folder in (prediction, reference))
    manifest.add(result=result)
    _write(config.out, rows, manifest)
    return result


def manifest_path(out: Path) -> Path:
    """Return where the manifest of a metrics CSV lies."""
    return out.with_name(f"{out.stem}.manifest.json")


def _require_new_csv(out: Path) -> None:
    if out.exists():
        raise UsageError(
            f"Output exists already: {out}\n  Results are never overwritten. Choose another --out, or delete the file."
        )
    if out.suffix != ".csv":
        raise UsageError(f"--out must be a file ending in .csv, got {out}")


def _support_cases(prediction: LabelFolder, cases: Sequence[str]) -> list[str]:
    seen = [case for case in cases if case in prediction.support_cases]
    if seen:
        logger.warning(
            "%d of the %d scored cases have the names of support cases, which the model that made the predictions was"
            " adapted to: %s\n  Their scores say little about new cases. Name the test cases with --cases.",
            len(seen),
            len(cases),
            ", ".join(seen),
        )
    return seen


def _result(
    config: EvaluateConfig, cases: Sequence[str], structures: Sequence[str], rows: Sequence[CaseRow]
) -> dict[str, Any]:
    summaries = summarise_structures(rows)
    never = [name for name in structures if name not in summaries]
    if never:
        logger.warning("Not scored, annotated in none of the cases: %s", ", ".join(never))
    return {
        "out": str(config.out),
        "manifest": str(manifest_path(config.out)),
        "tolerance_mm": config.tolerance_mm,
        "cases": len(cases),
        "rows": len(rows),
        "unannotated_pairs": len(cases) * len(structures) - len(rows),
        "never_annotated": never,
        "structures": {name: _plain(summaries[name]) for name in structures if name in summaries},
    }


def _plain(summary: StructureSummary) -> dict[str, Any]:
    return {
        key: {name: None if math.isnan(number) else number for name, number in values.items()}
        for key, values in asdict(summary).items()
    }


def _write(out: Path, rows: Sequence[CaseRow], manifest: Manifest) -> None:
    """Write both files aside, then move them to their place, the CSV last: it is never without manifest."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as staging:
        staged = Path(staging) / out.name
        with staged.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [column.name for column in fields(CaseRow)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
        manifest.write(Path(staging))
        os.replace(Path(staging) / MANIFEST_NAME, manifest_path(out))
        os.replace(staged, out)
