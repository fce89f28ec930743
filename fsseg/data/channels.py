"""Image channels of a dataset.json: the one reader of `channel_names`, in the order of their numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsseg.config.errors import FssegError

CHANNELS_KEY = "channel_names"
_OLD_KEY = "modality"  # of nnU-Net v1 and the Medical Segmentation Decathlon
_SHOWN = 100  # characters


def channel_names(dataset_json: dict[str, Any], where: Path | str = "dataset.json") -> tuple[str, ...]:
    """Return the names of the image channels, channel 0 first, in whatever order the file lists them.

    Images are numbered (CASE_0000, CASE_0001), and so are the statistics of plans, so a name belongs to its number.
    nnU-Net's planner goes by the order in the file instead.

    Args:
        dataset_json: content of a dataset.json.
        where: the file, for messages.

    Raises:
        FssegError: the keys are not the numbers from 0 on, or a name is no text.
    """
    return tuple(ordered_channels(_channels(dataset_json, where), where).values())


def with_ordered_channels(dataset_json: dict[str, Any], where: Path | str = "dataset.json") -> dict[str, Any]:
    """Return a dataset.json whose channels stand in the order of their numbers, as nnU-Net reads them."""
    return {**dataset_json, CHANNELS_KEY: ordered_channels(_channels(dataset_json, where), where)}


def same_channels(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Return whether channels are the same: "ct" is "CT", to nnU-Net's normalisation, too."""
    return [name.casefold() for name in ours] == [name.casefold() for name in theirs]


def ordered_channels(names: Any, where: Path | str) -> dict[str, str]:
    """Return `channel_names` with the keys "0", "1", … in this order; raise `FssegError` for what is none."""
    form = f'{where}: {CHANNELS_KEY} must be like {{"0": "CT"}}'
    if not isinstance(names, dict) or not names:
        raise FssegError(f"{form}, got {str(names)[:_SHOWN]!r}.")
    keys = [str(key) for key in names]
    numbers = sorted(int(key) for key in keys if key.isdecimal() and len(key) <= 4)
    if numbers != list(range(len(names))):
        listed = ", ".join(keys)[:_SHOWN]
        raise FssegError(f"{form}, with the keys 0 to {len(names) - 1}, one for each image of a case, got {listed}.")
    wrong = [name for name in names.values() if not isinstance(name, str) or not name.strip()]
    if wrong:
        raise FssegError(f"{form}, with names as text, got {str(wrong[0])[:_SHOWN]!r}.")
    by_number = {int(key): name for key, name in names.items()}
    return {str(number): by_number[number] for number in numbers}


def _channels(dataset_json: dict[str, Any], where: Path | str) -> Any:
    if CHANNELS_KEY not in dataset_json and _OLD_KEY in dataset_json:
        raise FssegError(
            f"{where} names its channels under {_OLD_KEY!r}, as nnU-Net v1 does.\n"
            f"  Rename that key to {CHANNELS_KEY!r}, or convert the dataset with `nnUNetv2_convert_old_nnUNet_dataset`"
            " or `nnUNetv2_convert_MSD_dataset`."
        )
    if CHANNELS_KEY not in dataset_json:
        raise FssegError(f"{where} is damaged or another file: it lacks {CHANNELS_KEY}.")
    return dataset_json[CHANNELS_KEY]
