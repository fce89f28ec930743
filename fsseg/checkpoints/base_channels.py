"""The image channels of a base beside those of a dataset: whether they fit, and which the adaptation ignores."""

import difflib
import shlex
from collections.abc import Callable, Sequence

from fsseg.checkpoints.family import ANY_MODALITY
from fsseg.checkpoints.input_channels import spelled
from fsseg.config.errors import UsageError
from fsseg.data.channels import same_channels
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.ignored_channels import ignored_channels
from fsseg.models.networks import total_strides
from fsseg.nnunet.model_checkpoints import checkpoint_file
from fsseg.nnunet.model_folder import ModelFolder


def require_same_channels(base: ModelFolder, theirs: Sequence[str], dataset: str) -> None:
    """Raise `UsageError` if a dataset has other image channels than a base takes, with the import that changes them.

    Args:
        base: the model.
        theirs: channels of the dataset.
        dataset: its name.
    """

    def remedy(words: str) -> str:
        file = shlex.quote(str(checkpoint_file(base.path)))
        return (
            "Make a base of it that takes these. NAME=OLD starts a channel from the weights of an old one, and a NAME"
            " that the checkpoint lacks starts at zero without it:\n"
            f"  fsseg import {file} --channels {words} --out NEW_RUN"
        )

    require_channels(base, theirs, dataset, remedy)


def require_channels(base: ModelFolder, theirs: Sequence[str], dataset: str, remedy: Callable[[str], str]) -> None:
    """Raise `UsageError` if a base does not take the image channels of a dataset.

    Networks that were trained on images of all kinds take any modality, in their number of channels.

    Args:
        base: the model; its files may be yet to be written.
        theirs: channels of the dataset.
        dataset: its name.
        remedy: says what to do, given what --channels of `fsseg import` would have to be.
    """
    ours = base.channel_names
    if same_channels(ours, theirs) or (len(ours) == len(theirs) and set(ours) == {ANY_MODALITY}):
        return
    words = " ".join(shlex.quote(_word(name, ours)) for name in theirs)
    raise UsageError(
        f"The checkpoint takes the channels {list(ours)}, but {dataset} has {list(theirs)}.\n  {remedy(words)}"
    )


def ignored_channel_notes(base: ModelFolder, adapted: AdaptedNetwork) -> list[str]:
    """Say which image channels an adaptation ignores: they start at zero, and nothing that is trained changes that."""
    names = base.channel_names
    if len(names) == 1:
        return []
    strides = total_strides(base.configuration_manager().configuration["architecture"])
    # Two voxels an axis at the lowest level: a norm takes no statistics of one.
    ignored = ignored_channels(adapted, len(names), [2 * stride for stride in strides])
    if not ignored:
        return []
    listed = ", ".join(names[index] for index in ignored)
    return [
        f"IGNORED IMAGE CHANNEL: {listed}. Its weights in the base are zero, and nothing that is trained here reads the"
        " image: the result will not depend on it.\n  Use a method that trains the first convolution (full, l2_sp, or"
        " lora with targets=encoder), or make a base with `fsseg import --channels NAME=OLD`."
    ]


def _word(name: str, ours: Sequence[str]) -> str:
    """Return a channel of the dataset as --channels takes it, from the channel of the base that is most like it."""
    if sum(same_channels([name], [other]) for other in ours) == 1:
        return name
    nearest = difflib.get_close_matches(name.casefold(), [other.casefold() for other in ours], n=1)
    index = [other.casefold() for other in ours].index(nearest[0]) if nearest else 0
    return f"{name}={spelled(ours, index)}"
