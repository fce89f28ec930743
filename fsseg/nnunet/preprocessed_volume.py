"""A preprocessed case as a volume to crop: not opened yet, with some foreground voxels of what it annotates."""

from pathlib import Path

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from fsseg.config.errors import FssegError
from fsseg.data.structures import Structures
from fsseg.data.volumes import Volume, annotated_locations
from fsseg.nnunet.case_zones import case_zones, zone_axis
from fsseg.nnunet.preprocessed_case import read_case

KEPT_LOCATIONS = 10_000  # of a structure in a case; nnU-Net finds more in large ones only


def preprocessed_volume(case: str, folder: Path, structures: Structures, plans: PlansManager) -> Volume:
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
