"""Which crops are drawn, and how they are cut: one sampler for pretraining and adaptation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd

from fsseg.data.volumes import Volume


@dataclass(frozen=True)
class CropPlan:
    """A drawn crop: replayable, so that drawing and cutting can be tested apart.

    Attributes:
        volume: index of the volume.
        structure: the annotated structure the crop was drawn for, or None for a crop anywhere.
        corner: lowest voxel of the crop in z, y, x; may lie outside the volume.
    """

    volume: int
    structure: str | None
    corner: tuple[int, int, int]


class CropSampler:
    """Draws crops from volumes: foreground of annotated structures, or anywhere.

    Args:
        volumes: the volumes to draw from.
        patch_size: what the network will see, in z, y, x; patches stay inside the volume where it is large enough.
        crop_size: what is cut around the patch, larger so that a rotation finds image in the corners.
        foreground_probability: share of crops that are centred near a voxel of an annotated structure; the structure
            is drawn uniformly among those that the case shows, so that small ones are seen as often as large ones.
        weights: probability of each volume; uniform if None.
        jitter: how far the drawn voxel may lie from the centre of the patch, as a share of its size.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        patch_size: Sequence[int],
        *,
        crop_size: Sequence[int],
        foreground_probability: float,
        weights: Sequence[float] | None = None,
        jitter: float = 0.25,  # the voxel lies in the central half of the patch, so that its surroundings vary
    ) -> None:
        self.volumes = volumes
        self.patch_size = np.asarray(patch_size)
        self.crop_size = np.asarray(crop_size)
        self.foreground_probability = foreground_probability
        self.weights = None if weights is None else np.asarray(weights) / np.sum(weights)
        self.jitter = (jitter * self.patch_size).astype(int)

    def draw(self, generator: np.random.Generator, index: int | None = None) -> CropPlan:
        """Draw one crop, from the volume with the given index or from a drawn one."""
        if index is None:
            index = int(generator.choice(len(self.volumes), p=self.weights))
        volume = self.volumes[index]
        shown = sorted(volume.locations)
        if shown and generator.random() < self.foreground_probability:
            structure = self._structure(index, shown, generator)
            voxels = volume.locations[structure]
            centre = voxels[generator.integers(len(voxels))] + generator.integers(-self.jitter, self.jitter + 1)
            return self._plan(index, structure, centre)
        return self._plan(index, None, self._elsewhere(index, generator))

    def _structure(self, index: int, shown: Sequence[str], generator: np.random.Generator) -> str:
        """Draw one of the structures that a volume shows."""
        return shown[int(generator.integers(len(shown)))]

    def _elsewhere(self, index: int, generator: np.random.Generator) -> np.ndarray:
        """Draw the central voxel of a crop that is drawn for no structure."""
        return generator.integers(0, self.volumes[index].shape)

    def middle(self, index: int, structure: str) -> CropPlan:
        """Return the crop around the middle one of a structure's voxels in a volume that shows it."""
        voxels = self.volumes[index].locations[structure]
        return self._plan(index, structure, voxels[len(voxels) // 2])

    def cut(self, plan: CropPlan) -> tuple[np.ndarray, np.ndarray]:
        """Cut a crop out of its volume.

        Returns:
            (channels, *crop_size) float32 image, padded with 0, and (2, *crop_size) int16 labels: the label map and
            the zone of each voxel, both padded with -1.
        """
        volume = self.volumes[plan.volume]
        box = [[low, low + size] for low, size in zip(plan.corner, self.crop_size, strict=True)]
        # A copy: an unpadded crop is a view, and augmentation that works in place would change the case.
        image = np.array(crop_and_pad_nd(volume.image, box, 0), dtype=np.float32)
        labels = crop_and_pad_nd(volume.labels, box, -1, cast_cropped_to=np.int16)  # unsigned labels cannot hold -1
        return image, np.concatenate([labels, self._zones(volume, box)]).astype(np.int16)

    def _plan(self, index: int, structure: str | None, centre: np.ndarray) -> CropPlan:
        lowest = self.patch_size // 2
        highest = np.maximum(lowest, np.asarray(self.volumes[index].shape) - (self.patch_size - lowest))
        low = np.clip(centre, lowest, highest) - lowest - (self.crop_size - self.patch_size) // 2
        return CropPlan(index, structure, (int(low[0]), int(low[1]), int(low[2])))

    def _zones(self, volume: Volume, box: list[list[int]]) -> np.ndarray:
        first, last = box[volume.zone_axis]
        inside = np.arange(first, last)
        known = (inside >= 0) & (inside < len(volume.zones))
        line = np.where(known, volume.zones[np.clip(inside, 0, len(volume.zones) - 1)], -1)
        shape = [1, 1, 1, 1]
        shape[volume.zone_axis + 1] = len(line)
        return np.broadcast_to(line.reshape(shape), (1, *self.crop_size))
