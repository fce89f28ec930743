"""Which normalisation nnU-Net gives to an image channel, by its name."""

import math
from dataclasses import dataclass
from typing import Any

from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import (
    channel_name_to_normalization_mapping,
    get_normalization_scheme,
)

CT_SCHEME = "CTNormalization"  # the only one that needs statistics of a training set
Z_SCORE = "ZScoreNormalization"
_RESCALE = "RescaleTo01Normalization"


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


def scales_to_unit_range(plans: dict[str, Any], configuration: str) -> bool:
    """Return whether the plans scale every image channel to [0, 1], as a window of HU or as the whole range.

    nnU-Net's CTNormalization clips to two percentiles, subtracts a mean and divides by a standard deviation; with the
    lower end for the mean and the width for the deviation it is a window.
    """
    statistics = plans.get("foreground_intensity_properties_per_channel") or {}
    schemes = plans["configurations"][configuration]["normalization_schemes"]
    return all(
        scheme == _RESCALE or (scheme == CT_SCHEME and _is_window(statistics.get(str(channel))))
        for channel, scheme in enumerate(schemes)
    )


def _is_window(statistics: dict[str, float] | None) -> bool:
    if not statistics:
        return False
    low, high = statistics["percentile_00_5"], statistics["percentile_99_5"]
    return math.isclose(statistics["mean"], low) and math.isclose(statistics["std"], high - low)
