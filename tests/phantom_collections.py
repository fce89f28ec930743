"""Tiny phantoms in the layouts in which the public collections are handed out; the paths are written out here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK

SHAPE = (12, 20, 32)  # z, y, x in LPS: x grows towards the patient's left
_X_OF_SIDE = {"right": np.s_[7:10], "left": np.s_[22:25], "": np.s_[14:18]}
_BODY = np.s_[:, 1:19, 3:29]
_SPACING = (2.0, 2.0, 4.0)
_ORIGIN = (-31.0, -20.0, 100.0)


def ct() -> np.ndarray:
    """Return a body in air, in HU, with noise so that no image equals another's constant."""
    array = np.full(SHAPE, -1000, np.int16)
    array[_BODY] = np.random.default_rng(0).integers(0, 100, array[_BODY].shape)
    return array


def block(index: int, side: str) -> tuple:
    """Return the place of the structure with a number: a bar of its own on its side of the body."""
    return (index // 16 + 1, index % 16 + 2, _X_OF_SIDE[side])


def image_of(array: np.ndarray, orientation: str = "LPS") -> SimpleITK.Image:
    """Make an image of a (z, y, x) array in LPS, stored in another orientation."""
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(_SPACING)
    image.SetOrigin(_ORIGIN)
    return SimpleITK.DICOMOrient(image, orientation)


def save(image: SimpleITK.Image, path: Path) -> None:
    """Write an image, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


def save_series(image: SimpleITK.Image, folder: Path, names: str, first_is_top: bool = False) -> None:
    """Write a DICOM series, one file per slice.

    Args:
        image: an image in LPS.
        folder: where the files go.
        names: pattern of the file names with the number of the slice, such as `i{:04d}.dcm`.
        first_is_top: number the slices from head to feet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    depth = image.GetDepth()
    for z in range(depth):
        number = depth - 1 - z if first_is_top else z
        position = "\\".join(f"{value:.4f}" for value in image.TransformIndexToPhysicalPoint((0, 0, z)))
        slice_ = image[:, :, z]
        for key, value in {
            "0008|0018": f"1.2.826.0.1.3680043.2.1.{number + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.826.0.1.3680043.2.2",
            "0020|000e": "1.2.826.0.1.3680043.2.3",
            "0020|0013": str(number + 1),
            "0020|0032": position,
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "0",
            "0028|1053": "1",
        }.items():
            slice_.SetMetaData(key, value)
        writer.SetFileName(str(folder / names.format(number)))
        writer.Execute(slice_)


@dataclass(frozen=True)
class Phantom:
    """One case: an image in HU, and what the spec's labels mark in it.

    Attributes:
        labels: label of the spec -> (z, y, x) bool.
        structures: canonical structure -> (z, y, x) bool, what an assembly must make of it.
    """

    labels: Mapping[int | str, np.ndarray]
    structures: Mapping[str, np.ndarray] = field(default_factory=dict)

    def label_map(self) -> np.ndarray:
        """Return the labels as integers."""
        array = np.zeros(SHAPE, np.uint8)
        for value, mask in self.labels.items():
            array[mask] = value
        return array


def phantom(labels: Mapping[int | str, tuple[str, ...]], both_sides: tuple[str, ...] = ()) -> Phantom:
    """Mark a place of its own per label; a structure of `both_sides` has one on either side of the body."""
    masks: dict[int | str, np.ndarray] = {}
    structures: dict[str, np.ndarray] = {}
    for index, (label, names) in enumerate(labels.items()):
        masks[label] = np.zeros(SHAPE, bool)
        split = bool(set(names) & set(both_sides))
        sided = next((side for side in ("left", "right") for name in names if side in name.split("_")), "")
        for side in ("right", "left") if split else (sided,):
            masks[label][block(index, side)] = True
            for name in names:
                part = f"{name}_{side}" if name in both_sides else name
                structures.setdefault(part, np.zeros(SHAPE, bool))[block(index, side)] = True
    return Phantom(masks, structures)
