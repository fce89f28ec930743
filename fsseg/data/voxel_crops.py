"""Crops drawn for single voxels, as MONAI's RandCropByPosNegLabel does: foreground by its size, or background."""

from collections.abc import Mapping, Sequence

import numpy as np

from fsseg.data.body import LowerEnds, body_mask
from fsseg.data.crops import CropSampler
from fsseg.data.volumes import Volume

_TRIES = 256  # voxels that are drawn before all are looked through


class VoxelCropSampler(CropSampler):
    """Draws crops as `CropSampler` does, but of several structures each by its voxels, and else centred on background.

    Background is what lies in the body and in none of the structures. A volume without any is cropped anywhere.

    Args:
        volumes, patch_size, crop_size, foreground_probability, jitter: as of `CropSampler`.
        structures: integers in the label map of each structure, in channel order.
        lower_ends: see `body_mask`.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        patch_size: Sequence[int],
        *,
        crop_size: Sequence[int],
        foreground_probability: float,
        jitter: float,
        structures: Mapping[str, Sequence[int]],
        lower_ends: LowerEnds,
    ) -> None:
        super().__init__(
            volumes, patch_size, crop_size=crop_size, foreground_probability=foreground_probability, jitter=jitter
        )
        self._voxels = [_annotated_voxels(volume, structures) for volume in volumes]
        self._background = [_background(volume, structures, lower_ends) for volume in volumes]

    def _structure(self, index: int, shown: Sequence[str], generator: np.random.Generator) -> str:
        voxels = np.array([self._voxels[index][name] for name in shown])
        return shown[generator.choice(len(shown), p=voxels / voxels.sum())]

    def _elsewhere(self, index: int, generator: np.random.Generator) -> np.ndarray:
        background = self._background[index]
        drawn = generator.integers(0, background.shape, size=(_TRIES, background.ndim))
        inside = background[tuple(drawn.T)]
        if not inside.any() and background.any():
            drawn = np.argwhere(background)
            return drawn[generator.integers(len(drawn))]
        return drawn[inside.argmax()]


def _annotated_voxels(volume: Volume, structures: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return how many voxels each structure has where it is annotated."""
    slices = np.moveaxis(np.asarray(volume.labels[0]), volume.zone_axis, 0)
    return {
        name: int(np.isin(slices[volume.zone_annotated[volume.zones, channel]], integers).sum())
        for channel, (name, integers) in enumerate(structures.items())
    }


def _background(volume: Volume, structures: Mapping[str, Sequence[int]], lower_ends: LowerEnds) -> np.ndarray:
    foreground = sorted({integer for integers in structures.values() for integer in integers})
    return body_mask(np.asarray(volume.image), lower_ends) & ~np.isin(np.asarray(volume.labels[0]), foreground)
