"""Compare predicted label maps with the reference: one CSV row per case and structure, and a summary."""

import csv
import logging
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field
from tqdm import tqdm

from fsseg.config.base import StrictModel
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.manifest import MANIFEST_NAME, Manifest
from fsseg.data.structures import Structures
from fsseg.evaluation.aggregation import BOOTSTRAP_SEED, CaseRow, StructureSummary, summarise_structures
from fsseg.evaluation.label_folders import (
    LabelFolder,
    cases_to_compare,
    open_label_folder,
    structures_to_compare,
)
from fsseg.evaluation.label_maps import LabelMap, read_label_map, require_same_grid
from fsseg.evaluation.metrics import segmentation_metrics

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
    tolerance_mm: float = Field(default=2.0, ge=0, allow_inf_nan=False)


class _Pair(NamedTuple):
    """The label maps of a case, and for each annotated structure its z-extent (None: the whole volume)."""

    prediction: LabelMap
    reference: LabelMap
    z_extents: dict[str, tuple[int, int] | None]


def run_evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Compare, write the CSV and its manifest, and return the summary as JSON values, None for undefined.

    A (case, structure) pair that the reference does not annotate is skipped and counted, never scored.

    Raises:
        UsageError: the output exists, a folder is missing, or structures or cases do not match.
        FssegError: label maps cannot be read or compared; all such cases are listed, and nothing is written.
    """
    _require_new_csv(config.out)
    manifest = Manifest("evaluate", config.model_dump(mode="json"), seed=BOOTSTRAP_SEED)
    prediction, reference = open_label_folder(config.prediction), open_label_folder(config.reference)
    structures = structures_to_compare(prediction, reference, config.structures)
    cases = cases_to_compare(prediction, reference, config.cases)
    rows = _compare(prediction, reference, cases, structures, config.tolerance_mm)
    result = _result(config, cases, structures, rows)
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


def _compare(
    prediction: LabelFolder,
    reference: LabelFolder,
    cases: Sequence[str],
    structures: Sequence[str],
    tolerance_mm: float,
) -> list[CaseRow]:
    rows: list[CaseRow] = []
    problems: list[str] = []
    for case in tqdm(cases, desc="evaluate", unit="case", disable=None):
        try:
            pair = _read_pair(prediction, reference, case, structures)
        except FssegError as error:
            problems.append(str(error))
            continue
        if not problems:  # else the run fails anyway, and the remaining cases are only checked
            rows += _score(pair, case, prediction.structures, reference.structures, tolerance_mm)
    if problems:
        listing = "\n".join(problems)
        raise FssegError(f"{len(problems)} of {len(cases)} cases cannot be compared:\n{listing}")
    if not rows:
        raise FssegError(
            f"Nothing to compare: {reference.definition} annotates none of {', '.join(structures)} "
            f"in the {len(cases)} cases.\n  Choose other structures with --structure, or other cases."
        )
    return rows


def _read_pair(prediction: LabelFolder, reference: LabelFolder, case: str, structures: Sequence[str]) -> _Pair:
    annotated = reference.annotated(case)
    predicted = read_label_map(prediction.files[case], prediction.structures)
    truth = read_label_map(reference.files[case], reference.structures)
    require_same_grid(predicted, truth)
    slices = truth.labels.shape[0]
    extents = {name: reference.z_extent(case, name, slices) for name in structures if name in annotated}
    return _Pair(predicted, truth, extents)


def _score(
    pair: _Pair, case: str, predicted_as: Structures, annotated_as: Structures, tolerance_mm: float
) -> list[CaseRow]:
    rows = []
    for name, z_extent in pair.z_extents.items():
        metrics = segmentation_metrics(
            pair.prediction.mask(predicted_as.integers[name]),
            pair.reference.mask(annotated_as.integers[name]),
            pair.reference.spacing_zyx_mm,
            tolerance_mm,
            z_extent,
        )
        rows.append(CaseRow(case, name, **asdict(metrics)))
    return rows


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
