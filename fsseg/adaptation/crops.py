"""The crops of an adaptation, by its recipe."""

from collections.abc import Sequence

from fsseg.adaptation.job import Job
from fsseg.data.body import LowerEnds, cut_to_body
from fsseg.data.crops import CropSampler
from fsseg.data.volumes import Volume
from fsseg.data.voxel_crops import VoxelCropSampler
from fsseg.nnunet.augmentation import crop_size_for, intensity_shift, training_augmentation
from fsseg.nnunet.normalization import lower_ends
from fsseg.training.crop_batches import Crops


def volumes_to_crop(job: Job, volumes: Sequence[Volume]) -> Sequence[Volume]:
    """Return the support cases as crops are cut out of them."""
    if not job.recipe.cut_to_body:
        return volumes
    return [cut_to_body(volume, lower_ends_of(job)) for volume in volumes]


def crops_of(job: Job, volumes: Sequence[Volume], last: int, first: int = 0) -> Crops:
    """Return the augmented crops number `first` to `last`, without the latter.

    Args:
        job: what is adapted, and how.
        volumes: of `volumes_to_crop`.
        last, first: numbers.
    """
    recipe, patch = job.recipe, job.patch_size
    rotated = recipe.augmentation == "nnunet"  # a rotated patch is cut from a larger crop
    sampler = _sampler(job, volumes, crop_size_for(patch) if rotated else patch)
    augmentation = training_augmentation(patch, job.flips.axes) if rotated else intensity_shift(patch)
    turns = recipe.crops_per_volume
    return Crops(sampler, augmentation, first=first, count=last - first, seed=job.seed, crops_per_volume=turns)


def _sampler(job: Job, volumes: Sequence[Volume], crop_size: Sequence[int]) -> CropSampler:
    recipe, patch = job.recipe, job.patch_size
    share, jitter = recipe.foreground_probability, recipe.crop_jitter
    if recipe.crop_centres == "structures":
        return CropSampler(volumes, patch, crop_size=crop_size, foreground_probability=share, jitter=jitter)
    return VoxelCropSampler(
        volumes,
        patch,
        crop_size=crop_size,
        foreground_probability=share,
        jitter=jitter,
        structures=job.target.structures.integers,
        lower_ends=lower_ends_of(job),
    )


def lower_ends_of(job: Job) -> LowerEnds:
    """Return to what the base clips the lowest intensities of its channels; None: to nothing known."""
    return lower_ends(job.base.configuration_manager().normalization_schemes, job.base.plans)
