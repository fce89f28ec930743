"""Bases that read images as they are stored, as nnU-Net's usual reader does: are those at hand stored alike?"""

from collections.abc import Mapping
from pathlib import Path

import SimpleITK

from fsseg.config.errors import UsageError, first_of
from fsseg.data.image_header import check_header
from fsseg.data.images import UnreadableImageError
from fsseg.nnunet.image_readers import reader_of
from fsseg.nnunet.model_folder import ModelFolder

_SHOWN = 5


def stored_orientations(base: ModelFolder, images: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return orientation, such as "LPS" -> the cases that are stored so; nothing where the base turns them itself.

    Args:
        base: the model that reads them.
        images: case -> image.
    """
    if base.plans_manager().image_reader_writer_class.__name__.endswith("WithReorient"):
        return {}
    reader = reader_of(base.plans)
    found: dict[str, list[str]] = {}
    for case, file in images.items():
        try:
            header = check_header(file, reader)
        except UnreadableImageError:
            continue  # whoever reads the image itself says what is wrong with it
        if not header.is_volume:
            continue
        code = SimpleITK.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(header.grid.direction)
        found.setdefault(code, []).append(case)
    return found


def orientation_notes(base: ModelFolder, images: Mapping[str, Path]) -> list[str]:
    """Say in which orientation a base that does not turn images will see them.

    Raises:
        UsageError: they are stored in several, so that it would see some of them mirrored or turned.
    """
    found = stored_orientations(base, images)
    if len(found) > 1:
        raise UsageError(
            f"{mixed_orientations(found)}\n  Store them all alike, in the orientation of its training cases."
        )
    return [
        f"The base reads images as they are stored, here {code}: what is stored otherwise would be seen mirrored or"
        " turned. Plans of fsseg turn every image to RAS."
        for code in found
    ]


def mixed_orientations(found: Mapping[str, list[str]]) -> str:
    """Say which cases are stored in which orientation."""
    listed = "; ".join(f"{code}: {first_of(cases, _SHOWN)}" for code, cases in found.items())
    return f"The base reads images as they are stored, and they are not stored alike: {listed}."
