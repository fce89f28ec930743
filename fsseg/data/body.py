"""What of a preprocessed case is body: above the lower end of the intensity window, which air is clipped to."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fsseg.data.volumes import Volume

LowerEnds = Sequence[float | None]  # of each channel: to what its lowest intensities are clipped; None: to nothing
_ROUNDING = 1e-3  # of normalised intensities


def body_mask(volume: Volume, lower_ends: LowerEnds) -> np.ndarray:
    """Return (D, H, W) bool: where any channel lies above its lower end.

    Args:
        volume: the case.
        lower_ends: of the normalised channels; of a channel without one, its lowest value in the case.
    """
    image = np.asarray(volume.image)
    ends = [channel.min() if end is None else end for channel, end in zip(image, lower_ends, strict=True)]
    above: np.ndarray = image > np.reshape(ends, (-1, 1, 1, 1)) + _ROUNDING
    return np.any(above, axis=0)


def cut_to_body(volume: Volume, lower_ends: LowerEnds) -> Volume:
    """Return a case cut to the box of its body; one without any is returned whole."""
    body = body_mask(volume, lower_ends)
    if not body.any():
        return volume
    box = [np.flatnonzero(body.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(body.ndim)]
    low, high = np.add(np.transpose(box), [[0], [1]])
    inside = (slice(None), *(slice(*ends) for ends in zip(low, high, strict=True)))
    return replace(
        volume,
        image=np.asarray(volume.image)[inside],
        labels=np.asarray(volume.labels)[inside],
        locations=_inside(volume.locations, low, high),
        zones=volume.zones[inside[1 + volume.zone_axis]],
    )


def _inside(locations: dict[str, np.ndarray], low: np.ndarray, high: np.ndarray) -> dict[str, np.ndarray]:
    """Return voxel indices counted from `low`; a structure of which none is left is left out."""
    kept = {name: voxels[((voxels >= low) & (voxels < high)).all(axis=1)] for name, voxels in locations.items()}
    return {name: voxels - low for name, voxels in kept.items() if len(voxels)}
