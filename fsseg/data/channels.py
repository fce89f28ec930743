"""Image channels of a dataset.json: the one reader of `channel_names`, in the order of their numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsseg.config.errors import FssegError, shown
from fsseg.data.contents import DatasetContent

CHANNELS_KEY = "channel_names"
OLD_CHANNELS_KEY = "modality"  # of nnU-Net v1 and the Medical Segmentation Decathlon
_DIGITS = 4  # of a channel's number in the name of a file


def channel_names(dataset_json: DatasetContent, where: Path | str = "dataset.json") -> tuple[str, ...]:
    """Return the names of the image channels, channel 0 first, in whatever order the file lists them.

    Images are numbered (CASE_0000, CASE_0001), and so are the statistics of plans, so a name belongs to its number.
    nnU-Net's planner goes by the order in the file instead.

    Args:
        dataset_json: content of a dataset.json.
        where: the file, for messages.

    Raises:
        FssegError: the keys are not the numbers from 0 on, or a name is no text.
    """
    try:
        return tuple(ordered_channels(dataset_json.get(CHANNELS_KEY)).values())
    except ValueError as error:
        raise FssegError(f"{where}: {CHANNELS_KEY} {error}") from None


def ordered_channels(names: Any) -> dict[str, str]:
    """Return `channel_names` with the keys "0", "1", … in this order; raise `ValueError` for what is none."""
    form, received = 'must be like {"0": "CT"}', shown(names)
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{form}, got {received}")
    numbers = sorted(int(key) for key in map(str, names) if key.isdecimal() and len(key) <= _DIGITS)
    if numbers != list(range(len(names))):
        raise ValueError(f"{form}, with the keys 0 to {len(names) - 1}, one for each image of a case, got {received}")
    if not all(isinstance(name, str) and name.strip() for name in names.values()):
        raise ValueError(f"{form}, with names as text, got {received}")
    by_number = {int(key): name for key, name in names.items()}
    return {str(number): by_number[number] for number in numbers}


def same_channels(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Return whether channels are the same: "ct" is "CT", to nnU-Net's normalisation, too."""
    return [name.casefold() for name in ours] == [name.casefold() for name in theirs]
