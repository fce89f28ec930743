"""Which of nnU-Net's readers read the images of a model or dataset, so that the checks see what they see."""

import contextlib
from pathlib import Path

from nnunetv2.imageio.reader_writer_registry import (
    determine_reader_writer_from_dataset_json,
    recursive_find_reader_writer_by_name,
)

from fsseg.config.errors import FssegError, shown
from fsseg.data.contents import DatasetContent
from fsseg.data.image_header import Reader, check_header
from fsseg.data.images import UnreadableImageError
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.quiet import quiet

_OF_ITK_TOO = (".nii", ".mhd")  # nnU-Net lists them for no reader of ITK, which reads and writes them


def reader_of(plans: PlansContent) -> Reader:
    """Return who reads the voxels where images are read as plans say."""
    return _reader(plans["image_reader_writer"])


def reader_of_dataset(dataset_json: DatasetContent, example: Path) -> Reader:
    """Return who will read the voxels where nnU-Net's planner chooses: it tries its readers on an image.

    Args:
        dataset_json: of the raw dataset; it may name a reader.
        example: the first image of the dataset.
    """
    try:
        check_header(example, "either")
        with quiet(), contextlib.redirect_stderr(None):
            chosen = determine_reader_writer_from_dataset_json(dataset_json, str(example), verbose=False)
    except (UnreadableImageError, RuntimeError):
        return "ITK"  # what is wrong comes from the checks
    return _reader(chosen.__name__)


def require_file_ending(plans: PlansContent, dataset_json: DatasetContent, where: Path | str) -> None:
    """Raise `FssegError` if the reader of a model's plans writes no files as its dataset.json asks for.

    Args:
        plans: of the model.
        dataset_json: of the model.
        where: its dataset.json, for messages.
    """
    name, ending = plans["image_reader_writer"], dataset_json["file_ending"]
    endings = list(recursive_find_reader_writer_by_name(name).supported_file_endings)
    if name.startswith("SimpleITK"):
        endings += _OF_ITK_TOO
    if ending not in endings:
        raise FssegError(
            f"{where}: file_ending {shown(ending)} is of no format that {name}, which its plans name, can write.\n"
            f"  allowed: {', '.join(endings)}"
        )


def _reader(name: str) -> Reader:
    return "nibabel" if name.startswith("Nibabel") else "ITK"
