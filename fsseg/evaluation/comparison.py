"""Predicted label maps against reference label maps: one row per case and annotated structure."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import numpy as np

from fsseg.config.errors import FssegError
from fsseg.config.progress import Progress
from fsseg.data.structures import Structures
from fsseg.evaluation.aggregation import CaseRow
from fsseg.evaluation.fseft import Protocol, fseft_dice, largest_component, on_fseft_grid
from fsseg.evaluation.label_folders import LabelFolder
from fsseg.evaluation.label_maps import LabelMap, read_label_map, require_same_grid
from fsseg.evaluation.metrics import BOTH_EMPTY, CaseMetrics, segmentation_metrics


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
    protocol: Protocol = "native",
) -> list[CaseRow]:
    """Compare the label maps of cases; a (case, structure) pair that the reference does not annotate has no row.

    Args:
        prediction, reference: folders of label maps.
        cases: cases that both hold.
        structures: structures that both know.
        tolerance_mm: surfaces this close agree (NSD).
        protocol: "native" compares on the grid of the label maps; see `fsseg.evaluation.fseft` for the others.

    Raises:
        FssegError: label maps cannot be read or compared (all such cases are listed), or nothing is annotated.
    """
    rows: list[CaseRow] = []
    problems: list[str] = []
    with Progress("evaluate", len(cases), "case") as progress:
        for case in progress.over(cases):
            try:
                pair = _read_pair(prediction, reference, case, structures)
                pair = pair if protocol == "native" else _on_fseft_grid(pair, protocol)
            except FssegError as error:
                problems.append(str(error))
                continue
            if not problems:  # else the run fails anyway, and the remaining cases are only checked
                rows += _score(pair, case, (prediction.structures, reference.structures), tolerance_mm, protocol)
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


def _on_fseft_grid(pair: _Pair, protocol: Protocol) -> _Pair:
    partial = [name for name, extent in pair.z_extents.items() if extent is not None]
    if partial:
        raise FssegError(
            f"{pair.reference.path} is annotated on some of its slices only for {', '.join(partial)}, and --protocol"
            f" {protocol} compares whole volumes.\n"
            "  Leave these structures out with --structure, or take --protocol native."
        )
    return pair._replace(prediction=on_fseft_grid(pair.prediction), reference=on_fseft_grid(pair.reference))


def _score(
    pair: _Pair, case: str, meanings: tuple[Structures, Structures], tolerance_mm: float, protocol: Protocol
) -> list[CaseRow]:
    """Return the rows of a case; `meanings` are those of the integers in prediction and reference."""
    predicted_as, annotated_as = meanings
    rows = []
    for name, z_extent in pair.z_extents.items():
        predicted = pair.prediction.mask(predicted_as.integers[name])
        truth = pair.reference.mask(annotated_as.integers[name])
        truth = largest_component(truth) if protocol == "fseft" else truth
        metrics = segmentation_metrics(predicted, truth, pair.reference.spacing_zyx_mm, tolerance_mm, z_extent)
        if protocol != "native":
            metrics = _with_fseft_dice(metrics, predicted, truth)
        rows.append(CaseRow(case, name, **asdict(metrics)))
    return rows


def _with_fseft_dice(metrics: CaseMetrics, predicted: np.ndarray, truth: np.ndarray) -> CaseMetrics:
    """Return metrics with FSEFT's Dice; two empty masks stay without, where FSEFT's formula says 0."""
    return metrics if metrics.status == BOTH_EMPTY else replace(metrics, dsc=fseft_dice(predicted, truth))
