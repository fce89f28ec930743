"""Whether support cases can be learned from: what their label maps show, and what is gone when they are resampled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fsseg.adaptation.target import Target
from fsseg.config.errors import FssegError
from fsseg.data.volumes import SourceLabels, Volume


@dataclass(frozen=True)
class CaseLabels:
    """What a case shows of the structures that it annotates.

    Attributes:
        case: case identifier.
        shown: structures with voxels where they are annotated.
        outside: structures with voxels only in slices that are not annotated.
        gone: structures of the label map of which resampling leaves no voxel.
        source: the label map before it is resampled; None where it is not known.
    """

    case: str
    shown: frozenset[str]
    outside: frozenset[str]
    gone: frozenset[str]
    source: SourceLabels | None


def labels_of(volume: Volume, target: Target) -> CaseLabels:
    """Return what a preprocessed case shows."""
    annotated = target.structures.annotation(volume.case).annotated
    integers = target.structures.integers
    hidden = [name for name in annotated if name not in volume.locations]
    present = set(np.unique(np.asarray(volume.labels[0])).tolist()) if hidden else set()
    outside = frozenset(name for name in hidden if present & set(integers[name]))
    source = volume.source
    gone = frozenset(n for n in hidden if n not in outside and source is not None and source.count(integers[n]))
    return CaseLabels(volume.case, frozenset(volume.locations), outside, gone, source)


def require_learnable(cases: Sequence[CaseLabels], target: Target, spacing_mm: Sequence[float]) -> None:
    """Require support cases that annotate something, and structures that some case shows.

    A case that is annotated for a structure and does not show it is a true negative: see `negative_notes`.

    Args:
        cases: the support cases.
        target: the structures to adapt to.
        spacing_mm: to which the cases were resampled.

    Raises:
        FssegError: a case annotates none of the structures, or resampling has removed one from its label map, or no
            case shows one; all of these are listed.
    """
    problems = []
    for labels in cases:
        if not target.structures.annotation(labels.case).annotated:
            problems.append(f"{labels.case} annotates none of {', '.join(target.names)}")
        problems += [_gone_text(labels, target, name, spacing_mm) for name in target.names if name in labels.gone]
    unseen = [name for name in target.names if not any(name in labels.shown for labels in cases)]
    problems = problems or [_unseen_text(name, cases, target) for name in unseen]
    if problems:
        raise FssegError(
            "These support cases cannot be learned from:\n  - " + "\n  - ".join(problems) + "\n"
            "  Name other cases with --cases or --pool, or leave the structure out."
        )


def labels_of_source(case: str, source: SourceLabels, target: Target) -> CaseLabels:
    """Return what a case shows, by its label map before it is resampled."""
    annotated = target.structures.annotation(case).annotated
    shown = frozenset(name for name in annotated if source.count(target.structures.integers[name]))
    return CaseLabels(case, shown, frozenset(), frozenset(), source)


def negative_notes(cases: Sequence[CaseLabels], target: Target) -> list[str]:
    """Say which cases do not show a structure that they annotate: there the network learns that there is none."""
    notes = []
    for labels in cases:
        hidden = [n for n in target.structures.annotation(labels.case).annotated if n not in labels.shown]
        without = [name for name in hidden if name not in labels.outside]
        if without:
            notes.append(f"{labels.case} is used as a case without {', '.join(without)}: its label map shows none.")
        if labels.outside:
            notes.append(
                f"{labels.case} shows {', '.join(sorted(labels.outside))} only outside the slices that it annotates,"
                " where nothing is learned; it is used as a case without it."
            )
    return notes


def _gone_text(labels: CaseLabels, target: Target, name: str, spacing_mm: Sequence[float]) -> str:
    source = labels.source or SourceLabels({}, ())
    voxels = source.count(target.structures.integers[name])
    size = f"{voxels} voxel{'s' if voxels > 1 else ''} of {_millimetres(source.spacing_mm)}"
    ml = voxels * source.voxel_ml
    return (
        f"{labels.case} shows {name} in {size} ({ml:.2g} ml), and nothing of it is left at the base's spacing of"
        f" {_millimetres(spacing_mm)}"
    )


def _unseen_text(name: str, cases: Sequence[CaseLabels], target: Target) -> str:
    annotated = any(name in target.structures.annotation(labels.case).annotated for labels in cases)
    return f"no support case {'shows' if annotated else 'annotates'} {name}"


def _millimetres(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing_mm) + " mm"
