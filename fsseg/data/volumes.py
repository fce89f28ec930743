"""A preprocessed case in memory or on disk, with what it annotates zone by zone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fsseg.data.structures import CaseAnnotation, Structures

MAX_LOCATIONS = 10_000


@dataclass(frozen=True)
class SourceLabels:
    """What the label map of a case holds before it is resampled.

    Attributes:
        voxels: integer -> its voxels.
        spacing_mm: of these voxels.
    """

    voxels: dict[int, int]
    spacing_mm: tuple[float, ...]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return math.prod(self.spacing_mm) / 1000

    def count(self, integers: Sequence[int]) -> int:
        """Return the voxels of a structure."""
        return sum(self.voxels.get(integer, 0) for integer in integers)


@dataclass(frozen=True)
class Volume:
    """One preprocessed case.

    A zone is a range of slices in which the same structures are annotated. Zone 0 stands for voxels outside the image
    (padding): there every annotated structure is background, except those contoured on part of their extent, which
    are unknown.

    Attributes:
        case: case identifier.
        image: (channels, D, H, W) float32, normalised; an array or a lazily read one.
        labels: (1, D, H, W) integers of the label map.
        locations: structure -> (N, 3) voxel indices of its foreground where it is annotated.
        zones: (slices,) zone of each slice along `zone_axis`, from 1.
        zone_axis: which of D, H, W is the inferior-superior axis.
        zone_annotated: (zones + 1, C) bool, whether a structure is annotated in a zone.
        source: what the label map holds before it is resampled; None where that is not known.
    """

    case: str
    image: Any
    labels: Any
    locations: dict[str, np.ndarray]
    zones: np.ndarray
    zone_axis: int
    zone_annotated: np.ndarray
    source: SourceLabels | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels in z, y, x."""
        return tuple(self.image.shape[1:])

    def annotates(self, channel: int) -> bool:
        """Return whether a structure is annotated in any slice."""
        return bool(self.zone_annotated[self.zones, channel].any())


def foreground_locations(labels: np.ndarray, structures: Structures, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return up to 10,000 foreground voxels per structure; structures without voxels are left out.

    Args:
        labels: (D, H, W) label map.
        structures: meaning of the integers.
        names: annotated structures of the case.
    """
    generator = np.random.default_rng(0)  # a fixed draw: which voxels stand for a structure is no choice of a run
    locations = {}
    for name in names:
        found = np.argwhere(np.isin(labels, structures.integers[name]))
        if len(found) > MAX_LOCATIONS:
            found = found[generator.choice(len(found), MAX_LOCATIONS, replace=False)]
        if len(found):
            locations[name] = found
    return locations


def annotated_locations(
    locations: dict[str, np.ndarray],
    names: Sequence[str],
    zones: np.ndarray,
    zone_axis: int,
    zone_annotated: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return the voxels of structures that lie where the structure is annotated; what is left of none is left out.

    Args:
        locations: structure -> (N, 3) voxel indices.
        names: structures in channel order.
        zones, zone_axis, zone_annotated: of the volume.
    """
    known = {
        name: voxels[zone_annotated[zones[voxels[:, zone_axis]], names.index(name)]]
        for name, voxels in locations.items()
    }
    return {name: voxels for name, voxels in known.items() if len(voxels)}


def annotation_zones(
    annotation: CaseAnnotation, names: tuple[str, ...], source_slices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the zone of each preprocessed slice, and what each zone annotates.

    Args:
        annotation: what the case annotates, with z-extents in slices of the original image.
        names: structures in channel order.
        source_slices: (slices,) for each preprocessed slice the original slice it shows.

    Returns:
        (slices,) int zones from 1, and (zones + 1, C) bool; row 0 is the outside of the image.
    """
    annotated = np.array([name in annotation.annotated for name in names], dtype=bool)
    partial = np.array([name in annotation.z_extent for name in names], dtype=bool)
    per_slice = np.broadcast_to(annotated, (len(source_slices), len(names))).copy()
    for channel, name in enumerate(names):
        if name in annotation.z_extent:
            first, last = annotation.z_extent[name]
            per_slice[:, channel] &= (source_slices >= first) & (source_slices < last)
    rows, zones = np.unique(per_slice, axis=0, return_inverse=True)
    return zones.reshape(-1).astype(np.int16) + 1, np.vstack([annotated & ~partial, rows])
