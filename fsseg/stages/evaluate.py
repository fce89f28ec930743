"""Compare predicted label maps with the reference: one CSV row per case and structure, and a summary."""

import logging
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError
from fsseg.config.manifest import MANIFEST_NAME, Manifest
from fsseg.config.staging import clear_staging, locked_staging
from fsseg.evaluation.aggregation import BOOTSTRAP_SEED, CaseRow, StructureSummary, summarise_structures
from fsseg.evaluation.comparison import compare
from fsseg.evaluation.label_folders import (
    LabelFolder,
    cases_to_compare,
    open_label_folder,
    structures_to_compare,
)
from fsseg.reporting.csv_file import write_csv

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
    with _new_csv(config.out) as staging:  # made first: an hour of comparing is lost where nothing can be written
        rows = compare(prediction, reference, cases, structures, config.tolerance_mm)
        seen = _support_cases(prediction, cases)
        result = {**_result(config, cases, structures, rows), "support_cases": seen}
        manifest.add_inputs([prediction.definition, reference.definition])
        manifest.add_inputs(folder.files[case] for case in cases for folder in (prediction, reference))
        manifest.add(result=result)
        columns = [column.name for column in fields(CaseRow)]
        write_csv(staging / config.out.name, columns, [asdict(row) for row in rows])
        manifest.write(staging)
    return result


def manifest_path(out: Path) -> Path:
    """Return where the manifest of a metrics CSV lies."""
    return out.with_name(f"{out.stem}.manifest.json")


def _require_new_csv(out: Path) -> None:
    if os.path.lexists(out):
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


@contextmanager
def _new_csv(out: Path) -> Iterator[Path]:
    """Yield a folder for the CSV and manifest.json; both move to their place when the block ends without an error.

    The CSV moves last, so it is never without manifest.
    """
    with locked_staging(out) as staging:
        clear_staging(staging)  # left by a killed evaluation
        try:
            yield staging
            _require_new_csv(out)  # somebody may have just written it
            os.replace(staging / MANIFEST_NAME, manifest_path(out))
            os.replace(staging / out.name, out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
