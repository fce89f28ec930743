"""Whether support cases can be learned from: what their label maps show, and what is gone when they are resampled."""

from collections.abc import Sequence

import numpy as np

from fsseg.config.errors import FssegError
from fsseg.data.volumes import SourceLabels, Volume
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.nnunet.raw_dataset import RawDataset
from fsseg.stages.adaptation import Target


def support_volumes(
    dataset: RawDataset, target: Target, cases: Sequence[str], preprocessor: CasePreprocessor
) -> list[Volume]:
    """Preprocess support cases; raise `FssegError` for those that cannot be learned from."""
    volumes = [
        preprocessor.volume(case, dataset.images(case), dataset.label(case), dataset.structures, target.names)
        for case in cases
    ]
    require_learnable(volumes, target, preprocessor.configuration.spacing)
    return volumes


def require_learnable(volumes: Sequence[Volume], target: Target, spacing_mm: Sequence[float]) -> None:
    """Require support cases that annotate something, and structures that some case shows.

    A case that is annotated for a structure and does not show it is a true negative: see `negative_notes`.

    Args:
        volumes: the support cases.
        target: the structures to adapt to.
        spacing_mm: to which the cases were resampled.

    Raises:
        FssegError: a case annotates none of the structures, or resampling has removed one from its label map, or no
            case shows one; all of these are listed.
    """
    problems = []
    for volume in volumes:
        annotated = target.structures.annotation(volume.case).annotated
        if not annotated:
            problems.append(f"{volume.case} annotates none of {', '.join(target.names)}")
        gone = [name for name in annotated if _is_gone(volume, target, name)]
        problems += [_gone_text(volume, target, name, spacing_mm) for name in gone]
    problems = problems or [_unseen_text(name, volumes, target) for name in unseen(volumes, target)]
    if problems:
        raise FssegError(
            "These support cases cannot be learned from:\n  - " + "\n  - ".join(problems) + "\n"
            "  Name other cases with --cases or --pool, or leave the structure out."
        )


def unseen(volumes: Sequence[Volume], target: Target) -> list[str]:
    """Return the structures that no case shows where it annotates them."""
    return [name for name in target.names if not any(name in volume.locations for volume in volumes)]


def negative_notes(volumes: Sequence[Volume], target: Target) -> list[str]:
    """Say which cases do not show a structure that they annotate: there the network learns that there is none."""
    notes = []
    for volume in volumes:
        annotated = target.structures.annotation(volume.case).annotated
        negative = [name for name in annotated if name not in volume.locations]
        outside = [name for name in negative if _is_painted(volume, target, name)]
        without = [name for name in negative if name not in outside]
        if without:
            notes.append(f"{volume.case} is used as a case without {', '.join(without)}: its label map shows none.")
        if outside:
            notes.append(
                f"{volume.case} shows {', '.join(outside)} only outside the slices that it annotates, where nothing is"
                " learned; it is used as a case without it."
            )
    return notes


def _is_painted(volume: Volume, target: Target, name: str) -> bool:
    return bool(np.isin(np.asarray(volume.labels[0]), target.structures.integers[name]).any())


def _is_gone(volume: Volume, target: Target, name: str) -> bool:
    """Return whether a structure is in the label map of a case and no longer in its resampled one."""
    if name in volume.locations or volume.source is None or not volume.source.count(target.structures.integers[name]):
        return False
    return not _is_painted(volume, target, name)


def _gone_text(volume: Volume, target: Target, name: str, spacing_mm: Sequence[float]) -> str:
    source = volume.source or SourceLabels({}, ())
    voxels = source.count(target.structures.integers[name])
    size = f"{voxels} voxel{'s' if voxels > 1 else ''} of {_millimetres(source.spacing_mm)}"
    ml = voxels * float(np.prod(source.spacing_mm)) / 1000
    return (
        f"{volume.case} shows {name} in {size} ({ml:.2g} ml), and nothing of it is left at the base's spacing of"
        f" {_millimetres(spacing_mm)}"
    )


def _unseen_text(name: str, volumes: Sequence[Volume], target: Target) -> str:
    annotated = any(name in target.structures.annotation(volume.case).annotated for volume in volumes)
    return f"no support case {'shows' if annotated else 'annotates'} {name}"


def _millimetres(spacing_mm: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing_mm) + " mm"
