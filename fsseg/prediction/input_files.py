"""The image files of a case to segment: checked without their voxels, and in a form that nnU-Net's readers take."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fsseg.data.case_checks import header_problems
from fsseg.data.dicom_series import check_series, read_series
from fsseg.data.image_header import Reader
from fsseg.data.images import UnreadableImageError, write_image
from fsseg.prediction.inputs import PredictionCase


def checked(case: PredictionCase, reader: Reader) -> PredictionCase:
    """Return a case with its problem, if its headers tell one that is not known yet.

    Args:
        case: the case.
        reader: who will read its images.
    """
    if case.problem:
        return case
    if not case.is_series:
        return replace(case, problem="; ".join(header_problems(case.files, reader)))
    try:
        check_series(case.files[0])
    except UnreadableImageError as error:
        return replace(case, problem=str(error))
    except OSError as error:
        return replace(case, problem=f"unreadable: {error.filename} ({error.strerror})")
    return case


@contextmanager
def readable_files(case: PredictionCase, folder: Path) -> Iterator[Sequence[Path]]:
    """Yield one file a channel that nnU-Net's readers read; a DICOM series is written as one, for as long.

    Args:
        case: a case without a known problem.
        folder: where there is space for it.

    Raises:
        UnreadableImageError: the series is damaged.
        FssegError: it cannot be written.
    """
    if not case.is_series:
        yield case.files
        return
    image = read_series(case.files[0])
    file = folder / f"{case.name}_0000.nii"  # packing it would take longer than reading it
    try:
        write_image(image, file)
        del image
        yield (file,)
    finally:
        file.unlink(missing_ok=True)
