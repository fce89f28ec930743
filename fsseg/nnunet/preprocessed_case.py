"""The files of a preprocessed case, read without executing the pickle among them, as nnU-Net's own reader does."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fsseg.config.errors import FssegError, shown_line
from fsseg.data.plain_pickle import read_plain_pickle
from fsseg.nnunet.contents import CaseProperties
from fsseg.nnunet.stored_array import StoredArray

_ADVICE = "Preprocess the dataset again: fsseg preprocess"
_AXES = 4  # channels, z, y, x
_NEEDED = ("class_locations", "spacing", "bbox_used_for_cropping")


def read_case(folder: Path, case: str) -> tuple[Any, Any, CaseProperties]:
    """Return image, label map and properties of a preprocessed case, in either of nnU-Net's two formats.

    Args:
        folder: the preprocessed cases of a configuration.
        case: name of the case.

    Returns:
        Image (channels, D, H, W) and label map (1, D, H, W), read from disk when they are indexed where the format
        allows it, and what nnU-Net noted of the case: its cropping, spacing and foreground voxels.

    Raises:
        FssegError: a file is missing, damaged, or holds what would execute code.
    """
    try:
        stored = (folder / f"{case}.b2nd").is_file()
        image, labels = _stored(folder, case) if stored else _zipped(folder, case)
        properties = read_plain_pickle(folder / f"{case}.pkl", "")
        _require_grid(image, labels)
        _require_properties(properties, image.shape, f"{case}.pkl")
    except (FssegError, RuntimeError, TypeError, ValueError, KeyError, EOFError, BadZipFile) as error:
        reason = shown_line(str(error).partition("\n")[0]) or type(error).__name__
        raise FssegError(f"The preprocessed case {case!r} in {folder} is damaged: {reason}\n  {_ADVICE}") from None
    return image, labels, properties


def _stored(folder: Path, case: str) -> tuple[Any, Any]:
    return StoredArray(folder / f"{case}.b2nd"), StoredArray(folder / f"{case}_seg.b2nd")


def _zipped(folder: Path, case: str) -> tuple[Any, Any]:
    """Return the arrays of an .npz file, or of the .npy files that nnU-Net unpacks it to."""
    arrays = []
    for name, file in (("data", folder / f"{case}.npy"), ("seg", folder / f"{case}_seg.npy")):
        if file.is_file():
            arrays.append(np.load(file, mmap_mode="r", allow_pickle=False))
        else:
            with np.load(folder / f"{case}.npz", allow_pickle=False) as archive:
                arrays.append(archive[name])
    return arrays[0], arrays[1]


def _require_grid(image: Any, labels: Any) -> None:
    fits = len(image.shape) == len(labels.shape) == _AXES and image.shape[1:] == labels.shape[1:]
    if not fits or labels.shape[0] != 1 or image.dtype.kind not in "fiu" or labels.dtype.kind not in "iu":
        raise FssegError(
            f"its image is {image.dtype} {image.shape} and its label map {labels.dtype} {labels.shape}; needed are"
            " numbers (channels, z, y, x) and integers (1, z, y, x)."
        )


def _require_properties(properties: Any, shape: tuple[int, ...], name: str) -> None:
    """Refuse properties without the foreground voxels, cropping and spacing that are read later."""
    missing = [key for key in _NEEDED if not isinstance(properties, dict) or key not in properties]
    if missing:
        raise FssegError(f"{name} lacks {', '.join(missing)}.")
    if np.asarray(properties["bbox_used_for_cropping"]).shape != (_AXES - 1, 2):
        raise FssegError(f"{name} has no bbox_used_for_cropping of three axes.")
    found = [np.asarray(voxels) for voxels in dict(properties["class_locations"]).values()]
    for voxels in (each for each in found if each.size):
        if voxels.ndim != 2 or voxels.shape[1] != _AXES or voxels.dtype.kind not in "iu":
            raise FssegError(f"{name} has class_locations that are no list of voxels.")
        if (voxels[:, 1:] < 0).any() or (voxels[:, 1:] >= shape[1:]).any():
            raise FssegError(f"{name} has class_locations outside of the image.")
