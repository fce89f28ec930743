"""Which normalisation nnU-Net gives to an image channel, by its name."""

from dataclasses import dataclass

from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import (
    channel_name_to_normalization_mapping,
    get_normalization_scheme,
)

CT_SCHEME = "CTNormalization"  # the only one that needs statistics of a training set
Z_SCORE = "ZScoreNormalization"


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
