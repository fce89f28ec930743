"""The support cases: all preprocessed for a run; for a dry run checked alike, resampled only where it may matter."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fsseg.adaptation.job import Job
from fsseg.adaptation.support_labels import CaseLabels, labels_of, labels_of_source, negative_notes, require_learnable
from fsseg.adaptation.target import Target, require_classes
from fsseg.data.intensity_scale import scale_notes
from fsseg.data.volumes import SourceLabels, Volume
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.nnunet.raw_dataset import RawDataset
from fsseg.nnunet.stored_orientation import orientation_notes

_SAFE_VOXELS = 64  # of the base's spacing: a compact structure of so many does not vanish


@dataclass(frozen=True)
class Support:
    """What is known of the support cases before the training.

    Attributes:
        volumes: those that are preprocessed: all, or in a dry run at least one.
        notes: what a user should know of the cases.
        urgent: what may be a reason to stop at once.
        hashes: path -> hash of the files that were read whole.
        preprocessing_seconds: what is left to preprocess will take.
    """

    volumes: list[Volume]
    notes: list[str]
    urgent: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    preprocessing_seconds: float = 0.0


ReadSupport = Callable[[Job, RawDataset, Sequence[str], Path], Support]


@dataclass(frozen=True)
class _Found:
    volumes: list[Volume]
    labels: list[CaseLabels]
    seconds_left: float = 0.0


_Read = Callable[[RawDataset, Target, Sequence[str], CasePreprocessor], _Found]


def support_of(job: Job, volumes: list[Volume]) -> Support:
    """Return support cases that are preprocessed already; raise `FssegError` if they cannot be learned from."""
    if job.recipe.activation == "softmax":
        require_classes(job.target, [volume.case for volume in volumes])
    labels = [labels_of(volume, job.target) for volume in volumes]
    require_learnable(labels, job.target, job.base.configuration_manager().spacing)
    return Support(volumes, negative_notes(labels, job.target))


def read_support(job: Job, dataset: RawDataset, cases: Sequence[str], cache: Path) -> Support:
    """Preprocess all support cases.

    Args:
        job: what to adapt.
        dataset: whose cases they are.
        cases: the support cases.
        cache: folder of preprocessed cases, which is used and added to.

    Raises:
        UsageError: the base would see some cases as mirror images of others, or a softmax cannot have their labels.
        FssegError: a file cannot be used, or the cases cannot be learned from.
    """
    return _support(job, dataset, cases, CasePreprocessor(job.base, cache), _preprocessed)


def quick_support(job: Job, dataset: RawDataset, cases: Sequence[str], cache: Path) -> Support:
    """Check support cases as `read_support` does without resampling all of them; nothing is written.

    Preprocessed are those in the cache, those with a structure so small that it may vanish, and else one.
    """
    return _support(job, dataset, cases, CasePreprocessor(job.base, cache, adds=False), _quickly)


def _support(
    job: Job, dataset: RawDataset, cases: Sequence[str], preprocessor: CasePreprocessor, read: _Read
) -> Support:
    if job.recipe.activation == "softmax":
        require_classes(job.target, cases)
    found = read(dataset, job.target, cases, preprocessor)
    files = {case: [*dataset.images(case), dataset.label(case)] for case in cases}
    require_learnable(found.labels, job.target, preprocessor.configuration.spacing)
    orientation = orientation_notes(job.base, {case: files[case][0] for case in cases})
    return Support(
        volumes=found.volumes,
        notes=[*orientation, *dataset.unlabelled_notes(), *negative_notes(found.labels, job.target)],
        urgent=scale_notes(preprocessor.off_scale),
        hashes={str(path): preprocessor.sha256(path) for case in cases for path in files[case]},
        preprocessing_seconds=found.seconds_left,
    )


def support_volumes(
    dataset: RawDataset, target: Target, cases: Sequence[str], preprocessor: CasePreprocessor
) -> list[Volume]:
    """Preprocess cases; raise `FssegError` for one whose files cannot be used."""
    return [
        preprocessor.volume(case, dataset.images(case), dataset.label(case), dataset.structures, target.names)
        for case in cases
    ]


def _preprocessed(dataset: RawDataset, target: Target, cases: Sequence[str], preprocessor: CasePreprocessor) -> _Found:
    volumes = support_volumes(dataset, target, cases, preprocessor)
    return _Found(volumes, [labels_of(volume, target) for volume in volumes])


def _quickly(dataset: RawDataset, target: Target, cases: Sequence[str], preprocessor: CasePreprocessor) -> _Found:
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
            labels.append(labels_of_source(case, source, target))
    each = sum(seconds) / len(seconds) if seconds else 0.0
    return _Found(volumes, labels, (len(cases) - len(cached)) * each)


def _may_vanish(source: SourceLabels, case: str, target: Target, spacing_mm: Sequence[float]) -> bool:
    least_ml = _SAFE_VOXELS * math.prod(spacing_mm) / 1000
    counts = [source.count(target.structures.integers[n]) for n in target.structures.annotation(case).annotated]
    return any(0 < count * source.voxel_ml < least_ml for count in counts)
