"""Ways to damage an image or a label map, for tests of what is refused."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK


def rewritten(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Return a function that changes the voxels of a file, given in z, y, x order."""

    def rewrite(path: Path) -> None:
        image = SimpleITK.ReadImage(str(path))
        changed = SimpleITK.GetImageFromArray(change(SimpleITK.GetArrayFromImage(image)))
        changed.CopyInformation(image)
        SimpleITK.WriteImage(changed, str(path), True)

    return rewrite


def with_value(value: float, kind: str = "i2") -> Callable[[np.ndarray], np.ndarray]:
    """Return a change of one voxel to a value, as integers unless another kind of number is named."""

    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(kind)
        array[3, 3, 3] = value
        return array

    return change


def nifti_bytes(array: np.ndarray, *, endian: str = "<", extension: int = 0, **fields: Any) -> bytes:
    """Return an uncompressed NIfTI-1 file whose header fields can be anything.

    Args:
        array: voxels in x, y, z order; their size is 2 x 2 x 3 mm, and sform and qform agree unless a field differs.
        endian: byte order.
        extension: bytes of a header extension between header and voxels, a multiple of 16.
        fields: of the header, as nibabel names them; `pixdim` are the sizes along x, y and z.
    """
    header = nibabel.Nifti1Header(endianness=endian)
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    for set_affine in (header.set_qform, header.set_sform):
        set_affine(np.diag([2.0, 2.0, 3.0, 1.0]), 1)
    header["magic"], header["vox_offset"] = b"n+1", 352 + extension
    for name, value in fields.items():
        if name == "pixdim":
            header["pixdim"][1:4] = value
        else:
            header[name] = value
    flag = bytes([bool(extension), 0, 0, 0])
    comment = struct.pack(f"{endian}ii", extension, 6).ljust(extension, b"x") if extension else b""
    return header.binaryblock + flag + comment + array.astype(array.dtype.newbyteorder(endian)).tobytes(order="F")


def truncated(path: Path) -> None:
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def respaced(path: Path) -> None:
    """Double the voxel size in the header."""
    image = SimpleITK.ReadImage(str(path))
    image.SetSpacing([2 * value for value in image.GetSpacing()])
    SimpleITK.WriteImage(image, str(path), True)


def turned(path: Path) -> None:
    """Turn the axes x and y in the header."""
    image = SimpleITK.ReadImage(str(path))
    image.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
    SimpleITK.WriteImage(image, str(path), True)


def as_vectors(path: Path) -> None:
    """Give every voxel two values."""
    image = SimpleITK.ReadImage(str(path))
    SimpleITK.WriteImage(SimpleITK.Compose(image, image), str(path), True)


def one_slice(path: Path) -> None:
    """Keep a single slice, as a 2D image."""
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path))[:, :, 0], str(path), True)


def as_series(path: Path) -> None:
    """Make a 4D image of it."""
    image = SimpleITK.ReadImage(str(path))
    SimpleITK.WriteImage(SimpleITK.JoinSeries([image, image]), str(path), True)


def with_ending(dataset: Path, ending: str) -> None:
    """Store the files of a raw dataset in another format."""
    file = dataset / "dataset.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | {"file_ending": ending}))
    for path in (*dataset.glob("imagesTr/*"), *dataset.glob("labelsTr/*")):
        target = path.with_name(path.name.replace(".nii.gz", ending))
        if ending == ".nii":
            target.write_bytes(gzip.decompress(path.read_bytes()))
        else:
            SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(target))
        path.unlink()
