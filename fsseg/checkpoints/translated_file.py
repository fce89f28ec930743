"""A checkpoint file in the words of nnU-Net and fsseg, with the input that the user asks for."""

from dataclasses import dataclass
from pathlib import Path

from fsseg.checkpoints.container import Checkpoint, open_checkpoint
from fsseg.checkpoints.family import Family, Translation
from fsseg.checkpoints.import_input import with_input
from fsseg.checkpoints.import_request import SAID, ImportRequest
from fsseg.checkpoints.input_channels import ChannelMap, channel_map
from fsseg.checkpoints.registry import family_of
from fsseg.config.errors import FssegError, UsageError
from fsseg.config.shipped_files import PLANS, find_file


@dataclass(frozen=True)
class TranslatedFile:
    """A file that was read and translated.

    Attributes:
        request: what was asked for.
        checkpoint: the file.
        family_name, family: of which it is.
        translation: what it becomes; its plans are there.
        channels: other image channels; None for those of the file.
    """

    request: ImportRequest
    checkpoint: Checkpoint
    family_name: str
    family: Family
    translation: Translation
    channels: ChannelMap | None

    @property
    def licence(self) -> str:
        """Licence of the weights, "unknown" where nobody states one."""
        return self.translation.licence or self.family.licence

    def input_files(self) -> list[Path]:
        """Return the files that were read."""
        plans = [] if self.request.plans is None else [find_file(self.request.plans, PLANS)]
        return [self.request.file, *self.translation.inputs, *plans]


def translate_file(request: ImportRequest) -> TranslatedFile:
    """Read a file, find its family out, and translate it.

    Raises:
        UsageError: unknown family, or plans, channels or a patch that do not fit.
        FssegError: a damaged file, or one that holds objects that would execute code.
    """
    checkpoint = open_checkpoint(request.file)
    name, family, translation = _translated(checkpoint, request)
    channels = None if request.channels is None else channel_map(request.channels, translation.channel_names)
    translation = with_input(
        translation, request.file, plans_file=request.plans, channels=channels, patch_size=request.patch_size
    )
    return TranslatedFile(request, checkpoint, name, family, translation, channels)


def _translated(checkpoint: Checkpoint, request: ImportRequest) -> tuple[str, Family, Translation]:
    try:
        name, family = family_of(checkpoint, request.family)
        _require_taken(request, name, family)
        return name, family, family.translate(checkpoint, request.asked())
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # What a stranger's file may lack, or hold in another form, cannot be listed.
        raise FssegError(
            f"{request.file} is damaged, or of no published form: {error!r}\n  in the file: {checkpoint.description()}"
        ) from error


def _require_taken(request: ImportRequest, name: str, family: Family) -> None:
    """Raise `UsageError` for what the user says of a file although its family knows it."""
    said = request.asked()
    extra = [word for word in SAID if word not in family.takes and getattr(said, word) is not None]
    if extra == ["stem"]:
        raise UsageError(f"--stem is for files with several stems, and those of {name!r} have one. Leave it out.")
    if extra:
        options = ", ".join("--" + word.replace("_", "-") for word in extra)
        raise UsageError(
            f"The files of {name!r} say it themselves: leave {options} out.\n"
            "  For a network of your own name its --family; --plans changes spacing, window and orientation."
        )
