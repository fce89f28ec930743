"""Are the values of an image on the scale that is expected of them: Hounsfield units of a CT, or those of a base?

The usual mistakes: values stored 1024 too high, from 0 on, as scanners store them; the offset taken off twice; values
scaled to 0-1 or to 8 bits; an MR image under the name of CT. All look right in a viewer. Crops without air, padding
outside the field of view, contrast and clipped values are no mistakes. A sample of the voxels tells.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fsseg.config.errors import first_of

CT = "ct"
OFFSET = 1024  # of the values that a scanner stores, from HU
BOUNDS = ("percentile_00_5", "percentile_99_5")  # in the statistics of plans: of the voxels of structures
_SAMPLE = 100_000
_FEWEST = 1000  # voxels from which nothing can be told
_TISSUE = 200  # soft tissue and fat lie within so many HU of 0
_AIR = -200  # below is air, and what is partly air
_PADDING = -1100  # below is what stands outside the field of view
_NARROW = 25  # the noise of any CT is wider
_EIGHT_BITS = 255
_HIGHEST = 40_000  # metal on an extended scale has 30,000
_SHOWN = 5


@dataclass(frozen=True)
class OffScale:
    """What is odd about the values of an image.

    Attributes:
        low, high: 0.5th and 99.5th percentile of its voxels.
        looks: the likely cause.
        expected: what was expected.
    """

    low: float
    high: float
    looks: str
    expected: str = "Hounsfield units (air -1000, water 0)"


ScaleCheck = Callable[[np.ndarray], OffScale | None]  # of the voxels of a channel


def checks_of_channels(names: Sequence[str]) -> tuple[ScaleCheck, ...]:
    """Return a check for every image channel by what its name allows: CT has HU, of others nothing is known."""
    return tuple(off_hounsfield if name.casefold() == CT else unchecked for name in names)


def unchecked(array: np.ndarray) -> None:
    """Find nothing odd, in a channel without a scale of its own."""


def off_hounsfield(array: np.ndarray) -> OffScale | None:
    """Return why the values of an image, of any shape, are hardly HU; None where they may be."""
    voxels = _sample(array)
    looks = _looks(voxels) if voxels.size >= _FEWEST else ""
    return OffScale(*_range(voxels), looks) if looks else None


def off_base(array: np.ndarray, statistics: Mapping[str, float]) -> OffScale | None:
    """Return why the values of an image are hardly those that a base was trained on; None where they may be.

    Args:
        array: voxels, of any shape.
        statistics: of the channel in the base's plans.
    """
    low, high = (statistics[bound] for bound in BOUNDS)
    median = statistics.get("median", statistics["mean"])
    expected = f"values as the base was trained on ({low:.4g} to {high:.4g} in its structures)"
    if high - low >= _NARROW and (low < 0 or median < 250):
        found = off_hounsfield(array)
        return found and OffScale(found.low, found.high, found.looks, f"{found.expected}, {expected}")
    # The base itself was not trained on HU, or on bone alone.
    voxels = _sample(array)
    body = _without_lowest(voxels)
    wide = np.ptp(_range(voxels)) > 20 * (high - low)
    if voxels.size < _FEWEST or not (wide or _share((body >= low) & (body <= high)) < 0.01):
        return None
    return OffScale(*_range(voxels), "of another scale", expected)


def scale_notes(found: Mapping[str, OffScale]) -> list[str]:
    """Return a sentence for every likely cause, with the images that it concerns."""
    alike: dict[tuple[str, str], list[str]] = {}
    for image, off in found.items():
        alike.setdefault((off.looks, off.expected), []).append(f"{image} ({off.low:.4g} to {off.high:.4g})")
    return [
        f"INTENSITIES look {looks}: {first_of(images, _SHOWN)}. Expected are {expected}."
        for (looks, expected), images in alike.items()
    ]


def _sample(array: np.ndarray) -> np.ndarray:
    """Return up to 100,000 voxels, spread evenly over an image, as float64."""
    flat = array.reshape(-1)
    if flat.size > _SAMPLE:
        flat = flat[np.linspace(0, flat.size - 1, _SAMPLE).astype(np.int64)]
    return flat.astype(np.float64)


def _looks(voxels: np.ndarray) -> str:
    """Name the likely mistake, or nothing. The shares were measured on head, neck and abdomen, whole and in crops."""
    inside = _without_lowest(voxels) if voxels.min() < _PADDING else voxels
    low, high = _range(inside)
    if high - low < _NARROW:
        return f"scaled to {'0-1' if low >= 0 and high <= 1 else 'a small range'}"
    body = _without_lowest(voxels)  # air, too, may be one value
    at_offset = _tissue(body, OFFSET)
    if _share(body < _AIR) < 0.005 and at_offset > 0.07 and at_offset > 0.6 * _share(body > OFFSET // 2):
        return f"stored {OFFSET} too high"
    if _tissue(body, 0) < 0.06 and _share(body > -OFFSET // 4) < 0.15 and _tissue(body, -OFFSET) > 0.1:
        return f"stored {OFFSET} too low"
    if inside.min() >= 0 and inside.max() <= _EIGHT_BITS:
        return "scaled to 8 bits, or of another modality such as MR"
    if inside.min() >= 0 or (_share(body < -50) < 0.001 and _tissue(body, 0) < 0.5):
        return "of another modality such as MR (nothing is air or fat)"
    return "too high for HU" if high > _HIGHEST else ""


def _range(voxels: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(voxels, (0.5, 99.5)) if voxels.size else (0.0, 0.0)
    return float(low), float(high)


def _without_lowest(voxels: np.ndarray) -> np.ndarray:
    above = voxels[voxels > voxels.min(initial=np.inf)]
    return above if above.size else voxels


def _tissue(voxels: np.ndarray, offset: float) -> float:
    return _share(np.abs(voxels - offset) < _TISSUE)


def _share(chosen: np.ndarray) -> float:
    return float(chosen.mean()) if chosen.size else 0.0
