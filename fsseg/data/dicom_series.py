"""Reading a folder with one DICOM series, and label slices that were saved as PNG beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK

from fsseg.data.folder_listing import listed
from fsseg.data.images import UnreadableImageError

_POSITION = "0020|0032"  # ImagePositionPatient
_UNEVEN_SHARE = 0.1  # of the usual distance between slices; headers are rounded


def series_files(folder: Path) -> list[str]:
    """Return the files of the DICOM series in a folder, sorted by their position in the body.

    Raises:
        UnreadableImageError: the folder is missing, holds no DICOM series or more than one, or a damaged file.
    """
    if not folder.is_dir():
        raise UnreadableImageError(f"missing: {folder}")
    with _itk_silent():
        series = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        raise UnreadableImageError(f"holds {len(series)} DICOM series, one is needed: {folder}")
    files = list(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0]))
    # GDCM passes over a file that it cannot read.
    damaged = {path.name for path in listed(folder, "*.dcm")} - {Path(file).name for file in files}
    if damaged:
        raise UnreadableImageError(f"holds damaged DICOM files: {folder} ({', '.join(sorted(damaged))})")
    return files


def read_series(folder: Path) -> SimpleITK.Image:
    """Read the DICOM series in a folder.

    Raises:
        UnreadableImageError: there is not one series, a file is damaged, slices are missing inside the series, or they
            are not stacked at right angles (gantry tilt).
    """
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(series_files(folder))
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        with _itk_silent():
            image = reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnreadableImageError(f"unreadable DICOM series: {folder} ({reason})") from None
    positions = [reader.GetMetaData(index, _POSITION) for index in range(image.GetDepth())]
    positions_mm = np.array([[float(value) for value in text.split("\\")] for text in positions])
    _require_even_spacing(positions_mm, folder)
    _require_upright(positions_mm, image, folder)
    return image


def read_png_slices(folder: Path, series_folder: Path) -> SimpleITK.Image:
    """Read the slices of a label map, the first PNG by name belonging to the first DICOM file by name, and so on.

    DICOM files may be numbered from head to feet; the slices come back in the order in which `read_series` has them,
    without a geometry of their own.

    Raises:
        UnreadableImageError: the folder is missing, a file is damaged, or there is not one PNG per DICOM file.
    """
    names = [Path(file).name for file in series_files(series_folder)]
    slices = listed(folder, "*.png")
    if len(slices) != len(names):
        raise UnreadableImageError(f"not one PNG per DICOM file ({len(slices)} for {len(names)}): {folder}")
    ordered = sorted(names)
    try:
        return SimpleITK.ReadImage([str(slices[ordered.index(name)]) for name in names])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UnreadableImageError(f"unreadable: {folder} ({reason})") from None


@contextmanager
def _itk_silent() -> Iterator[None]:
    # What ITK would print about missing or uneven slices comes as an error of ours.
    before = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(before)


def _require_even_spacing(positions_mm: np.ndarray, folder: Path) -> None:
    distances = np.linalg.norm(np.diff(positions_mm, axis=0), axis=1)
    if not len(distances):
        raise UnreadableImageError(f"holds a single DICOM slice: {folder}")
    usual = np.median(distances)
    uneven = np.flatnonzero(np.abs(distances - usual) > _UNEVEN_SHARE * usual)
    if uneven.size:
        first = int(uneven[0])
        raise UnreadableImageError(
            f"slices are missing or uneven: {distances[first]:.2f} mm between slices {first + 1} and {first + 2}, "
            f"{usual:.2f} mm elsewhere: {folder}"
        )


def _require_upright(positions_mm: np.ndarray, image: SimpleITK.Image, folder: Path) -> None:
    """Refuse slices that are shifted along themselves, which an image with three axes at right angles cannot say."""
    direction = np.reshape(image.GetDirection(), (3, 3))
    right, down, along = (positions_mm[-1] - positions_mm[0]) @ direction
    shift_mm = np.hypot(right, down)
    if shift_mm > max(image.GetSpacing()[:2]):
        tilt = np.degrees(np.arctan2(shift_mm, abs(along)))
        raise UnreadableImageError(
            f"slices are tilted by {tilt:.1f} degrees (gantry tilt; dcm2niix can correct it), the last one would lie"
            f" {shift_mm:.1f} mm off: {folder}"
        )
