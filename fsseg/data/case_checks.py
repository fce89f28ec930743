"""Checks of the files of one case: readable, three-dimensional, meaningful values, one geometry."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK

from fsseg.data.case_files import CaseFiles, second_channel
from fsseg.data.dicom_series import read_png_slices, read_series
from fsseg.data.geometry import AXES, Grid, grid_differences, grid_of
from fsseg.data.image_header import Reader, check_header
from fsseg.data.images import UnreadableImageError, read_image
from fsseg.data.layouts import LabelGeometry


def header_problems(files: Sequence[Path], reader: Reader = "ITK") -> list[str]:
    """Return what the headers of an image tell of problems; no voxel is read.

    Args:
        files: one file per channel.
        reader: who will read the voxels.
    """
    problems, first = [], None
    for path in files:
        try:
            header = check_header(path, reader)
        except UnreadableImageError as error:
            problems.append(f"image {error}")
            continue
        if not header.is_volume:
            problems.append(_no_volume(_shape(header.grid, header.components), path))
        elif first is None:
            first = header.grid
        else:
            problems += [f"voxels of {path.name} {text}" for text in _grid_problems(first, header.grid)]
    return problems


def checked_image(files: CaseFiles, reader: Reader = "ITK") -> tuple[SimpleITK.Image | None, list[str]]:
    """Read the image of a case to assemble; return it (None if it cannot be used) and what is wrong with it."""
    image, problems = checked_channel(files.image, reader=reader)
    if image is not None and second_channel(files):
        problems.append("image has more than one channel; only images of one channel can be assembled")
    return image, problems


def checked_channel(
    path: Path, first: SimpleITK.Image | None = None, reader: Reader = "ITK"
) -> tuple[SimpleITK.Image | None, list[str]]:
    """Read one channel of an image and compare it with the first.

    Args:
        path: the image file, or the folder of a DICOM series.
        first: the first channel, for the others.
        reader: who reads the voxels.

    Returns:
        The image (None if it cannot be used), and what is wrong.
    """
    try:
        image = read_series(path) if path.is_dir() else read_image(path, reader)
    except UnreadableImageError as error:
        return None, [f"image {error}"]
    if not _is_volume(image):
        return None, [_no_volume(_shape_of(image), path)]
    problems = _value_problems(SimpleITK.GetArrayViewFromImage(image))
    if first is not None:
        problems += [f"voxels of {path.name} {problem}" for problem in _geometry_problems(first, image)]
    return image, problems


def checked_labels(
    path: Path,
    image: SimpleITK.Image | None,
    geometry: LabelGeometry = "own",
    series: Path | None = None,
    reader: Reader = "ITK",
) -> tuple[np.ndarray | None, list[str]]:
    """Read a label map or mask and compare it with the image of its case.

    Args:
        path: the label file, or a folder with one PNG per slice.
        image: the image, or None where it cannot be used; then the geometry is not compared.
        geometry: `image` lays the labels on the grid of the image; only the order of their own axes counts.
        series: folder of the DICOM series that the PNG slices belong to.
        reader: who reads the voxels.

    Returns:
        Integers in z, y, x order (None if the file cannot be used), and what is wrong.
    """
    if path.is_dir() and image is None:
        return None, []  # the slices cannot be told without the series, and what is wrong with that is known
    try:
        in_slices = series and series.is_dir() and path.is_dir()
        labels = read_png_slices(path, series) if series and in_slices else read_image(path, reader)
    except UnreadableImageError as error:
        return None, [f"labels {error}"]
    if image is not None and geometry == "image":
        labels = labels if path.is_dir() else _oriented_as(image, labels)
        if labels.GetSize() == image.GetSize():
            labels.CopyInformation(image)
    problems = [] if image is None else _geometry_problems(image, labels)
    array = SimpleITK.GetArrayFromImage(labels)
    if array.dtype.kind == "f":
        if (array != np.rint(array)).any():
            problems.append("hold values that are no integers, so they are no label map")
        else:
            array = array.astype(np.int64)
    return (None if problems else array), [f"labels {path.name} {problem}" for problem in problems]


def _oriented_as(image: SimpleITK.Image, labels: SimpleITK.Image) -> SimpleITK.Image:
    if labels.GetDimension() != image.GetDimension():
        return labels
    cosines = image.GetDirection()
    return SimpleITK.DICOMOrient(labels, SimpleITK.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(cosines))


def _value_problems(array: np.ndarray) -> list[str]:
    if array.min() == array.max():
        return [f"image is constant (every voxel is {array.flat[0]})"]
    return []


def _geometry_problems(image: SimpleITK.Image, labels: SimpleITK.Image) -> list[str]:
    if labels.GetNumberOfComponentsPerPixel() != 1:
        return [f"have shape {_shape_of(labels)}, but the image has {_shape_of(image)}"]
    return _grid_problems(grid_of(image), grid_of(labels))


def _grid_problems(image: Grid, other: Grid) -> list[str]:
    problems = []
    for what, ours, theirs in grid_differences(other, image):
        if what == "shape":
            problems.append(f"have shape {_shape(other)}, but the image has {_shape(image)}")
            continue
        values = [np.array2string(np.array(item), precision=4, separator=", ") for item in (ours, theirs)]
        problems.append(f"have {what} {values[0]}, but the image has {values[1]}")
    return problems


def _is_volume(image: SimpleITK.Image) -> bool:
    return image.GetDimension() == AXES and image.GetNumberOfComponentsPerPixel() == 1


def _no_volume(shape: str, path: Path) -> str:
    return f"image must be 3D with one value per voxel, got {shape}: {path}"


def _shape_of(image: SimpleITK.Image) -> str:
    return _shape(grid_of(image), image.GetNumberOfComponentsPerPixel())


def _shape(grid: Grid, components: int = 1) -> str:
    shape = "x".join(str(size) for size in grid.size_xyz)
    return f"{shape} with {components} values per voxel" if components > 1 else shape
