"""The page of one evaluation, made of the parts of a comparison."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from fsseg.comparing.checked import images_beside
from fsseg.comparing.numbers import Comparison
from fsseg.comparing.page import ComparisonPage
from fsseg.comparing.pictures import CasePictures
from fsseg.evaluation.aggregation import CaseRow
from fsseg.evaluation.label_folders import LabelFolder
from fsseg.reporting.html import write_report
from fsseg.reporting.safe_sections import whatever_happens


def evaluation_page(out: Path) -> Path:
    """Return where the page of a metrics CSV lies."""
    return out.with_suffix(".html")


def write_evaluation_report(
    out: Path,
    rows: Sequence[CaseRow],
    folders: tuple[LabelFolder, LabelFolder],
    images: Path | None,
    tolerance_mm: float,
    notes: Sequence[str],
) -> None:
    """Write the page beside the CSV; an evaluation does not fail because of it.

    Args:
        out: the CSV.
        rows: its rows.
        folders: of predictions and of references.
        images: folder of the images; None looks beside the references.
        tolerance_mm: surfaces this close agree (NSD).
        notes: what a reader should know.
    """
    prediction, reference = folders
    name = prediction.path.resolve().name
    comparison = Comparison({name: rows}, tuple(dict.fromkeys(row.structure for row in rows)), name)
    words = ["fsseg", "evaluate", "--prediction", name, "--reference", reference.path.name, "--out", out.name]
    page = ComparisonPage(
        comparison=comparison,
        about={name: "predictions"},
        notes=notes,
        command=shlex.join([*words, "--tolerance-mm", f"{tolerance_mm:g}", "--report"]),
        tolerance_mm=tolerance_mm,
        pictures=CasePictures(
            comparison=comparison,
            reference=reference,
            predictions={name: prediction},
            images=images_beside(images, reference.path),
            names={row.case: row.case for row in rows},
        ).sections(),
    )
    file = evaluation_page(out)
    whatever_happens(file.name, lambda: write_report(file, f"Evaluation of {name}", page.sections()))
