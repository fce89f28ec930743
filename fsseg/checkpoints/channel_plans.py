"""Normalisation of other image channels: whose a new channel has, and what it means that one is left out."""

import re
from dataclasses import dataclass
from typing import Any

from fsseg.checkpoints.input_channels import Channel, ChannelMap, spelled
from fsseg.config.errors import FssegError, UsageError
from fsseg.data.channels import same_channels
from fsseg.nnunet.configurations import plans_with, resolved
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.normalization import CT_SCHEME, STATISTICS, Z_SCORE, scheme_of

# "CT_venous" and "ceCT" are CTs, to which windowing by HU applies; nnU-Net itself knows the name "CT" only.
_IS_CT = re.compile(r"(?<![a-z0-9])(ce|nc|cb|ld)?ct(?![a-z])")


@dataclass(frozen=True)
class _Normalisation:
    scheme: str
    use_mask: bool
    statistics: dict[str, Any]
    note: str = ""


def with_channels(plans: PlansContent, configuration: str, channels: ChannelMap) -> tuple[PlansContent, list[str]]:
    """Return plans for the new channels, with one configuration, and notes on what was decided.

    A channel that starts from one of the checkpoint has its scheme, mask and statistics, unless its own name asks for
    a scheme that needs no statistics (an MR image is not windowed by the HU of a CT). One that starts at zero has the
    scheme that nnU-Net gives to its name.

    Raises:
        UsageError: a channel that starts at zero would need the statistics of a training.
        FssegError: the plans have another number of channels than the checkpoint.
    """
    block = resolved(plans, configuration)
    schemes = block["normalization_schemes"]
    if len(schemes) != len(channels.old):
        raise FssegError(
            f"The plans normalise {len(schemes)} channel(s), but the checkpoint has {len(channels.old)}:"
            f" {', '.join(channels.old)}.\n  Give plans for {', '.join(channels.names)} with --plans."
        )
    masks = block.get("use_mask_for_norm") or [False] * len(schemes)
    statistics = plans.get(STATISTICS) or {}
    old = [
        _Normalisation(scheme, bool(mask), statistics.get(str(index)) or {})
        for index, (scheme, mask) in enumerate(zip(schemes, masks, strict=True))
    ]
    new = [_normalisation(channel, channels, old) for channel in channels.channels]
    changed = plans_with(
        plans,
        configuration,
        normalization_schemes=[entry.scheme for entry in new],
        use_mask_for_norm=[entry.use_mask for entry in new],
    )
    changed[STATISTICS] = {str(index): entry.statistics for index, entry in enumerate(new)}
    left_out = [_left_out(channels.old[index], old[index]) for index in channels.left_out]
    return changed, [*(entry.note for entry in new if entry.note), *left_out]


def _normalisation(channel: Channel, channels: ChannelMap, old: list[_Normalisation]) -> _Normalisation:
    own = scheme_of(channel.name)
    mask = own.uses_mask and any(entry.use_mask for entry in old)  # whether images are cropped bodies, as nnU-Net asks
    if channel.source is None:
        if own.name == CT_SCHEME:
            raise UsageError(
                f"{channel.name!r} would start at zero with {CT_SCHEME}, whose statistics the checkpoint does not have"
                f" for it.\n  Write {channel.name}={spelled(channels.old, 0)} to start it from another channel,"
                " or give plans that hold its statistics with --plans."
            )
        return _Normalisation(own.name, mask, {}, f"{channel.name} is normalised by {own.name}, by its name.")
    source, name = old[channel.source], channels.old[channel.source]
    if same_channels([channel.name], [name]) or own.name == source.scheme or _is_ct(channel.name, source):
        return source
    if own.name == CT_SCHEME or (source.scheme != CT_SCHEME and not own.said):
        return _Normalisation(
            source.scheme,
            source.use_mask,
            source.statistics,
            f"{channel.name} is normalised by {source.scheme}, with which {name!r} was trained.",
        )
    note = (
        f"{channel.name} is normalised by {own.name}, by its name: the {source.scheme} of {name!r} does not apply"
        " to it. --plans gives another."
    )
    return _Normalisation(own.name, mask, {}, note)


def _is_ct(name: str, source: _Normalisation) -> bool:
    return source.scheme == CT_SCHEME and _IS_CT.search(name.casefold()) is not None


def _left_out(name: str, normalisation: _Normalisation) -> str:
    """Say what it means that a channel's weights are dropped: the network sees 0 there, everywhere."""
    start = f"{name!r} of the checkpoint is left out, as if its images were 0 everywhere after normalisation: "
    if normalisation.scheme == Z_SCORE:
        return start + "their mean. What only they showed is lost."
    if normalisation.scheme == CT_SCHEME and "mean" in normalisation.statistics:
        return start + f"{normalisation.statistics['mean']:g} HU. What only they showed is lost."
    return start + f"with {normalisation.scheme} this is not their mean, so features shift. Train the first layers."
