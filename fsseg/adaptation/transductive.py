"""Transductive adaptation: the images that are to be segmented take part in the training, without label maps.

The target size of a structure is its mean size in the support cases, each reduced to its largest component; of five and
more, those further from the median than a standard deviation are left out (Silva-Rodriguez et al., MedAGI 2023).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fsseg.adaptation.crops import lower_ends_of
from fsseg.adaptation.start import Start
from fsseg.adaptation.target import Target
from fsseg.adaptation.task import Task
from fsseg.config.errors import FssegError
from fsseg.config.recipes import Recipe
from fsseg.data.body import body_box
from fsseg.data.volumes import Volume
from fsseg.evaluation.fseft import largest_component
from fsseg.models.parts import parts_of
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.training.feature_cache import head_input
from fsseg.training.placement import place
from fsseg.training.size_constraint import SizeConstraint, SizeRule

_SETTINGS = ("size_margin", "size_weight", "size_first_epoch")  # of a recipe
_POOLED = 2  # features are averaged over cubes of so many voxels, for memory
_ENOUGH_FOR_OUTLIERS = 5  # support cases


def read_queries(task: Task) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Preprocess the unlabelled images; no label map is read.

    Returns:
        Case -> image (channels, D, H, W) float32, and path -> hash of their files.

    Raises:
        FssegError: an image cannot be used.
    """
    preprocessor = CasePreprocessor(task.job.base, cache=None)
    files: dict[str, list[Path]] = {case: task.dataset.every_image[case] for case in task.transductive}
    images = {case: preprocessor.image(files[case])[0] for case in files}
    return images, {str(file): preprocessor.sha256(file) for of_case in files.values() for file in of_case}


def transductive_notes(task: Task) -> list[str]:
    """Say loudly that images are seen that may be scored later; and which settings do nothing without any."""
    cases, recipe = task.transductive, task.job.recipe
    if not cases:
        unused = [name for name in _SETTINGS if getattr(recipe, name) != Recipe.model_fields[name].default]
        names = ", ".join(f"recipe.{name}" for name in unused)
        return [f"Without effect here, without --transductive: {names}."] if unused else []
    return [
        f"Transductive: the training sees the images of {', '.join(cases)}, without their label maps. Scores on them"
        " are of a network that was fitted to these very images, and do not speak of others."
    ]


def size_constraint(start: Start) -> SizeConstraint | None:
    """Return the constraint on the sizes in the unlabelled images of a training; None without such images.

    A method that reads the last features only is constrained on features that are computed once, and pooled. Any other
    goes through the images with the network in the loop.

    Raises:
        FssegError: no support case shows a structure that is annotated on all of its slices.
    """
    if not start.queries:
        return None
    job, network = start.job, start.network.network
    recipe, sizes = job.recipe, target_sizes(start.volumes, job.target)
    place(network, job.device).eval()
    images = [_blocks(start, image) for image in start.queries.values()]
    if job.method.reads_features_only:
        images = [[_pooled_features(start, block) for block in blocks] for blocks in images]
        sizes = {name: voxels / _POOLED**3 for name, voxels in sizes.items()}
    every = recipe.epoch_steps
    rule = SizeRule(recipe.size_margin, recipe.size_weight, recipe.size_first_epoch * every, every)
    forward = parts_of(network).head if job.method.reads_features_only else network
    wanted = torch.tensor(list(sizes.values()), dtype=torch.float32)
    return SizeConstraint(forward, images, wanted, rule, softmax=recipe.activation == "softmax")


def target_sizes(volumes: Sequence[Volume], target: Target) -> dict[str, float]:
    """Return the size of each structure that is expected, in voxels of the preprocessed cases.

    Raises:
        FssegError: a structure is annotated on all slices in none of the cases that show it.
    """
    shown = {name: _sizes(volumes, target.structures.integers, name) for name in target.names}
    missing = [name for name, sizes in shown.items() if not sizes]
    if missing:
        raise FssegError(
            f"No support case shows all of {', '.join(missing)}, so no size can be expected of other images.\n"
            "  Leave --transductive out, or take cases that are annotated on all slices."
        )
    return {name: typical_size(sizes) for name, sizes in shown.items()}


def typical_size(sizes: Sequence[float]) -> float:
    """Return the mean of sizes; of five and more without those further from the median than a standard deviation."""
    found = np.asarray(sizes, dtype=float)
    if len(found) >= _ENOUGH_FOR_OUTLIERS:
        near = found[np.abs(found - np.median(found)) < found.std()]
        found = near if len(near) else found  # equal sizes have no spread
    return float(found.mean())


def _sizes(volumes: Sequence[Volume], integers: Mapping[str, Sequence[int]], name: str) -> list[float]:
    channel = list(integers).index(name)
    whole = [volume for volume in volumes if volume.zone_annotated[volume.zones, channel].all()]
    masks = (np.isin(np.asarray(volume.labels[0]), integers[name]) for volume in whole if name in volume.locations)
    return [float(largest_component(mask).sum()) for mask in masks]


def _blocks(start: Start, image: np.ndarray) -> list[Tensor]:
    """Return an image as blocks (1, channels, D, H, W) of the patch's size, side by side, padded with 0."""
    job = start.job
    if job.recipe.cut_to_body:
        image = image[body_box(image, lower_ends_of(job))]
    patch = job.patch_size
    missing = [-length % size for length, size in zip(image.shape[1:], patch, strict=True)]
    padded = F.pad(torch.from_numpy(image), [end for more in reversed(missing) for end in (0, more)])
    for axis, size in enumerate(patch, start=1):
        padded = padded.unfold(axis, size, size)
    blocks = padded.flatten(1, 3).transpose(0, 1)
    return [block[None].contiguous() for block in blocks]


@torch.no_grad()
def _pooled_features(start: Start, block: Tensor) -> Tensor:
    features = head_input(start.network.network, block.to(start.job.device))
    return F.avg_pool3d(features.float(), _POOLED).cpu()
