"""Cases of a preprocessed, partially labelled dataset: volumes, source weights, held-out cases."""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from fsseg.config.errors import FssegError
from fsseg.data.structures import STRUCTURES_NAME, Structures, load_structures
from fsseg.data.volumes import Volume
from fsseg.nnunet.environment import raw_folder
from fsseg.nnunet.preprocessing import case_zones, zone_axis


def structures_of_preprocessed(folder: Path) -> Structures:
    """Read structures.json beside preprocessed cases; stock preprocessing leaves it with the raw ones, so bring it."""
    if not (folder / STRUCTURES_NAME).is_file():
        load_structures(raw_folder() / folder.name).save(folder)
    return load_structures(folder)


def preprocessed_volume(case: str, dataset: nnUNetBaseDataset, structures: Structures, plans: Any) -> Volume:
    """Open a preprocessed case lazily, with the foreground that nnU-Net found of its annotated structures only."""
    try:
        image, labels, _, properties = dataset.load_case(case)
    except (RuntimeError, ValueError, EOFError, UnpicklingError, BadZipFile) as error:
        raise FssegError(
            f"The preprocessed case {case!r} in {dataset.source_folder} is damaged: {error}\n"
            "  Preprocess the dataset again: fsseg preprocess"
        ) from None
    annotation = structures.annotation(case)
    found = {tuple(np.atleast_1d(key)): voxels for key, voxels in properties["class_locations"].items()}
    regions = {tuple(sorted(set(map(int, key)))): voxels for key, voxels in found.items()}
    locations = {
        name: np.asarray(regions[structures.integers[name]])[:, 1:]
        for name in annotation.annotated
        if len(regions[structures.integers[name]])
    }
    zones, zone_annotated = case_zones(annotation, structures.names, labels.shape[1:], properties, plans)
    return Volume(case, image, labels, locations, zones, zone_axis(plans), zone_annotated)


_CASE_WEIGHT_EXPONENTS = {"cases": 0.0, "sqrt": -0.5, "sources": -1.0}


def source_weights(cases: Sequence[str], structures: Structures, sampling: str) -> list[float]:
    """Return a weight per case, by the n cases of its source.

    With "sqrt" it is 1/sqrt(n), so that a source is drawn in proportion to sqrt(n): MultiTalent's balance between large
    and small collections (Ulrich et al., MICCAI 2023). With "cases" all cases weigh the same, with "sources" all
    sources.
    """
    sources = [structures.annotation(case).source for case in cases]
    return [sources.count(source) ** _CASE_WEIGHT_EXPONENTS[sampling] for source in sources]


def stratified_holdout(
    cases: Sequence[str], structures: Structures, share: float, seed: int, fold: int = 0
) -> tuple[list[str], list[str]]:
    """Split cases into training and validation, the same share of every source; folds are disjoint as long as they can.

    A source with fewer than five cases gives none to validation. Which cases of a source are held out does not depend
    on the other sources, so that a network of one source and one of all of them are validated on the same cases.
    """
    validation: list[str] = []
    for source in sorted({structures.annotation(case).source for case in cases}):
        members = sorted(case for case in cases if structures.annotation(case).source == source)
        order = np.random.default_rng([seed, *source.encode()]).permutation(len(members))
        count = max(1, round(share * len(members))) if len(members) >= 5 and share > 0 else 0
        validation += [members[index] for index in np.roll(order, -fold * count)[:count]]
    return sorted(set(cases) - set(validation)), sorted(validation)


def require_every_structure(volumes: Sequence[Volume], names: Sequence[str], folder: Path) -> None:
    """Raise `FssegError` if no training case shows a structure: its channel could not learn."""
    shown = {name for volume in volumes for name in volume.locations}
    missing = [name for name in names if name not in shown]
    if missing:
        raise FssegError(
            f"No training case in {folder} shows {', '.join(missing)}.\n"
            "  Remove the structure from the specs, or add cases that annotate it."
        )
