"""What costs are measured on where nothing is there yet: a base with random weights, and a case of noise.

Neither weights nor voxels change how long a step takes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fsseg.adaptation.job import make_job
from fsseg.adaptation.start import Start, make_start
from fsseg.adaptation.target import LabelledDataset
from fsseg.checkpoints.plans import FULL_WINDOW
from fsseg.config.adaptation import AdaptationSettings
from fsseg.data.assembly import region_labels
from fsseg.data.contents import DatasetContent
from fsseg.data.structures import CaseAnnotation, Structures
from fsseg.data.volumes import Volume, foreground_locations
from fsseg.nnunet.configurations import resolved
from fsseg.nnunet.contents import PlansContent
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.normalization import STATISTICS
from fsseg.training.seeding import seeded

_CASE = "noise"


def model_of_plans(
    plans: PlansContent, configuration: str, structures: Sequence[str], mirroring_axes: tuple[int, ...] = ()
) -> ModelFolder:
    """Return a model of plans without weights, with a head for some structures.

    Raises:
        UsageError, FssegError: the plans cannot be used.
    """
    channels = len(resolved(plans, configuration)["normalization_schemes"])
    if not plans.get(STATISTICS):  # plans that take them from a dataset; any will do
        plans = {**plans, STATISTICS: {str(channel): FULL_WINDOW.properties() for channel in range(channels)}}
    dataset_json = _dataset_json(structures, channels)
    return ModelFolder(Path("random"), plans, dataset_json, configuration, {}, mirroring_axes or None).checked()


def with_random_weights(model: ModelFolder) -> ModelFolder:
    """Return a model with the random weights that a new network has."""
    with seeded(0):
        return replace(model, weights=model.build_untrained_network().state_dict())


def sample_start(settings: AdaptationSettings, base: ModelFolder, device: torch.device) -> Start:
    """Return an adaptation before its first step, to one case of noise that shows every structure.

    Args:
        settings: of the adaptation.
        base: its image channels and its patch are those of the case.
        device: where to compute.

    Raises:
        UsageError, FssegError: the settings do not go together, or not with the base.
    """
    names = settings.structures
    integers: dict[str, tuple[int, ...]] = {name: (integer,) for integer, name in enumerate(names, start=1)}
    structures = Structures(integers=integers, cases={_CASE: CaseAnnotation(source="noise", annotated=names)})
    dataset_json = {
        **_dataset_json(names, len(base.channel_names)),
        "channel_names": base.dataset_json["channel_names"],
    }
    job = make_job(settings, base, LabelledDataset("noise", dataset_json, structures), device)
    return make_start(job, [_noise(structures, job.target.names, len(base.channel_names), job.patch_size)])


def _noise(structures: Structures, names: tuple[str, ...], channels: int, patch: Sequence[int]) -> Volume:
    """Return a case of the size of a patch, so that every crop shows all of it."""
    generator = np.random.default_rng(0)
    labels = np.zeros(patch, dtype=np.int16)
    voxels = generator.choice(labels.size, (len(names), min(100, labels.size // (2 * len(names)))), replace=False)
    for name, own in zip(names, voxels, strict=True):
        labels.flat[own] = structures.integers[name][0]
    image = generator.normal(size=(channels, *patch)).astype(np.float32)
    locations = foreground_locations(labels, structures, names)
    annotated = np.ones((2, len(names)), dtype=bool)
    return Volume(_CASE, image, labels[None], locations, np.ones(patch[0], dtype=np.int16), 0, annotated)


def _dataset_json(structures: Sequence[str], channels: int) -> DatasetContent:
    labels: dict[str, Any] = region_labels({name: (row,) for row, name in enumerate(structures, start=1)})
    names = {str(channel): "CT" for channel in range(channels)}
    return {**labels, "channel_names": names, "numTraining": 1, "file_ending": ".nii.gz", "name": "noise"}
