"""What can be told of an image without reading its voxels: its kind of file, format, size, type and geometry."""

import gzip
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from damaged_images import nifti_bytes

from fsseg.data.image_header import Reader, UnreadableImageError, check_header
from fsseg.data.nifti_geometry import stated_affines

ARRAY = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
SHEARED = {"srow_y": [0, 2, 0.8, 0], "srow_z": [0, 0, 2.9, 0]}  # 15 degrees
SLIGHTLY_SHEARED = {"srow_y": [0, 2, 0.0576, 0], "qform_code": 0}

GOOD: dict[str, dict[str, Any]] = {
    "plain": {},
    "big endian": {"endian": ">"},
    "extension": {"extension": 16},
    "scaled": {"scl_slope": 2, "scl_inter": -1024},
    "no scaling said with NaN": {"scl_slope": np.nan, "scl_inter": np.nan},
    "wrong bitpix": {"bitpix": 8},
    "sform alone": {"qform_code": 0},
    "qform alone": {"sform_code": 0},
    "qfac 0": {"sform_code": 0},
    "fourth axis of length 1": {"dim": [4, 6, 7, 8, 1, 1, 1, 1]},
    "codes of other programs": {"sform_code": 9, "qform_code": 9},
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "offset -1e30": ({"vox_offset": -1e30}, r"first voxel at byte -1e\+30"),
    "offset inside the header": ({"vox_offset": 0}, "first voxel at byte 0"),
    "offset NaN": ({"vox_offset": np.nan}, "first voxel at byte nan"),
    "offset behind the end": ({"vox_offset": 1e30}, "shorter than the"),
    "slope infinite": ({"scl_slope": np.inf}, "scaled by inf"),
    "shift NaN": ({"scl_slope": 1, "scl_inter": np.nan}, "shifted by nan"),
    "voxel of size 0": ({"pixdim": 0}, r"size 0, 0, 0 mm \(pixdim\)"),
    "voxel of negative size": ({"pixdim": -2, "qform_code": 0}, r"size -2, -2, -2 mm"),
    "pixdim beside another sform": ({"pixdim": 9, "qform_code": 0}, "two geometries: sform puts voxels up to 68.9 mm"),
    "sheared sform beside a qform": (SHEARED, "two geometries: sform puts voxels up to 5.64 mm away"),
    "sheared sform": ({**SHEARED, "qform_code": 0}, r"sheared by 15\.4 degrees.*resample it"),
    "slightly sheared sform": (SLIGHTLY_SHEARED, r"sheared by 1\.1 degrees.*`fsseg assemble --repair` writes a copy"),
    "huge sform": ({"srow_z": [0, 0, 1e30, 0], "qform_code": 0}, "geometry means nothing"),
    "sform NaN": ({"srow_x": [np.nan, 0, 0, 0]}, "sform is no geometry"),
    "sform flat": ({"srow_x": [0, 0, 0, 0]}, "sform is no geometry"),
    "qform no rotation": ({"quatern_b": 5}, "qform is no rotation"),
    "metres": ({"xyzt_units": 1}, "voxels of 2000, 2000, 3000 mm"),
    "size 0": ({"dim": [3, 6, 0, 8, 1, 1, 1, 1]}, "announces 6x0x8 voxels"),
    "negative size": ({"dim": [3, 6, -7, 8, 1, 1, 1, 1]}, "announces 6x-7x8 voxels"),
    "no axis": ({"dim": [0, 6, 7, 8, 1, 1, 1, 1]}, "announces 0 axes"),
    "huge": ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "shorter than the 70362301923678 bytes"),
    "larger type": ({"datatype": 64, "bitpix": 16}, "shorter than the 3040 bytes"),
    "unknown type": ({"datatype": 3}, "type that is not read"),
    "128 bits": ({"datatype": 1536}, "type that is not read"),
    "magic": ({"magic": b""}, "marked b''"),
    "no header": ({"sizeof_hdr": 7}, "does not start as a NIfTI file"),
}


@pytest.fixture(params=[".nii", ".nii.gz", ".NII"])
def ending(request: pytest.FixtureRequest) -> str:
    return request.param


def stored(folder: Path, ending: str, **fields: Any) -> Path:
    path, content = folder / f"image{ending}", nifti_bytes(ARRAY, **fields)
    path.write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
    return path


@pytest.mark.parametrize("reader", ["ITK", "nibabel"])
@pytest.mark.parametrize("name", GOOD)
def test_every_legal_header_is_taken(tmp_path: Path, name: str, reader: Reader) -> None:
    header = check_header(stored(tmp_path, ".nii", **GOOD[name]), reader)
    assert header.grid.size_xyz[:3] == ARRAY.shape
    assert header.grid.spacing_mm == (2, 2, 3)
    assert header.grid.direction == (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    assert header.is_volume or name.startswith("fourth axis")


@pytest.mark.parametrize("name", BAD)
def test_a_header_that_lies_is_refused(tmp_path: Path, ending: str, name: str) -> None:
    fields, message = BAD[name]
    path = stored(tmp_path, ending, **fields)
    if ending == ".nii.gz" and name == "larger type":
        return  # a packed file may unpack to that much; reading it tells
    with pytest.raises(UnreadableImageError, match=message):
        check_header(path)


def test_nibabel_reads_what_itk_does_not(tmp_path: Path) -> None:
    path = stored(tmp_path, ".nii", **BAD["sheared sform"][0])
    header = check_header(path, "either")
    assert header.by_nibabel
    assert np.allclose(np.reshape(header.grid.direction, (3, 3))[:, 2], [0, -0.266, 0.964], atol=1e-3)
    with pytest.raises(UnreadableImageError, match="two geometries"):
        check_header(stored(tmp_path, ".nii", **SHEARED), "nibabel")


def test_a_small_contradiction_is_said_in_mm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_header(stored(tmp_path, ".nii", srow_x=[2, 0, 0, 0.8]))
    assert "sform puts voxels up to 0.8 mm away" in caplog.text or "qform puts voxels up to 0.8 mm away" in caplog.text


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_pipes_devices_and_links_to_them_are_no_images(tmp_path: Path, ending: str) -> None:
    pipe = tmp_path / f"pipe{ending}"
    os.mkfifo(pipe)
    device, link = tmp_path / f"device{ending}", tmp_path / f"link{ending}"
    device.symlink_to("/dev/zero")
    link.symlink_to(pipe)
    for path in (pipe, device, link):
        with pytest.raises(UnreadableImageError, match="a pipe or device"):
            check_header(path)
    for path, message in ((tmp_path, "a folder"), (tmp_path / f"none{ending}", "missing")):
        with pytest.raises(UnreadableImageError, match=message):
            check_header(path)
    pipe.unlink()
    with pytest.raises(UnreadableImageError, match=rf"missing: .*link{ending} \(a link to"):
        check_header(link)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_sheared_geometry_is_refused_in_every_format(tmp_path: Path, ending: str) -> None:
    image = SimpleITK.GetImageFromArray(ARRAY)
    image.SetSpacing((1, 1, 5))
    image.SetDirection((1, 0, 0, 0, 1, 0.26, 0, 0, 0.966))
    SimpleITK.WriteImage(image, str(tmp_path / f"image{ending}"))
    with pytest.raises(UnreadableImageError, match=r"sheared by 15\.1 degrees"):
        check_header(tmp_path / f"image{ending}")


def test_a_packed_file_that_is_cut_off_is_told_and_one_in_several_parts_is_taken(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (64, 64, 32)).astype(np.int16)
    file = tmp_path / "image.nii.gz"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise), str(file), True)
    plain, packed = gzip.decompress(file.read_bytes()), file.read_bytes()
    file.write_bytes(packed[: len(packed) * 3 // 4])
    with pytest.raises(UnreadableImageError, match="truncated or damaged"):
        check_header(file)
    file.write_bytes(gzip.compress(plain[:50_000]) + gzip.compress(plain[50_000:]))
    assert check_header(file).is_volume


@pytest.mark.parametrize("degrees", [0.001, 0.05, 0.3, 1.0, 5.0])
def test_a_small_turn_beside_half_a_turn_is_read_as_it_is(tmp_path: Path, degrees: float) -> None:
    """Most images point to the left and back: half a turn to NIfTI, where rounding in a quaternion weighs most."""
    angle = np.radians(degrees)
    image = SimpleITK.GetImageFromArray(np.zeros((3, 512, 512), np.int16))
    image.SetDirection([np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1])
    file = tmp_path / "turned.nii.gz"
    SimpleITK.WriteImage(image, str(file))

    stated = stated_affines(nibabel.load(file).header, file)

    assert np.abs(stated["qform"] - stated["sform"])[:3, :3].max() * 512 < 0.3
    check_header(file)
