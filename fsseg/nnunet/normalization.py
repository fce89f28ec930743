"""Which normalisation nnU-Net gives to an image channel, by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import (
    channel_name_to_normalization_mapping,
    get_normalization_scheme,
)

from fsseg.data.intensity_scale import BOUNDS, ScaleCheck, off_base, unchecked

CT_SCHEME = "CTNormalization"  # the only one that needs statistics of a training set
Z_SCORE = "ZScoreNormalization"
_TO_UNIT_RANGE = ("RescaleTo01Normalization", "RGBTo01Normalization")
STATISTICS = "foreground_intensity_properties_per_channel"  # key of plans: channel number -> its statistics
_LEAST_STD = 1e-8  # by which nnU-Net divides
HU_STATISTICS = ("mean", "std", *BOUNDS)  # of the foreground, which the CT scheme uses


@dataclass(frozen=True)
class Scheme:
    """What nnU-Net's planner would choose for a channel.

    Attributes:
        name: of the scheme.
        uses_mask: whether it can be restricted to the voxels that are not zero.
        said: the name of the channel says so; otherwise it is what nnU-Net does with every other name.
    """

    name: str
    uses_mask: bool
    said: bool


def scheme_of(channel: str) -> Scheme:
    """Return nnU-Net's normalisation for a channel of this name in dataset.json."""
    found = get_normalization_scheme(channel)
    return Scheme(
        name=found.__name__,
        uses_mask=bool(found.leaves_pixels_outside_mask_at_zero_if_use_mask_for_norm_is_true),
        said=channel.casefold() in channel_name_to_normalization_mapping,
    )


def ranges_beyond_unit(schemes: Sequence[str], plans: Mapping[str, Any]) -> list[str]:
    """Return `range_beyond_unit` of every channel, from the schemes of a configuration and the plans' statistics."""
    statistics = plans.get(STATISTICS) or {}
    return [range_beyond_unit(scheme, statistics.get(str(index)) or {}) for index, scheme in enumerate(schemes)]


def range_beyond_unit(scheme: str, statistics: Mapping[str, float]) -> str:
    """Return to what a scheme scales intensities, in words; "" if to [0, 1].

    Args:
        scheme: its name in the plans.
        statistics: of the channel in the plans, which a CT scheme uses.
    """
    if scheme in _TO_UNIT_RANGE:
        return ""
    if scheme != CT_SCHEME or not set(HU_STATISTICS) <= set(statistics):
        return f"{scheme}, without known bounds"
    mean, std = statistics["mean"], max(statistics["std"], _LEAST_STD)
    low, high = ((statistics[bound] - mean) / std for bound in BOUNDS)
    is_unit = abs(low) < 0.01 and abs(high - 1) < 0.01
    return "" if is_unit else f"{scheme} to [{low:.3g}, {high:.3g}]"


def lower_ends(schemes: Sequence[str], plans: Mapping[str, Any]) -> list[float | None]:
    """Return to what the lowest intensities of every channel are clipped, after normalisation; None: to nothing known.

    Args:
        schemes: of a configuration, one a channel.
        plans: with the statistics, which a CT scheme uses.
    """
    of_channels = plans.get(STATISTICS) or {}
    return [_lower_end(scheme, of_channels.get(str(index)) or {}) for index, scheme in enumerate(schemes)]


def _lower_end(scheme: str, statistics: Mapping[str, float]) -> float | None:
    if scheme != CT_SCHEME or not set(HU_STATISTICS) <= set(statistics):
        return None
    return (statistics[BOUNDS[0]] - statistics["mean"]) / max(statistics["std"], _LEAST_STD)


def scale_checks(schemes: Sequence[str], plans: Mapping[str, Any]) -> tuple[ScaleCheck, ...]:
    """Return a check for every image channel of a base; only a scheme with statistics of its training has a scale."""
    of_channels = plans.get(STATISTICS) or {}
    statistics = [of_channels.get(str(index)) or {} for index in range(len(schemes))]
    return tuple(
        partial(off_base, statistics=known) if scheme == CT_SCHEME and set(HU_STATISTICS) <= set(known) else unchecked
        for scheme, known in zip(schemes, statistics, strict=True)
    )
