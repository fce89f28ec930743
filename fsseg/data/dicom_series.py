"""Reading a folder with one DICOM series, and label slices that were saved as PNG beside it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK

from fsseg.data.folder_listing import listed
from fsseg.data.image_file import require_regular_file
from fsseg.data.images import UnreadableImageError

_POSITION = "0020|0032"  # ImagePositionPatient
_PREAMBLE_BYTES, _MAGIC = 128, b"DICM"
_UNEVEN_SHARE = 0.1  # of the usual distance between slices; headers are rounded


def is_dicom(file: Path) -> bool:
    """Return whether a file is named or begins as DICOM files do; the directory of a disc (DICOMDIR) is none."""
    if file.name == "DICOMDIR" or not file.is_file():
        return False
    if file.suffix.lower() == ".dcm":
        return True
    with file.open("rb") as content:
        return content.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC


def folders_with_dicom(folder: Path, levels: int = 3) -> list[Path]:
    """Return the folder, or else those of the folders inside it, that hold DICOM files.

    Args:
        folder: where to look.
        levels: how far down; archives store patient, study and series as folders.
    """
    entries = listed(folder)
    if any(is_dicom(entry) for entry in entries):
        return [folder]
    below = (entry for entry in entries if levels and entry.is_dir())
    return [found for entry in below for found in folders_with_dicom(entry, levels - 1)]


def series_files(folder: Path) -> list[str]:
    """Return the files of the DICOM series in a folder, sorted by their position in the body.

    Raises:
        UnreadableImageError: the folder is missing, holds no DICOM series or more than one, or a damaged file.
    """
    if not folder.is_dir():
        raise UnreadableImageError(f"missing: {folder}")
    for path in listed(folder):
        if not (path.is_file() or path.is_dir()):
            require_regular_file(path)
    with _itk_silent():
        series = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        found = [list(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name)) for name in series]
    if len(found) != 1:
        slices = f" ({' and '.join(str(len(files)) for files in found)} files)" if found else ""
        raise UnreadableImageError(f"holds {len(found)} DICOM series, one is needed: {folder}{slices}")
    files = found[0]
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
    positions = [_position_mm(reader.GetMetaData, (index, _POSITION), folder) for index in range(image.GetDepth())]
    _require_volume(np.array(positions), image, folder)
    return image


def check_series(folder: Path) -> None:
    """Check what can be told of the DICOM series in a folder without reading a voxel.

    Raises:
        UnreadableImageError: as `read_series`, but for damaged voxels.
    """
    reader = SimpleITK.ImageFileReader()
    positions = []
    for file in series_files(folder):
        reader.SetFileName(file)
        try:
            with _itk_silent():
                reader.ReadImageInformation()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UnreadableImageError(f"unreadable DICOM file: {file} ({reason})") from None
        positions.append(_position_mm(reader.GetMetaData, (_POSITION,), folder))
    _require_volume(np.array(positions), reader, folder)


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
    for path in slices:
        require_regular_file(path)
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


def _position_mm(read: Callable[..., str], key: tuple[int | str, ...], folder: Path) -> list[float]:
    try:
        return [float(value) for value in read(*key).split("\\")]
    except (RuntimeError, ValueError):
        raise UnreadableImageError(f"a slice does not say where it lies (ImagePositionPatient): {folder}") from None


def _require_volume(positions_mm: np.ndarray, image: SimpleITK.Image | SimpleITK.ImageFileReader, folder: Path) -> None:
    """Refuse slices with gaps, or shifted along themselves; `image` has their spacing and directions."""
    _require_even_spacing(positions_mm, folder)
    _require_upright(positions_mm, image, folder)


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


def _require_upright(
    positions_mm: np.ndarray, image: SimpleITK.Image | SimpleITK.ImageFileReader, folder: Path
) -> None:
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
