"""Cases of a preprocessed, partially labelled dataset: volumes, source weights, held-out cases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fsseg.config.errors import FssegError
from fsseg.config.json_files import read_json
from fsseg.data.dataset_json import named_labels
from fsseg.data.structures import STRUCTURES_NAME, Structures, duplicates_of, load_structures
from fsseg.data.volumes import Volume, annotated_locations
from fsseg.nnunet.case_zones import case_zones, zone_axis
from fsseg.nnunet.environment import structures_folder
from fsseg.nnunet.preprocessed_case import read_case

KEPT_LOCATIONS = 10_000  # of a structure in a case; nnU-Net finds more in large ones only


def structures_of_preprocessed(folder: Path) -> Structures:
    """Read what preprocessed cases annotate, and put structures.json beside them where it is missing."""
    structures = preprocessed_structures(folder)
    if not (folder / STRUCTURES_NAME).is_file():
        structures.save(folder)
    return structures


def preprocessed_structures(folder: Path) -> Structures:
    """Read what preprocessed cases annotate.

    Raises:
        FssegError: structures.json numbers the structures in another way than dataset.json, which nnU-Net writes with
            the cases.
    """
    structures = load_structures(structures_folder(folder))
    file = folder / "dataset.json"
    labels = named_labels(read_json(file), file)
    different = [
        name for name, integers in structures.integers.items() if labels.get(name, integers) != tuple(sorted(integers))
    ]
    if different:
        source = structures_folder(folder) / STRUCTURES_NAME
        raise FssegError(
            f"{source} and {file} give {', '.join(different)} different integers, so one of them is not of the"
            " preprocessed cases.\n"
            f"  Delete {folder} and preprocess the dataset again: fsseg preprocess"
        )
    return structures


def preprocessed_volume(case: str, folder: Path, structures: Structures, plans: Any) -> Volume:
    """Return a preprocessed case without opening it, with some foreground voxels of its annotated structures only.

    nnU-Net keeps 10,000 voxels of each structure and case, one percent of larger ones, as four 64-bit integers each:
    tens of GB for a thousand cases with a hundred structures, in every process. Here they are three coordinates in the
    smallest integers that hold them, at most `KEPT_LOCATIONS`, chosen by the names of case and structure only.
    """
    image, labels, properties = read_case(folder, case)
    annotation = structures.annotation(case)
    found = {tuple(np.atleast_1d(key)): voxels for key, voxels in properties["class_locations"].items()}
    regions = {tuple(sorted(set(map(int, key)))): voxels for key, voxels in found.items()}
    missing = [name for name in annotation.annotated if structures.integers[name] not in regions]
    if missing:
        raise FssegError(
            f"The preprocessed case {case!r} in {folder} does not say where {', '.join(missing)} lie.\n"
            "  Preprocess the dataset again: fsseg preprocess"
        )
    smallest = np.min_scalar_type(max(labels.shape))
    locations = {
        name: _some(np.asarray(regions[structures.integers[name]]), f"{case} {name}")[:, 1:].astype(smallest)
        for name in annotation.annotated
        if len(regions[structures.integers[name]])
    }
    zones, zone_annotated = case_zones(annotation, structures.names, labels.shape[1:], properties, plans)
    axis = zone_axis(plans)
    locations = annotated_locations(locations, structures.names, zones, axis, zone_annotated)
    return Volume(case, image, labels, locations, zones, axis, zone_annotated)


def _some(voxels: np.ndarray, name: str) -> np.ndarray:
    """Return at most `KEPT_LOCATIONS` of (N, 4) voxels, always the same ones for a name."""
    if len(voxels) <= KEPT_LOCATIONS:
        return voxels
    return np.random.default_rng([*name.encode()]).choice(voxels, KEPT_LOCATIONS, replace=False)


_CASE_WEIGHT_EXPONENTS = {"cases": 0.0, "sqrt": -0.5, "sources": -1.0}


def source_weights(cases: Sequence[str], structures: Structures, sampling: str) -> list[float]:
    """Return a weight per case, by the n cases of its source; sources that are parts of one collection count as one.

    With "sqrt" it is 1/sqrt(n), so that a source is drawn in proportion to sqrt(n): MultiTalent's balance between large
    and small collections (Ulrich et al., MICCAI 2023). With "cases" all cases weigh the same, with "sources" all
    sources.
    """
    annotations = [structures.annotation(case) for case in cases]
    sources = [annotation.collection or annotation.source for annotation in annotations]
    return [sources.count(source) ** _CASE_WEIGHT_EXPONENTS[sampling] for source in sources]


def stratified_holdout(
    cases: Sequence[str], structures: Structures, share: float, seed: int, fold: int = 0
) -> tuple[list[str], list[str]]:
    """Split cases into training and validation, the same share of every source; folds are disjoint as long as they can.

    A source with fewer than five cases gives none to validation. Which cases of a source are held out does not depend
    on the other sources, so that a network of one source and one of all of them are validated on the same cases. A case
    that is the same image as one held out, often of another source, is in neither part.
    """
    validation: list[str] = []
    for source in sorted({structures.annotation(case).source for case in cases}):
        members = sorted(case for case in cases if structures.annotation(case).source == source)
        order = np.random.default_rng([seed, *source.encode()]).permutation(len(members))
        count = max(1, round(share * len(members))) if len(members) >= 5 and share > 0 else 0
        validation += [members[index] for index in np.roll(order, -fold * count)[:count]]
    return sorted(set(cases) - set(validation) - duplicates_of(validation, structures.duplicates)), sorted(validation)


def require_every_structure(volumes: Sequence[Volume], names: Sequence[str], folder: Path) -> None:
    """Raise `FssegError` if no training case shows a structure: its channel could not learn."""
    shown = {name for volume in volumes for name in volume.locations}
    missing = [name for name in names if name not in shown]
    if missing:
        raise FssegError(
            f"No training case in {folder} shows {', '.join(missing)}.\n"
            "  If held-out cases show it, hold fewer out (validation_share, --fold all). Otherwise add cases, or leave"
            " the structure out of the specs."
        )
