"""Formats whose missing voxels ITK reads as anything, and headers that name other files than their own."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from fsseg.data.images import UnreadableImageError, read_image

ARRAY = np.random.default_rng(0).integers(-100, 100, (8, 7, 6)).astype(np.int16)  # z, y, x
ENDINGS = (".mha", ".nrrd", ".gipl", ".gipl.gz", ".vtk", ".mrc", ".tif")
PACKED = {f"{ending} packed": ending for ending in (".mha", ".nrrd")}
PLACES = {".mhd": ("ElementDataFile = a.raw", "ElementDataFile = {}"), ".nhdr": ("data file: a.raw", "data file: {}")}


def stored(folder: Path, ending: str, *, packed: bool = False) -> Path:
    image = SimpleITK.GetImageFromArray(ARRAY)
    image.SetSpacing((2, 2, 3))
    SimpleITK.WriteImage(image, str(folder / f"a{ending}"), packed)
    return folder / f"a{ending}"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: -400 if path.suffix == ".tif" else -90])


def size_changed(slices: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = path.read_bytes()
        for old in (b"DimSize = 6 7 8", b"sizes: 6 7 8"):
            content = content.replace(old, old[:-1] + str(slices).encode())
        path.write_bytes(content)

    return change


@pytest.mark.parametrize("name", [*ENDINGS, *PACKED, *PLACES])
def test_whole_files_are_read(tmp_path: Path, name: str) -> None:
    image = read_image(stored(tmp_path, PACKED.get(name, name), packed=name in PACKED))
    assert np.array_equal(SimpleITK.GetArrayViewFromImage(image), ARRAY)


@pytest.mark.parametrize("name", [*ENDINGS, *PACKED])
def test_missing_voxels_are_told_in_every_format(tmp_path: Path, name: str) -> None:
    path = stored(tmp_path, PACKED.get(name, name), packed=name in PACKED)
    cut(path)
    with pytest.raises(UnreadableImageError, match=r"truncated or damaged|unreadable"):
        read_image(path)


@pytest.mark.parametrize("slices", [4, 9])
@pytest.mark.parametrize("name", [".mha", ".nrrd", *PACKED])
def test_another_size_than_the_file_holds_is_told(tmp_path: Path, name: str, slices: int) -> None:
    path = stored(tmp_path, PACKED.get(name, name), packed=name in PACKED)
    size_changed(slices)(path)
    message = "holds more slices than its header announces" if slices == 4 else "shorter than the 756 bytes"
    with pytest.raises(UnreadableImageError, match=message):
        read_image(path)


@pytest.mark.parametrize("axes", ["83", "-1", "3\nNDims = 83", "x"])
def test_numbers_of_axes_that_itk_has_no_room_for_do_not_reach_it(tmp_path: Path, axes: str) -> None:
    path = stored(tmp_path, ".mha")
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", f"NDims = {axes}".encode()))
    with pytest.raises(UnreadableImageError, match=r"its header announces .* axes"):
        read_image(path)


def test_an_axis_without_voxels_is_told(tmp_path: Path) -> None:
    path = stored(tmp_path, ".vtk")
    path.write_bytes(path.read_bytes().replace(b"DIMENSIONS 6 7 8", b"DIMENSIONS 6 0 8"))
    with pytest.raises(UnreadableImageError, match="announces 6x0x8 voxels"):
        read_image(path)


@pytest.mark.parametrize("ending", PLACES)
@pytest.mark.parametrize("place", ["/dev/zero", "pipe", "missing.raw", "pipe%d.raw 0 3 1", "LIST\n/dev/zero"])
def test_a_header_cannot_name_a_pipe_or_device(tmp_path: Path, ending: str, place: str) -> None:
    for name in ("pipe", "pipe0.raw"):
        os.mkfifo(tmp_path / name)
    path, (old, new) = stored(tmp_path, ending), PLACES[ending]
    path.write_text(path.read_text().replace(old, new.format(place)))
    with pytest.raises(UnreadableImageError, match="missing" if "missing" in place else "a pipe or device"):
        read_image(path)


@pytest.mark.parametrize("ending", PLACES)
def test_voxels_in_a_file_of_their_own_are_counted(tmp_path: Path, ending: str) -> None:
    path = stored(tmp_path, ending)
    cut(tmp_path / "a.raw")
    with pytest.raises(UnreadableImageError, match="shorter than the 672 bytes"):
        read_image(path)
