"""NIfTI files of every legal form: what ITK reads as 0 or as other voxels is told, and what is valid is read alike."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from damaged_images import nifti_bytes

from fsseg.data.image_header import Reader
from fsseg.data.images import UnreadableImageError, read_image

INTEGERS = np.random.default_rng(0).integers(0, 100, (6, 7, 8))
HEADER = 352
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "big endian": {"endian": ">"},
    "extension": {"extension": 16},
    "big endian and extension": {"endian": ">", "extension": 48},
    "scaled": {"scl_slope": 2, "scl_inter": 1},
    "sform alone": {"qform_code": 0},
}
ENDINGS = (".nii", ".nii.gz", ".hdr", ".img.gz")


def store(folder: Path, ending: str, array: np.ndarray, keep: float = 1.0, **fields: Any) -> Path:
    """Store an array (x, y, z), or only the first share of its file, in one file or in two."""
    path = folder / f"a{ending}"
    if not ending.startswith((".hdr", ".img")):
        files = {path: nifti_bytes(array, **fields)}
    else:
        fields["extension"] = fields.get("extension", 0)
        content = nifti_bytes(array, magic=b"ni1", vox_offset=0, **fields)
        packed, start = ".gz" if ending.endswith(".gz") else "", HEADER + fields["extension"]
        files = {folder / f"a.hdr{packed}": content[:start], folder / f"a.img{packed}": content[start:]}
    for file, content in files.items():
        content = content if file.name.startswith("a.hdr") else content[: int(len(content) * keep)]
        file.write_bytes(gzip.compress(content) if file.name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("reader", ["ITK", "nibabel"])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "i8", "f4", "f8"])
def test_every_type_and_form_is_read_alike(tmp_path: Path, kind: str, ending: str, reader: Reader) -> None:
    for fields in FORMS.values():
        image = read_image(store(tmp_path, ending, INTEGERS.astype(kind), **fields), reader)
        expected = INTEGERS * fields.get("scl_slope", 1) + fields.get("scl_inter", 0)
        assert np.array_equal(SimpleITK.GetArrayViewFromImage(image).T, expected)
        assert image.GetSpacing() == (2, 2, 3)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_form_hides_nan(tmp_path: Path, kind: str, ending: str, value: float) -> None:
    array = INTEGERS.astype(kind)
    array[3, 3, 3] = value
    for fields in FORMS.values():
        with pytest.raises(UnreadableImageError, match="holds 1 values that are NaN or infinite"):
            read_image(store(tmp_path, ending, array, **fields))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("bitpix", [8, 16])
def test_half_the_voxels_are_missed_whatever_bitpix_says(tmp_path: Path, ending: str, bitpix: int) -> None:
    with pytest.raises(UnreadableImageError, match=r"shorter than the \d+ bytes"):
        read_image(store(tmp_path, ending, INTEGERS.astype("i2"), 0.5, bitpix=bitpix))


@pytest.mark.parametrize("kind", ["i2", "f4"])
def test_a_scaling_beyond_every_number_is_told(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UnreadableImageError, match="values that are NaN or infinite"):
        read_image(store(tmp_path, ".nii.gz", INTEGERS.astype(kind), scl_slope=1e38))


def test_more_slices_than_announced_are_told_and_padding_is_not(tmp_path: Path) -> None:
    content = nifti_bytes(INTEGERS.astype("i2"))
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(content + bytes(32)))
    read_image(path)
    content = nifti_bytes(INTEGERS.astype("i2"), dim=[3, 6, 7, 4, 1, 1, 1, 1])
    path.write_bytes(gzip.compress(content))
    (tmp_path / "a.nii").write_bytes(content)
    for file in (path, tmp_path / "a.nii"):
        with pytest.raises(UnreadableImageError, match="holds more than the 6x7x4 voxels"):
            read_image(file)


def test_a_file_that_unpacks_to_more_than_memory_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    header = nifti_bytes(INTEGERS.astype("i2"), dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    path.write_bytes(gzip.compress(header) + np.random.default_rng(0).bytes(1000))
    with path.open("r+b") as file:
        file.truncate(1 << 37)  # takes no space on the disk
    with pytest.raises(UnreadableImageError, match=r"announces 6.55e.04 GiB of voxels, more than the .* of memory"):
        read_image(path)
