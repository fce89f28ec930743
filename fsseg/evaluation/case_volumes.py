"""The image of a case with its reference and predictions as arrays, for pictures of it.

Arrays have the axis order z, y, x and RAS orientation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from fsseg.config.errors import FssegError
from fsseg.data.folder_listing import listed
from fsseg.data.images import UnreadableImageError, read_image
from fsseg.evaluation.label_folders import FILE_ENDINGS, LabelFolder
from fsseg.evaluation.label_maps import ORIENTATION, read_label_map

CT_WINDOW_HU = (-160.0, 240.0)
_SHOWN_PERCENTILES = (0.5, 99.5)  # of an image that is no CT
_FIRST_CHANNEL = "_0000"

Masks = dict[str, np.ndarray]  # structure -> (D, H, W) bool


@dataclass(frozen=True)
class CaseVolumes:
    """What is drawn of a case.

    Attributes:
        image: (D, H, W), HU or other values.
        reference: masks of the structures that are annotated.
        predictions: who predicted -> masks.
        spacing_zyx_mm: voxel spacing.
        window: the values to draw black and white.
    """

    image: np.ndarray
    reference: Masks
    predictions: dict[str, Masks]
    spacing_zyx_mm: tuple[float, float, float]
    window: tuple[float, float]


def read_case_volumes(
    image: Path, reference: LabelFolder, predictions: Mapping[str, LabelFolder], case: str, structures: Sequence[str]
) -> CaseVolumes:
    """Read image and label maps of a case.

    Args:
        image: its first channel.
        reference: folder of label maps.
        predictions: who predicted -> folder of label maps.
        case: the case.
        structures: those to show.

    Raises:
        FssegError: a file cannot be read, or they are not on one grid.
    """
    try:
        turned = SimpleITK.DICOMOrient(read_image(image), ORIENTATION)
    except UnreadableImageError as error:
        raise FssegError(f"{image} cannot be read: {error}") from None
    values = SimpleITK.GetArrayFromImage(turned)
    x_mm, y_mm, z_mm = turned.GetSpacing()
    annotated = [name for name in structures if name in reference.annotated(case)]
    volumes = CaseVolumes(
        image=values,
        reference=_masks(reference, case, annotated),
        predictions={who: _masks(folder, case, structures) for who, folder in predictions.items()},
        spacing_zyx_mm=(z_mm, y_mm, x_mm),
        window=shown_window(values),
    )
    shapes = {mask.shape for masks in (volumes.reference, *volumes.predictions.values()) for mask in masks.values()}
    if shapes - {values.shape}:
        raise FssegError(f"The image of {case} has another shape than its label maps.")
    return volumes


def first_channel(folder: Path, case: str) -> Path | None:
    """Return the image of a case in a folder: CASE_0000 or CASE with any ending of a label map; None without one."""
    names = [f"{case}{channel}{ending}" for channel in (_FIRST_CHANNEL, "") for ending in FILE_ENDINGS]
    there = {file.name: file for file in listed(folder)} if folder.is_dir() else {}
    return next((there[name] for name in names if name in there), None)


def shown_window(image: np.ndarray) -> tuple[float, float]:
    """Return the values to draw black and white: soft tissue where they look like HU, else nearly all that occur."""
    low, high = (float(value) for value in np.percentile(image[::2, ::2, ::2], _SHOWN_PERCENTILES))
    if image.min() <= -500 and high > CT_WINDOW_HU[0]:
        return CT_WINDOW_HU
    return (low, high) if high > low else (low, low + 1.0)


def _masks(folder: LabelFolder, case: str, structures: Sequence[str]) -> Masks:
    label_map = read_label_map(folder.files[case], folder.structures)
    return {name: label_map.mask(folder.structures.integers[name]) for name in structures}
