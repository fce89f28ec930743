"""Predicted label maps against reference label maps: one row per case and annotated structure."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

from fsseg.config.errors import FssegError
from fsseg.config.progress import Progress
from fsseg.data.structures import Structures
from fsseg.evaluation.aggregation import CaseRow
from fsseg.evaluation.label_folders import LabelFolder
from fsseg.evaluation.label_maps import LabelMap, read_label_map, require_same_grid
from fsseg.evaluation.metrics import segmentation_metrics


class _Pair(NamedTuple):
    """The label maps of a case, and for each annotated structure its z-extent (None: the whole volume)."""

    prediction: LabelMap
    reference: LabelMap
    z_extents: dict[str, tuple[int, int] | None]


def compare(
    prediction: LabelFolder,
    reference: LabelFolder,
    cases: Sequence[str],
    structures: Sequence[str],
    tolerance_mm: float,
) -> list[CaseRow]:
    """Compare the label maps of cases; a (case, structure) pair that the reference does not annotate has no row.

    Args:
        prediction, reference: folders of label maps.
        cases: cases that both hold.
        structures: structures that both know.
        tolerance_mm: surfaces this close agree (NSD).

    Raises:
        FssegError: label maps cannot be read or compared (all such cases are listed), or nothing is annotated.
    """
    rows: list[CaseRow] = []
    problems: list[str] = []
    with Progress("evaluate", len(cases), "case") as progress:
        for case in progress.over(cases):
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
