"""What of a preprocessed case is body: above the lower end of the intensity window, which air is clipped to."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fsseg.data.volumes import Volume

LowerEnds = Sequence[float | None]  # of each channel: to what its lowest intensities are clipped; None: to nothing
_ROUNDING = 1e-3  # of normalised intensities


def body_mask(image: np.ndarray, lower_ends: LowerEnds) -> np.ndarray:
    """Return (D, H, W) bool: where any channel lies above its lower end.

    Args:
        image: (channels, D, H, W), normalised.
        lower_ends: of the channels; of a channel without one, its lowest value in the image.
    """
    ends = [channel.min() if end is None else end for channel, end in zip(image, lower_ends, strict=True)]
    above: np.ndarray = image > np.reshape(ends, (-1, 1, 1, 1)) + _ROUNDING
    return np.any(above, axis=0)


def body_box(image: np.ndarray, lower_ends: LowerEnds) -> tuple[slice, ...]:
    """Return what cuts an image (channels, D, H, W) to the box of its body; all of it where there is none."""
    body = body_mask(image, lower_ends)
    if not body.any():
        return tuple(slice(0, length) for length in image.shape)
    ends = [np.flatnonzero(body.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(body.ndim)]
    return (slice(0, len(image)), *(slice(int(first), int(last) + 1) for first, last in ends))


def cut_to_body(volume: Volume, lower_ends: LowerEnds) -> Volume:
    """Return a case cut to the box of its body; one without any is returned whole."""
    image = np.asarray(volume.image)
    inside = body_box(image, lower_ends)
    low, high = (np.array([getattr(part, end) for part in inside[1:]]) for end in ("start", "stop"))
    return replace(
        volume,
        image=image[inside],
        labels=np.asarray(volume.labels)[(slice(None), *inside[1:])],
        locations=_inside(volume.locations, low, high),
        zones=volume.zones[inside[1 + volume.zone_axis]],
    )


def _inside(locations: dict[str, np.ndarray], low: np.ndarray, high: np.ndarray) -> dict[str, np.ndarray]:
    """Return voxel indices counted from `low`; a structure of which none is left is left out."""
    kept = {name: voxels[((voxels >= low) & (voxels < high)).all(axis=1)] for name, voxels in locations.items()}
    return {name: voxels - low for name, voxels in kept.items() if len(voxels)}
