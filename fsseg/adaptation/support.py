"""The support cases: all preprocessed for a run; for a dry run checked alike, resampled only where it may matter."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fsseg.adaptation.job import Target
from fsseg.adaptation.support_cases import CaseLabels, labels_of, require_learnable, support_volumes
from fsseg.data.volumes import SourceLabels, Volume
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.nnunet.raw_dataset import RawDataset

_SAFE_VOXELS = 64  # of the base's spacing: a compact structure of so many does not vanish


@dataclass(frozen=True)
class Support:
    """What is known of the support cases before the training.

    Attributes:
        volumes: those that are preprocessed: all, or in a dry run at least one.
        labels: what every case shows.
        preprocessing_seconds: what is left to preprocess will take.
    """

    volumes: list[Volume]
    labels: list[CaseLabels]
    preprocessing_seconds: float


def read_support(dataset: RawDataset, target: Target, cases: Sequence[str], preprocessor: CasePreprocessor) -> Support:
    """Preprocess all support cases; raise `FssegError` for those that cannot be learned from."""
    volumes = support_volumes(dataset, target, cases, preprocessor)
    return Support(volumes, [labels_of(volume, target) for volume in volumes], 0.0)


def quick_support(dataset: RawDataset, target: Target, cases: Sequence[str], preprocessor: CasePreprocessor) -> Support:
    """Check support cases without resampling all of them.

    Preprocessed are those in the cache, those with a structure so small that it may vanish, and else one.

    Raises:
        FssegError: cases that cannot be learned from, as `support_volumes` refuses them.
    """
    volumes: list[Volume] = []
    labels: list[CaseLabels] = []
    seconds: list[float] = []
    cached = {case for case in cases if preprocessor.is_cached(dataset.images(case), dataset.label(case))}
    for case in cases:
        files, label = dataset.images(case), dataset.label(case)
        source = None if case in cached else preprocessor.source(files, label, dataset.structures)
        is_example = not cached and not volumes
        if source is None or is_example or _may_vanish(source, case, target, preprocessor.configuration.spacing):
            started = time.perf_counter()
            volumes.append(preprocessor.volume(case, files, label, dataset.structures, target.names))
            seconds += [] if case in cached else [time.perf_counter() - started]
            labels.append(labels_of(volumes[-1], target))
        else:
            labels.append(_labels_of_source(case, source, target))
    require_learnable(labels, target, preprocessor.configuration.spacing)
    each = sum(seconds) / len(seconds) if seconds else 0.0
    return Support(volumes, labels, (len(cases) - len(cached)) * each)


def _may_vanish(source: SourceLabels, case: str, target: Target, spacing_mm: Sequence[float]) -> bool:
    least_ml = _SAFE_VOXELS * math.prod(spacing_mm) / 1000
    counts = [source.count(target.structures.integers[n]) for n in target.structures.annotation(case).annotated]
    return any(0 < count * source.voxel_ml < least_ml for count in counts)


def _labels_of_source(case: str, source: SourceLabels, target: Target) -> CaseLabels:
    annotated = target.structures.annotation(case).annotated
    shown = frozenset(name for name in annotated if source.count(target.structures.integers[name]))
    return CaseLabels(case, shown, frozenset(), frozenset(), source)
