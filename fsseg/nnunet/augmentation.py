"""nnU-Net's training augmentation as one function on a crop."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from fsseg.training.crop_batches import Augmentation


class _Geometry(NamedTuple):
    """How nnU-Net turns patches of a size: about the first axis only, and farther, where slices are much thicker."""

    rotation: tuple[float, float]
    within_slices: bool
    crop_size: tuple[int, ...]


def _geometry(patch_size: Sequence[int]) -> _Geometry:
    trainer = SimpleNamespace(
        configuration_manager=SimpleNamespace(patch_size=list(patch_size)), print_to_log_file=lambda _: None
    )
    rotation, within_slices, size, _ = nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(trainer)
    return _Geometry(rotation, within_slices, tuple(int(length) for length in size))


def crop_size_for(patch_size: Sequence[int]) -> tuple[int, ...]:
    """Return the size of the crop from which a rotated patch can be cut, in z, y, x."""
    return _geometry(patch_size).crop_size


def training_augmentation(patch_size: Sequence[int], mirror_axes: tuple[int, ...]) -> Augmentation:
    """Return nnU-Net's training augmentation: rotation, scaling, noise, blur, brightness, contrast, gamma, mirroring.

    A patch that is more than three times as wide as deep is turned within its slices only, as nnU-Net does.

    The returned function takes a (channels, *crop_size) image and (2, *crop_size) labels and returns float and
    integer tensors of the patch size. It draws from the global generators; run it under `seeding.seeded`.
    """
    geometry = _geometry(patch_size)
    transforms = nnUNetTrainer.get_training_transforms(
        patch_size=np.asarray(patch_size),
        rotation_for_DA=geometry.rotation,
        deep_supervision_scales=None,
        mirror_axes=mirror_axes,
        do_dummy_2d_data_aug=geometry.within_slices,
    )

    def augment(image: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        sample = {"image": torch.from_numpy(image), "segmentation": torch.from_numpy(labels)}
        sample = transforms(**sample)
        return sample["image"], sample["segmentation"]

    return augment


def intensity_shift(patch_size: Sequence[int], *, largest: float = 0.1, probability: float = 0.2) -> Augmentation:
    """Return FSEFT's only augmentation: a shift of all intensities by up to `largest`, with `probability`.

    Made for images that the plans scale to [0, 1]. It draws from the global generators, as `training_augmentation`.
    """
    cut = centre_patch(patch_size)

    def augment(image: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        patch, patch_labels = cut(image, labels)
        if np.random.uniform() < probability:  # noqa: NPY002 - the generator that is seeded by the number of the crop
            patch = patch + np.random.uniform(-largest, largest)  # noqa: NPY002
        return patch, patch_labels

    return augment


def turn_and_shift(patch_size: Sequence[int], zone_axis: int, *, probability: float = 0.1) -> Augmentation:
    """Return the augmentation of SuPreM's and FSEFT's pretraining: quarter turns and a shift of all intensities.

    With `probability` the patch is turned in its axial plane by one to three quarters, or by two where the plane is not
    square; `intensity_shift` goes before. A turn keeps left and right apart, a reflection would not.

    Args:
        patch_size: in the axis order of the plans.
        zone_axis: which of its axes runs from inferior to superior.
        probability: of a turn.
    """
    first, second = (axis - len(patch_size) for axis in range(len(patch_size)) if axis != zone_axis)
    square = patch_size[first] == patch_size[second]
    shift = intensity_shift(patch_size)

    def augment(image: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        patch, patch_labels = shift(image, labels)
        if np.random.uniform() < probability:  # noqa: NPY002 - the generator seeded by the crop's number
            quarters = int(np.random.randint(1, 4)) if square else 2  # noqa: NPY002
            patch, patch_labels = (tensor.rot90(quarters, (first, second)) for tensor in (patch, patch_labels))
        return patch, patch_labels

    return augment


def centre_patch(patch_size: Sequence[int]) -> Augmentation:
    """Return a function that cuts the central patch out of a crop and changes nothing: for validation."""

    def cut(image: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        offsets = [(have - want) // 2 for have, want in zip(image.shape[1:], patch_size, strict=True)]
        box = (slice(None), *(slice(low, low + size) for low, size in zip(offsets, patch_size, strict=True)))
        return torch.from_numpy(image[box].copy()), torch.from_numpy(labels[box].copy())

    return cut
