"""Stage: compare predicted label maps with the reference, in one CSV row per case and structure, and summarise."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from fsseg.comparing.checked import images_beside
from fsseg.comparing.evaluation_report import evaluation_page, write_evaluation_report
from fsseg.config.base import StrictModel
from fsseg.config.errors import UsageError
from fsseg.config.manifest import Manifest
from fsseg.config.results import Result
from fsseg.evaluation.aggregation import BOOTSTRAP_SEED, CaseRow, StructureSummary, summarise_structures
from fsseg.evaluation.comparison import compare
from fsseg.evaluation.fseft import Protocol
from fsseg.evaluation.label_folders import (
    LabelFolder,
    cases_to_compare,
    open_label_folder,
    structures_to_compare,
)
from fsseg.evaluation.metrics_csv import manifest_path, new_csv, require_new_csv, write_case_rows

log = logging.getLogger(__name__)


class EvaluateConfig(StrictModel):
    """What to compare.

    Attributes:
        prediction: folder of predicted label maps.
        reference: folder of reference label maps, such as DatasetXXX/labelsTs.
        out: the CSV to write; its manifest is written beside it as <stem>.manifest.json.
        structures: structures to compare; all that both folders know if None.
        cases: cases to compare; all of both folders if None, which must then be the same.
        tolerance_mm: surfaces this close agree (NSD).
        protocol: "native" compares on the grid of the label maps, "fseft" as FSEFT does for one structure at a time,
            "fseft_multiclass" as it does for several.
        report: also write <stem>.html beside the CSV: tables, every case, pictures and a viewer.
        images: for the report: folder of the images; None takes imagesTr beside labelsTr, and imagesTs beside labelsTs.
    """

    prediction: Path
    reference: Path
    out: Path
    structures: tuple[str, ...] | None = Field(default=None, min_length=1)
    cases: tuple[str, ...] | None = Field(default=None, min_length=1)
    tolerance_mm: float = Field(default=2.0, ge=0)
    protocol: Protocol = "native"
    report: bool = False
    images: Path | None = None


@dataclass(frozen=True)
class EvaluateResult(Result):
    """What an evaluation found; undefined numbers are nan here, and null in JSON.

    Attributes:
        out, manifest: the CSV and its manifest.
        tolerance_mm: surfaces this close agree (NSD).
        protocol: how they were compared.
        cases, rows: how many were compared, and how many rows the CSV has.
        unannotated_pairs: pairs of case and structure that the reference does not annotate, so they have no row.
        never_annotated: structures that no case annotates.
        structures: structure -> summaries of its metrics over the cases.
        support_cases: cases that the model which made the predictions was adapted to.
        transductive_cases: cases whose images it saw without their label maps.
    """

    out: Path
    manifest: Path
    tolerance_mm: float
    protocol: Protocol
    cases: int
    rows: int
    unannotated_pairs: int
    never_annotated: tuple[str, ...]
    structures: dict[str, StructureSummary]
    support_cases: tuple[str, ...]
    transductive_cases: tuple[str, ...]


def run_evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Compare, and write the CSV and its manifest.

    A (case, structure) pair that the reference does not annotate is skipped and counted, never scored. A warning says
    which of the cases the model that made the predictions was adapted to.

    Raises:
        UsageError: the output exists, a folder is missing, or structures or cases do not match.
        FssegError: label maps cannot be read or compared; all such cases are listed, and nothing is written.

    Example:
        >>> result = run_evaluate(EvaluateConfig(prediction=masks, reference=labels, out=Path("metrics.csv")))
        >>> result.structures["larynx"].dsc.mean
        0.83
    """
    require_new_csv(config.out)
    _require_report(config)
    manifest = Manifest("evaluate", config.model_dump(mode="json"), seed=BOOTSTRAP_SEED)
    prediction, reference = open_label_folder(config.prediction), open_label_folder(config.reference)
    structures = structures_to_compare(prediction, reference, config.structures)
    cases = cases_to_compare(prediction, reference, config.cases)
    with new_csv(config.out) as staging:  # made first: an hour of comparing is lost where nothing can be written
        rows = compare(prediction, reference, cases, structures, config.tolerance_mm, config.protocol)
        result = _result(config, cases, structures, rows, prediction)
        manifest.add_inputs([prediction.definition, reference.definition])
        manifest.add_inputs(folder.files[case] for case in cases for folder in (prediction, reference))
        manifest.add(result=result.as_json())
        write_case_rows(staging / config.out.name, rows)
        manifest.write(staging)
    if config.report:
        folders, notes = (prediction, reference), _notes(result)
        write_evaluation_report(config.out, rows, folders, config.images, config.tolerance_mm, notes)
    return result


def _notes(result: EvaluateResult) -> list[str]:
    """Return what a reader of the page should know."""
    protocol = [] if result.protocol == "native" else [f"DSC by the protocol {result.protocol}."]
    never, seen = ", ".join(result.never_annotated), ", ".join(result.support_cases)
    unscored = [f"Annotated in none of the cases: {never}."] if never else []
    return [*protocol, *unscored, *([f"The model was adapted to cases that are scored here: {seen}."] if seen else [])]


def _require_report(config: EvaluateConfig) -> None:
    if config.images is not None and not config.report:
        raise UsageError("--images goes with --report: nothing else shows images.")
    if config.report:
        images_beside(config.images, config.reference)
        page = evaluation_page(config.out)
        if page.exists():
            raise UsageError(f"Output exists already: {page}\n  Choose another --out, or delete the file.")


def _support_cases(prediction: LabelFolder, cases: Sequence[str]) -> tuple[str, ...]:
    seen = tuple(case for case in cases if case in prediction.support_cases)
    if seen:
        log.warning(
            "%d of the %d scored cases have the names of support cases, which the model that made the predictions was"
            " adapted to: %s\n  Their scores say little about new cases. Name the test cases with --cases.",
            len(seen),
            len(cases),
            ", ".join(seen),
        )
    return seen


def _transductive_cases(prediction: LabelFolder, cases: Sequence[str]) -> tuple[str, ...]:
    seen = tuple(case for case in cases if case in prediction.transductive_cases)
    if seen:
        log.warning(
            "Transductive: the model that made the predictions saw the images of %d of the %d scored cases, without"
            " their label maps: %s",
            len(seen),
            len(cases),
            ", ".join(seen),
        )
    return seen


def _result(
    config: EvaluateConfig,
    cases: Sequence[str],
    structures: Sequence[str],
    rows: Sequence[CaseRow],
    prediction: LabelFolder,
) -> EvaluateResult:
    summaries = summarise_structures(rows)
    never = tuple(name for name in structures if name not in summaries)
    if never:
        log.warning("Not scored, annotated in none of the cases: %s", ", ".join(never))
    return EvaluateResult(
        out=config.out,
        manifest=manifest_path(config.out),
        tolerance_mm=config.tolerance_mm,
        protocol=config.protocol,
        cases=len(cases),
        rows=len(rows),
        unannotated_pairs=len(cases) * len(structures) - len(rows),
        never_annotated=never,
        structures={name: summaries[name] for name in structures if name in summaries},
        support_cases=_support_cases(prediction, cases),
        transductive_cases=_transductive_cases(prediction, cases),
    )
